"""Causal attention within segments, computed in blocks of queries, with its own gradient.

Blocks stand in bands: a band of queries meets only the keys up to its end, so that most of the upper triangle is never
computed, and the blocks of a band are computed one after the other, so that the scores that are held at one time do
not grow with the length. The backward pass recomputes the weights from the logarithm of their sums, as FlashAttention
does (arXiv 2205.14135), so that memory grows with the length and not with its square.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from agentprm_jax.models.products import contract

SMALLEST_BLOCK = 128
"""Halving it would save a tenth of the work of short rows and add half as much again to the time of compiling."""
MOST_BANDS = 8
MOST_SCORES = 1 << 21
"""Scores of a block for each head and row; bands that would have more are cut into blocks."""
PADDING = -1
"""Segment of the columns that fill up the last band; it is nobody else's."""

Residuals = tuple[Array, Array, Array, Array, Array | None, Array, Array]


class Band(NamedTuple):
    """Columns [start, stop) in blocks of `size`, which divides them."""

    start: int
    stop: int
    size: int


def blockwise_attention(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
    branches: Int[Array, "b t"] | None = None,
) -> Float[Array, "b k g t e"]:
    """Scaled dot-product attention of each token over itself and earlier columns of the same segment of its row.

    With `branches`, of those only over the columns of branch 0 and of its own branch. Segment ids are at least 0.

    Scores, softmax and sums are float32; operands of products have the dtype of `queries`. Reverse mode only.
    """
    length = queries.shape[3]
    padding = _bands(length)[-1].stop - length
    if not padding:
        return _blockwise(queries, keys, values, segments, branches)
    columns = ((0, 0), (0, padding))
    wide = [jnp.pad(x, (*[(0, 0)] * (x.ndim - 2), (0, padding), (0, 0))) for x in (queries, keys, values)]
    ids = jnp.pad(segments, columns, constant_values=PADDING)
    return _blockwise(*wide, ids, None if branches is None else jnp.pad(branches, columns))[:, :, :, :length]


@jax.custom_vjp
def _blockwise(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
    branches: Int[Array, "b t"] | None,
) -> Float[Array, "b k g t e"]:
    return _forward(queries, keys, values, segments, branches)[0]


def _forward(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
    branches: Int[Array, "b t"] | None,
) -> tuple[Float[Array, "b k g t e"], Residuals]:
    outs, log_sums = [], []
    for band in _bands(queries.shape[3]):

        def mix(_: None, start: Array | int, band: Band = band) -> tuple[None, tuple[Array, Array]]:
            scores = _block_scores(queries, keys, _visible(segments, branches, start, band), start, band)
            peak = scores.max(-1, keepdims=True)
            weights = jnp.exp(scores - peak)
            total = weights.sum(-1, keepdims=True)
            mixed = contract("bkgts,bkse->bkgte", weights.astype(values.dtype), values[:, :, : band.stop])
            return None, ((mixed / total).astype(values.dtype), jnp.squeeze(peak + jnp.log(total), -1))

        _, (out, log_sum) = _each_block(mix, None, band)
        outs.append(out)
        log_sums.append(log_sum)
    out = checkpoint_name(jnp.concatenate(outs, axis=3), "mixed")
    log_sum = checkpoint_name(jnp.concatenate(log_sums, axis=3), "log_sum")
    return out, (queries, keys, values, segments, branches, out, log_sum)


