"""The sampler's device programs: read prompts into cache slots, and sample actions from them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from agentprm_jax.actors.choosing import choose_tokens, row_keys
from agentprm_jax.actors.stops import START
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.draft import Drafts, Speaker, as_columns, next_logits, say
from agentprm_jax.models.forward import Params
from agentprm_jax.models.slot_store import (
    Reading,
    Rows,
    SlotStore,
    copy_slots,
    init_store,
    load_drafts,
    read_into_slots,
    save_said,
)


class PromptStore(NamedTuple):
    """What is kept of prompts between calls."""

    slots: SlotStore
    hidden: Array  # float32 [slots, d]; state of the last token of the prompt that was read last


class Drawing(NamedTuple):
    """Actions to be sampled; rows of padding are neither active nor kept."""

    slots: Rows  # int32 [b]; slot that holds the prompt
    lengths: Rows  # int32 [b]; tokens of the prompt
    kept: Rows  # bool [b]; whether the slot goes on with what the row samples; at most one row a slot
    active: Rows  # bool [b]
    entropy: Rows  # uint32 [b, n]; numbers that together make the row's key


class Rules(NamedTuple):
    """What may be said and where an action ends."""

    sayable: Rows  # bool [v]; tokens that may be sampled
    ends: Rows  # bool [v]; tokens that end the turn
    stops: Rows  # int32 [states, v]; automaton of the texts to stop at, see `stop_table`
    least: Rows  # int32 []; tokens of an action before a token may end it


class Drawn(NamedTuple):
    """Sampled actions."""

    tokens: Rows  # int32 [b, t]; 0 beyond the end
    counts: Rows  # int32 [b]; sampled tokens, the one that ended the action included
    logprobs: Rows  # float32 [b]; sum over sampled tokens, at temperature 1
    ended: Rows  # bool [b]; whether a token ended the turn
    stopped: Rows  # bool [b]; whether a text to stop at was said


class _DrawState(NamedTuple):
    """What the sampling loop carries."""

    drafts: Drafts
    last: Array  # int32 [b]; token sampled last
    active: Array  # bool [b]; rows that have not ended their action
    matched: Array  # int32 [b]; state of the automaton of texts to stop at
    drawn: Drawn


def init_prompts(config: DecoderConfig, slots: int, capacity: int) -> PromptStore:
    """A store of empty slots."""
    return PromptStore(init_store(config, slots, capacity), jnp.zeros((slots, config.embed), jnp.float32))


@partial(jax.jit, static_argnames="columns", donate_argnames="store")
def copy_prompts(
    store: PromptStore, sources: Int[Array, "b"], targets: Int[Array, "b"], *, columns: int
) -> PromptStore:
    """The store with the first columns of slots copied, all at once; targets beyond the slots are dropped."""
    hidden = store.hidden.at[targets].set(store.hidden[sources], mode="drop")
    return PromptStore(copy_slots(store.slots, sources, targets, columns=columns), hidden)


@partial(jax.jit, static_argnames=("config", "window"), donate_argnames="store")
def read_prompts(
    config: DecoderConfig, params: Params, store: PromptStore, reading: Reading, *, window: int
) -> PromptStore:
    """Append new tokens to slots.

    Args:
        config: shape of the decoder.
        params: a language model.
        store: donated.
        reading: what to append.
        window: columns of a slot that are looked at; at least `begin`.

    Returns:
        The store, with the hidden state of the last token of every slot that was read.
    """
    hidden, slots = read_into_slots(config, params["decoder"], store.slots, reading, window)
    last = jnp.maximum(reading.counts - 1, 0)[:, None, None]
    ending = jnp.take_along_axis(hidden, last, axis=1)[:, 0].astype(jnp.float32)
    return PromptStore(slots, store.hidden.at[reading.slots].set(ending, mode="drop"))


@partial(jax.jit, static_argnames=("config", "window", "room", "top_k", "top_p"), donate_argnames="store")
def draw_actions(
    config: DecoderConfig,
    speaker: Speaker,
    store: PromptStore,
    drawing: Drawing,
    rules: Rules,
    temperature: Float[Array, ""],
    limit: Int[Array, ""],
    *,
    window: int,
    room: int,
    top_k: int,
    top_p: float,
) -> tuple[PromptStore, Drawn]:
    """Sample an action after each prompt, until every row has ended its turn.

    Slots that are kept then hold the prompt and the sampled tokens but the last, which nothing has attended to.

    Args:
        config: shape of the decoder.
        speaker: a language model, see `lay_out`.
        store: donated.
        drawing: what to sample.
        rules: what may be said and where actions end.
        temperature: 0 takes the likeliest token.
        limit: most tokens of an action, in [1, room].
        window: columns of a slot that are looked at; at least `lengths`.
        room: tokens of an action that there is room for.
        top_k: how many of the likeliest tokens may be sampled; 0 is all.
        top_p: probability of the likeliest tokens that may be sampled.
    """
    keys = row_keys(drawing.entropy)

    def noted(state: _DrawState, hidden: Float[Array, "d b"]) -> _DrawState:
        step = state.drafts.said
        sayable = rules.sayable & ~(rules.ends & (step < rules.least))
        logits = next_logits(speaker, hidden)
        return _noted(state, *choose_tokens(keys, step, logits, sayable, temperature, top_k, top_p), rules)

    def say_next(state: _DrawState) -> _DrawState:
        hidden, drafts = say(config, speaker, state.drafts, state.last)
        return noted(state._replace(drafts=drafts), hidden)

    drafts = load_drafts(store.slots, drawing.slots, drawing.lengths, window, room, config.dtype)
    start = _start(drafts, drawing.active, room)
    first = noted(start, as_columns(store.hidden[drawing.slots].astype(config.dtype)))
    final = jax.lax.while_loop(lambda state: state.active.any() & (state.drafts.said + 1 < limit), say_next, first)
    attended = drawing.kept[:, None] & (jnp.arange(room) < final.drawn.counts[:, None] - 1)
    slots = save_said(store.slots, drawing.slots, final.drafts, attended)
    return PromptStore(slots, store.hidden), final.drawn


def _start(drafts: Drafts, active: Bool[Array, "b"], room: int) -> _DrawState:
    rows = active.shape[0]
    nothing = Drawn(
        tokens=jnp.zeros((rows, room), jnp.int32),
        counts=jnp.zeros(rows, jnp.int32),
        logprobs=jnp.zeros(rows, jnp.float32),
        ended=jnp.zeros(rows, bool),
        stopped=jnp.zeros(rows, bool),
    )
    return _DrawState(drafts, jnp.zeros(rows, jnp.int32), active, jnp.full(rows, START, jnp.int32), nothing)


def _noted(state: _DrawState, tokens: Int[Array, "b"], logprobs: Float[Array, "b"], rules: Rules) -> _DrawState:
    """The state after one more token of every row that is active."""
    matched = rules.stops[state.matched, tokens]
    ended = state.active & rules.ends[tokens]
    stopped = state.active & ~ended & (matched == rules.stops.shape[0] - 1)
    said = jnp.where(state.active, tokens, 0)
    drawn = Drawn(
        tokens=jax.lax.dynamic_update_slice_in_dim(state.drawn.tokens, said[:, None], state.drafts.said, axis=1),
        counts=state.drawn.counts + state.active.astype(jnp.int32),
        logprobs=state.drawn.logprobs + jnp.where(state.active, logprobs, 0.0),
        ended=state.drawn.ended | ended,
        stopped=state.drawn.stopped | stopped,
    )
    return _DrawState(state.drafts, said, state.active & ~ended & ~stopped, matched, drawn)
