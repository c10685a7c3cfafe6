"""Attention as functions of queries, keys and values: no parameters, grouped-query without repeating keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from agentprm_jax.models.bits import as_bits
from agentprm_jax.models.blockwise import blockwise_attention
from agentprm_jax.models.placement import Constrain, compiled_for, unconstrained
from agentprm_jax.models.products import contract


class Past(NamedTuple):
    """What a layer remembers of earlier tokens (with a leading `l` axis: what all layers remember).

    Earlier tokens may come as floats or as their bits (see `KVCache`).
    """

    keys: Array  # [b, k, s, e], rotated
    values: Array  # [b, k, s, e]


class Packing(NamedTuple):
    """Where the tokens of rows stand that are computed one behind another, without the padding between them."""

    places: Array  # int32 [n]; of each token its place in the rows, which stand one behind another; any for padding
    tokens: Array  # int32 [b, t]; of each place in the rows its token; any where the row has none

    def rows(self, packed: Float[Array, "h n e"]) -> Float[Array, "b h t e"]:
        """The rows of what is packed; what stands where a row has no token means nothing."""
        spread = as_bits(packed)[:, self.tokens].swapaxes(0, 1)
        return jax.lax.bitcast_convert_type(spread, packed.dtype)

    def pack(self, rows: Float[Array, "b h t e"]) -> Float[Array, "h n e"]:
        """What the rows have at the places of tokens."""
        b, h, t, e = rows.shape
        packed = as_bits(rows).swapaxes(0, 1).reshape(h, b * t, e)[:, self.places]
        return jax.lax.bitcast_convert_type(packed, rows.dtype)


class Context(NamedTuple):
    """What attention needs to know about the tokens of a call, shared by all layers."""

    cos: Array  # [b, t, 1, e / 2]
    sin: Array  # [b, t, 1, e / 2]
    segments: Array | None  # [b, t]; tokens see tokens of their own segment only; None: one segment a row
    lengths: Array | None  # [b]; how many columns of the past are visible; None where there is no past
    branches: Array | None = None  # [b, t]; tokens see branch 0 and their own of their segment; None: all is branch 0
    packing: Packing | None = None  # where the call's one row holds the tokens of `b` rows; `cos` and `sin` are its own


def attend(
    queries: Float[Array, "b h t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    past: Past | None,
    context: Context,
    constrain: Constrain = unconstrained,
) -> Float[Array, "b h t e"]:
    """Attention of one layer: over the call's own tokens, and over the past where there is one.

    This is the one place that chooses an implementation: splash attention where the mesh is of TPUs, unless there is a
    past or there are branches, which its kernel does not know; else attention in blocks. Neither ever holds the scores
    of all pairs of tokens.
    """
    if context.packing is not None:
        spread, within = context.packing.rows, context._replace(packing=None)
        mixed = attend(spread(queries[0]), spread(keys[0]), spread(values[0]), past, within, constrain)
        return context.packing.pack(mixed)[None]
    b, h, t, e = queries.shape
    groups = queries.reshape(b, keys.shape[1], -1, t, e)
    if past is not None:
        assert context.lengths is not None, "A past comes with the number of its visible columns."
        return cached_attention(groups, keys, values, past, context.lengths, context.branches).reshape(b, h, t, e)
    segments = jnp.zeros((b, t), jnp.int32) if context.segments is None else context.segments
    if context.branches is None and compiled_for(constrain) == "tpu":
        from agentprm_jax.models.splash import splash_attention  # Pallas costs a second that only TPUs should pay

        return splash_attention(queries, keys, values, segments, constrain)
    return blockwise_attention(groups, keys, values, segments, context.branches).reshape(b, h, t, e)


def cached_attention(
    queries: Float[Array, "b k g t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    past: Past,
    lengths: Int[Array, "b"],
    branches: Int[Array, "b t"] | None = None,
) -> Float[Array, "b k g t e"]:
    """Attention of each token over the first `lengths` columns of the past, then over itself and earlier new tokens.

    With `branches`, of the new tokens only over those of branch 0 and of its own branch.
    """
    past_keys, past_values = (jax.lax.bitcast_convert_type(kept, keys.dtype) for kept in past)
    hidden = jnp.finfo(jnp.float32).min
    visible = jnp.arange(past_keys.shape[2]) < lengths[:, None]
    earlier = jnp.tril(jnp.ones((keys.shape[2], keys.shape[2]), bool))
    if branches is not None:
        own = (branches[:, None] == 0) | (branches[:, :, None] == branches[:, None])
        earlier = (earlier & own)[:, None, None]
    old = jnp.where(visible[:, None, None, None], _scores(queries, past_keys), hidden)
    new = jnp.where(earlier, _scores(queries, keys), hidden)
    peak = jnp.maximum(old.max(-1, keepdims=True), new.max(-1, keepdims=True))
    old_weights, new_weights = jnp.exp(old - peak), jnp.exp(new - peak)
    total = old_weights.sum(-1, keepdims=True) + new_weights.sum(-1, keepdims=True)
    mixed = contract("bkgts,bkse->bkgte", old_weights.astype(values.dtype), past_values)
    mixed += contract("bkgts,bkse->bkgte", new_weights.astype(values.dtype), values)
    return (mixed / total).astype(values.dtype)


def _scores(queries: Float[Array, "b k g t e"], keys: Float[Array, "b k s e"]) -> Float[Array, "b k g t s"]:
    scale = queries.shape[-1] ** -0.5
    if queries.shape[3] > 1:
        return contract("bkgte,bkse->bkgts", queries, keys) * scale
    # A single query a row: with the keys on the left they need not be transposed, which is most of the work on CPU.
    return contract("bkse,bkgte->bksgt", keys, queries).transpose(0, 1, 3, 4, 2) * scale
