"""How good a value function's predictions are: squared errors against references, ranking, reliability."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


class FlatSteps(NamedTuple):
    """The steps of many trajectories in a row.

    Attributes:
        steps: [n] int64, index of each step in its trajectory.
        predictions: [n] float64.
        outcomes: [n] float64, the outcome of the trajectory that the step belongs to.
    """

    steps: np.ndarray
    predictions: np.ndarray
    outcomes: np.ndarray


class ReliabilityBin(NamedTuple):
    """One bin of a reliability table.

    Attributes:
        lower: smallest prediction of the bin.
        upper: where the next bin begins; the topmost bin includes it.
        number: how many predictions fell into the bin.
        prediction: their mean, None if there are none.
        outcome: the mean of their outcomes, None if there are none.
    """

    lower: float
    upper: float
    number: int
    prediction: float | None
    outcome: float | None


class StepAuc(NamedTuple):
    """Ranking at one step.

    Attributes:
        step: index of the step, from 0.
        auc: in [0, 1], None when there is no pair.
        pairs: number of pairs of trajectories of the same task with different outcomes.
        tasks: number of tasks that contribute a pair.
    """

    step: int
    auc: float | None
    pairs: int
    tasks: int


class StepPairs(NamedTuple):
    """Pairs of trajectories of one task with different outcomes, compared at the same step.

    Attributes:
        ordered: [task, step] float64, pairs that the scores put in order; ties count half.
        pairs: [task, step] float64, number of pairs.
        tasks: the tasks, in order of first appearance.
    """

    ordered: np.ndarray
    pairs: np.ndarray
    tasks: list[Hashable]


def _paired(owner: str, **arrays: Shaped[np.ndarray, "..."]) -> list[Float[np.ndarray, " n"]]:
    """The arrays in float64, refused where they are no equally long rows of numbers."""
    rows = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    shapes = {name: row.shape for name, row in rows.items()}
    if len(set(shapes.values())) != 1 or any(row.ndim != 1 for row in rows.values()):
        raise ValueError(f"{owner}: expected one axis of the same length in every argument, but got shapes {shapes}.")
    for name, row in rows.items():
        if np.isnan(row).any():
            raise ValueError(f"{owner}: `{name}` must not hold NaN, but does at index {int(np.isnan(row).argmax())}.")
    return list(rows.values())


def _mean_square(owner: str, errors: Float[np.ndarray, " n"]) -> float:
    if not errors.size:
        raise ValueError(f"{owner}: expected at least one prediction, but got none.")
    return float(np.mean(np.square(errors)))


def mse(predictions: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"]) -> float:
    """Mean squared error.

    Raises:
        ValueError: the shapes disagree, there is no prediction, or there is a NaN.
    """
    predicted, observed = _paired("mse", predictions=predictions, outcomes=outcomes)
    return _mean_square("mse", predicted - observed)


def brier(predictions: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"]) -> float:
    """Brier score: mean squared error of the predictions read as probabilities, that is clipped to [0, 1].

    Raises:
        ValueError: as `mse`.
    """
    predicted, observed = _paired("brier", predictions=predictions, outcomes=outcomes)
    return _mean_square("brier", np.clip(predicted, 0.0, 1.0) - observed)


def constant_mse(outcomes: Float[np.ndarray, " n"], *, reference_outcomes: Float[np.ndarray, " m"]) -> float:
    """Mean squared error of predicting the mean outcome of a reference set: what a useful value function must beat.

    Raises:
        ValueError: either set is empty, has another number of axes than one, or holds a NaN.
    """
    (reference,) = _paired("constant_mse", reference_outcomes=reference_outcomes)
    if not reference.size:
        raise ValueError("constant_mse: expected at least one reference outcome, but got none.")
    (observed,) = _paired("constant_mse", outcomes=outcomes)
    return _mean_square("constant_mse", observed - reference.mean())


def step_index_mse(
    steps: Int[np.ndarray, " n"],
    outcomes: Float[np.ndarray, " n"],
    *,
    reference_steps: Int[np.ndarray, " m"],
    reference_outcomes: Float[np.ndarray, " m"],
) -> float:
    """Mean squared error of predicting, from the step's index alone, the reference set's mean outcome at that index.

    Beats `constant_mse` where length gives the outcome away. An index that the reference set lacks takes the nearest
    lower one that it has, or its first.

    Args:
        steps: index of each evaluated step in its trajectory.
        outcomes: outcome of the trajectory of each evaluated step.
        reference_steps: the same of the reference set.
        reference_outcomes: the same of the reference set.

    Raises:
        ValueError: the shapes disagree, either set is empty, or there is a NaN.
    """
    index, observed = _paired("step_index_mse", steps=steps, outcomes=outcomes)
    at, reference = _paired("step_index_mse", reference_steps=reference_steps, reference_outcomes=reference_outcomes)
    if not reference.size:
        raise ValueError("step_index_mse: expected at least one reference step, but got none.")
    seen, group = np.unique(at, return_inverse=True)
    means = np.bincount(group, weights=reference) / np.bincount(group)
    nearest = np.maximum(np.searchsorted(seen, index, side="right") - 1, 0)
    return _mean_square("step_index_mse", observed - means[nearest])


def flatten_steps(scores: Sequence[Float[np.ndarray, " _u"]], outcomes: Float[np.ndarray, " n"]) -> FlatSteps:
    """Lays the steps of trajectories of different lengths in a row, each with its trajectory's outcome.

    Args:
        scores: one array of step scores for each trajectory.
        outcomes: one outcome for each trajectory.

    Raises:
        ValueError: there are not as many outcomes as trajectories.
    """
    rows = [np.asarray(row, np.float64) for row in scores]
    if np.shape(outcomes) != (len(rows),):
        raise ValueError(f"flatten_steps: expected {len(rows)} outcomes, but got shape {np.shape(outcomes)}.")
    lengths = [len(row) for row in rows]
    steps = [np.arange(length) for length in lengths]
    return FlatSteps(
        np.concatenate([np.zeros(0, np.int64), *steps]),
        np.concatenate([np.zeros(0), *rows]),
        np.repeat(np.asarray(outcomes, np.float64), lengths),
    )


def reliability(
    predictions: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"], bins: int = 10
) -> list[ReliabilityBin]:
    """Mean prediction against mean outcome in equal bins of [0, 1]; a calibrated function has them equal.

    Args:
        predictions: predicted outcomes; one outside [0, 1] counts in the bin at that end.
        outcomes: observed outcomes.
        bins: number of bins, at least 1.

    Raises:
        ValueError: the shapes disagree, there is a NaN, or `bins` is below 1.
    """
    predicted, observed = _paired("reliability", predictions=predictions, outcomes=outcomes)
    if bins < 1:
        raise ValueError(f"reliability: `bins` must be at least 1, but is {bins}.")
    edges = np.linspace(0.0, 1.0, bins + 1)
    which = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, bins - 1)
    table = []
    for index in range(bins):
        inside = which == index
        number = int(inside.sum())
        means = (float(predicted[inside].mean()), float(observed[inside].mean())) if number else (None, None)
        table.append(ReliabilityBin(float(edges[index]), float(edges[index + 1]), number, *means))
    return table


def _ordered_pairs(scores: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"]) -> tuple[float, int]:
    """Pairs with different outcomes: how many the scores put in order (ties count half), and how many there are."""
    ordered, pairs = 0.0, 0
    for outcome in np.unique(outcomes):
        better = np.sort(scores[outcomes > outcome])
        worse = scores[outcomes == outcome]
        above = len(better) - np.searchsorted(better, worse, side="right")
        at_least = len(better) - np.searchsorted(better, worse, side="left")
        ordered += float(above.sum() + at_least.sum()) / 2
        pairs += len(better) * len(worse)
    return ordered, pairs


def auc(scores: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"]) -> float | None:
    """The probability that of two trajectories with different outcomes the better one has the higher score.

    Equal scores count half. With outcomes 0 and 1 this is the area under the ROC curve; graded outcomes need no
    threshold.

    Returns:
        A number in [0, 1], or None when all outcomes are equal.

    Raises:
        ValueError: the shapes disagree, or there is a NaN.
    """
    ranked, observed = _paired("auc", scores=scores, outcomes=outcomes)
    ordered, pairs = _ordered_pairs(ranked, observed)
    return ordered / pairs if pairs else None


def _included(
    scores: Sequence[np.ndarray], include: Sequence[np.ndarray] | None
) -> list[tuple[Float[np.ndarray, " _u"], Bool[np.ndarray, " _u"]]]:
    """The steps of each trajectory, and which of them count."""
    rows = [np.asarray(row, np.float64) for row in scores]
    masks = [np.ones(len(row), bool) for row in rows] if include is None else [np.asarray(m, bool) for m in include]
    if [row.shape for row in rows] != [mask.shape for mask in masks]:
        raise ValueError("fixed_step_auc: `include` must hold one boolean for each step of each trajectory.")
    return list(zip(rows, masks, strict=True))


def fixed_step_auc(
    scores: Sequence[Float[np.ndarray, " _u"]],
    outcomes: Float[np.ndarray, " n"],
    tasks: Sequence[Hashable],
    *,
    include: Sequence[Bool[np.ndarray, " _u"]] | None = None,
) -> list[StepAuc]:
    """Do the actions at step k rank by outcome, within a task?

    Compares only trajectories of the same task that both have a step k, and pools the pairs of all tasks. Ranking
    across tasks would measure how hard tasks are, ranking at a share of the length how long failures are.

    Args:
        scores: one array of step scores for each trajectory.
        outcomes: one outcome for each trajectory.
        tasks: the task of each trajectory.
        include: for each trajectory which steps count, for instance those that are not `finish`; all when None.

    Returns:
        One entry a step, up to the longest trajectory.

    Raises:
        ValueError: the lengths disagree, or there is a NaN.
    """
    table = fixed_step_pairs(scores, outcomes, tasks, include=include)
    ordered, pairs = table.ordered.sum(axis=0), table.pairs.sum(axis=0)
    contributing = (table.pairs > 0).sum(axis=0)
    return [
        StepAuc(
            step, float(ordered[step] / pairs[step]) if pairs[step] else None, int(pairs[step]), int(contributing[step])
        )
        for step in range(len(pairs))
    ]


def fixed_step_pairs(
    scores: Sequence[Float[np.ndarray, " _u"]],
    outcomes: Float[np.ndarray, " n"],
    tasks: Sequence[Hashable],
    *,
    include: Sequence[Bool[np.ndarray, " _u"]] | None = None,
) -> StepPairs:
    """The pairs behind `fixed_step_auc`, task by task, so that tasks can be resampled.

    Args:
        scores: as in `fixed_step_auc`.
        outcomes: as in `fixed_step_auc`.
        tasks: as in `fixed_step_auc`.
        include: as in `fixed_step_auc`.

    Raises:
        ValueError: the lengths disagree, or there is a NaN.
    """
    rows = _included(scores, include)
    (observed,) = _paired("fixed_step_auc", outcomes=outcomes)
    if not len(rows) == len(observed) == len(tasks):
        raise ValueError(
            f"fixed_step_auc: expected as many outcomes and tasks as trajectories, {len(rows)}, "
            f"but got {len(observed)} outcomes and {len(tasks)} tasks."
        )
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        members[task].append(index)
    longest = max((len(row) for row, _ in rows), default=0)
    table = np.zeros((2, len(members), longest))
    for place, group in enumerate(members.values()):
        for step in range(longest):
            table[:, place, step] = _pairs_at(step, rows, observed, group)
    return StepPairs(table[0], table[1], list(members))


def _pairs_at(
    step: int, rows: list[tuple[np.ndarray, np.ndarray]], outcomes: Float[np.ndarray, " n"], group: list[int]
) -> tuple[float, int]:
    alive = [index for index in group if step < len(rows[index][0]) and rows[index][1][step]]
    here = np.array([rows[index][0][step] for index in alive])
    if np.isnan(here).any():
        raise ValueError(f"fixed_step_auc: `scores` must not hold NaN, but do at step {step}.")
    return _ordered_pairs(here, outcomes[alive])
