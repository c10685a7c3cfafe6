"""Cornell's agent_prm: ALFWorld rollouts, one JSON file an episode, and the step targets computed from them.

Source: github.com/sanjibanc/agent_prm, ``scripts/dataproc/rollout_alfworld.py`` (writes the rollouts) and
``scripts/dataproc/compute_prm_target.py`` (reads them and writes the targets). The targets are Parquet there; here
the same rows may be JSON lines too. The list-of-steps rollouts for Twenty Questions in
github.com/portal-cornell/agent_prm are another format and not read.

A step holds what was seen, the reason and the action. The text of the action in a trajectory is ``Thought: <reason>``
and ``Action: <action>`` on two lines, or the action alone if there is no reason: the template that Cornell's actor
used is not in the repository. The score of the last step is the outcome. A target values one step: the history before
it is conversation and not action, because the row has no label for those steps, and its ``qestimate`` is the promise
of the step (see ``steps``); a target does not tell how its episode ended.
"""

from typing import Any

from agentprm_jax.data.formats.options import CannotHold, Options, chosen_outcome
from agentprm_jax.data.formats.rows import Row, as_number
from agentprm_jax.data.formats.steps import (
    LABEL,
    as_scores,
    final_reward,
    known_columns,
    named_scorer,
    question_task,
)
from agentprm_jax.data.record import BadTrajectory, Message, Trajectory

ROLLOUT, TARGET = "cornell-rollout", "cornell-target"

_ENV = "alfworld"
_THOUGHT, _ACTION = "Thought: ", "\nAction: "


def read_rollout(row: Row, options: Options) -> Trajectory:
    """An episode."""
    steps = row.parts("trajectory")
    if not steps:
        raise BadTrajectory("trajectory", "at least one step, whose score is the outcome", "none")
    outcome = steps[-1].number("score")
    messages = [message for step in steps for message in _read_step(step, last=step is steps[-1])]
    extra = row.without("gamefile", "trajectory")
    return Trajectory(
        id=row.name,
        env=_ENV if options.env is None else options.env,
        task=row.text("gamefile"),
        split=options.split,
        messages=tuple(messages),
        rewards=final_reward(len(steps), outcome),
        outcome=outcome,
        ended=options.ended,
        extra={ROLLOUT: extra} if extra else {},
    )


