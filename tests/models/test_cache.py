"""Laws of the key-value cache."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.models import extend, fork, init_cache, reset
from tests.models.tiny_models import BIASED, FAMILIES, PLAIN, language_model, quick_jit, random_tokens, run

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
ROWS, CAPACITY, WIDTH = 3, 20, 4
append = quick_jit(extend, static_argnums=0)
DECODER = language_model(PLAIN)["decoder"]


def feed(config, decoder, cache, tokens, pieces):
    """Appends `tokens[r]` to row r `pieces[k][r]` at a time; returns each row's hidden states, and the cache."""
    given_out = [[] for _ in tokens]
    done = np.zeros(len(tokens), int)
    for counts in pieces:
        padded = np.full((len(tokens), WIDTH), 39, np.int32)
        for row, count in enumerate(counts):
            padded[row, :count] = tokens[row][done[row] : done[row] + count]
        hidden, cache = append(config, decoder, cache, padded, jnp.asarray(counts, jnp.int32))
        for row, count in enumerate(counts):
            given_out[row].append(np.asarray(hidden[row, :count]))
        done += counts
    return [np.concatenate(rows) for rows in given_out], cache


def test_a_cache_has_no_room_beyond_what_the_model_is_meant_for():
    short, token, count = replace(PLAIN, max_positions=6), np.zeros((1, 1), np.int32), np.ones(1, np.int32)
    jax.eval_shape(lambda: extend(short, DECODER, init_cache(short, 1, 6), token, count))
    with pytest.raises(ValueError, match=r"cache: expected a capacity of at most max_positions=6 tokens.*got 7"):
        extend(short, DECODER, init_cache(short, 1, 7), token, count)


