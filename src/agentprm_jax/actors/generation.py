"""The sampler's device programs: read prompts into cache slots, and sample actions from them."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from agentprm_jax.actors.slot_store import SlotStore, load_rows, save_columns
from agentprm_jax.models.cache import KVCache, extend
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params, logits_of

Rows = Any
"""An array with a row for each slot or action: of NumPy where the host makes or reads it, of JAX inside a program."""


class Reading(NamedTuple):
    """New tokens to be appended to slots; rows of padding have count 0 and a slot beyond the last."""

    slots: Rows  # int32 [b], all different
    begin: Rows  # int32 [b]; tokens that the slot holds already
    tokens: Rows  # int32 [b, t]; new tokens, right-padded
    counts: Rows  # int32 [b]


class Drawing(NamedTuple):
    """Actions to be sampled; rows of padding are neither active nor kept."""

    slots: Rows  # int32 [b]; slot that holds the prompt
    lengths: Rows  # int32 [b]; tokens of the prompt
    kept: Rows  # bool [b]; whether the slot goes on with what the row samples; at most one row a slot
    active: Rows  # bool [b]
    entropy: Rows  # uint32 [b, n]; numbers that together make the row's key


class Drawn(NamedTuple):
    """Sampled actions."""

    tokens: Rows  # int32 [b, t]; 0 beyond the end
    counts: Rows  # int32 [b]; sampled tokens, the end-of-turn token included
    logprobs: Rows  # float32 [b]; sum over sampled tokens, at temperature 1
    complete: Rows  # bool [b]; whether the turn was ended


class _DrawState(NamedTuple):
    """What the sampling loop carries."""

    cache: KVCache
    last: Array  # int32 [b]; token sampled last
    active: Array  # bool [b]; rows that have not ended their turn
    step: Array  # int32 []; tokens sampled
    drawn: Drawn


@partial(jax.jit, static_argnames=("config", "window"), donate_argnames="store")
def read_prompts(
    config: DecoderConfig, params: Params, store: SlotStore, reading: Reading, *, window: int
) -> SlotStore:
    """Append new tokens to slots.

    Args:
        config: shape of the decoder.
        params: a language model.
        store: donated.
        reading: what to append.
        window: columns of a slot that are looked at; at least `begin + counts`.

    Returns:
        The store, with the hidden state of the last token of every slot that was read.
    """
    rows = load_rows(store, reading.slots, reading.begin, window, config.dtype)
    hidden, rows = extend(config, params["decoder"], rows, reading.tokens, reading.counts)
    steps = jnp.arange(reading.tokens.shape[1])
    real = steps < reading.counts[:, None]
    read = save_columns(store, reading.slots, rows, reading.begin[:, None] + steps, real)
    last = jnp.maximum(reading.counts - 1, 0)[:, None, None]
    ending = jnp.take_along_axis(hidden, last, axis=1)[:, 0].astype(jnp.float32)
    return read._replace(hidden=store.hidden.at[reading.slots].set(ending, mode="drop"))


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

    Slots that are kept then hold the prompt and the sampled tokens but the last, which nothing has attended to.

    Args:
        config: shape of the decoder.
        params: a language model.
        store: donated.
        drawing: what to sample.
        temperature: 0 takes the likeliest token.
        limit: most tokens of an action, in [1, room].
        sayable: which tokens may be sampled.
        window: columns of a slot that are looked at; at least `lengths + limit - 1`.
        room: tokens of an action that there is room for.
        end: the end-of-turn token.
    """
    keys = row_keys(drawing.entropy)
    choose = partial(choose_tokens, temperature=temperature, sayable=sayable)

    def sample_next(state: _DrawState) -> _DrawState:
        counts = state.active.astype(jnp.int32)
        hidden, cache = extend(config, params["decoder"], state.cache, state.last[:, None], counts)
        tokens, logprobs = choose(keys, state.step, logits_of(config, params, hidden[:, 0]))
        return _noted(state._replace(cache=cache), tokens, logprobs, end)

    cache = load_rows(store, drawing.slots, drawing.lengths, window, config.dtype)
    start = _start(cache, drawing.active, room)
    logits = logits_of(config, params, store.hidden[drawing.slots].astype(config.dtype))
    first = _noted(start, *choose(keys, start.step, logits), end)
    final = jax.lax.while_loop(lambda state: state.active.any() & (state.step < limit), sample_next, first)
    steps = jnp.arange(room)
    attended = drawing.kept[:, None] & (steps < final.drawn.counts[:, None] - 1)
    saved = save_columns(store, drawing.slots, final.cache, drawing.lengths[:, None] + steps, attended)
    return saved, final.drawn


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
    """A token for each row from `softmax(logits / temperature)` over sayable tokens, and its log-probability.

    The log-probability is that at temperature 1. Adding Gumbel noise times the temperature and taking the largest
    samples from that distribution, and is the argmax at temperature 0. The noise of a row depends on its key and on
    `step`, not on its place.
    """
    known = jnp.where(sayable, logits, -jnp.inf)
    noise = jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, step), (logits.shape[1],)))(keys)
    tokens = jnp.argmax(known + temperature * noise, axis=-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(known, tokens[:, None], axis=-1)[:, 0]
    return tokens, chosen - jax.nn.logsumexp(known, axis=-1)


def _start(cache: KVCache, active: Bool[Array, "b"], room: int) -> _DrawState:
    rows = active.shape[0]
    nothing = Drawn(
        tokens=jnp.zeros((rows, room), jnp.int32),
        counts=jnp.zeros(rows, jnp.int32),
        logprobs=jnp.zeros(rows, jnp.float32),
        complete=jnp.zeros(rows, bool),
    )
    return _DrawState(cache, jnp.zeros(rows, jnp.int32), active, jnp.zeros((), jnp.int32), nothing)


def _noted(state: _DrawState, tokens: Int[Array, "b"], logprobs: Float[Array, "b"], end: int) -> _DrawState:
    """The state after one more token of every row that is active."""
    ended = state.active & (tokens == end)
    said = jnp.where(state.active, tokens, 0)
    drawn = Drawn(
        tokens=jax.lax.dynamic_update_slice_in_dim(state.drawn.tokens, said[:, None], state.step, axis=1),
        counts=state.drawn.counts + state.active.astype(jnp.int32),
        logprobs=state.drawn.logprobs + jnp.where(state.active, logprobs, 0.0),
        complete=state.drawn.complete | ended,
    )
    return _DrawState(state.cache, said, state.active & ~ended, state.step + 1, drawn)
