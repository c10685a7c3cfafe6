"""Promise along trajectories: means by step of successful and failed ones, and a fair choice of some to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from agentprm_jax.data.trajectory import Trajectory


class PathGroup(NamedTuple):
    """Promise by step over a group of trajectories.

    Steps count from 1; mean and stderr are over the trajectories that reach the step, counts says how many do.
    """

    steps: Int[np.ndarray, " u"]
    mean: Float[np.ndarray, " u"]
    stderr: Float[np.ndarray, " u"]
    counts: Int[np.ndarray, " u"]
    trajectories: int


def scoring_prms(trajectories: Sequence[Trajectory]) -> list[str]:
    """Names of the PRMs that scored any of the trajectories, in order of first appearance."""
    return list(dict.fromkeys(name for trajectory in trajectories for name in trajectory.scores))


def promise_groups(
    trajectories: Sequence[Trajectory], prms: Sequence[str] | None = None, *, least: int = 1
) -> dict[str, tuple[PathGroup, PathGroup]]:
    """Promise by step of the successful and of the failed trajectories, for each PRM.

    Args:
        trajectories: with `scores`; those a PRM has not scored do not count for it.
        prms: names of PRMs; default all that scored any.
        least: steps that fewer trajectories of a group reach are left out.

    Raises:
        ValueError: if there is no PRM, or one of them scored none of the trajectories.
    """
    names = scoring_prms(trajectories) if prms is None else list(prms)
    if not names:
        raise ValueError(f"None of the {len(trajectories)} trajectories carries scores of a PRM.")
    groups = {}
    for name in names:
        scored = [trajectory for trajectory in trajectories if name in trajectory.scores]
        if not scored:
            raise ValueError(
                f"No trajectory carries scores of {name!r}; there are scores of {scoring_prms(trajectories)}."
            )
        by_success = [[t for t in scored if t.success is wanted] for wanted in (True, False)]
        successes, failures = (_path_group([_promise(t, name) for t in group], least) for group in by_success)
        groups[name] = (successes, failures)
    return groups


def choose_examples(
    trajectories: Sequence[Trajectory], *, successes: int = 4, failures: int = 4, seed: int = 0
) -> list[Trajectory]:
    """Draw trajectories to show at random, so that nobody picked the pretty ones; each of another task while possible.

    Args:
        trajectories: candidates.
        successes: how many successful ones, fewer if there are not so many.
        failures: how many failed ones.
        seed: of the draw.

    Returns:
        Successes first, then failures.
    """
    rng = np.random.default_rng(seed)
    chosen: list[Trajectory] = []
    used: set[str] = set()
    for wanted, count in ((True, successes), (False, failures)):
        pool = [trajectory for trajectory in trajectories if trajectory.success is wanted]
        drawn = [pool[i] for i in rng.permutation(len(pool))]
        fresh: dict[str, Trajectory] = {}
        for trajectory in drawn:
            if trajectory.task not in used:
                fresh.setdefault(trajectory.task, trajectory)
        kept = {id(trajectory) for trajectory in fresh.values()}
        picked = [*fresh.values(), *(t for t in drawn if id(t) not in kept)][:count]
        used.update(trajectory.task for trajectory in picked)
        chosen += picked
    return chosen


def _promise(trajectory: Trajectory, prm: str) -> Float[np.ndarray, " u"]:
    return np.asarray(trajectory.scores[prm].promise, dtype=float)


def _path_group(promises: Sequence[Float[np.ndarray, " u"]], least: int) -> PathGroup:
    longest = max((len(path) for path in promises), default=0)
    steps, means, stderrs, counts = [], [], [], []
    for step in range(longest):
        values = np.array([path[step] for path in promises if len(path) > step])
        if len(values) < max(least, 1):
            continue
        steps.append(step + 1)
        means.append(values.mean())
        stderrs.append(np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0)
        counts.append(len(values))
    return PathGroup(np.array(steps, int), np.array(means), np.array(stderrs), np.array(counts, int), len(promises))
