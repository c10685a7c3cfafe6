"""The Trajectory record: what happened in one episode, as validated immutable text and numbers."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

SCHEMA = "agentprm.trajectory/1"
MOST_LEVELS = 100
"""Lists and objects within each other that `extra` may hold, the same on every version of Python."""
ROLES = ("system", "user", "assistant")
ENDINGS = ("terminated", "truncated")
ACTION_LOSS = "action_loss"
ACTION_CUT = "action_cut"

_DERIVED: Any = None  # "not given": replaced in __post_init__, so that readers of the field never meet None


class BadTrajectory(ValueError):
    """A value that the trajectory record does not allow.

    Attributes:
        field: Path of the offending field inside the record, for example ``messages[3].role``.
        expected: What the record allows there.
        got: What was there.
    """

    def __init__(self, field: str, expected: str, got: str):
        """Keeps the three parts and composes the sentence from them."""
        super().__init__(f"A trajectory's field `{field}` should be {expected}, got {got}.")
        self.field, self.expected, self.got = field, expected, got


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        content: The text of the turn, without any chat-template tokens.
        action: True on exactly the assistant messages that are steps of the actor.
        extra: Any further JSON values that belong to the message.

    Raises:
        BadTrajectory: If the role is unknown, the content is no valid text, or another role than the assistant acts.
    """

    role: str
    content: str
    action: bool = False
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Validates the fields."""
        if self.role not in ROLES:
            raise BadTrajectory("role", f"one of {', '.join(ROLES)}", repr(self.role))
        _check_text("content", self.content)
        if not isinstance(self.action, bool):
            raise BadTrajectory("action", "true or false", repr(self.action))
        if self.action and self.role != "assistant":
            raise BadTrajectory("action", "true on assistant messages only", f"true on a {self.role} message")
        if self.extra:
            _replace(self, "extra", _json_object("extra", self.extra))


class ActorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who acted.

    Attributes:
        name: Name of the actor.
        temperature: Sampling temperature (0 is greedy); None when it has none.
        seed: The seed that the actor was called with; None when it took none.
        prompt_tokens: Tokens that the actor read, 0 or more.
        sampled_tokens: Tokens that the actor sampled, 0 or more.
        extra: Any further JSON values that describe the actor.

    Raises:
        BadTrajectory: If the temperature is negative or not finite, or a count is negative.
    """

    name: str
    temperature: float | None = None
    seed: int | None = None
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Validates the fields."""
        _check_text("name", self.name)
        if self.temperature is not None:
            _replace(self, "temperature", _number("temperature", self.temperature))
            if self.temperature < 0:
                raise BadTrajectory("temperature", "at least 0", repr(self.temperature))
        if self.seed is not None:
            _check_integer("seed", self.seed)
        for field in ("prompt_tokens", "sampled_tokens"):
            _check_integer(field, getattr(self, field))
            if getattr(self, field) < 0:
                raise BadTrajectory(field, "at least 0", repr(getattr(self, field)))
        if self.extra:
            _replace(self, "extra", _json_object("extra", self.extra))


class RecordedScores(msgspec.Struct, frozen=True, omit_defaults=True):
    """Step scores of one scorer, as kept in a trajectory.

    Attributes:
        promise: Promise of each action, in order.
        progress: Progress of each action, in order.
        extra: Any further JSON values that belong to the scores.

    Raises:
        BadTrajectory: If a score is not finite or the two lists differ in length.
    """

    promise: tuple[float, ...]
    progress: tuple[float, ...]
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Validates the fields."""
        _replace(self, "promise", _numbers("promise", self.promise))
        _replace(self, "progress", _numbers("progress", self.progress))
        if len(self.promise) != len(self.progress):
            raise BadTrajectory(
                "progress", f"as long as `promise`, {_count(len(self.promise), 'number')}", str(len(self.progress))
            )
        if self.extra:
            _replace(self, "extra", _json_object("extra", self.extra))


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="schema", tag=SCHEMA):
    """One episode: the conversation, which messages of it are steps, and what came of it.

    Attributes:
        id: Name of the trajectory.
        env: Name of the environment.
        task: Task id, ``<environment>_<data_idx>`` for AgentGym's environments.
        split: The split that the task belongs to.
        messages: The conversation, in order.
        rewards: One reward per action.
        outcome: Final reward in [0, 1]. When not given: the sum of the rewards.
        success: Whether the task was solved. When not given: whether the outcome is 1.
        ended: ``terminated`` (by the environment or the actor) or ``truncated`` (by a limit).
        actor: Who acted, when known.
        scores: Step scores by scorer name; each list has one number per action.
        extra: Any further JSON values. ``extra["action_loss"]``, when present, is one boolean per action: false marks
            an action that must not be imitated (a random action mixed into a demonstration); its tokens carry no loss.
            ``extra["action_cut"]``, likewise: true marks an action that the actor's token limit cut off, so that the
            end of its turn was never said and carries no loss.

    Raises:
        BadTrajectory: If a value is not finite, a length does not fit the number of actions, or a word is unknown.
    """

    id: str
    env: str
    task: str
    split: str
    messages: tuple[Message, ...]
    rewards: tuple[float, ...]
    outcome: float = _DERIVED
    success: bool = _DERIVED
    ended: str
    actor: ActorInfo | None = None
    scores: dict[str, RecordedScores] = {}
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Fills the derived fields and validates all."""
        for field in ("id", "env", "task", "split"):
            _check_text(field, getattr(self, field))
        if self.ended not in ENDINGS:
            raise BadTrajectory("ended", f"one of {', '.join(ENDINGS)}", repr(self.ended))
        _replace(self, "messages", tuple(self.messages))
        for index, message in enumerate(self.messages):
            _check_instance(f"messages[{index}]", message, Message)
        if self.actor is not None:
            _check_instance("actor", self.actor, ActorInfo)
        _validate_rewards(self)
        _validate_scores(self)
        _validate_extra(self)

    @property
    def actions(self) -> tuple[Message, ...]:
        """The messages that are steps of the actor, in order."""
        return tuple(message for message in self.messages if message.action)

    @property
    def action_loss(self) -> tuple[bool, ...]:
        """For each action, whether imitation learning may train on its tokens."""
        marked = self.extra.get(ACTION_LOSS)
        return (True,) * len(self.rewards) if marked is None else tuple(marked)

    @property
    def action_cut(self) -> tuple[bool, ...]:
        """For each action, whether the actor's token limit cut it off before the actor ended its turn."""
        marked = self.extra.get(ACTION_CUT)
        return (False,) * len(self.rewards) if marked is None else tuple(marked)

    def conversation(self, upto_action: int | None = None) -> tuple[Message, ...]:
        """The messages before action number ``upto_action``: what the actor saw when it chose that action.

        Args:
            upto_action: Number of an action, from 0. The number of actions, or None, gives the whole conversation.

        Returns:
            A prefix of ``messages``.

        Raises:
            IndexError: If the trajectory has fewer actions than ``upto_action``.
        """
        places = [index for index, message in enumerate(self.messages) if message.action] + [len(self.messages)]
        chosen = len(places) - 1 if upto_action is None else upto_action
        if not 0 <= chosen < len(places):
            raise IndexError(
                f"Trajectory {self.id} has {len(places) - 1} actions, so no prefix before action {chosen}."
            )
        return self.messages[: places[chosen]]

    def with_scores(self, name: str, promise: Sequence[float], progress: Sequence[float]) -> "Trajectory":
        """A copy that also carries the step scores of scorer ``name``, replacing scores of the same name.

        Args:
            name: Name of the scorer.
            promise: Promise of each action.
            progress: Progress of each action.

        Returns:
            The new trajectory.

        Raises:
            BadTrajectory: If a list has not one finite number per action.
        """
        scores = RecordedScores(promise=tuple(promise), progress=tuple(progress))
        return msgspec.structs.replace(self, scores={**self.scores, name: scores})


