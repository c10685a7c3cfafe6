"""Scores that need no model: what a value function has to beat before it has shown anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from agentprm_jax.data.trajectory import Trajectory
from agentprm_jax.envs.compact_state import state_text
from agentprm_jax.reporting.pool import Pool

LENGTH_CONTROLS = ("shortest", "longest", "earliest_finish", "any_finish")
"""Controls that look at lengths and endings alone; in an honest setting they choose no better than at random."""


def random_choice(pool: Pool) -> Float[np.ndarray, "task n"]:
    """Equal scores, so that ties make the choice uniform."""
    return np.zeros(pool.shape)


def shortest(pool: Pool) -> Float[np.ndarray, "task n"]:
    """Fewest actions first."""
    return -pool.lengths


def longest(pool: Pool) -> Float[np.ndarray, "task n"]:
    """Most actions first."""
    return pool.lengths


def any_finish(pool: Pool) -> Float[np.ndarray, "task n"]:
    """Episodes that ended by themselves before those that were cut off."""
    return pool.table([float(trajectory.ended == "terminated") for trajectory in pool.flat])


def earliest_finish(pool: Pool) -> Float[np.ndarray, "task n"]:
    """Of the episodes that ended by themselves the one with the fewest actions; those cut off come last."""
    return np.where(any_finish(pool) > 0, -pool.lengths, -np.inf)


def most_frequent_final_state(pool: Pool) -> Float[np.ndarray, "task n"]:
    """The share of the task's samples that declared the end in the same final state, as last observed in any round.

    A vote over states instead of answers. Counts come from the whole pool whatever N is, which favours the control.
    """
    return pool.table([vote for group in pool.trajectories for vote in _votes(group)])


CONTROLS: dict[str, Callable[[Pool], Float[np.ndarray, "task n"]]] = {
    "random": random_choice,
    "shortest": shortest,
    "longest": longest,
    "any_finish": any_finish,
    "earliest_finish": earliest_finish,
    "most_frequent_final_state": most_frequent_final_state,
}
"""Every control of Best-of-N by name: scores of the pool's trajectories."""


def _votes(group: tuple[Trajectory, ...]) -> list[float]:
    finals = [_final_state(trajectory) for trajectory in group]
    counted = [final for final, t in zip(finals, group, strict=True) if t.ended == "terminated"]
    counts = Counter(counted)
    return [
        counts[final] / len(group) if trajectory.ended == "terminated" else 0.0
        for final, trajectory in zip(finals, group, strict=True)
    ]


def _final_state(trajectory: Trajectory) -> str:
    """What was seen before the last action, whenever that was."""
    seen = trajectory.conversation(len(trajectory.rewards) - 1)
    last = next((message.content for message in reversed(seen) if message.role == "user"), "")
    return state_text(last)
