"""What picking the best-scored of N trajectories is worth, averaged over every choice of the N."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def _checked(name: str, array: Float[np.ndarray, "..."], ndim: int) -> Float[np.ndarray, "..."]:
    values = np.asarray(array, np.float64)
    if values.ndim != ndim:
        raise ValueError(f"best_of_n: `{name}` must have {ndim} axes, but has shape {values.shape}.")
    if np.isnan(values).any():
        raise ValueError(
            f"best_of_n: `{name}` must not hold NaN, but does at index {np.argwhere(np.isnan(values))[0]}."
        )
    return values


def _subsets_within(n: int, size: int) -> Float[np.ndarray, " {n}+1"]:
    """Entry c: the share of the subsets of `size` out of n that lie within c given ones, C(c, size) / C(n, size)."""
    if not 1 <= size <= n:
        raise ValueError(f"best_of_n: N must lie between 1 and the number of trajectories, {n}, but is {size}.")
    subsets = math.comb(n, size)
    # Python divides integers of any length correctly rounded, where a product of ratios would drift.
    return np.array([math.comb(count, size) / subsets for count in range(n + 1)], np.float64)


def _chosen(scores: Float[np.ndarray, " n"], within: Float[np.ndarray, " n+1"]) -> Float[np.ndarray, " n"]:
    """The probability that each trajectory is the one picked."""
    ordered = np.sort(scores)
    below = np.searchsorted(ordered, scores, side="left")
    up_to = np.searchsorted(ordered, scores, side="right")
    return (within[up_to] - within[below]) / (up_to - below)


def best_of_n(scores: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"], N: int) -> float:
    """Expected outcome of the best-scored trajectory of a uniformly random subset of N, ties sharing equally.

    Exact and in closed form: the best of the subset scores s when the subset lies among the trajectories of at most s
    but not among those below s, and by symmetry trajectories of equal score are then equally likely to be picked.

    Args:
        scores: score of each trajectory of one task, infinities allowed.
        outcomes: outcome of the same trajectories.
        N: size of the subsets, from 1 to n.

    Returns:
        The expected outcome. With the outcomes as scores it is the oracle, see `pass_at_n`.

    Raises:
        ValueError: N is out of range, the shapes disagree, or there is a NaN.
    """
    return float(
        best_of_n_curve(_checked("scores", scores, 1)[None], _checked("outcomes", outcomes, 1)[None], [N])[0, 0]
    )


def best_of_n_curve(
    scores: Float[np.ndarray, "task n"], outcomes: Float[np.ndarray, "task n"], sizes: Sequence[int]
) -> Float[np.ndarray, "task size"]:
    """`best_of_n` of every task at every subset size; average over the first axis for the curve of a method.

    Args:
        scores: scores of n trajectories of each task.
        outcomes: outcomes of the same trajectories.
        sizes: the N to evaluate, each from 1 to n.

    Returns:
        Expected outcomes in float64.

    Raises:
        ValueError: a size is out of range, the shapes disagree, or there is a NaN.
    """
    ranked, rewards = _checked("scores", scores, 2), _checked("outcomes", outcomes, 2)
    if ranked.shape != rewards.shape:
        raise ValueError(f"best_of_n: scores have shape {ranked.shape}, but outcomes have shape {rewards.shape}.")
    tables = [_subsets_within(ranked.shape[1], size) for size in sizes]
    curve = np.zeros((len(ranked), len(sizes)), np.float64)
    for task, column in np.ndindex(*curve.shape):
        curve[task, column] = _chosen(ranked[task], tables[column]) @ rewards[task]
    return curve


def pass_at_n(outcomes: Float[np.ndarray, " n"], N: int) -> float:
    """Expected best outcome of a uniformly random subset of N: what a perfect scorer would reach.

    Raises:
        ValueError: as `best_of_n`.
    """
    return best_of_n(outcomes, outcomes, N)