def _validate_rewards(trajectory: Trajectory) -> None:
    """Rewards fit the actions; outcome and success are given or follow from them."""
    rewards = _numbers("rewards", trajectory.rewards)
    _replace(trajectory, "rewards", rewards)
    actions = sum(message.action for message in trajectory.messages)
    if len(rewards) != actions:
        raise BadTrajectory("rewards", f"one per action, {_count(actions, 'number')}", _count(len(rewards), "number"))
    derived = trajectory.outcome is _DERIVED
    outcome = math.fsum(rewards) if derived else _number("outcome", trajectory.outcome)
    if not 0.0 <= outcome <= 1.0:
        source = " (the sum of the rewards, because no outcome is given)" if derived else ""
        raise BadTrajectory("outcome", "in [0, 1]", f"{outcome!r}{source}")
    _replace(trajectory, "outcome", outcome)
    success = outcome >= 1.0 if trajectory.success is _DERIVED else trajectory.success
    _check_instance("success", success, bool)
    _replace(trajectory, "success", success)


def _validate_scores(trajectory: Trajectory) -> None:
    """Every scorer gives one number per action."""
    steps = len(trajectory.rewards)
    for name, scores in trajectory.scores.items():
        _check_text("scores", name)
        _check_instance(f"scores.{name}", scores, RecordedScores)
        if len(scores.promise) != steps:
            got = _count(len(scores.promise), "number")
            raise BadTrajectory(f"scores.{name}.promise", f"one per action, {_count(steps, 'number')}", got)
    if trajectory.scores:
        _replace(trajectory, "scores", dict(trajectory.scores))


