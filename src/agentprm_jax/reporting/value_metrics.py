"""How good a PRM's promises are on a pool: ranking within a task at a fixed step, squared errors, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from agentprm_jax.data.trajectory import Trajectory
from agentprm_jax.envs.base import is_finish
from agentprm_jax.numerics.calibration import (
    FlatSteps,
    ReliabilityBin,
    constant_mse,
    fixed_step_pairs,
    flatten_steps,
    reliability,
    step_index_mse,
)
from agentprm_jax.reporting.pool import Pool
from agentprm_jax.reporting.results import Column, Estimate
from agentprm_jax.reporting.statistics import UndefinedStatistic, pooled_estimate

FOLDS = 4
AUC_STEPS = (0, 1, 2, 3)
AUC_COLUMNS = (
    *(
        Column(key=f"auc_{k + 1}", title=f"AUC step {k + 1}", meaning=f"AUC within a task at step {k + 1}.")
        for k in AUC_STEPS
    ),
    Column(key="auc", title="AUC all", meaning="AUC within a task at a fixed step, pooled over all steps."),
    Column(key="auc_act", title="AUC not finish", meaning="The same over the steps that are not `finish`."),
)


@dataclass(frozen=True)
class ValueMetrics:
    """Promises of one method's PRMs (one a seed) on a pool, and what they are worth.

    An AUC is None where too few tasks have samples that differ in outcome.

    Attributes:
        pool: the trajectories.
        promises: [seed][trajectory of pool.flat][step].
        seed: of the resampling of tasks for standard errors.
    """

    pool: Pool
    promises: Sequence[Sequence[Float[np.ndarray, " u"]]]
    seed: int = 0

    def step_auc(self, step: int, *, finish: bool = True) -> Estimate | None:
        """AUC within a task at step index `step` (0 is the first action); without `finish` actions if so chosen."""
        return self._auc(self._pairs[finish], slice(step, step + 1))

    def mean_auc(self, *, finish: bool = True) -> Estimate | None:
        """AUC within a task at a fixed step, pooled over all steps: each step counts with its number of pairs."""
        return self._auc(self._pairs[finish], slice(None))

    def aucs(self) -> dict[str, Estimate]:
        """Those of `AUC_COLUMNS` that there are, by their keys."""
        found = {f"auc_{k + 1}": self.step_auc(k) for k in AUC_STEPS}
        found |= {"auc": self.mean_auc(), "auc_act": self.mean_auc(finish=False)}
        return {key: one for key, one in found.items() if one is not None}

    def mse(self) -> Estimate:
        """Mean squared error of the promise of every step against the outcome."""
        return self._squared(lambda flat: flat.predictions)

    def mse_to(self, values: Sequence[Float[np.ndarray, " u"]], noise: Sequence[Float[np.ndarray, " u"]]) -> Estimate:
        """Mean squared error of the promise of every step against a value that is known with an unbiased error.

        Args:
            values: of each step of each trajectory.
            noise: the variance of each one's error, or an unbiased estimate of it, which is taken off.
        """
        target, variance = np.concatenate(values), np.concatenate(noise)
        errors = [(flat.predictions - target) ** 2 - variance for flat in map(self._flat, self.promises)]
        return self._mean(errors)

    def brier(self) -> Estimate:
        """Mean squared error of the promise of every step, clipped to [0, 1], against the outcome."""
        return self._squared(lambda flat: np.clip(flat.predictions, 0.0, 1.0))

    def last_step_brier(self) -> Estimate:
        """Brier score of the last step of each trajectory."""
        errors = [
            (np.clip([row[-1] for row in rows], 0.0, 1.0) - self.pool.outcomes.ravel()) ** 2 for rows in self.promises
        ]
        by_task = np.asarray(errors).reshape(len(errors), *self.pool.shape)
        return self._ratio(by_task.sum(-1), np.full(by_task.shape[:2], float(self.pool.shape[1])))

    def reliability(self) -> list[ReliabilityBin]:
        """Reliability table of all steps and seeds."""
        flats = [self._flat(rows) for rows in self.promises]
        predictions, outcomes = (np.concatenate([f[i] for f in flats]) for i in (1, 2))
        return reliability(predictions, outcomes)

    @cached_property
    def _pairs(self) -> dict[bool, tuple[np.ndarray, np.ndarray]]:
        """By whether `finish` counts: ordered and all pairs [seed, task, step]."""
        tasks = [trajectory.task for trajectory in self.pool.flat]
        outcomes = self.pool.outcomes.ravel()
        table = {}
        for finish, include in ((True, None), (False, other_than_finish(self.pool))):
            parts = [fixed_step_pairs(rows, outcomes, tasks, include=include) for rows in self.promises]
            table[finish] = (np.stack([part.ordered for part in parts]), np.stack([part.pairs for part in parts]))
        return table

    def _auc(self, pairs: tuple[np.ndarray, np.ndarray], steps: slice) -> Estimate | None:
        ordered, number = pairs
        try:
            return self._ratio(ordered[:, :, steps].sum(-1), number[:, :, steps].sum(-1))
        except UndefinedStatistic:
            return None

    def _squared(self, predict) -> Estimate:
        return self._mean([(predict(flat) - flat.outcomes) ** 2 for flat in map(self._flat, self.promises)])

    def _mean(self, errors: Sequence[Float[np.ndarray, " n"]]) -> Estimate:
        """Mean over all steps of what each seed has at each."""
        return self._ratio(np.stack([self._by_task(e) for e in errors]), np.stack([self._steps_by_task] * len(errors)))

    def _ratio(self, sums: Float[np.ndarray, "seed task"], weights: Float[np.ndarray, "seed task"]) -> Estimate:
        def statistic(seed: int, tasks: Int[np.ndarray, " draw"]) -> float:
            weight = weights[seed, tasks].sum()
            return float(sums[seed, tasks].sum() / weight) if weight else float("nan")

        return pooled_estimate(statistic, tasks=len(self.pool.tasks), seeds=len(self.promises), seed=self.seed)

    def _flat(self, rows: Sequence[Float[np.ndarray, " u"]]) -> FlatSteps:
        return flatten_steps(rows, self.pool.outcomes.ravel())

    def _by_task(self, per_step: Float[np.ndarray, " n"]) -> Float[np.ndarray, " task"]:
        lengths = self.pool.lengths.astype(int)
        owner = np.repeat(np.repeat(np.arange(len(self.pool.tasks)), self.pool.shape[1]), lengths.ravel())
        return np.bincount(owner, weights=per_step, minlength=len(self.pool.tasks))

    @property
    def _steps_by_task(self) -> Float[np.ndarray, " task"]:
        return self.pool.lengths.sum(-1)


def other_than_finish(pool: Pool) -> list[Bool[np.ndarray, " u"]]:
    """For each trajectory which of its actions are not the declaration of the end."""
    return [np.array([not is_finish(action.content) for action in t.actions]) for t in pool.flat]


def reference_errors(pool: Pool, reference: Sequence[tuple[int, float]], seed: int = 0) -> dict[str, Estimate]:
    """Mean squared error over the pool's steps of the two predictors that know no text.

    Args:
        pool: what is predicted.
        reference: (number of actions, outcome) of the training trajectories from which the predictors take their means.
        seed: of the resampling of tasks for standard errors.

    Returns:
        "constant": of the mean outcome; "step_index": of the mean outcome at the step's index. What the predictors
        know is fixed: the errors are over the tasks that are predicted.
    """
    there = _steps_of(reference)
    groups = zip(pool.lengths.astype(int), pool.outcomes, strict=True)
    by_task = [_steps_of(zip(lengths, outcomes, strict=True)) for lengths, outcomes in groups]

    def constant(_: int, draw: Int[np.ndarray, " draw"]) -> float:
        return constant_mse(np.concatenate([by_task[k].outcomes for k in draw]), reference_outcomes=there.outcomes)

    def step_index(_: int, draw: Int[np.ndarray, " draw"]) -> float:
        steps, outcomes = (np.concatenate([by_task[k][part] for k in draw]) for part in (0, 2))
        return step_index_mse(steps, outcomes, reference_steps=there.steps, reference_outcomes=there.outcomes)

    found = {"constant": constant, "step_index": step_index}
    return {name: pooled_estimate(error, tasks=len(pool.tasks), seed=seed) for name, error in found.items()}


def same_actions_estimate(pool: Pool) -> list[Float[np.ndarray, " u"]]:
    """For every step the mean outcome of other samples of its task that took the same actions so far.

    A Monte-Carlo estimate of Q that knows no model but the very tasks under test: what ranking can be expected at all.
    It is cross-fitted, because leaving out one trajectory alone would rank a success below a failure that shares its
    actions: a trajectory in one of `FOLDS` folds of its task's samples is estimated from the other folds. Each mean is
    shrunk, with the weight of one sample, towards that of the step before it.

    Args:
        pool: at least two samples of each task.

    Returns:
        One array for each trajectory of `pool.flat`, comparable with promises.

    Raises:
        ValueError: there is one sample of each task only.
    """
    if pool.shape[1] < 2:
        raise ValueError("An estimate from other samples of a task needs at least two samples of each, got one.")
    return [
        _estimate_along(trajectory, [other for k, other in enumerate(group) if k % FOLDS != j % FOLDS])
        for group in pool.trajectories
        for j, trajectory in enumerate(group)
    ]


def _estimate_along(trajectory: Trajectory, others: list[Trajectory]) -> Float[np.ndarray, " u"]:
    mean = float(np.mean([other.outcome for other in others]))
    means = []
    for step, action in enumerate(trajectory.actions):
        others = [o for o in others if len(o.actions) > step and o.actions[step].content == action.content]
        mean = (sum(other.outcome for other in others) + mean) / (len(others) + 1)
        means.append(mean)
    return np.array(means)


def _steps_of(trajectories) -> FlatSteps:
    rows = list(trajectories)
    return flatten_steps([np.zeros(length) for length, _ in rows], np.array([outcome for _, outcome in rows]))
