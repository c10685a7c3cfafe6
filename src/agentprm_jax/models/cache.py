"""The key-value cache: extend rows by new tokens, fork rows, reset rows; static shapes, fit for jit and donation."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from agentprm_jax.models.attention import Context, Past
from agentprm_jax.models.bits import as_bits, bits_dtype
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.decoder import Decoder
from agentprm_jax.models.parameters import Params, apply
from agentprm_jax.models.placement import Constrain, unconstrained
from agentprm_jax.models.rope import rotation


class KVCache(NamedTuple):
    """Keys and values of the tokens that each row has seen; columns from `lengths` on are not visible to anything.

    Numbers of the config's dtype are kept as their bits, see `models.bits`.
    """

    keys: Array  # [l, b, k, s, e], rotated
    values: Array  # [l, b, k, s, e]
    lengths: Array  # [b] int32

    @property
    def capacity(self) -> int:
        """Number of tokens that fit in a row."""
        return self.keys.shape[3]


def init_cache(config: DecoderConfig, rows: int, capacity: int) -> KVCache:
    """An empty cache for `rows` sequences of at most `capacity` tokens."""
    shape = (config.layers, rows, config.kv_heads, capacity, config.head_dim)
    dtype = bits_dtype(config.dtype)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((rows,), jnp.int32))


def extend(
    config: DecoderConfig,
    decoder: Params,
    cache: KVCache,
    tokens: Int[Array, "b t"],
    counts: Int[Array, "b"],
    constrain: Constrain = unconstrained,
) -> tuple[Float[Array, "b t d"], KVCache]:
    """Append `counts` tokens to each row and return their hidden states.

    Args:
        config: shape of the decoder.
        decoder: the `"decoder"` subtree of the parameters.
        cache: what the rows have seen; may be donated.
        tokens: new tokens, right-padded.
        counts: how many of a row's `tokens` are real, in [0, t]. The caller keeps `lengths + counts <= capacity`; a
            token beyond the capacity sees the past correctly but is not kept.
        constrain: pins activations to a mesh.

    Returns:
        Hidden states after the final norm (those of padded tokens mean nothing), and the cache with its rows extended.
        A row whose count is 0 is unchanged.

    Raises:
        ValueError: rows of the cache have room for more tokens than the config's `max_positions`.
    """
    if cache.capacity > config.max_positions:
        raise ValueError(
            f"cache: expected a capacity of at most max_positions={config.max_positions} tokens, which the model is "
            f"meant for, got {cache.capacity}."
        )
    columns = cache.lengths[:, None] + jnp.arange(tokens.shape[1])
    context = Context(*rotation(config, columns), None, cache.lengths)
    past = Past(cache.keys, cache.values)
    hidden, present = apply(Decoder(config, constrain), decoder, tokens, past, context)
    real = jnp.arange(tokens.shape[1]) < counts[:, None]
    target = jnp.where(real, columns, cache.capacity)
    return hidden, KVCache(
        _written(cache.keys, present.keys, target),
        _written(cache.values, present.values, target),
        cache.lengths + counts.astype(jnp.int32),
    )


def fork(cache: KVCache, rows: Int[Array, "c"]) -> KVCache:
    """A cache whose row `i` is a copy of row `rows[i]`; rows may be repeated, dropped and reordered."""
    return KVCache(cache.keys[:, rows], cache.values[:, rows], cache.lengths[rows])


def reset(cache: KVCache, mask: Bool[Array, "b"]) -> KVCache:
    """Empty the rows where `mask` is true."""
    return cache._replace(lengths=jnp.where(mask, 0, cache.lengths))


def _written(
    store: Shaped[Array, "l b k s e"], new: Float[Array, "l b k t e"], columns: Int[Array, "b t"]
) -> Shaped[Array, "l b k s e"]:
    rows = jnp.arange(columns.shape[0])[:, None]
    return store.at[:, rows, :, columns].set(as_bits(new).transpose(1, 3, 0, 2, 4), mode="drop")
