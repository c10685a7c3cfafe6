"""The cache slots on the device: keys, values and last hidden states that are kept between calls.

Keys and values are kept as unsigned integers of the same width. XLA's CPU compiler widens whatever it writes in
bfloat16 to float32, so that changing one row would convert every slot twice; on integers it writes in place.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from agentprm_jax.models.cache import KVCache, init_cache
from agentprm_jax.models.config import DecoderConfig


class SlotStore(NamedTuple):
    """What is kept; how many tokens of a slot are real is known to the host."""

    keys: Array  # [l, slots, k, s, e], the bits of the cache's keys
    values: Array  # [l, slots, k, s, e]
    hidden: Array  # float32 [slots, d]; state of the last token of the prompt that was read last


def init_store(config: DecoderConfig, slots: int, capacity: int) -> SlotStore:
    """A store of empty slots."""
    cache = init_cache(config, slots, capacity)
    hidden = jnp.zeros((slots, config.embed), jnp.float32)
    return SlotStore(_bits(cache.keys), _bits(cache.values), hidden)


@partial(jax.jit, donate_argnames="store")
def copy_slots(store: SlotStore, sources: Int[Array, "b"], targets: Int[Array, "b"]) -> SlotStore:
    """The store with slots copied, all at once; targets beyond the slots are dropped."""
    return SlotStore(
        store.keys.at[:, targets].set(store.keys[:, sources], mode="drop"),
        store.values.at[:, targets].set(store.values[:, sources], mode="drop"),
        store.hidden.at[targets].set(store.hidden[sources], mode="drop"),
    )


def load_rows(store: SlotStore, slots: Int[Array, "b"], lengths: Int[Array, "b"], window: int, dtype: str) -> KVCache:
    """A cache with a row for each of the given slots, of their first `window` columns only."""
    # Indexed by layer too, the gather writes its result in the order that it is used in, instead of row by row.
    layers = jnp.arange(store.keys.shape[0])[:, None]

    def loaded(kept: Array) -> Array:
        rows = kept.at[layers, slots, :, :window].get(mode="clip")
        return jax.lax.bitcast_convert_type(rows, jnp.dtype(dtype))

    return KVCache(loaded(store.keys), loaded(store.values), lengths)


def save_columns(
    store: SlotStore,
    slots: Int[Array, "b"],
    cache: KVCache,
    columns: Int[Array, "b t"],
    real: Bool[Array, "b t"],
) -> SlotStore:
    """The store with some columns of each row of a cache written back to the row's slot, those that are `real`."""
    capacity = store.keys.shape[3]
    rows = jnp.arange(slots.shape[0])[:, None]
    places = (slice(None), slots[:, None], slice(None), jnp.where(real, columns, capacity))

    def saved(kept: Array, new: Float[Array, "l b k s e"]) -> Array:
        return kept.at[places].set(_bits(new[:, rows, :, columns]), mode="drop")

    return store._replace(keys=saved(store.keys, cache.keys), values=saved(store.values, cache.values))


def _bits(x: Float[Array, "..."]) -> Array:
    return jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