def _backward(
    residuals: Residuals, cotangent: Float[Array, "b k g t e"]
) -> tuple[Float[Array, "b k g t e"], Float[Array, "b k t e"], Float[Array, "b k t e"], None, None]:
    queries, keys, values, segments, branches, out, log_sum = residuals
    scale = queries.shape[-1] ** -0.5
    mean = jnp.sum(cotangent.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)
    for_queries = []
    for_keys, for_values = jnp.zeros(keys.shape, jnp.float32), jnp.zeros(values.shape, jnp.float32)
    for band in _bands(queries.shape[3]):

        def pull(
            sums: tuple[Array, Array], start: Array | int, band: Band = band
        ) -> tuple[tuple[Array, Array], tuple[Array]]:
            block_queries, block_cotangent, block_log_sum, block_mean = (
                _block(x, start, band.size) for x in (queries, cotangent, log_sum, mean)
            )
            seen = _visible(segments, branches, start, band).swapaxes(1, 2)[:, None, :, None]
            scores = contract("bkse,bkgte->bksgt", keys[:, :, : band.stop], block_queries) * scale
            weights = jnp.where(seen, jnp.exp(scores - block_log_sum[:, :, None]), 0.0)
            for_weights = contract("bkse,bkgte->bksgt", values[:, :, : band.stop], block_cotangent)
            for_scores = (weights * (for_weights - block_mean[:, :, None]) * scale).astype(queries.dtype)
            pulled = contract("bksgt,bkse->bkgte", for_scores, keys[:, :, : band.stop]).astype(queries.dtype)
            parts = (
                contract("bksgt,bkgte->bkse", for_scores, block_queries),
                contract("bksgt,bkgte->bkse", weights.astype(values.dtype), block_cotangent),
            )
            return (sums[0] + parts[0], sums[1] + parts[1]), (pulled,)

        nothing = jnp.zeros((*keys.shape[:2], band.stop, keys.shape[3]), jnp.float32)
        (part_keys, part_values), (pulled,) = _each_block(pull, (nothing, nothing), band)
        pad = ((0, 0), (0, 0), (0, keys.shape[2] - band.stop), (0, 0))
        for_queries.append(pulled)
        for_keys += jnp.pad(part_keys, pad)
        for_values += jnp.pad(part_values, pad)
    for_all_queries = jnp.concatenate(for_queries, axis=3)
    return for_all_queries, for_keys.astype(keys.dtype), for_values.astype(values.dtype), None, None


_blockwise.defvjp(_forward, _backward)


def _bands(length: int) -> list[Band]:
    """Bands that cover all columns, and where they have several blocks perhaps some columns more."""
    wanted = max(SMALLEST_BLOCK, -(-length // MOST_BANDS))
    blocks = -(-wanted // max(SMALLEST_BLOCK, MOST_SCORES // length))
    size = -(-wanted // blocks)
    if blocks == 1:
        return [Band(start, min(start + size, length), min(size, length - start)) for start in range(0, length, size)]
    return [Band(start, start + blocks * size, size) for start in range(0, length, blocks * size)]


def _each_block(
    body: Callable[[Any, Array | int], tuple[Any, tuple[Array, ...]]], carry: Any, band: Band
) -> tuple[Any, tuple[Array, ...]]:
    """Calls `body(carry, start)` for the blocks of a band in order; results `[b, k, g, c, ...]` follow each other."""
    if band.stop - band.start == band.size:
        return body(carry, band.start)
    carry, parts = jax.lax.scan(body, carry, jnp.arange(band.start, band.stop, band.size))

    def follow(part: Array) -> Array:
        by_row = jnp.moveaxis(part, 0, 3)
        return by_row.reshape(*by_row.shape[:3], -1, *by_row.shape[5:])

    return carry, jax.tree.map(follow, parts)


def _block(x: Float[Array, "b k g t *e"], start: Array | int, size: int) -> Float[Array, "b k g c *e"]:
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis=3)


def _block_scores(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    seen: Bool[Array, "b c s"],
    start: Array | int,
    band: Band,
) -> Float[Array, "b k g c s"]:
    """Masked scores of a block's queries against the keys up to the end of its band."""
    products = contract("bkgte,bkse->bkgts", _block(queries, start, band.size), keys[:, :, : band.stop])
    return jnp.where(seen[:, None, None], products * queries.shape[-1] ** -0.5, jnp.finfo(jnp.float32).min)


def _visible(
    segments: Int[Array, "b t"], branches: Int[Array, "b t"] | None, start: Array | int, band: Band
) -> Bool[Array, "b c s"]:
    columns = start + jnp.arange(band.size)
    causal = columns[:, None] >= jnp.arange(band.stop)
    own = jax.lax.dynamic_slice_in_dim(segments, start, band.size, axis=1)
    seen = causal & (own[:, :, None] == segments[:, None, : band.stop])
    if branches is None:
        return seen
    behind = branches[:, None, : band.stop]
    own_branch = jax.lax.dynamic_slice_in_dim(branches, start, band.size, axis=1)
    return seen & ((behind == 0) | (own_branch[:, :, None] == behind))
