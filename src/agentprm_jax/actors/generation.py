"""The sampler's device programs: prefill cache slots with prompts, and sample actions from them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from agentprm_jax.actors.choosing import choose_tokens, row_keys
from agentprm_jax.actors.stops import START
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.decoding import DecodeCache, DecodeWeights, as_columns, decode_step, next_logits
from agentprm_jax.models.forward import Params
from agentprm_jax.models.slot_store import (
    Prefill,
    Rows,
    SlotStore,
    copy_slots,
    init_store,
    load_decode_cache,
    prefill_slots,
    save_generated,
)


class PromptStore(NamedTuple):
    """What is kept of prompts between calls."""

    slots: SlotStore
    hidden: Array  # float32 [slots, d]; state of the last token of the prompt that was read last


class Sampling(NamedTuple):
    """Actions to be sampled; rows of padding are neither active nor kept."""

    slots: Rows  # int32 [b]; slot that holds the prompt
    lengths: Rows  # int32 [b]; tokens of the prompt
    kept: Rows  # bool [b]; whether the slot goes on with what the row samples; at most one row a slot
    active: Rows  # bool [b]
    entropy: Rows  # uint32 [b, n]; numbers that together make the row's key


class Rules(NamedTuple):
    """Which tokens may be sampled and where an action ends."""

    allowed: Rows  # bool [v]; tokens that may be sampled
    ends: Rows  # bool [v]; tokens that end the turn
    stops: Rows  # int32 [states, v]; automaton of the texts to stop at, see `stop_table`
    least: Rows  # int32 []; tokens of an action before a token may end it


class Sampled(NamedTuple):
    """Sampled actions."""

    tokens: Rows  # int32 [b, t]; 0 beyond the end
    counts: Rows  # int32 [b]; sampled tokens, the one that ended the action included
    logprobs: Rows  # float32 [b]; sum over sampled tokens, at temperature 1
    ended: Rows  # bool [b]; whether a token ended the turn
    stopped: Rows  # bool [b]; whether a text to stop at was generated


class _SamplingState(NamedTuple):
    """What the sampling loop carries."""

    cache: DecodeCache
    last: Array  # int32 [b]; token sampled last
    active: Array  # bool [b]; rows that have not ended their action
    matched: Array  # int32 [b]; state of the automaton of texts to stop at
    sampled: Sampled


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


@partial(jax.jit, static_argnames=("config", "window", "packed"), donate_argnames="store")
def prefill_prompts(
    config: DecoderConfig,
    params: Params,
    store: PromptStore,
    prefill: Prefill,
    *,
    window: int,
    packed: int | None = None,
) -> PromptStore:
    """Append new tokens to slots.

    Args:
        config: shape of the decoder.
        params: a language model.
        store: donated.
        prefill: what to append.
        window: columns of a slot that are looked at; at least `begin`.
        packed: how many tokens are computed, at least the sum of `counts`; None: those of whole rows.

    Returns:
        The store, with the hidden state of the last token of every slot that was read.
    """
    hidden, slots = prefill_slots(config, params["decoder"], store.slots, prefill, window, packed=packed)
    last = jnp.maximum(prefill.counts - 1, 0)[:, None, None]
    ending = jnp.take_along_axis(hidden, last, axis=1)[:, 0].astype(jnp.float32)
    return PromptStore(slots, store.hidden.at[prefill.slots].set(ending, mode="drop"))


@partial(jax.jit, static_argnames=("config", "window", "room", "top_k", "top_p"), donate_argnames="store")
def sample_actions(
    config: DecoderConfig,
    weights: DecodeWeights,
    store: PromptStore,
    sampling: Sampling,
    rules: Rules,
    temperature: Float[Array, ""],
    limit: Int[Array, ""],
    *,
    window: int,
    room: int,
    top_k: int,
    top_p: float,
) -> tuple[PromptStore, Sampled]:
    """Sample an action after each prompt, until every row has ended its turn.

    Slots that are kept then hold the prompt and the sampled tokens but the last, which nothing has attended to.

    Args:
        config: shape of the decoder.
        weights: a language model, see `decode_weights`.
        store: donated.
        sampling: what to sample.
        rules: which tokens may be sampled and where actions end.
        temperature: 0 takes the likeliest token.
        limit: most tokens of an action, in [1, room].
        window: columns of a slot that are looked at; at least `lengths`.
        room: tokens of an action that there is room for.
        top_k: how many of the likeliest tokens may be sampled; 0 is all.
        top_p: probability of the likeliest tokens that may be sampled.
    """
    keys = row_keys(sampling.entropy)

    def appended(state: _SamplingState, hidden: Float[Array, "d b"]) -> _SamplingState:
        step = state.cache.generated
        allowed = rules.allowed & ~(rules.ends & (step < rules.least))
        logits = next_logits(weights, hidden)
        return _appended(state, *choose_tokens(keys, step, logits, allowed, temperature, top_k, top_p), rules)

    def generate_next(state: _SamplingState) -> _SamplingState:
        hidden, cache = decode_step(config, weights, state.cache, state.last)
        return appended(state._replace(cache=cache), hidden)

    cache = load_decode_cache(config, store.slots, sampling.slots, sampling.lengths, window, room)
    start = _start(cache, sampling.active, room)
    first = appended(start, as_columns(store.hidden[sampling.slots].astype(config.dtype)))
    final = jax.lax.while_loop(
        lambda state: state.active.any() & (state.cache.generated + 1 < limit), generate_next, first
    )
    attended = sampling.kept[:, None] & (jnp.arange(room) < final.sampled.counts[:, None] - 1)
    slots = save_generated(store.slots, sampling.slots, final.cache, attended)
    return PromptStore(slots, store.hidden), final.sampled


def _start(cache: DecodeCache, active: Bool[Array, "b"], room: int) -> _SamplingState:
    rows = active.shape[0]
    nothing = Sampled(
        tokens=jnp.zeros((rows, room), jnp.int32),
        counts=jnp.zeros(rows, jnp.int32),
        logprobs=jnp.zeros(rows, jnp.float32),
        ended=jnp.zeros(rows, bool),
        stopped=jnp.zeros(rows, bool),
    )
    return _SamplingState(cache, jnp.zeros(rows, jnp.int32), active, jnp.full(rows, START, jnp.int32), nothing)


def _appended(
    state: _SamplingState, tokens: Int[Array, "b"], logprobs: Float[Array, "b"], rules: Rules
) -> _SamplingState:
    """The state after one more token of every row that is active."""
    matched = rules.stops[state.matched, tokens]
    ended = state.active & rules.ends[tokens]
    stopped = state.active & ~ended & (matched == rules.stops.shape[0] - 1)
    last = jnp.where(state.active, tokens, 0)
    sampled = Sampled(
        tokens=jax.lax.dynamic_update_slice_in_dim(state.sampled.tokens, last[:, None], state.cache.generated, axis=1),
        counts=state.sampled.counts + state.active.astype(jnp.int32),
        logprobs=state.sampled.logprobs + jnp.where(state.active, logprobs, 0.0),
        ended=state.sampled.ended | ended,
        stopped=state.sampled.stopped | stopped,
    )
    return _SamplingState(state.cache, last, state.active & ~ended & ~stopped, matched, sampled)
