"""Promises held against Monte-Carlo estimates of Q from forked states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from agentprm_jax.reporting.pool import Pool
from agentprm_jax.reporting.results import Column, Row, Table
from agentprm_jax.reporting.value_metrics import AUC_COLUMNS, ValueMetrics
from agentprm_jax.search.forks import Forked, Prefix

FORK_TABLE = "Promises beside forks"
_MSE = Column(
    key="mse_q", title="MSE to Q", meaning="Squared error of the promise of every step against Q.", better="lower"
)


class Values(NamedTuple):
    """Q of every step of every trajectory of a pool, estimated from forks.

    Attributes:
        means: one array a trajectory: the mean outcome of the forks after each step.
        noise: the unbiased estimate of the variance of each mean.
    """

    means: list[Float[np.ndarray, " u"]]
    noise: list[Float[np.ndarray, " u"]]


def prefixes_of(pool: Pool) -> list[Prefix]:
    """Every different beginning of the pool's trajectories, task by task, a shorter one before those that go on."""
    found = dict.fromkeys(prefix for trajectory in pool.flat for prefix in _prefixes(trajectory))
    return sorted(found, key=lambda prefix: (pool.tasks.index(prefix.task), len(prefix.actions)))


def values_of_forks(pool: Pool, forked: Iterable[Forked]) -> Values:
    """Q of every step of the pool.

    Args:
        pool: the trajectories.
        forked: at least two outcomes of every prefix of the pool.

    Raises:
        ValueError: a prefix is missing, or a trajectory that ended by itself had another outcome than its last prefix:
            the environment is not the one that was played.
    """
    outcomes = {one.prefix: np.asarray(one.outcomes, np.float64) for one in forked}
    if missing := next((prefix for prefix in prefixes_of(pool) if prefix not in outcomes), None):
        raise ValueError(f"There are no forks of task {missing.task} after the actions {list(missing.actions)}.")
    for trajectory in pool.flat:
        last = outcomes[_prefixes(trajectory)[-1]]
        if trajectory.ended == "terminated" and (last != trajectory.outcome).any():
            raise ValueError(
                f"Trajectory {trajectory.id} had outcome {trajectory.outcome:g}, but the same actions give "
                f"{last.mean():g} now: expected the environment and the options that the pool was collected with."
            )
    rows = [[outcomes[prefix] for prefix in _prefixes(trajectory)] for trajectory in pool.flat]
    means = [np.array([one.mean() for one in row]) for row in rows]
    return Values(means, [np.array([one.var(ddof=1) / len(one) for one in row]) for row in rows])


def fork_table(
    pool: Pool, promises: Mapping[str, Sequence[Sequence[Float[np.ndarray, " u"]]]], values: Values
) -> Table:
    """Every method's AUC within a task and its squared error against Q; below them the AUC of the estimate itself.

    Args:
        pool: the trajectories.
        promises: by method [seed][trajectory of pool.flat][step].
        values: of the pool.
    """

    def row(method: str, rows: Sequence[Sequence[Float[np.ndarray, " u"]]]) -> Row:
        metrics = ValueMetrics(pool, rows)
        return Row(method=method, kind="method", estimates=metrics.aucs() | {"mse_q": metrics.mse_to(*values)})

    note = "mean outcome of forks of the environment after the same actions, in which the actor plays on"
    bound = Row(method="forks", kind="bound", estimates=ValueMetrics(pool, [values.means]).aucs(), note=note)
    return Table(
        name=FORK_TABLE,
        caption=(
            f"On {pool.shape[1]} samples of each of {pool.shape[0]} held-out tasks. AUC is against the outcomes of the "
            "samples; MSE to Q is against the forks, the noise of their mean taken off."
        ),
        columns=(*AUC_COLUMNS, _MSE),
        rows=(*(row(method, rows) for method, rows in promises.items()), bound),
    )


def _prefixes(trajectory) -> list[Prefix]:
    said = tuple(action.content for action in trajectory.actions)
    return [Prefix(trajectory.task, said[:end]) for end in range(1, len(said) + 1)]
