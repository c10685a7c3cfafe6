"""Means, standard errors and paired bootstrap intervals over tasks and seeds."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from agentprm_jax.reporting.results import Difference, Estimate

_RESAMPLES_AT_ONCE = 1_000  # bounds the memory of the weights, resamples x tasks, and does not change the result


def seed_by_task(values: Float[np.ndarray, "*seed task"]) -> Float[np.ndarray, "seed task"]:
    """Give outcomes per task a seed axis, and refuse what has no mean.

    Args:
        values: one outcome per task, or per seed and task.

    Returns:
        float64 values [seed, task]; a single axis becomes one seed.

    Raises:
        ValueError: if there are other than one or two axes, no values, or values that are not finite.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2) or table.size == 0:
        raise ValueError(f"Expected outcomes [task] or [seed, task], at least one of each, got shape {table.shape}.")
    table = np.atleast_2d(table)
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        seed, task = bad[0]
        raise ValueError(
            f"Outcomes must be finite, but {len(bad)} are not; the first is {table[seed, task]} at seed index {seed}, "
            f"task index {task}."
        )
    return table


def estimate(values: Float[np.ndarray, "*seed task"]) -> Estimate:
    """The mean outcome with its standard errors over tasks and over seeds.

    Args:
        values: one outcome per task, or per seed and task (the same tasks for every seed).

    Returns:
        Mean of all values; standard error over tasks of the seed-mean per task (None for one task); standard error
        over seeds of the task-mean per seed (None for one seed). Both use n - 1.

    Raises:
        ValueError: as `seed_by_task`.
    """
    table = seed_by_task(values)
    seeds, tasks = table.shape
    return Estimate(
        value=float(table.mean()),
        stderr_tasks=standard_error(table.mean(axis=0)),
        stderr_seeds=standard_error(table.mean(axis=1)),
        n_tasks=tasks,
        n_seeds=seeds,
    )


def standard_error(values: Float[np.ndarray, " n"]) -> float | None:
    """Standard error of the mean of independent `values` (n - 1 in the variance); None for fewer than two."""
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


class UndefinedStatistic(ValueError):
    """The data do not hold what a statistic is about, such as two classes for an AUC."""


def pooled_estimate(
    statistic: Callable[[int, Int[np.ndarray, " draw"]], float],
    *,
    tasks: int,
    seeds: int = 1,
    seed: int,
    resamples: int = 200,
) -> Estimate:
    """A statistic that is no mean over tasks (an AUC, an MSE over steps) with standard errors.

    Args:
        statistic: maps a seed's index and indices of tasks (with repetitions) to the figure; nan where it is
            undefined, as an AUC is for one class.
        tasks: number of tasks.
        seeds: number of PRM seeds.
        seed: of the resampling.
        resamples: how often tasks are resampled.

    Returns:
        Mean over seeds of the statistic of all tasks; standard error over tasks by resampling them (the same draw for
        every seed; draws with an undefined figure are left out); standard error over seeds from the seeds' own figures.

    Raises:
        UndefinedStatistic: if the statistic of all tasks is undefined, or that of most draws.
    """
    everything = np.arange(tasks)
    figures = np.asarray([statistic(index, everything) for index in range(seeds)])
    if not np.all(np.isfinite(figures)):
        raise UndefinedStatistic(
            f"The statistic must be finite on all {tasks} tasks for every seed, got {figures.tolist()}."
        )
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, tasks, size=tasks) for _ in range(resamples if tasks > 1 else 0)]
    drawn = np.asarray([np.mean([statistic(index, draw) for index in range(seeds)]) for draw in draws])
    defined = drawn[np.isfinite(drawn)]
    if len(defined) * 2 < len(draws):
        raise UndefinedStatistic(
            f"The statistic is undefined on {len(draws) - len(defined)} of {len(draws)} draws of {tasks} tasks."
        )
    return Estimate(
        value=float(figures.mean()),
        stderr_tasks=float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        stderr_seeds=standard_error(figures),
        n_tasks=tasks,
        n_seeds=seeds,
    )


def paired_bootstrap(
    a: Float[np.ndarray, "*seed task"],
    b: Float[np.ndarray, "*seed task"],
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Difference:
    """The difference a - b on the same tasks, by resampling tasks and, where they vary, seeds.

    Tasks are drawn with replacement, the same draw for both methods; seeds likewise and independently of the tasks
    (the two-way bootstrap). A method without seeds, such as greedy decoding, is held against every seed of the other.
    With S seeds the resampled variance over seeds is (S - 1) / S of the unbiased one: read intervals of two or three
    seeds with care.

    Args:
        a: outcomes [task] or [seed, task].
        b: outcomes of the other method on the same tasks in the same order; the same seeds, or none.
        seed: of the resampling; the same seed gives the same interval.
        resamples: number of resamples.
        confidence: coverage of the percentile interval, in (0, 1).

    Returns:
        The difference, its standard error, interval, and the probability of being positive (ties half).

    Raises:
        ValueError: if tasks or seeds do not match, or an argument is out of range.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"Expected resamples >= 1 and 0 < confidence < 1, got {resamples} and {confidence}.")
    differences = _paired(seed_by_task(a), seed_by_task(b))
    drawn = _resampled_means(differences, resamples, np.random.default_rng(seed))
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    seeds, tasks = differences.shape
    return Difference(
        value=float(differences.mean()),
        stderr=float(np.std(drawn)),
        low=float(low),
        high=float(high),
        confidence=confidence,
        probability=float(np.mean(drawn > 0) + np.mean(drawn == 0) / 2),
        n_tasks=tasks,
        n_seeds=seeds,
    )


def _paired(
    a: Float[np.ndarray, "seeds_a task"], b: Float[np.ndarray, "seeds_b task"]
) -> Float[np.ndarray, "seed task"]:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"A paired comparison needs the same tasks, got {a.shape[1]} and {b.shape[1]} of them.")
    if a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0]):
        raise ValueError(
            f"A paired comparison needs the same seeds or none, got {a.shape[0]} and {b.shape[0]} of them."
        )
    return a - b


def _resampled_means(
    values: Float[np.ndarray, "seed task"], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, " resample"]:
    """Means over `resamples` draws of seeds and tasks, through how often each was drawn."""
    seeds, tasks = values.shape
    means = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        count = min(_RESAMPLES_AT_ONCE, resamples - start)
        seed_counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)
        task_counts = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=count)
        means.append(np.sum((seed_counts @ values) * task_counts, axis=1) / (seeds * tasks))
    # Sums of equal terms in different orders differ in the last bit, which would break ties at zero.
    return np.where(np.abs(drawn := np.concatenate(means)) < 1e-12, 0.0, drawn)
