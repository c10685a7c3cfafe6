"""Attention as functions of queries, keys and values: no parameters, grouped-query without repeating keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Past(NamedTuple):
    """What one layer remembers of earlier tokens."""

    keys: Array  # [b, s, k, e], rotated
    values: Array  # [b, s, k, e]


class Context(NamedTuple):
    """What attention needs to know about the tokens of a call, shared by all layers."""

    cos: Array  # [b, t, 1, e / 2]
    sin: Array  # [b, t, 1, e / 2]
    segments: Array | None  # [b, t]; tokens see tokens of their own segment only; None: one segment a row
    lengths: Array | None  # [b]; how many columns of the past are visible; None where there is no past


def attend(
    queries: Float[Array, "b t h e"],
    keys: Float[Array, "b t k e"],
    values: Float[Array, "b t k e"],
    past: Past | None,
    context: Context,
) -> Float[Array, "b t h e"]:
    """Attention of one layer: over the call's own tokens, and over the past where there is one.

    This is the one place that chooses an implementation.
    """
    if past is None:
        return causal_attention(queries, keys, values, context.segments)
    return cached_attention(queries, keys, values, past, context.lengths)


def causal_attention(
    queries: Float[Array, "b t h e"],
    keys: Float[Array, "b t k e"],
    values: Float[Array, "b t k e"],
    segments: Int[Array, "b t"] | None,
) -> Float[Array, "b t h e"]:
    """Scaled dot-product attention of each token over itself and earlier columns of the same segment of its row."""
    mask = jnp.tril(jnp.ones((queries.shape[1], keys.shape[1]), bool))[None]
    if segments is not None:
        mask = mask & (segments[:, :, None] == segments[:, None, :])
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], _scores(queries, keys), _hidden()), axis=-1)
    return _mix(weights, values)


def cached_attention(
    queries: Float[Array, "b t h e"],
    keys: Float[Array, "b t k e"],
    values: Float[Array, "b t k e"],
    past: Past,
    lengths: Int[Array, "b"],
) -> Float[Array, "b t h e"]:
    """Attention of each token over the first `lengths` columns of the past, then over itself and earlier new tokens."""
    capacity = past.keys.shape[1]
    visible = jnp.arange(capacity)[None, :] < lengths[:, None]
    old = jnp.where(visible[:, None, None, None, :], _scores(queries, past.keys), _hidden())
    mask = jnp.tril(jnp.ones((queries.shape[1], keys.shape[1]), bool))
    new = jnp.where(mask, _scores(queries, keys), _hidden())
    weights = jax.nn.softmax(jnp.concatenate([old, new], axis=-1), axis=-1)
    return _mix(weights[..., :capacity], past.values) + _mix(weights[..., capacity:], values)


def _scores(queries: Float[Array, "b t h e"], keys: Float[Array, "b s k e"]) -> Float[Array, "b k g t s"]:
    groups = _grouped(queries, keys.shape[2])
    products = jnp.einsum("btkge,bske->bkgts", groups, keys, preferred_element_type=jnp.float32)
    return products * queries.shape[-1] ** -0.5


def _mix(weights: Float[Array, "b k g t s"], values: Float[Array, "b s k e"]) -> Float[Array, "b t h e"]:
    mixed = jnp.einsum("bkgts,bske->btkge", weights.astype(values.dtype), values)
    return mixed.reshape(*mixed.shape[:2], -1, mixed.shape[-1])


def _grouped(queries: Float[Array, "b t h e"], kv_heads: int) -> Float[Array, "b t k g e"]:
    b, t, h, e = queries.shape
    return queries.reshape(b, t, kv_heads, h // kv_heads, e)


def _hidden() -> float:
    return float(jnp.finfo(jnp.float32).min)
