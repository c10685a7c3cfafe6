"""How numbers and findings read."""

import pytest

from agentprm_jax.reporting import formatting as f
from agentprm_jax.reporting.results import Comparison, Difference, Estimate


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.6173, 3, ".617"),
        (-0.0123, 3, "\u2212.012"),
        (1.0, 3, "1.000"),
        (0.9996, 3, "1.000"),
        (-0.0001, 3, ".000"),
        (0.0, 3, ".000"),
        (12.34, 1, "12.3"),
        (1234567.0, 0, "1,234,567"),
        (0.0, 0, "0"),
        (None, 3, f.MISSING),
        (float("nan"), 3, f.MISSING),
    ],
)
def test_numbers_have_no_zero_before_the_point(value, digits, text):
    assert f.format_number(value, digits) == text


def test_a_sign_stands_before_everything_that_is_not_shown_as_zero():
    assert [f.format_number(x, sign=True) for x in (0.02, -0.02, 0.0001)] == ["+.020", "\u2212.020", ".000"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"n_tasks": 1}, ".617"),
        ({"stderr_tasks": 0.0214, "n_tasks": 9}, ".617 ± .021"),
        ({"stderr_tasks": 0.0214, "stderr_seeds": 0.0061, "n_tasks": 9, "n_seeds": 5}, ".617 ± .021 ± .006"),
        ({"stderr_seeds": 0.0061, "n_tasks": 9, "n_seeds": 5}, ".617 ± .006 (seeds)"),
        ({"stderr_tasks": 0.0001, "n_tasks": 9}, ".617 ± <.001"),
        ({"stderr_tasks": 0.0, "n_tasks": 9}, ".617 ± .000"),
    ],
)
def test_an_estimate_shows_each_error_it_has_and_never_hides_a_small_one(fields, text):
    assert f.format_estimate(Estimate(value=0.6173, **fields)) == text


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(0.7, "42 s"), (6.3, "6.3 min"), (125, "2 h 05 min"), (59.99, "1 h 00 min"), (0.999, "1.0 min")],
)
def test_durations_are_in_the_unit_people_use(minutes, text):
    assert f.format_minutes(minutes) == text


def compared(low, high):
    fields = {"value": (low + high) / 2, "stderr": 0.02, "confidence": 0.95, "probability": 0.9, "n_tasks": 200}
    difference = Difference(low=low, high=high, n_seeds=5, **fields)
    return f.describe_comparison(Comparison(metric="beam", a="agentprm", b="orm", difference=difference))


def test_a_sentence_claims_no_more_than_its_interval():
    assert (
        compared(0.02, 0.1) == "beam: AgentPRM is above ORM by .060 (95 % interval +.020 to +.100, 200 tasks, 5 seeds)."
    )
    assert "AgentPRM is below ORM by .060" in compared(-0.1, -0.02)
    undecided = compared(-0.02, 0.1)
    assert "cannot be told apart (difference +.040; 95 % interval \u2212.020 to +.100" in undecided
    assert "above" not in undecided
