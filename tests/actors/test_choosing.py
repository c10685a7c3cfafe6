"""Tokens are sampled from the distribution that temperature, top-k and top-p leave, as NumPy computes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.actors.choosing import choose_tokens, likeliest, row_keys

DRAWS = 4000


def remaining(logits, temperature, top_k, top_p):
    """Probabilities of one row after temperature, then top-k, then top-p, with a sort."""
    order = np.argsort(-logits, kind="stable")
    kept = np.full(len(logits), -np.inf)
    kept[order[: top_k or len(logits)]] = logits[order[: top_k or len(logits)]] / temperature
    weights = np.exp(kept - kept.max())
    weights /= weights.sum()
    sums = np.cumsum(weights[order])
    weights[order[np.searchsorted(sums, top_p) + 1 :]] = 0.0
    return weights / weights.sum()


def choose(logits, temperature, top_k, top_p, rows=DRAWS, seed=0):
    entropy = np.stack([np.full(rows, seed), np.arange(rows)], axis=1).astype(np.uint32)
    allowed = jnp.ones(len(logits), bool)
    wide = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (rows, len(logits)))
    step, warm = jnp.int32(0), jnp.float32(temperature)
    return jax.tree.map(np.asarray, choose_tokens(row_keys(entropy), step, wide.T, allowed, warm, top_k, top_p))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.7, 5, 1.0), (1.0, 0, 0.8), (1.5, 12, 0.6), (0.5, 0, 0.95), (1.0, 1, 1.0)],
)
def test_frequencies_are_those_of_the_distribution_that_is_left(temperature, top_k, top_p):
    logits = np.random.default_rng(5).normal(0, 1.5, 24)
    expected = remaining(logits, temperature, top_k, top_p) * DRAWS
    counted = np.bincount(choose(logits, temperature, top_k, top_p)[0], minlength=24)
    assert counted[expected == 0].sum() == 0
    common = expected >= 5
    statistic = np.sum((counted - expected)[common] ** 2 / expected[common])
    assert statistic < 2.5 * common.sum() + 10  # far above the 99.9th percentile for as many degrees of freedom


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 24), st.floats(0.05, 1.0), st.floats(0.3, 2.0))
def test_the_tokens_left_are_those_of_a_sort(seed, top_k, top_p, temperature):
    logits = np.random.default_rng(seed).normal(0, 2, 24).astype(np.float32)
    left = np.isfinite(likeliest(jnp.asarray(logits)[:, None], jnp.float32(temperature), top_k, top_p)[:, 0])
    for near in (top_p - 1e-5, top_p + 1e-5):  # sums in another order may fall on the other side of the border
        if np.array_equal(left, remaining(logits.astype(float), temperature, top_k, min(near, 1.0)) > 0):
            return
    raise AssertionError((seed, top_k, top_p, temperature))


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 0.5), (0, 1e-3)])
def test_temperature_zero_takes_the_likeliest_whatever_else_is_asked(top_k, top_p):
    logits = np.random.default_rng(1).normal(0, 1, 24)
    tokens, logprobs = choose(logits, 0.0, top_k, top_p, rows=3)
    assert (tokens == logits.argmax()).all()
    np.testing.assert_allclose(logprobs, logits.max() - np.logaddexp.reduce(logits), rtol=1e-5)


def test_equally_likely_tokens_stay_or_go_together():
    left = likeliest(jnp.asarray([[1.0], [0.0], [0.0], [-1.0]]), jnp.float32(1.0), 2, 1.0)
    assert np.isfinite(left[:, 0]).tolist() == [True, True, True, False]
