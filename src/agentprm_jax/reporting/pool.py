"""A pool of samples: the same number of trajectories of every task, as tables [task, sample]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from agentprm_jax.data.trajectory import Trajectory
from agentprm_jax.reporting.results import Cost


@dataclass(frozen=True)
class Pool:
    """Trajectories grouped by task.

    Attributes:
        tasks: the tasks, in order.
        trajectories: for each task its samples, in the order of their ids' sample numbers.
    """

    tasks: tuple[str, ...]
    trajectories: tuple[tuple[Trajectory, ...], ...]

    @classmethod
    def of(cls, trajectories: Iterable[Trajectory], tasks: Sequence[str]) -> Pool:
        """Groups `trajectories` by task.

        Raises:
            ValueError: a task is missing or unexpected, or tasks differ in their number of trajectories.
        """
        groups: dict[str, list[Trajectory]] = {task: [] for task in tasks}
        for trajectory in trajectories:
            if trajectory.task not in groups:
                raise ValueError(
                    f"Trajectory {trajectory.id} belongs to task {trajectory.task}, which is not one of the "
                    f"{len(tasks)} tasks under evaluation."
                )
            groups[trajectory.task].append(trajectory)
        sizes = {len(group) for group in groups.values()}
        if len(sizes) != 1 or 0 in sizes:
            fewest = min(groups, key=lambda task: len(groups[task]))
            raise ValueError(
                f"A pool needs the same number of trajectories of every task; the numbers are {sorted(sizes)}, "
                f"the fewest for task {fewest}."
            )
        ordered = (tuple(sorted(group, key=_sample_number)) for group in groups.values())
        return cls(tuple(tasks), tuple(ordered))

    @property
    def flat(self) -> list[Trajectory]:
        """All trajectories, task by task."""
        return [trajectory for group in self.trajectories for trajectory in group]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of tasks, and of samples of each."""
        return len(self.tasks), len(self.trajectories[0])

    @property
    def outcomes(self) -> Float[np.ndarray, "task n"]:
        """Outcome of each trajectory, in [0, 1]."""
        return self.table([trajectory.outcome for trajectory in self.flat])

    @property
    def sampled_tokens(self) -> Float[np.ndarray, "task n"]:
        """Tokens that the actor sampled for each trajectory."""
        return self.table([t.actor.sampled_tokens if t.actor else 0 for t in self.flat])

    @property
    def lengths(self) -> Float[np.ndarray, "task n"]:
        """Number of actions of each trajectory."""
        return self.table([len(trajectory.rewards) for trajectory in self.flat])

    def cost(self, samples: int, tokens_scored: float = 0.0) -> Cost:
        """What so many samples cost a task, each read by a scorer in `tokens_scored` tokens."""
        return Cost(
            tokens_sampled=samples * float(self.sampled_tokens.mean()),
            tokens_scored=samples * tokens_scored,
            environment_steps=samples * float(self.lengths.mean()),
        )

    def table(self, values: Sequence[float]) -> Float[np.ndarray, "task n"]:
        """One value for each trajectory of `flat` as a table."""
        return np.asarray(values, np.float64).reshape(self.shape)


def _sample_number(trajectory: Trajectory) -> tuple[int, str]:
    tail = trajectory.id.rsplit("/", 1)[-1]
    return (int(tail) if tail.isdecimal() else 0, trajectory.id)
