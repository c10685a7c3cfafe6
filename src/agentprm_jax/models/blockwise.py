"""Causal attention within segments, computed in blocks of queries, with its own gradient.

A block of queries meets only the keys up to its end, so that the upper triangle is never computed, and blocks fit in a
processor's cache. The backward pass recomputes the weights from the logarithm of their sums, as FlashAttention does
(arXiv 2205.14135), so that memory grows with the length and not with its square.
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from agentprm_jax.models.products import contract

SMALLEST_BLOCK = 64
MOST_BLOCKS = 8

Residuals = tuple[Array, Array, Array, Array, Array | None, Array, Array]


@jax.custom_vjp
def blockwise_attention(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
    branches: Int[Array, "b t"] | None = None,
) -> Float[Array, "b k g t e"]:
    """Scaled dot-product attention of each token over itself and earlier columns of the same segment of its row.

    With `branches`, of those only over the columns of branch 0 and of its own branch.

    Scores, softmax and sums are float32; operands of products have the dtype of `queries`. Reverse mode only.
    """
    return _forward(queries, keys, values, segments, branches)[0]


def _forward(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
    branches: Int[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b k g t e"], Residuals]:
    outs, log_sums = [], []
    for start, stop in _blocks(queries.shape[3]):
        scores = _block_scores(queries, keys, _visible(segments, branches, start, stop), start, stop)
        peak = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - peak)
        total = weights.sum(-1, keepdims=True)
        mixed = contract("bkgts,bkse->bkgte", weights.astype(values.dtype), values[:, :, :stop])
        outs.append((mixed / total).astype(values.dtype))
        log_sums.append(jnp.squeeze(peak + jnp.log(total), -1))
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
    for start, stop in _blocks(queries.shape[3]):
        block_queries, block_cotangent = queries[:, :, :, start:stop], cotangent[:, :, :, start:stop]
        seen = _visible(segments, branches, start, stop).swapaxes(1, 2)[:, None, :, None]
        scores = contract("bkse,bkgte->bksgt", keys[:, :, :stop], block_queries) * scale
        weights = jnp.where(seen, jnp.exp(scores - log_sum[:, :, None, :, start:stop]), 0.0)
        for_weights = contract("bkse,bkgte->bksgt", values[:, :, :stop], block_cotangent)
        for_scores = (weights * (for_weights - mean[:, :, None, :, start:stop]) * scale).astype(queries.dtype)
        for_queries.append(contract("bksgt,bkse->bkgte", for_scores, keys[:, :, :stop]).astype(queries.dtype))
        pad = ((0, 0), (0, 0), (0, keys.shape[2] - stop), (0, 0))
        for_keys += jnp.pad(contract("bksgt,bkgte->bkse", for_scores, block_queries), pad)
        for_values += jnp.pad(contract("bksgt,bkgte->bkse", weights.astype(values.dtype), block_cotangent), pad)
    for_all_queries = jnp.concatenate(for_queries, axis=3)
    return for_all_queries, for_keys.astype(keys.dtype), for_values.astype(values.dtype), None, None


blockwise_attention.defvjp(_forward, _backward)


def _blocks(length: int) -> list[tuple[int, int]]:
    size = max(SMALLEST_BLOCK, -(-length // MOST_BLOCKS))
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _block_scores(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    seen: Bool[Array, "b c s"],
    start: int,
    stop: int,
) -> Float[Array, "b k g c s"]:
    """Masked scores of the queries in columns [start, stop) against the keys in columns [0, stop)."""
    products = contract("bkgte,bkse->bkgts", queries[:, :, :, start:stop], keys[:, :, :stop])
    return jnp.where(seen[:, None, None], products * queries.shape[-1] ** -0.5, jnp.finfo(jnp.float32).min)


def _visible(
    segments: Int[Array, "b t"], branches: Int[Array, "b t"] | None, start: int, stop: int
) -> Bool[Array, "b c s"]:
    causal = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)
    seen = causal & (segments[:, start:stop, None] == segments[:, None, :stop])
    if branches is None:
        return seen
    behind = branches[:, None, :stop]
    return seen & ((behind == 0) | (branches[:, start:stop, None] == behind))
