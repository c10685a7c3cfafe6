"""The cache slots on the device: keys, values and last hidden states that are kept between calls.

Keys and values are kept as bits, as in `KVCache` and for its reason.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from agentprm_jax.models.cache import KVCache, init_cache
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.draft import Draft, Drafts


class SlotStore(NamedTuple):
    """What is kept; how many tokens of a slot are real is known to the host."""

    keys: Array  # [l, slots, k, s, e], the bits of the cache's keys
    values: Array  # [l, slots, k, s, e]
    hidden: Array  # float32 [slots, d]; state of the last token of the prompt that was read last


def init_store(config: DecoderConfig, slots: int, capacity: int) -> SlotStore:
    """A store of empty slots."""
    cache = init_cache(config, slots, capacity)
    hidden = jnp.zeros((slots, config.embed), jnp.float32)
    return SlotStore(cache.keys, cache.values, hidden)


@partial(jax.jit, donate_argnames="store")
def copy_slots(store: SlotStore, sources: Int[Array, "b"], targets: Int[Array, "b"]) -> SlotStore:
    """The store with slots copied, all at once; targets beyond the slots are dropped."""
    return SlotStore(
        store.keys.at[:, targets].set(store.keys[:, sources], mode="drop"),
        store.values.at[:, targets].set(store.values[:, sources], mode="drop"),
        store.hidden.at[targets].set(store.hidden[sources], mode="drop"),
    )


def load_rows(store: SlotStore, slots: Int[Array, "b"], lengths: Int[Array, "b"], window: int) -> KVCache:
    """A cache with a row for each of the given slots, of their first `window` columns only."""
    # Indexed by layer too, the gather writes its result in the order that it is used in, instead of row by row.
    layers = jnp.arange(store.keys.shape[0])[:, None]

    def loaded(kept: Array) -> Array:
        return kept.at[layers, slots, :, :window].get(mode="clip")

    return KVCache(loaded(store.keys), loaded(store.values), lengths)


def load_drafts(
    store: SlotStore, slots: Int[Array, "b"], lengths: Int[Array, "b"], window: int, room: int, dtype: str
) -> Drafts:
    """Drafts with nothing said after the prompts in the given slots, of which `window` columns are looked at."""
    kinds, _, heads, _, width = store.keys.shape
    empty = jnp.zeros((slots.shape[0], heads, room, width), dtype)

    def loaded(kept: Array, layer: int) -> Array:
        bits = kept.at[jnp.full_like(slots, layer), slots, :, :window].get(mode="clip")
        return jax.lax.bitcast_convert_type(bits, jnp.dtype(dtype))

    layers = (Draft(loaded(store.keys, layer), loaded(store.values, layer), empty, empty) for layer in range(kinds))
    return Drafts(tuple(layers), lengths, jnp.zeros((), jnp.int32))


def save_columns(
    store: SlotStore,
    slots: Int[Array, "b"],
    cache: KVCache,
    columns: Int[Array, "b t"],
    real: Bool[Array, "b t"],
) -> SlotStore:
    """The store with some columns of each row of a cache written back to the row's slot, those that are `real`."""
    rows = jnp.arange(slots.shape[0])[:, None]
    keys, values = (kept[:, rows, :, columns] for kept in (cache.keys, cache.values))
    return _written(store, slots, keys, values, jnp.where(real, columns, store.keys.shape[3]))


def save_said(store: SlotStore, slots: Int[Array, "b"], drafts: Drafts, real: Bool[Array, "b t"]) -> SlotStore:
    """The store with the tokens said behind the prompts of the rows' slots, those that are `real`."""
    columns = drafts.lengths[:, None] + jnp.arange(real.shape[1])
    # In the order that a gather of columns has: row, column, layer, head, element.
    keys, values = (
        jnp.stack(kept).transpose(1, 3, 0, 2, 4)
        for kept in ([draft.keys for draft in drafts.layers], [draft.values for draft in drafts.layers])
    )
    return _written(store, slots, keys, values, jnp.where(real, columns, store.keys.shape[3]))


def _written(
    store: SlotStore,
    slots: Int[Array, "b"],
    keys: Shaped[Array, "b t l k e"],
    values: Shaped[Array, "b t l k e"],
    columns: Int[Array, "b t"],
) -> SlotStore:
    places = (slice(None), slots[:, None], slice(None), columns)

    def saved(kept: Array, new: Array) -> Array:
        return kept.at[places].set(jax.lax.bitcast_convert_type(new, kept.dtype), mode="drop")

    return store._replace(keys=saved(store.keys, keys), values=saved(store.values, values))
