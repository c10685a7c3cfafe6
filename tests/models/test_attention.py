"""Blockwise attention against attention written out with one softmax over the whole square."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models import blockwise
from agentprm_jax.models.attention import Context, Past, attend, cached_attention
from tests.models.tiny_models import quick_jit

blockwise_attention = quick_jit(blockwise.blockwise_attention)


def plain(queries, keys, values, segments, branches=None):
    length = segments.shape[1]
    seen = np.tril(np.ones((length, length), bool)) & (segments[:, :, None] == segments[:, None, :])
    if branches is not None:
        seen &= (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    scores = jnp.einsum("bkgte,bkse->bkgts", queries, keys) / np.sqrt(queries.shape[-1])
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bkgts,bkse->bkgte", weights, values)


plain_attention = quick_jit(plain)


def inputs_of(length, dtype=jnp.float32):
    rng = np.random.default_rng(length)
    shapes = [(2, 2, 3, length, 4), (2, 2, length, 4), (2, 2, length, 4)]
    segments = np.sort(rng.integers(0, 3, (2, length)), axis=1).astype(np.int32)
    return *(jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes), segments


@pytest.mark.parametrize("length", [1, 5, 64, 65, 150, 700])
def test_blocks_change_nothing(length):
    *arrays, segments = inputs_of(length)
    np.testing.assert_allclose(
        blockwise_attention(*arrays, segments), plain_attention(*arrays, segments), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("length", [5, 64, 150])
def test_a_branch_sees_what_is_shared_and_itself_in_value_and_gradient(length):
    *arrays, segments = inputs_of(length)
    branches = np.random.default_rng(2).integers(0, 3, segments.shape).astype(np.int32)

    def value_and_gradient(attention):
        def both(*arguments):
            value, back = jax.vjp(lambda *a: attention(*a, segments, branches), *arguments)
            return value, back(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))

        value, gradients = quick_jit(both)(*arrays)
        return value, *gradients

    pairs = zip(value_and_gradient(blockwise.blockwise_attention), value_and_gradient(plain), strict=True)
    for ours, expected in pairs:
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_branches_after_a_past_see_it_what_is_shared_and_themselves():
    *arrays, segments = inputs_of(30)
    branches = np.repeat([0, 1, 2, 3], [15, 5, 3, 7])[None].repeat(2, axis=0)
    whole = plain_attention(*arrays, np.zeros_like(segments), branches)
    lengths, width = jnp.array([10, 10]), 12
    past = Past(*(jnp.concatenate([kept[:, :, :10], 100 + kept[:, :, : width - 10]], axis=2) for kept in arrays[1:]))
    new = (kept[..., 10:, :] for kept in arrays)
    mixed = quick_jit(cached_attention)(*new, past, lengths, branches[:, 10:])
    np.testing.assert_allclose(mixed, whole[:, :, :, 10:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [5, 64, 150])
def test_the_gradient_is_that_of_plain_attention(length):
    *arrays, segments = inputs_of(length)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(arrays[0].shape), jnp.float32)

    def gradient(attention):
        return quick_jit(jax.grad(lambda *a: jnp.sum(attention(*a, segments) * weights), argnums=(0, 1, 2)))(*arrays)

    for ours, expected in zip(gradient(blockwise.blockwise_attention), gradient(plain), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_there_are_never_more_bands_than_the_limit_and_their_blocks_cover_every_column_once():
    for length in (1, 63, 64, 65, 511, 512, 513, 4096, 4097, 5000, 32768, 100_000):
        bands = blockwise._bands(length)
        assert len(bands) <= blockwise.MOST_BANDS
        assert [band.start for band in bands] == [0, *(band.stop for band in bands[:-1])]
        assert length <= bands[-1].stop < length + bands[0].stop
        assert all((band.stop - band.start) % band.size == 0 for band in bands)
        assert bands[0].size * length <= max(blockwise.MOST_SCORES, blockwise.SMALLEST_BLOCK * length)


@pytest.mark.parametrize("length", [700, 1024])
def test_bands_of_several_blocks_change_nothing_in_value_and_gradient(length, monkeypatch):
    *arrays, segments = inputs_of(length)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(arrays[0].shape), jnp.float32)

    def value_and_gradient():
        def total(*arguments):
            return jnp.sum(blockwise.blockwise_attention(*arguments, segments) * weights)

        return quick_jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(*arrays)

    expected, expected_gradient = value_and_gradient()
    monkeypatch.setattr(blockwise, "SMALLEST_BLOCK", 64)
    monkeypatch.setattr(blockwise, "MOST_SCORES", 64 * length)
    assert blockwise._bands(length)[0].stop > blockwise._bands(length)[0].size
    value, gradient = value_and_gradient()
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-4)
    for ours, whole in zip(gradient, expected_gradient, strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_memory_of_the_gradient_grows_with_the_length_and_not_with_its_square():
    def temporaries(length):
        query = jax.ShapeDtypeStruct((1, 1, 1, length, 64), jnp.float32)
        key = jax.ShapeDtypeStruct((1, 1, length, 64), jnp.float32)
        segments = jax.ShapeDtypeStruct((1, length), jnp.int32)

        def total(queries, keys, values, segments):
            return jnp.sum(blockwise.blockwise_attention(queries, keys, values, segments))

        lowered = jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(query, key, key, segments)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    square = 4 * 32_768**2
    assert temporaries(32_768) < 2.5 * temporaries(16_384)
    assert temporaries(32_768) < square / 16


def test_bfloat16_products_stay_close_to_float32_in_value_and_gradient():
    *arrays, segments = inputs_of(96)
    rounded = [array.astype(jnp.bfloat16) for array in arrays]
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(arrays[0].shape), jnp.bfloat16)

    def value_and_gradient(attention, arguments):
        # The cotangent is an argument: from one that is constant, XLA's CPU compiler makes wrong bfloat16 products.
        def both(cotangent, *arguments):
            value, back = jax.vjp(lambda *a: attention(*a, segments), *arguments)
            return value, back(cotangent)

        return quick_jit(both)(weights.astype(arguments[0].dtype), *arguments)

    ours, our_gradient = value_and_gradient(blockwise.blockwise_attention, rounded)
    wide, wide_gradient = value_and_gradient(plain, [array.astype(jnp.float32) for array in rounded])
    assert ours.dtype == jnp.bfloat16
    # bfloat16 keeps 8 bits: weights and results are each rounded once, gradients are sums of up to 96 such terms.
    np.testing.assert_allclose(ours.astype(jnp.float32), wide, atol=0.03)
    for a, b in zip(our_gradient, wide_gradient, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.03 * float(jnp.abs(b).max()))


def test_query_heads_of_a_group_share_their_key_head():
    *arrays, segments = inputs_of(9)
    queries, keys, values = arrays
    context = Context(None, None, segments, None)
    grouped = attend(queries.reshape(2, 6, 9, 4), keys, values, None, context)
    repeated = attend(queries.reshape(2, 6, 9, 4), keys.repeat(3, axis=1), values.repeat(3, axis=1), None, context)
    np.testing.assert_allclose(grouped, repeated, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("split", [0, 1, 6, 8])
def test_attention_over_a_past_equals_attention_over_everything(split):
    *arrays, _ = inputs_of(9)
    queries, keys, values = arrays
    whole = plain_attention(*arrays, np.zeros((2, 9), np.int32))
    capacity = 12  # columns beyond the split are there but must not be seen
    junk = jnp.full((2, 2, capacity, 4), 7.0)
    past = Past(junk.at[:, :, :split].set(keys[:, :, :split]), junk.at[:, :, :split].set(values[:, :, :split]))
    lengths = jnp.full((2,), split)
    later = cached_attention(queries[:, :, :, split:], keys[:, :, split:], values[:, :, split:], past, lengths)
    np.testing.assert_allclose(later, whole[:, :, :, split:], rtol=1e-5, atol=1e-6)