def write_rollout(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The episode's object."""
    pairs = _pairs(trajectory, ROLLOUT)
    if not pairs:
        raise CannotHold(trajectory, ROLLOUT, "the outcome is the score of the last step, and there is no step")
    steps = []
    for index, (seen, acted) in enumerate(pairs):
        if not acted.action:
            raise CannotHold(trajectory, ROLLOUT, f"message {2 * index + 1} of the assistant is no action")
        reason, action = _reason_and_action(acted)
        last = index == len(pairs) - 1
        kept = {key: value for key, value in acted.extra.items() if key not in ("observation", "candidate_actions")}
        score = trajectory.outcome if last else _score(trajectory, index, kept.get("score"))
        told = {"reason": reason, "action": action, "score": score}
        actions = seen.extra.get("candidate_actions", [])
        steps.append({"observation": seen.content, "candidate_actions": actions, **kept, **told})
    return {"task": "", **known_columns(trajectory, ROLLOUT), "gamefile": trajectory.task, "trajectory": steps}


def read_target(row: Row, options: Options) -> Trajectory:
    """One valued step and the conversation before it."""
    state, acted, label = row.part("state"), row.part("reason_action"), row.number("qestimate")
    history = state.parts("history")
    messages = []
    for step in history:
        done = Message("assistant", step.text("action"), extra=step.without("observation", "action"))
        messages += [Message("user", step.text("observation")), done]
    messages.append(Message("user", state.text("observation"), extra=state.without("observation", "history")))
    messages.append(_acted(acted, acted.without("reason", "action")))
    env = _ENV if options.env is None else options.env
    task = question_task(env, f"{state.text('task')}\n{messages[0].content}")
    outcome = chosen_outcome(row, options, "A target of Cornell's agent_prm", task, [label])
    extra = row.without("state", "reason_action", "qestimate")
    return Trajectory(
        id=row.name,
        env=env,
        task=task,
        split=options.split,
        messages=tuple(messages),
        rewards=(outcome,),
        outcome=outcome,
        ended=options.ended,
        scores={LABEL if options.scorer is None else options.scorer: as_scores([label])},
        extra={TARGET: extra} if extra else {},
    )


def write_target(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of one valued step."""
    pairs = _pairs(trajectory, TARGET)
    if [acted.action for _, acted in pairs] != [False] * (len(pairs) - 1) + [True]:
        reason = f"it values one step, the last, and there are {len(trajectory.actions)} actions"
        raise CannotHold(trajectory, TARGET, reason)
    (label,) = trajectory.scores[named_scorer(trajectory, TARGET, options.scorer)].promise
    seen, acted = pairs[-1]
    reason, action = _reason_and_action(acted)
    goal = seen.extra.get("task")
    history = [{**acted.extra, "observation": seen.content, "action": acted.content} for seen, acted in pairs[:-1]]
    state = {
        "candidate_actions": [],
        **seen.extra,
        "observation": seen.content,
        "history": history,
        "task": goal if isinstance(goal, str) else "",
    }
    return {
        **known_columns(trajectory, TARGET),
        "state": state,
        "reason_action": {**acted.extra, "reason": reason, "action": action},
        "qestimate": label,
    }


def _read_step(step: Row, *, last: bool) -> list[Message]:
    """What was seen and what was done; a score is kept where the trajectory does not tell it anyway."""
    seen = {key: value for key, value in step.values.items() if key == "candidate_actions"}
    told = ("observation", "candidate_actions", "reason", "action", *(["score"] if last else []))
    extra = step.without(*told)
    if extra.get("score") == 0.0:
        del extra["score"]
    return [Message("user", step.text("observation"), extra=seen), _acted(step, extra)]


def _acted(step: Row, extra: dict[str, Any]) -> Message:
    reason, action = step.values.get("reason"), step.text("action")
    if reason is not None:
        reason = step.text("reason")
    content = _said(reason, action)
    if _parted(content) != (reason, action):
        extra = {**extra, "reason": reason, "action": action}
    return Message("assistant", content, True, extra)


def _said(reason: str | None, action: str) -> str:
    return f"{_THOUGHT}{reason}{_ACTION}{action}" if reason else action


def _parted(content: str) -> tuple[str, str]:
    """The reason and the action in the text of a step; the other way around gives the same text."""
    reason, marker, action = content.removeprefix(_THOUGHT).partition(_ACTION)
    if content.startswith(_THOUGHT) and marker and reason:
        return reason, action
    return "", content


def _reason_and_action(message: Message) -> tuple[str | None, str]:
    """As they were read, if they still make the text; else as the text has them."""
    reason, action = message.extra.get("reason"), message.extra.get("action")
    if isinstance(reason, str | None) and isinstance(action, str) and _said(reason, action) == message.content:
        return reason, action
    return _parted(message.content)


def _pairs(trajectory: Trajectory, form: str) -> list[tuple[Message, Message]]:
    """The messages as pairs of what was seen and what was answered."""
    for index, message in enumerate(trajectory.messages):
        if message.role != ("user", "assistant")[index % 2]:
            reason = f"it holds observation and action by turns, and message {index} is of the {message.role}"
            raise CannotHold(trajectory, form, reason)
    if len(trajectory.messages) % 2:
        raise CannotHold(trajectory, form, "it has no place for what is observed after the last action")
    return list(zip(trajectory.messages[::2], trajectory.messages[1::2], strict=True))


def _score(trajectory: Trajectory, step: int, kept: Any) -> float:
    """The score of a step before the last, as it was read; 0 where none was."""
    if not isinstance(kept, int | float):
        return 0.0
    try:
        return as_number(kept, "score")
    except BadTrajectory as error:
        reason = f"the score of step {step} should be {error.expected}, got {error.got}"
        raise CannotHold(trajectory, ROLLOUT, reason) from error
