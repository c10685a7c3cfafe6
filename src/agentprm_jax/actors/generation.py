"""The sampler's device programs: read prompts into cache slots, and sample actions from them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from agentprm_jax.models.cache import KVCache, extend, init_cache
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params, logits_of


class SlotStore(NamedTuple):
    """What is kept on the device between calls."""

    cache: KVCache  # rows are slots; `lengths` are kept by the host and are not used
    hidden: Array  # [slots, d]; state of the last token of the prompt that was read last


class Reading(NamedTuple):
    """Prompts to be read; rows of padding have count 0 and a target beyond the slots."""

    sources: Array  # int32 [b]; slot that holds the beginning
    matched: Array  # int32 [b]; tokens of that beginning
    targets: Array  # int32 [b]; slot to be written, all different
    tokens: Array  # int32 [b, t]; new tokens, right-padded
    counts: Array  # int32 [b]


class Drawing(NamedTuple):
    """Actions to be sampled; rows of padding are not active and have a target beyond the slots."""

    sources: Array  # int32 [b]; slot that holds the prompt
    lengths: Array  # int32 [b]; tokens of the prompt
    targets: Array  # int32 [b]; slot to be written, all different
    active: Array  # bool [b]
    entropy: Array  # uint32 [b, n]; numbers that together make the row's key


class Drawn(NamedTuple):
    """Sampled actions."""

    tokens: Array  # int32 [b, t]; 0 beyond the end
    counts: Array  # int32 [b]; sampled tokens, the end-of-turn token included
    logprobs: Array  # float32 [b]; sum over sampled tokens, at temperature 1
    complete: Array  # bool [b]; whether the turn was ended


class DrawState(NamedTuple):
    """What the sampling loop carries."""

    cache: KVCache
    last: Array  # int32 [b]; token sampled last
    active: Array  # bool [b]; rows that have not ended their turn
    step: Array  # int32 []; tokens sampled
    drawn: Drawn


def init_store(config: DecoderConfig, slots: int, capacity: int) -> SlotStore:
    """A store of empty slots."""
    return SlotStore(init_cache(config, slots, capacity), jnp.zeros((slots, config.embed), config.dtype))


@partial(jax.jit, static_argnames=("config", "window"), donate_argnames="store")
def read_prompts(config: DecoderConfig, params: Params, store: SlotStore, reading: Reading, *, window: int) -> SlotStore:
    """Copy beginnings of conversations to their slots and append new tokens.

    Args:
        config: shape of the decoder.
        params: a language model.
        store: donated.
        reading: what to read.
        window: columns of the cache that are looked at; at least `matched + counts`.

    Returns:
        The store, with the hidden state of the last token read for every target.
    """
    rows = _taken(store.cache, reading.sources, reading.matched, window)
    hidden, rows = extend(config, params["decoder"], rows, reading.tokens, reading.counts)
    last = jnp.maximum(reading.counts - 1, 0)[:, None, None]
    ending = jnp.take_along_axis(hidden, last, axis=1)[:, 0]
    kept = _written(store.hidden, reading.targets, ending)
    return SlotStore(_put(store.cache, reading.targets, rows), kept)


@partial(jax.jit, static_argnames=("config", "window", "room", "end"), donate_argnames="store")
def draw_actions(
    config: DecoderConfig,
    params: Params,
    store: SlotStore,
    drawing: Drawing,
    temperature: Float[Array, ""],
    limit: Int[Array, ""],
    sayable: Bool[Array, "v"],
    *,
    window: int,
    room: int,
    end: int,
) -> tuple[SlotStore, Drawn]:
    """Sample an action after each prompt, until every row has ended its turn.

    The targets then hold the prompt and the sampled tokens but the last, which nothing has attended to.

    Args:
        config: shape of the decoder.
        params: a language model.
        store: donated.
        drawing: what to sample.
        temperature: 0 takes the likeliest token.
        limit: most tokens of an action, in [1, room].
        sayable: which tokens may be sampled.
        window: columns of the cache that are looked at; at least `lengths + limit - 1`.
        room: tokens of an action that there is room for.
        end: the end-of-turn token.
    """
    keys = row_keys(drawing.entropy)
    choose = partial(choose_tokens, temperature=temperature, sayable=sayable)
    logits = logits_of(config, params, store.hidden[drawing.sources])

    def sample_next(state: DrawState) -> DrawState:
        hidden, cache = extend(config, params["decoder"], state.cache, state.last[:, None], state.active.astype(jnp.int32))
        tokens, logprobs = choose(keys, state.step, logits_of(config, params, hidden[:, 0]))
        return _noted(state._replace(cache=cache), tokens, logprobs, end)

    cache = _taken(store.cache, drawing.sources, drawing.lengths, window)
    start = _start(cache, drawing.active, room)
    first = _noted(start, *choose(keys, start.step, logits), end)
    final = jax.lax.while_loop(lambda state: state.active.any() & (state.step < limit), sample_next, first)
    return SlotStore(_put(store.cache, drawing.targets, final.cache), store.hidden), final.drawn


def row_keys(entropy: UInt32[Array, "b n"]) -> Array:
    """One random key for each row, a function of the row's own numbers only."""

    def row_key(numbers: UInt32[Array, "n"]) -> Array:
        key = jax.random.key(0)
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key

    return jax.vmap(row_key)(entropy)