def _validate_extra(trajectory: Trajectory) -> None:
    """Everything in `extra` is JSON, and the marks of actions fit them."""
    if not trajectory.extra:
        return
    extra = _json_object("extra", trajectory.extra)
    _replace(trajectory, "extra", extra)
    for key in (ACTION_LOSS, ACTION_CUT):
        if key in extra:
            _check_marks(f"extra.{key}", extra[key], len(trajectory.rewards))


def _check_marks(field: str, marks: Any, actions: int) -> None:
    """There is one boolean per action."""
    if not isinstance(marks, list) or not all(isinstance(mark, bool) for mark in marks):
        raise BadTrajectory(field, "a list of true and false", repr(marks))
    if len(marks) != actions:
        raise BadTrajectory(field, f"one per action, {_count(actions, 'boolean')}", _count(len(marks), "boolean"))


def _replace(struct: msgspec.Struct, field: str, value: object) -> None:
    """Canonicalises a field while its frozen struct is being made."""
    msgspec.structs.force_setattr(struct, field, value)


def _check_instance(field: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise BadTrajectory(field, f"a {kind.__name__}", f"{value!r} ({type(value).__name__})")


def _check_text(field: str, value: object) -> None:
    """Refuses what cannot be written as UTF-8 and read back."""
    if not isinstance(value, str):
        raise BadTrajectory(field, "text", f"{value!r} ({type(value).__name__})")
    if value.isascii():
        return
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        got = f"the surrogate U+{ord(value[error.start]):04X} at character {error.start}"
        raise BadTrajectory(field, "text that UTF-8 can hold", got) from error


def _check_integer(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadTrajectory(field, "a whole number", f"{value!r} ({type(value).__name__})")


def _number(field: str, value: Any) -> float:
    """The value as a Python float; refuses booleans, text and what is not finite."""
    if isinstance(value, bool | str | bytes):
        raise BadTrajectory(field, "a number", f"{value!r} ({type(value).__name__})")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadTrajectory(field, "a number", f"{value!r} ({type(value).__name__})") from error
    if not math.isfinite(number):
        raise BadTrajectory(field, "a finite number", repr(number))
    return number


def _numbers(field: str, values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(_number(f"{field}[{index}]", value) for index, value in enumerate(values))


def _json_object(field: str, value: dict[str, Any]) -> dict[str, Any]:
    """A copy of a JSON object that is not shared with the caller; refuses what JSON cannot hold exactly."""
    return _json_value(field, value, field, MOST_LEVELS)


def too_deep(field: str) -> BadTrajectory:
    """The error of a value that is nested too deep."""
    return BadTrajectory(field, f"lists and objects nested at most {MOST_LEVELS} deep", "more levels")


def _json_value(field: str, value: Any, top: str, levels: int) -> Any:
    """A copy of what stands at a field, within `top`, of which so many levels may follow."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        _check_text(field, value)
        return value
    if isinstance(value, float):
        return _number(field, value)
    if not isinstance(value, list | tuple | dict):
        raise BadTrajectory(field, "a JSON value", f"{value!r} ({type(value).__name__})")
    if not levels:
        raise too_deep(top)
    if not isinstance(value, dict):
        return [_json_value(f"{field}[{index}]", item, top, levels - 1) for index, item in enumerate(value)]
    for key in value:
        _check_text(f"{field} (a key)", key)
    return {key: _json_value(f"{field}.{key}", item, top, levels - 1) for key, item in value.items()}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
