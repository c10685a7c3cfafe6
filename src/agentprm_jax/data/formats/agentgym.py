"""AgentGym's files: AgentTraj-L, AgentEval, the evaluators' results, and the rollout logs of AgentGym-RL.

Sources: github.com/WooooDyy/AgentGym (``agentenv/trainer/bc_trainer.py`` reads AgentTraj,
``agentenv/examples/basic/base_eval_template.py`` and ``openai_eval.py`` read AgentEval and write results,
``agentenv/envs`` has the opening pairs) and github.com/WooooDyy/AgentGym-RL (``vllm_rollout.py`` writes the logs;
``AgentItemId/eval`` holds task lists). The data sets AgentTraj-L and AgentEval themselves were not at hand: that they
are JSON arrays with ``item_id`` and ``conversations`` is what those programs require.

A conversation is a list of ``{"from": "human" | "gpt", "loss": true | false | null, "value": text}``; evaluators that
call an API and AgentGym-RL write ``{"role", "content"}`` instead. The assistant's opening "Ok." is no action: it is
told by ``loss: false`` before any other answer, and where nothing marks it, by being among the first ``opening``
answers. A later ``loss: false`` is an action that must not be imitated. The reward is that of the last round, so it is
the outcome and the reward of the last action; the scale by which it was divided stays in ``extra`` and is written back
with. AgentTraj has none: the caller says how to fill it. AgentEval has tasks
only, which become trajectories without messages that have not paid anything yet.
"""

import math
import re
from typing import Any

import msgspec

from agentprm_jax.data.formats.options import CannotHold, MissingChoice, Options, chosen_outcome, is_scale
from agentprm_jax.data.formats.rows import Row
from agentprm_jax.data.formats.steps import final_reward, known_columns
from agentprm_jax.data.formats.values import described
from agentprm_jax.data.record import ACTION_LOSS, BadTrajectory, Message, Trajectory

TRAJ, EVAL, RESULTS, RL = "agenttraj", "agenteval", "agentgym", "agentgym-rl"

_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
_NAMES = {role: name for name, role in _ROLES.items()}
_SCALE = "reward_scale"
_NUMBERED = re.compile(r".*_(\d+)", re.DOTALL)


def read_traj(row: Row, options: Options) -> Trajectory:
    """A demonstration of AgentTraj-L."""
    task = row.text("item_id")
    outcome = chosen_outcome(row, options, "AgentTraj", task)
    return _episode(row, options, TRAJ, task, outcome, row.without("item_id", "conversations"))


