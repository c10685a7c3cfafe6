"""The cache slots on the device: keys and values of conversations that are kept between calls.

They are kept as bits, see `models.bits`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from agentprm_jax.models.attention import Context, Packing, Past
from agentprm_jax.models.bits import as_bits
from agentprm_jax.models.cache import init_cache
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.decoder import Decoder
from agentprm_jax.models.decoding import DecodeCache, start_decoding
from agentprm_jax.models.parameters import Params, apply
from agentprm_jax.models.placement import Constrain, sharding_of, unconstrained
from agentprm_jax.models.rope import rotation

Rows = Any
"""An array with a row for each slot or action: of NumPy where the host makes or reads it, of JAX inside a program."""
_STORE_AXES = (None, None, "kv_heads", None, None)
"""Every device that has rows to read may need any slot: slots lie whole, and are cut by heads alone."""


class SlotStore(NamedTuple):
    """What is kept; how many tokens of a slot are real is known to the host."""

    keys: Array  # [l, slots, k, s, e], the bits of the cache's keys
    values: Array  # [l, slots, k, s, e]


class Prefill(NamedTuple):
    """Tokens to be processed after what slots hold; rows of padding have count 0 and a slot beyond the last.

    The first `counts` tokens of a row are appended to its slot. Behind them stand continuations that leave no trace:
    each sees the slot, what is appended to it and itself, but not the others.
    """

    slots: Rows  # int32 [b], all different
    begin: Rows  # int32 [b]; tokens that the slot holds already
    tokens: Rows  # int32 [b, t]; right-padded
    counts: Rows  # int32 [b]; of these how many are appended
    positions: Rows | None = None  # int32 [b, t]; None: all tokens follow each other
    branches: Rows | None = None  # int32 [b, t]; 0 on what is appended, one number a continuation; None: all 0


def init_store(config: DecoderConfig, slots: int, capacity: int, constrain: Constrain = unconstrained) -> SlotStore:
    """A store of empty slots, on the mesh that programs are pinned to."""
    cache = jax.eval_shape(partial(init_cache, config, slots, capacity))
    place = sharding_of(constrain, _STORE_AXES)
    return SlotStore(*(jnp.zeros(kept.shape, kept.dtype, device=place) for kept in (cache.keys, cache.values)))


@partial(jax.jit, static_argnames=("columns", "constrain"), donate_argnames="store")
def copy_slots(
    store: SlotStore,
    sources: Int[Array, "b"],
    targets: Int[Array, "b"],
    *,
    columns: int,
    constrain: Constrain = unconstrained,
) -> SlotStore:
    """The store with the first `columns` of slots copied, all at once; targets beyond the slots are dropped."""
    copied = (kept.at[:, targets, :, :columns].set(kept[:, sources, :, :columns], mode="drop") for kept in store)
    return SlotStore(*(constrain(kept, _STORE_AXES) for kept in copied))


def prefill_slots(
    config: DecoderConfig,
    decoder: Params,
    store: SlotStore,
    prefill: Prefill,
    window: int,
    constrain: Constrain = unconstrained,
    packed: int | None = None,
) -> tuple[Float[Array, "b t d"], SlotStore]:
    """Reads new tokens after what slots hold, and appends those that are to be kept.

    All but attention works on single tokens. With `packed` these are no more than so many: the first `counts` of every
    row, without what the rows are filled up with.

    Args:
        config: shape of the decoder.
        decoder: the `"decoder"` subtree of the parameters.
        store: may be donated.
        prefill: what to read.
        window: columns of a slot that are looked at; at least `begin`. 0 where every slot is empty.
        constrain: pins activations to a mesh; not for packed ones, of which devices cannot share the rows.
        packed: at least the sum of `counts`; only where nothing but what is appended is read. None: whole rows.

    Returns:
        Hidden states after the final norm (those of padding mean nothing), and the store.
    """
    steps = jnp.arange(prefill.tokens.shape[1])
    columns = prefill.begin[:, None] + steps
    past = _load_past(store, prefill.slots, window, constrain) if window else None
    lengths = prefill.begin if window else None
    targets = jnp.where(steps < prefill.counts[:, None], columns, store.keys.shape[3])
    if packed is None:
        cos, sin = rotation(config, columns if prefill.positions is None else prefill.positions)
        context = Context(cos, sin, None, lengths, prefill.branches)
        hidden, present = apply(Decoder(config, constrain), decoder, prefill.tokens, past, context)
        slots = prefill.slots
    else:
        assert prefill.branches is None, "Only what is appended is packed."
        packing = _packing(prefill.counts, prefill.tokens.shape[1], packed)
        tokens, columns, targets = (rows.reshape(-1)[packing.places] for rows in (prefill.tokens, columns, targets))
        targets = jnp.where(jnp.arange(packed) < prefill.counts.sum(), targets, store.keys.shape[3])[:, None]
        context = Context(*rotation(config, columns[None]), None, lengths, packing=packing)
        hidden, present = apply(Decoder(config, constrain), decoder, tokens[None], past, context)
        hidden = packing.rows(hidden)[:, 0]
        present = Past(*(new.swapaxes(1, 3) for new in present))  # a token for each row: [l, n, k, 1, e]
        slots = prefill.slots[packing.places // len(steps)]
    # In the order that a gather of columns has: row, column, layer, head, element.
    keys, values = (as_bits(new).transpose(1, 3, 0, 2, 4) for new in present)
    return hidden, _written(store, slots, keys, values, targets, constrain)


def _packing(counts: Int[Array, "b"], columns: int, size: int) -> Packing:
    """The first `counts` places of each row, one row behind another; of `size` tokens the last ones are padding."""
    steps = jnp.arange(columns)
    starts = jnp.cumsum(counts) - counts
    (places,) = jnp.nonzero((steps < counts[:, None]).reshape(-1), size=size, fill_value=0)
    return Packing(places, jnp.minimum(starts[:, None] + steps, size - 1))


def load_decode_cache(
    config: DecoderConfig, store: SlotStore, slots: Int[Array, "b"], lengths: Int[Array, "b"], window: int, room: int
) -> DecodeCache:
    """A cache with nothing generated after the prompts in given slots, of which `window` columns are looked at."""

    def loaded(kept: Array, layer: int) -> Array:
        prompts = kept.at[jnp.full_like(slots, layer), slots, :, :window].get(mode="clip")
        return jax.lax.bitcast_convert_type(prompts, jnp.dtype(config.dtype))

    layers = range(store.keys.shape[0])
    prompts = ((loaded(store.keys, one), loaded(store.values, one)) for one in layers)
    return start_decoding(config, prompts, lengths, room)


def save_generated(store: SlotStore, slots: Int[Array, "b"], cache: DecodeCache, real: Bool[Array, "b t"]) -> SlotStore:
    """The store with the generated tokens that are `real` behind the prompts of the rows' slots."""
    columns = cache.lengths[:, None] + jnp.arange(real.shape[1])
    keys = jnp.stack([as_bits(layer.keys) for layer in cache.layers]).transpose(1, 3, 0, 2, 4)
    values = jnp.stack([as_bits(layer.values) for layer in cache.layers]).transpose(1, 3, 0, 2, 4)
    return _written(store, slots, keys, values, jnp.where(real, columns, store.keys.shape[3]))


def _load_past(store: SlotStore, slots: Int[Array, "b"], window: int, constrain: Constrain) -> Past:
    """The first `window` columns of the given slots, each with its row."""
    # Indexed by layer too, the gather writes its result in the order that it is used in, instead of row by row.
    layers = jnp.arange(store.keys.shape[0])[:, None]
    loaded = (kept.at[layers, slots, :, :window].get(mode="clip") for kept in store)
    return Past(*(constrain(kept, (None, "batch", "kv_heads", None, None)) for kept in loaded))


def _written(
    store: SlotStore,
    slots: Int[Array, "b"],
    keys: Shaped[Array, "b t l k e"],
    values: Shaped[Array, "b t l k e"],
    columns: Int[Array, "b t"],
    constrain: Constrain = unconstrained,
) -> SlotStore:
    places = (slice(None), slots[:, None], slice(None), columns)

    def saved(kept: Array, new: Array) -> Array:
        bits = constrain(new, (None, None, None, "kv_heads", None))
        return constrain(kept.at[places].set(bits, mode="drop"), _STORE_AXES)

    return SlotStore(saved(store.keys, keys), saved(store.values, values))
