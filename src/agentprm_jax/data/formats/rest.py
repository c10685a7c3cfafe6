"""What a format has no place for: the rest of a trajectory, carried as text in one more column of its row.

Trainers and table libraries read the columns they know, so a file stays usable where it is meant to go, and a
trajectory comes back as it was. The rest is text and not an object because table libraries infer one type for each
column. It holds only what a reader could not tell from the row itself, so a value edited in the row counts. Texts and
labels are never only in it: what a format cannot hold of those is refused.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from agentprm_jax.data.formats.options import CannotHold, Options, is_scale
from agentprm_jax.data.formats.rows import Row, as_number
from agentprm_jax.data.formats.values import described, same_json
from agentprm_jax.data.reading import strict_json, trajectory_from_record
from agentprm_jax.data.record import SCHEMA, BadTrajectory, Message, Trajectory

REST = "agentprm"

Read = Callable[[Row, Options], Trajectory]

_FIELDS = ("env", "task", "split", "rewards", "outcome", "success", "ended", "actor", "scores", "extra")

_FILLS: dict[str, Callable[[Trajectory], Any]] = {
    "outcome": lambda trajectory: trajectory.outcome,
    "reward_scale": lambda trajectory: trajectory.outcome,
    "env": lambda trajectory: trajectory.env,
    "split": lambda trajectory: trajectory.split,
    "ended": lambda trajectory: trajectory.ended,
    "opening": lambda trajectory: [message.action for message in trajectory.messages],
}
"""What each choice of the caller decides of a trajectory."""


def with_rest(row: dict[str, Any], trajectory: Trajectory, read: Read, options: Options, form: str) -> dict[str, Any]:
    """The row with the rest of the trajectory that it was made from.

    Args:
        row: What the format holds of the trajectory.
        trajectory: The trajectory.
        read: The format's reader.
        options: The options that the row was made with; the scorer, if any, is named.
        form: Name of the format.

    Returns:
        The row with one more column.

    Raises:
        CannotHold: If the format's reader would not find the messages of the trajectory in the row.
    """
    try:
        base = read(Row(row), _blank(options))
    except BadTrajectory as error:
        raise CannotHold(trajectory, form, str(error).removesuffix(".")) from error
    rest: dict[str, Any] = {"id": trajectory.id}
    if options.scorer is not None:
        rest["scorer"] = options.scorer
    if options.reward_scale not in (None, 1.0):
        rest["reward_scale"] = options.reward_scale
    for field in _FIELDS:
        value = msgspec.to_builtins(getattr(trajectory, field))
        if not same_json(value, msgspec.to_builtins(getattr(base, field))):
            rest[field] = value
    marks = _message_marks(trajectory, base, form)
    if marks:
        rest["messages"] = marks
    return {**row, REST: json.dumps(rest, ensure_ascii=False, allow_nan=False, separators=(",", ":"))}


def read_with_rest(row: Row, read: Read, options: Options) -> Trajectory:
    """The trajectory of a row, with the rest if the row carries one; what the caller fills must then agree with it.

    Args:
        row: The row.
        read: The format's reader.
        options: How to fill what the row leaves open.

    Returns:
        The trajectory.

    Raises:
        BadTrajectory: If the row or its rest is not what it should be, or says otherwise than the caller.
    """
    if REST not in row.values:
        return read(row, options)
    try:
        rest = strict_json(row.text(REST))
    except (ValueError, RecursionError) as error:
        raise BadTrajectory(REST, "the JSON text of the rest of a trajectory", str(error).rstrip(".")) from error
    if not isinstance(rest, dict):
        raise BadTrajectory(REST, "the JSON text of an object", described(rest))
    bare = Row(row.without(REST), row.name)
    base = read(bare, _blank(replace(options, scorer=_told_scorer(options, rest), reward_scale=_scale(rest))))
    merged = _merged(base, rest)
    for name, scores in base.scores.items():
        if name not in merged.scores or merged.scores[name].promise != scores.promise:
            expected = f"the labels of the row as the promises of {name} (remove the column if you edited the labels)"
            raise BadTrajectory(f"{REST}.scores", expected, "others")
    _refuse_contradiction(bare, read, options, merged)
    return merged


def _told_scorer(options: Options, rest: dict[str, Any]) -> Any:
    """The scorer whose promises are the labels of the row."""
    scorer = rest.get("scorer")
    if "scorer" in options.told and scorer is not None and scorer != options.scorer:
        raise _contradicted("scorer", options.scorer, scorer)
    return scorer


def _scale(rest: dict[str, Any]) -> float | None:
    if "reward_scale" not in rest:
        return None
    scale = as_number(rest["reward_scale"], f"{REST}.reward_scale")
    if not is_scale(scale):
        raise BadTrajectory(f"{REST}.reward_scale", "a finite number above 0", repr(scale))
    return scale


def _refuse_contradiction(row: Row, read: Read, options: Options, merged: Trajectory) -> None:
    """Refuses a choice of the caller that would have made another trajectory of the row than its rest does."""
    told = {name: getattr(options, name) for name in options.told if name in _FILLS}
    if not told:
        return
    if isinstance(told.get("outcome"), Mapping):
        told["outcome"] = told["outcome"].get(merged.task, merged.outcome)
    filled = {"outcome": merged.outcome, "env": merged.env, "split": merged.split, "ended": merged.ended} | told
    asked = read(row, replace(options, **filled))
    for name in sorted(told):
        wanted, carried = _FILLS[name](asked), _FILLS[name](merged)
        if wanted != carried:
            raise _contradicted(name, wanted, carried)


def _contradicted(name: str, wanted: Any, carried: Any) -> BadTrajectory:
    ways = f"leave {name} out to read what the row carries, or remove the column"
    return BadTrajectory(
        f"{REST}.{name}", f"{described(wanted)}, as the caller's {name} says ({ways})", described(carried)
    )


def _blank(options: Options) -> Options:
    """What both sides fill with where the rest holds the truth; how the row is laid out stays."""
    filling = Options(outcome=0.0, env="", split="")
    return replace(
        options, **{name: getattr(filling, name) for name in ("outcome", "env", "split", "ended", "opening")}
    )


def _message_marks(trajectory: Trajectory, base: Trajectory, form: str) -> dict[str, Any]:
    """What of the messages, other than their roles and texts, the row does not tell."""
    for kind, of in (("roles", _role), ("texts", _content)):
        if list(map(of, trajectory.messages)) != list(map(of, base.messages)):
            raise CannotHold(trajectory, form, f"its messages would come back with other {kind}")
    return {
        str(index): {"action": message.action, "extra": message.extra}
        for index, (message, read) in enumerate(zip(trajectory.messages, base.messages, strict=True))
        if message.action != read.action or not same_json(message.extra, read.extra)
    }


def _merged(base: Trajectory, rest: dict[str, Any]) -> Trajectory:
    """`base` with the fields of the rest in place of its own."""
    record = {**msgspec.to_builtins(base), **{key: rest[key] for key in ("id", *_FIELDS) if key in rest}}
    messages = [msgspec.to_builtins(message) for message in base.messages]
    marks = rest.get("messages", {})
    if not isinstance(marks, dict):
        raise BadTrajectory(f"{REST}.messages", "an object", described(marks))
    for index, mark in marks.items():
        if not (index.isdecimal() and int(index) < len(messages) and isinstance(mark, dict)):
            raise BadTrajectory(
                f"{REST}.messages.{index}", f"marks of one of {len(messages)} messages", described(mark)
            )
        messages[int(index)].update(mark)
    try:
        return trajectory_from_record({**record, "schema": SCHEMA, "messages": messages})
    except BadTrajectory as error:
        raise BadTrajectory(f"{REST}.{error.field}", error.expected, error.got) from error


def _role(message: Message) -> str:
    return message.role


def _content(message: Message) -> str:
    return message.content