pieces = st.lists(st.tuples(*[st.integers(0, WIDTH)] * ROWS), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(pieces)
def test_however_tokens_are_cut_into_pieces_cached_equals_uncached(pieces):
    tokens = random_tokens(ROWS, CAPACITY)
    hidden, cache = feed(PLAIN, DECODER, init_cache(PLAIN, ROWS, CAPACITY), tokens, pieces)
    whole = run(PLAIN, DECODER, tokens)
    for row, states in enumerate(hidden):
        np.testing.assert_allclose(states, whole[row, : len(states)], **CLOSE)
    np.testing.assert_array_equal(cache.lengths, np.sum(pieces, axis=0))


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("width", [1, 3])
def test_in_every_family_cached_equals_uncached(config, width):
    decoder = language_model(config)["decoder"]
    tokens = random_tokens(2, 6)
    cache = init_cache(config, 2, 6)
    states = []
    for start in range(0, 6, width):
        hidden, cache = append(config, decoder, cache, tokens[:, start : start + width], jnp.full((2,), width))
        states.append(hidden)
    np.testing.assert_allclose(np.concatenate(states, axis=1), run(config, decoder, tokens), **CLOSE)


def test_a_row_with_count_zero_is_unchanged_bit_for_bit():
    _, cache = feed(PLAIN, DECODER, init_cache(PLAIN, 2, 8), random_tokens(2, 8), [(3, 3)])
    _, after = append(PLAIN, DECODER, cache, random_tokens(2, WIDTH, seed=1), jnp.array([0, 2]))
    for before, now in zip(cache, after, strict=True):
        rows = np.moveaxis(before, -1 if before.ndim == 1 else 1, 0), np.moveaxis(now, -1 if now.ndim == 1 else 1, 0)
        np.testing.assert_array_equal(rows[0][0], rows[1][0])
        assert not np.array_equal(rows[0][1], rows[1][1])


def test_padded_tokens_leave_no_trace():
    _, start = feed(PLAIN, DECODER, init_cache(PLAIN, 1, 8), random_tokens(1, 8), [(3,)])
    first, second = (random_tokens(1, WIDTH, seed=seed) for seed in (1, 2))
    second[:, :2] = first[:, :2]
    _, one = append(PLAIN, DECODER, start, first, jnp.array([2]))
    _, other = append(PLAIN, DECODER, start, second, jnp.array([2]))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_row_filled_to_its_capacity_keeps_what_it_holds():
    tokens = random_tokens(1, 6)
    _, full = feed(PLAIN, DECODER, init_cache(PLAIN, 1, 4), tokens, [(4,)])
    hidden, after = append(PLAIN, DECODER, full, tokens[:, 4:5], jnp.array([1]))
    np.testing.assert_array_equal(full.keys, after.keys)
    np.testing.assert_allclose(hidden[0, 0], run(PLAIN, DECODER, tokens)[0, 4], **CLOSE)


def test_a_forked_row_goes_on_as_its_source_would_and_independently():
    tokens = random_tokens(2, 8)
    _, cache = feed(PLAIN, DECODER, init_cache(PLAIN, 2, 8), tokens, [(3, 4)])
    forked = fork(cache, jnp.array([1, 0, 1]))
    np.testing.assert_array_equal(forked.lengths, [4, 3, 4])
    ends = [[5, 6], [7, 8], [9, 1]]
    hidden, _ = append(PLAIN, DECODER, forked, np.array(ends, np.int32), jnp.full((3,), 2))
    for row, (source, length) in enumerate([(1, 4), (0, 3), (1, 4)]):
        whole = np.concatenate([tokens[source, :length], ends[row]])[None].astype(np.int32)
        np.testing.assert_allclose(hidden[row], run(PLAIN, DECODER, whole)[0, length:], **CLOSE)


def test_forking_by_the_identity_changes_nothing_and_forks_compose():
    _, cache = feed(PLAIN, DECODER, init_cache(PLAIN, 3, 4), random_tokens(3, 4), [(1, 2, 3)])
    jax.tree.map(np.testing.assert_array_equal, fork(cache, jnp.arange(3)), cache)
    outer, inner = np.array([2, 0, 0, 1]), np.array([1, 2, 2])
    twice = fork(fork(cache, inner), jnp.array([0, 1, 2, 2]))
    jax.tree.map(np.testing.assert_array_equal, twice, fork(cache, inner[[0, 1, 2, 2]]))
    assert fork(cache, outer).keys.shape[1] == 4


def test_a_reset_row_starts_anew_and_the_others_go_on():
    tokens = random_tokens(2, 8)
    _, cache = feed(PLAIN, DECODER, init_cache(PLAIN, 2, 8), tokens, [(3, 3)])
    cleared = reset(cache, jnp.array([True, False]))
    np.testing.assert_array_equal(cleared.lengths, [0, 3])
    hidden, _ = append(PLAIN, DECODER, cleared, tokens[:, 3:7], jnp.full((2,), 4))
    np.testing.assert_allclose(hidden[0], run(PLAIN, DECODER, tokens[:1, 3:7])[0], **CLOSE)
    np.testing.assert_allclose(hidden[1], run(PLAIN, DECODER, tokens[1:, :7])[0, 3:], **CLOSE)


@pytest.mark.parametrize("width", [1, 3])
def test_in_bfloat16_cached_stays_near_uncached(width):
    half = replace(BIASED, dtype="bfloat16")
    decoder = language_model(BIASED)["decoder"]
    tokens = random_tokens(2, 6)
    cache, states = init_cache(half, 2, 6), []
    assert cache.keys.dtype.itemsize == 2
    for start in range(0, 6, width):
        hidden, cache = append(half, decoder, cache, tokens[:, start : start + width], jnp.full((2,), width))
        states.append(hidden.astype(jnp.float32))
    exact = run(half, decoder, tokens).astype(jnp.float32)
    np.testing.assert_allclose(np.concatenate(states, axis=1), exact, atol=0.1)  # 8-bit numbers of size up to 3


def test_extending_is_a_loop_body_that_can_own_its_cache():
    tokens = random_tokens(2, 5)

    @partial(jax.jit, donate_argnums=0)
    def all_at_once(cache):
        def step(cache, column):
            hidden, cache = extend(PLAIN, DECODER, cache, column[:, None], jnp.ones((2,), jnp.int32))
            return cache, hidden[:, 0]

        return jax.lax.scan(step, cache, jnp.asarray(tokens).T)

    cache, states = all_at_once(init_cache(PLAIN, 2, 5))
    np.testing.assert_allclose(states.swapaxes(0, 1), run(PLAIN, DECODER, tokens), **CLOSE)
    assert cache.capacity == 5