def choose_tokens(
    keys: Array,
    step: Int[Array, ""],
    logits: Float[Array, "b v"],
    temperature: Float[Array, ""],
    sayable: Bool[Array, "v"],
) -> tuple[Int[Array, "b"], Float[Array, "b"]]:
    """A token for each row from `softmax(logits / temperature)` over sayable tokens, and its log-probability at temperature 1.

    Adding Gumbel noise times the temperature and taking the largest samples from that distribution, and is the argmax at
    temperature 0. The noise of a row depends on its key and on `step`, not on its place.
    """
    known = jnp.where(sayable, logits, -jnp.inf)
    noise = jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, step), (logits.shape[1],)))(keys)
    tokens = jnp.argmax(known + temperature * noise, axis=-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(known, tokens[:, None], axis=-1)[:, 0]
    return tokens, chosen - jax.nn.logsumexp(known, axis=-1)


def _start(cache: KVCache, active: Bool[Array, "b"], room: int) -> DrawState:
    rows = active.shape[0]
    nothing = Drawn(
        tokens=jnp.zeros((rows, room), jnp.int32),
        counts=jnp.zeros(rows, jnp.int32),
        logprobs=jnp.zeros(rows, jnp.float32),
        complete=jnp.zeros(rows, bool),
    )
    return DrawState(cache, jnp.zeros(rows, jnp.int32), active, jnp.zeros((), jnp.int32), nothing)


def _noted(state: DrawState, tokens: Int[Array, "b"], logprobs: Float[Array, "b"], end: int) -> DrawState:
    """The state after one more token of every row that is active."""
    ended = state.active & (tokens == end)
    said = jnp.where(state.active, tokens, 0)
    drawn = Drawn(
        tokens=jax.lax.dynamic_update_slice_in_dim(state.drawn.tokens, said[:, None], state.step, axis=1),
        counts=state.drawn.counts + state.active,
        logprobs=state.drawn.logprobs + jnp.where(state.active, logprobs, 0.0),
        complete=state.drawn.complete | ended,
    )
    return DrawState(state.cache, said, state.active & ~ended, state.step + 1, drawn)


def _taken(cache: KVCache, rows: Int[Array, "b"], lengths: Int[Array, "b"], window: int) -> KVCache:
    """Copies of some rows, of their first columns only."""
    return KVCache(cache.keys[:, rows, :, :window], cache.values[:, rows, :, :window], lengths)


def _put(cache: KVCache, rows: Int[Array, "b"], new: KVCache) -> KVCache:
    """The cache with the first columns of some rows replaced; rows beyond the cache are dropped."""
    window = new.capacity
    return KVCache(
        _written(cache.keys, (slice(None), rows, slice(None), slice(window)), new.keys),
        _written(cache.values, (slice(None), rows, slice(None), slice(window)), new.values),
        cache.lengths,
    )


def _written(store: Array, places: Array | tuple[Array | slice, ...], new: Array) -> Array:
    """Scatter on the bits: XLA's CPU compiler would turn all of a bfloat16 store into float32 and back."""
    bits = jnp.dtype(f"uint{8 * store.dtype.itemsize}")
    as_bits = jax.lax.bitcast_convert_type(store, bits)
    new_bits = jax.lax.bitcast_convert_type(new, bits)
    written = as_bits.at[places].set(new_bits, mode="drop", unique_indices=True)
    return jax.lax.bitcast_convert_type(written, store.dtype)