def write_traj(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of AgentTraj-L; the outcome goes to the rest, because AgentTraj has none."""
    return {
        **known_columns(trajectory, TRAJ),
        "item_id": trajectory.task,
        "conversations": _conversation(trajectory),
    }


def read_eval(row: Row, options: Options) -> Trajectory:
    """A task of AgentEval, as a trajectory in which nothing has happened yet."""
    if played := row.values.get("conversations"):
        raise BadTrajectory("conversations", "null, because AgentEval holds tasks only", described(played))
    task = row.text("item_id")
    extra = row.without("item_id")
    return Trajectory(
        id=row.name,
        env=_environment(row, task, options),
        task=task,
        split=options.split,
        messages=(),
        rewards=(),
        outcome=0.0,
        ended="truncated",
        extra={EVAL: extra} if extra else {},
    )


def write_eval(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of AgentEval."""
    if trajectory.messages:
        raise CannotHold(trajectory, EVAL, f"it holds tasks only, and there are {len(trajectory.messages)} messages")
    return {**known_columns(trajectory, EVAL), "item_id": trajectory.task}


def read_results(row: Row, options: Options) -> Trajectory:
    """An episode that one of AgentGym's evaluators played."""
    told = ("item_id", "conversations", "reward", *([] if isinstance(row.values.get("success"), bool) else ["success"]))
    task, extra = row.text("item_id"), row.without(*told)
    episode = _episode(row, options, RESULTS, task, _reward(row, options), extra)
    if "success" not in row.values:
        return episode
    success = row.values["success"]
    if success not in (0, 1):
        raise BadTrajectory("success", "0 or 1", described(success))
    return msgspec.structs.replace(episode, success=bool(success))


def write_results(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of an evaluator, in the ``from``/``value`` style."""
    columns, success = known_columns(trajectory, RESULTS), trajectory.success
    return {
        **columns,
        "conversations": _conversation(trajectory),
        "item_id": trajectory.task,
        "reward": _scaled(trajectory, RESULTS, options),
        "success": success if isinstance(columns.get("success"), bool) else int(success),
    }


def read_rl(row: Row, options: Options) -> Trajectory:
    """A rollout of AgentGym-RL, whose tasks are numbers only."""
    number = row.values.get("item_id")
    if isinstance(number, bool) or not isinstance(number, int):
        raise BadTrajectory("item_id", "the number of a task", described(number))
    if options.env is None:
        raise MissingChoice(
            "AgentGym-RL's logs hold the number of a task only, so the reader must be told its environment: env should "
            "be a name such as textcraft, babyai, sciworld, webarena or searchqa; got None."
        )
    task = f"{options.env}_{number}"
    extra = row.without("item_id", "conversations", "reward")
    return _episode(row, options, RL, task, _reward(row, options), extra)


def write_rl(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of a log of AgentGym-RL."""
    numbered = _NUMBERED.fullmatch(trajectory.task)
    if numbered is None:
        raise CannotHold(trajectory, RL, f"it holds the number of the task, and {trajectory.task!r} ends in none")
    return {
        **known_columns(trajectory, RL),
        "item_id": int(numbered[1]),
        "conversations": [_native(message, _spoken(message), {}) for message in trajectory.messages],
        "reward": _scaled(trajectory, RL, options),
    }


def reward_scale(trajectory: Trajectory, options: Options) -> float:
    """What the outcome is multiplied by to be a reward: as the caller chose, or as the trajectory was read."""
    if options.reward_scale is not None:
        return options.reward_scale
    kept = trajectory.extra.get(_SCALE)
    if isinstance(kept, int | float) and not isinstance(kept, bool) and is_scale(kept):
        return float(kept)
    return 1.0


def _episode(row: Row, options: Options, form: str, task: str, outcome: float, extra: dict[str, Any]) -> Trajectory:
    messages, marks = _read_conversation(row, options)
    kept: dict[str, Any] = {form: extra} if extra else {}
    if not all(marks):
        kept[ACTION_LOSS] = marks
    if options.reward_scale not in (None, 1.0):
        kept[_SCALE] = options.reward_scale
    return Trajectory(
        id=row.name,
        env=_environment(row, task, options),
        task=task,
        split=options.split,
        messages=tuple(messages),
        rewards=final_reward(len(marks), outcome),
        outcome=outcome,
        ended=options.ended,
        extra=kept,
    )


def _environment(row: Row, task: str, options: Options) -> str:
    """What stands before the number in a task's id, unless the caller names it."""
    if options.env is not None:
        return options.env
    env, underscore, _ = task.rpartition("_")
    if not underscore:
        raise BadTrajectory("item_id", "<environment>_<number> (or pass env)", repr(task))
    return env


def _reward(row: Row, options: Options) -> float:
    scale = 1.0 if options.reward_scale is None else options.reward_scale
    reward = row.number("reward") / scale
    if not 0.0 <= reward <= 1.0:
        expected = f"in [0, {scale:g}] (reward_scale divides it)"
        raise BadTrajectory("reward", expected, described(row.values["reward"]))
    return reward


def _scaled(trajectory: Trajectory, form: str, options: Options) -> float:
    """The outcome on the scale of the environment's rewards: the number that the reader divides to the same outcome."""
    scale = 1.0 if options.reward_scale is None else options.reward_scale
    reward = trajectory.outcome * scale
    for near in (float(round(reward)), reward, math.nextafter(reward, 0.0), math.nextafter(reward, math.inf)):
        if near / scale == trajectory.outcome:
            return near
    reason = f"no number divided by the reward_scale {scale:g} is its outcome {trajectory.outcome!r}"
    raise CannotHold(trajectory, form, reason)


def _read_conversation(row: Row, options: Options) -> tuple[list[Message], list[bool]]:
    """The messages, and for each action whether it may be imitated."""
    messages: list[Message] = []
    marks: list[bool] = []
    answers = 0
    for turn in row.parts("conversations"):
        message, loss = _read_turn(turn)
        if message.role == "assistant":
            marked = "from" in turn.values
            opening = not marks and (loss is False if marked else answers < options.opening)
            answers += 1
            if not opening:
                message = msgspec.structs.replace(message, action=True)
                marks.append(loss is not False)
        messages.append(message)
    return messages, marks


def _read_turn(turn: Row) -> tuple[Message, bool | None]:
    """A turn as a message that does not act yet, and its loss mark."""
    if "from" not in turn.values:
        role, content, extra = turn.text("role"), turn.text("content"), turn.without("role", "content")
        if role not in _NAMES:
            raise BadTrajectory(f"{turn.where}role", f"one of {', '.join(_NAMES)}", repr(role))
        return Message(role, content, extra=extra), None
    name, loss = turn.text("from"), turn.values.get("loss")
    if name not in _ROLES:
        raise BadTrajectory(f"{turn.where}from", f"one of {', '.join(_ROLES)}", repr(name))
    if loss is not None and not isinstance(loss, bool):
        raise BadTrajectory(f"{turn.where}loss", "true, false or null", described(loss))
    extra = turn.without("from", "loss", "value")
    if (loss is None) == (name == "gpt"):  # answers have a mark, other turns have null; anything else is kept
        extra["loss"] = loss
    return Message(_ROLES[name], turn.text("value"), extra=extra), loss


def _conversation(trajectory: Trajectory) -> list[dict[str, Any]]:
    """The messages in the ``from``/``value`` style; a mark that was read stays where it still says the same."""
    marks = iter(trajectory.action_loss)
    turns = []
    for message in trajectory.messages:
        loss = None if message.role != "assistant" else next(marks) if message.action else False
        turn = {"from": _NAMES[message.role], "loss": loss, "value": message.content}
        kept = message.extra.get("loss", loss)
        same = message.role != "assistant" or (kept is False) == (loss is False)
        turns.append(_native(message, turn, {"loss": kept} if same and isinstance(kept, bool | None) else {}))
    return turns


def _spoken(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}


def _native(message: Message, turn: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """A turn with what its reader kept in the message's extra; a key that means something else here stays out."""
    own = {"from", "loss", "value", "role", "content"}
    return {**turn, **kept, **{key: value for key, value in message.extra.items() if key not in own}}
