"""Laws of Q from forks and of what promises are held against."""

from itertools import pairwise

import numpy as np
import pytest
from made_pool import make_pool, trajectory

from agentprm_jax.reporting.fork_table import fork_table, prefixes_of, values_of_forks
from agentprm_jax.reporting.pool import Pool
from agentprm_jax.reporting.value_metrics import ValueMetrics
from agentprm_jax.search import Forked, Prefix

TWO = Pool.of(
    [
        trajectory("a", 0, ["left", "finish"], 1.0),
        trajectory("a", 1, ["right", "finish"], 0.0),
        trajectory("b", 0, ["left", "left", "left"], 0.0, ended="truncated"),
        trajectory("b", 1, ["left", "finish"], 1.0),
    ],
    ["a", "b"],
)
OUTCOMES = {
    ("a", "left"): (1, 1, 1, 0),
    ("a", "left", "finish"): (1,) * 4,
    ("a", "right"): (0, 1, 0, 0),
    ("a", "right", "finish"): (0,) * 4,
    ("b", "left"): (0, 1, 0, 1),
    ("b", "left", "left"): (0, 0, 0, 1),
    ("b", "left", "left", "left"): (0,) * 4,
    ("b", "left", "finish"): (1,) * 4,
}
FORKED = [Forked(Prefix(task, actions), tuple(map(float, found))) for (task, *actions), found in OUTCOMES.items()]
FORKED = [one._replace(prefix=Prefix(one.prefix.task, tuple(one.prefix.actions))) for one in FORKED]


def test_every_beginning_is_asked_about_once_and_a_shorter_one_first():
    found = prefixes_of(TWO)
    assert sorted(found) == sorted(one.prefix for one in FORKED)
    assert [prefix.task for prefix in found] == sorted(prefix.task for prefix in found)
    assert all(len(one.actions) <= len(other.actions) or one.task < other.task for one, other in pairwise(found))


def test_q_is_the_mean_of_the_forks_and_its_noise_the_variance_of_that_mean():
    values = values_of_forks(TWO, FORKED)
    np.testing.assert_allclose(values.means[0], [0.75, 1.0])
    np.testing.assert_allclose(values.means[2], [0.5, 0.25, 0.0])
    np.testing.assert_allclose(values.noise[2], [1 / 12, 1 / 16, 0.0])


def test_the_table_ranks_by_promises_and_by_forks():
    values = values_of_forks(TWO, FORKED)
    upside_down = [[1.0 - row for row in values.means]]
    table = fork_table(TWO, {"agentprm": [values.means], "pvm": upside_down}, values)
    right, wrong, forks = (row.estimates for row in table.rows)
    assert [row.kind for row in table.rows] == ["method", "method", "bound"]
    assert (right["auc_1"].value, wrong["auc_1"].value, forks["auc_1"].value) == (0.75, 0.25, 0.75)  # task b is a tie
    assert right["mse_q"].value < 0 < wrong["mse_q"].value  # what is exactly the estimate is nearer than its noise
    assert "mse_q" not in forks


def test_the_error_against_q_is_free_of_the_noise_of_the_forks():
    rng = np.random.default_rng(0)
    pool = make_pool(rng.integers(0, 2, (300, 4)).astype(float).tolist(), [[3] * 4] * 300)
    truth = [rng.uniform(size=3) for _ in pool.flat]
    drawn = [rng.uniform(size=(8, 3)) < q for q in truth]
    means, noise = [d.mean(0) for d in drawn], [d.var(0, ddof=1) / 8 for d in drawn]
    found = ValueMetrics(pool, [[q + 0.1 for q in truth]]).mse_to(means, noise)
    assert abs(found.value - 0.01) < 4 * found.stderr_tasks < 0.01


def test_a_beginning_without_forks_is_named():
    with pytest.raises(ValueError, match=r"no forks of task a after the actions \['left'\]"):
        values_of_forks(TWO, FORKED[1:])


def test_an_outcome_that_the_environment_does_not_give_again_is_refused_with_its_trajectory():
    other = [one._replace(outcomes=(0.0,) * 4) if one.prefix.actions[-1] == "finish" else one for one in FORKED]
    with pytest.raises(ValueError, match=r"Trajectory a/0/0 had outcome 1, but the same actions give 0 now"):
        values_of_forks(TWO, other)
