"""Pools of made-up trajectories for tests of controls, value metrics and findings."""

from agentprm_jax.data.trajectory import ActorInfo, Message, Trajectory
from agentprm_jax.reporting.pool import Pool


def trajectory(task, sample, actions, outcome, *, ended="terminated", finals=None, tokens=7):
    """Actions by text; the observation before the last action is `finals`, when given."""
    messages = [Message("user", f"{task} start")]
    for index, action in enumerate(actions):
        if index == len(actions) - 1 and finals is not None:
            messages[-1] = Message("user", finals)
        messages.append(Message("assistant", action, action=True))
        messages.append(Message("user", f"{task} after {index}"))
    return Trajectory(
        id=f"{task}/0/{sample}",
        env="made",
        task=task,
        split="test",
        messages=tuple(messages[:-1]),
        rewards=(*[0.0] * (len(actions) - 1), outcome),
        ended=ended,
        actor=ActorInfo(name="made", sampled_tokens=tokens),
    )


def make_pool(outcomes, lengths, *, ended=None, finals=None):
    """A pool from tables [task][sample]."""
    tasks = [f"made_{index}" for index in range(len(outcomes))]
    made = [
        trajectory(
            task,
            k,
            [*["go"] * (lengths[i][k] - 1), "finish"],
            outcomes[i][k],
            ended=ended[i][k] if ended else "terminated",
            finals=finals[i][k] if finals else None,
        )
        for i, task in enumerate(tasks)
        for k in range(len(outcomes[i]))
    ]
    return Pool.of(made, tasks)
