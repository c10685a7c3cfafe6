"""The native sampler: an actor that runs a language model of this package in full batches, cached over turns."""

import functools
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from agentprm_jax.actors.base import Action, ConversationTooLong, Usage
from agentprm_jax.actors.config import SamplerConfig
from agentprm_jax.actors.generation import (
    Rules,
    Sampled,
    Sampling,
    copy_prompts,
    init_prompts,
    prefill_prompts,
    sample_actions,
)
from agentprm_jax.actors.stops import cut_at_stop, ending_tokens, stop_table
from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.trajectory import Message
from agentprm_jax.models.bits import narrow_as_bits
from agentprm_jax.models.call_plan import PREFILL_COST, Pass, at_least, packed_tokens, plan_batches, plan_passes
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.decoding import decode_weights
from agentprm_jax.models.forward import Params
from agentprm_jax.models.slot_store import Prefill
from agentprm_jax.models.slots import Prompts, SlotTable

_CACHED_TEXTS = 1 << 16
_SAMPLE_COST = 4096  # what sampling in one more part costs beside the columns that its rows look at, in columns
_FEWEST_ROWS = 2  # for a single row XLA's CPU compiler widens bfloat16 weights to float32 in every step


class _Request(NamedTuple):
    """A call as one row per action: the k-th sample of conversation i is row `i * samples + k`."""

    prompts: Prompts  # without repetitions, shortest first
    prompt: np.ndarray  # [n] place of the row's prompt
    entropy: np.ndarray  # uint32 [n, 4] what the row's random numbers are a function of
    temperature: float
    max_tokens: int


class NativeSampler:
    """Samples actions from a language model.

    For the caller every call stands alone. Between calls the sampler keeps keys and values of conversations in slots,
    so that a turn costs its own tokens only. A row's random numbers are a function of its seed, the number of its
    sample, the tokens of its conversation and the index of the token: not of the batch that it is sampled in. Two
    conversations under one seed get independent numbers unless they are equal, token for token. Special tokens that do
    not end a turn are never sampled: as the text of an action they would mean something else.

    What a slot holds is known by its tokens, never by its text. A text that is sampled may be read again as other
    tokens than were sampled (those of half a character, or what stood behind a text to stop at, never return); the
    next turn then computes again from the first token that differs.

    Attributes:
        name: the name recorded in trajectories.
        config: shape of the decoder.
        encoder: turns conversations into tokens.
        sampler_config: sizes.
    """

    def __init__(
        self,
        config: DecoderConfig,
        params: Params,
        encoder: ChatEncoder,
        sampler_config: SamplerConfig | None = None,
        *,
        stop_tokens: Sequence[int] = (),
        name: str = "native",
    ):
        """Allocates the slots.

        Args:
            config: shape of the decoder.
            params: a language model.
            encoder: turns conversations into tokens. The end of a turn in its chat template and the end of text of its
                tokenizer end an action.
            sampler_config: how to sample, and sizes.
            stop_tokens: tokens that end an action too, see `read_stop_tokens`.
            name: recorded in trajectories.

        Raises:
            ValueError: the tokenizer has more tokens than the model, slots hold more tokens than the model is meant
                for, or a stop token is none of the model's.
        """
        self.sampler_config = sampler_config or SamplerConfig()
        if encoder.vocab_size > config.vocab_size:
            raise ValueError(
                f"The tokenizer has {encoder.vocab_size} tokens, but the model embeds only {config.vocab_size}: they "
                "do not belong together."
            )
        if self.sampler_config.capacity > config.max_positions:
            raise ValueError(
                f"SamplerConfig.capacity must be at most the model's max_positions={config.max_positions}, "
                f"got {self.sampler_config.capacity}."
            )
        self.name = name
        self.config = config
        self.encoder = encoder
        on_device = jax.tree.map(jnp.asarray, params)
        self._weights, self._params = decode_weights(config, on_device), narrow_as_bits(on_device)
        self._table = SlotTable(self.sampler_config.slots, self.sampler_config.capacity)
        self._store = init_prompts(config, self.sampler_config.slots, self.sampler_config.capacity)
        ends = ending_tokens(encoder, config.vocab_size, stop_tokens)
        self._rules = Rules(
            allowed=jnp.asarray(_allowed_tokens(encoder, ends)),
            ends=jnp.asarray(ends),
            stops=jnp.asarray(stop_table(encoder, self.sampler_config.stop, config.vocab_size)),
            least=jnp.asarray(self.sampler_config.min_tokens, jnp.int32),
        )
        self._usage = Usage()
        self._text = functools.lru_cache(_CACHED_TEXTS)(lambda data: encoder.decode_action(memoryview(data).cast("i")))

    @property
    def usage(self) -> Usage:
        """Tokens of all calls so far."""
        return self._usage

    def act(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        samples: int = 1,
        temperature: float = 1.0,
        seed: int | Sequence[int] = 0,
        max_tokens: int | None = None,
    ) -> list[list[Action]]:
        """Samples the next assistant message of every conversation.

        Args:
            conversations: the messages so far of each conversation; equal ones are read once.
            samples: actions for each conversation; they share its prompt.
            temperature: of the sampling, finite and at least 0; 0 takes the likeliest token.
            seed: one for all conversations or one for each, in [0, 2**64).
            max_tokens: most tokens an action may have, the end-of-turn token included; at most, and by default, that of
                the `sampler_config`. An action that is cut off there is returned with `complete=False`.

        Returns:
            `samples` actions for each conversation, in order.

        Raises:
            ValueError: a number is out of range; nothing is sampled then.
            ConversationTooLong: a conversation does not fit into a slot; nothing is sampled then.
        """
        if not conversations:
            return []
        most = self.sampler_config.max_tokens
        limit = most if max_tokens is None else max_tokens
        _check_numbers(samples, temperature, limit, most)
        request = self._request(conversations, samples, temperature, seed, limit)
        actions = self._act(request)
        return [actions[start : start + samples] for start in range(0, len(actions), samples)]

    def forget_conversations(self) -> None:
        """Lets no slot be continued: the next call reads its conversations from the first token."""
        self._table.forget(range(self.sampler_config.slots))

    def _request(
        self,
        conversations: Sequence[Sequence[Message]],
        samples: int,
        temperature: float,
        seed: int | Sequence[int],
        max_tokens: int,
    ) -> _Request:
        seeds = _seeds(seed, len(conversations))
        keys = [array("i", self.encoder.prompt_tokens(messages)).tobytes() for messages in conversations]
        self._check_room(keys, max_tokens)
        unique = sorted(set(keys), key=len)
        place = {key: index for index, key in enumerate(unique)}
        contents = {key: zlib.crc32(key) for key in unique}
        rows = np.asarray([(seeds[i] & 0xFFFFFFFF, seeds[i] >> 32, contents[key]) for i, key in enumerate(keys)])
        numbers = np.tile(np.arange(samples), len(keys))[:, None]
        return _Request(
            prompts=Prompts.from_keys(unique),
            prompt=np.repeat([place[key] for key in keys], samples),
            entropy=np.hstack([np.repeat(rows, samples, axis=0), numbers]).astype(np.uint32),
            temperature=temperature,
            max_tokens=max_tokens,
        )

    def _check_room(self, keys: Sequence[bytes], max_tokens: int) -> None:
        capacity = self.sampler_config.capacity
        long = [index for index, key in enumerate(keys) if len(key) // 4 + max_tokens > capacity]
        if long:
            raise ConversationTooLong(
                long,
                f"Conversation {long[0]} has {len(keys[long[0]]) // 4} tokens, which with an action of up to "
                f"{max_tokens} tokens is more than a slot holds: raise SamplerConfig.capacity, now {capacity}.",
            )

    def _act(self, request: _Request) -> list[Action]:
        """Actions of all rows, in the order of the rows."""
        self._table.tick()
        count = len(request.prompt)
        keep_all = count <= self.sampler_config.slots
        actions: dict[int, Action] = {}
        for rows in self._chunks(request):
            actions.update(zip(rows.tolist(), self._act_chunk(request, rows, keep_all), strict=True))
        return [actions[row] for row in range(count)]

    def _chunks(self, request: _Request) -> Iterator[Int[np.ndarray, "b"]]:
        """The rows in parts that look at as many columns of their slots, neighbours reading as many new tokens.

        A few long conversations would make all others of their part look at as many columns as they do; but a part of
        few rows takes nearly as long as a full one.
        """
        _, matched = self._table.match(request.prompts)  # marks slots: no part takes what a later one continues
        lengths, sizes = request.prompts.lengths, self.sampler_config
        order = np.lexsort((request.prompt, (lengths - matched)[request.prompt]))
        looked_at = lengths[request.prompt[order]]
        for batch in plan_batches(looked_at, sizes.windows, lambda _: sizes.row_counts, _SAMPLE_COST):
            yield order[batch.members]

    def _act_chunk(self, request: _Request, rows: Int[np.ndarray, "b"], keep_all: bool) -> Iterator[Action]:
        """Actions of some rows.

        The first row of a prompt goes on in the prompt's slot; the others get a slot of their own when all are kept.
        """
        places, firsts, prompt = np.unique(request.prompt[rows], return_index=True, return_inverse=True)
        prompts = request.prompts.take(places)
        window = at_least(self.sampler_config.windows, int(prompts.lengths.max()))
        slots = self._read(prompts)[prompt]
        kept = np.zeros(len(rows), bool)
        kept[firsts] = True
        if keep_all and not kept.all():
            copies = self._table.others(int((~kept).sum()), slots)
            self._table.forget(copies)
            self._copy(slots[~kept], copies, window)
            slots[~kept] = copies
            kept[:] = True
        sampled = self._sample(request, rows, slots, prompts.lengths[prompt], kept, window)
        held = [
            prompts.keys[prompt[row]] + sampled.tokens[row, : sampled.counts[row] - 1].tobytes()
            for row in np.flatnonzero(kept).tolist()
        ]
        self._table.record(slots[kept], Prompts.from_keys(held))
        return self._actions(sampled, prompts.lengths[prompt].tolist())

    def _read(self, prompts: Prompts) -> Int[np.ndarray, "n"]:
        """Brings prompts into slots and returns which."""
        sources, matched = self._table.match(prompts)
        shared, apart = prompts.shared(), 0
        if np.maximum(shared - matched, 0).sum() > shared + PREFILL_COST:
            self._read(Prompts.from_keys([prompts.keys[0][: 4 * shared]]))
            sources, matched = self._table.match(prompts)
            apart = shared
        slots = self._table.claim(sources, matched)
        self._table.forget(slots)  # what they hold is unknown until it is recorded, should the call be interrupted
        moved = (matched > 0) & (sources != slots)
        self._copy(sources[moved], slots[moved], int(matched.max()))
        counts = prompts.lengths - matched
        for step in plan_passes(counts, self.sampler_config.prefill_lengths, self.sampler_config.row_counts):
            prefill = self._prefill(step, prompts, matched, slots)
            self._store = prefill_prompts(
                self.config,
                self._params,
                self._store,
                prefill,
                window=at_least(self.sampler_config.windows, int(prefill.begin.max())),
                packed=packed_tokens(
                    len(prefill.tokens), step.columns, int(step.counts.sum()), self.sampler_config.prefill_shares
                ),
            )
        self._table.record(slots, prompts)
        used = self._usage
        cached, computed = used.cached_tokens + int(matched.sum()) - apart, used.prompt_tokens + int(counts.sum())
        self._usage = used._replace(cached_tokens=cached, prompt_tokens=computed)
        return slots

    def _copy(self, sources: Int[np.ndarray, "n"], targets: Int[np.ndarray, "n"], tokens: int) -> None:
        """Copies at least the first `tokens` tokens of slots."""
        if len(sources):
            size = at_least(self.sampler_config.row_counts, len(sources))
            columns = at_least(self.sampler_config.windows, tokens)
            self._store = copy_prompts(
                self._store, _padded(sources, size), self._padded_slots(targets, size), columns=columns
            )

    def _prefill(
        self, step: Pass, prompts: Prompts, matched: Int[np.ndarray, "n"], slots: Int[np.ndarray, "n"]
    ) -> Prefill:
        size = at_least(self.sampler_config.row_counts, len(step.members))
        begin = matched[step.members] + step.starts
        columns = np.minimum(begin[:, None] + np.arange(step.columns), prompts.tokens.shape[1] - 1)
        return Prefill(
            slots=self._padded_slots(slots[step.members], size),
            begin=_padded(begin, size),
            tokens=_padded(prompts.tokens[step.members[:, None], columns], size),
            counts=_padded(step.counts, size),
        )

    def _sample(
        self,
        request: _Request,
        rows: Int[np.ndarray, "b"],
        slots: Int[np.ndarray, "b"],
        lengths: Int[np.ndarray, "b"],
        kept: Bool[np.ndarray, "b"],
        window: int,
    ) -> Sampled:
        """Samples the actions of some rows; returns NumPy arrays of as many rows."""
        size = max(_FEWEST_ROWS, at_least(self.sampler_config.row_counts, len(rows)))
        sampling = Sampling(
            slots=_padded(slots, size),
            lengths=_padded(lengths, size),
            kept=_padded(kept, size, bool),
            active=np.arange(size) < len(rows),
            entropy=_padded(request.entropy[rows], size, np.uint32),
        )
        self._store, sampled = sample_actions(
            self.config,
            self._weights,
            self._store,
            sampling,
            self._rules,
            np.float32(request.temperature),
            np.int32(request.max_tokens),
            window=window,
            room=self.sampler_config.max_tokens,
            top_k=self.sampler_config.top_k,
            top_p=self.sampler_config.top_p,
        )
        return Sampled(*(np.asarray(part)[: len(rows)] for part in sampled))

    def _padded_slots(self, slots: Int[np.ndarray, "m"], size: int) -> Int[np.ndarray, "b"]:
        """Slots of `size` rows; those of padding lie beyond the last, where nothing is written."""
        padded = np.full(size, self.sampler_config.slots, np.int32)
        padded[: len(slots)] = slots
        return padded

    def _actions(self, sampled: Sampled, read: Sequence[int]) -> Iterator[Action]:
        """Actions of rows whose prompts have so many tokens."""
        counts, ended, stopped = sampled.counts.tolist(), sampled.ended.tolist(), sampled.stopped.tolist()
        self._usage = self._usage._replace(sampled_tokens=self._usage.sampled_tokens + sum(counts))
        rows = zip(sampled.tokens, counts, sampled.logprobs.tolist(), ended, stopped, read, strict=True)
        for tokens, count, logprob, by_token, by_text, prompt_tokens in rows:
            text = self._text(tokens[: count - by_token].tobytes())
            said = cut_at_stop(text, self.sampler_config.stop) if by_text else text
            yield Action(said, count, logprob, by_token or by_text, prompt_tokens)


def _allowed_tokens(encoder: ChatEncoder, ends: Bool[np.ndarray, "v"]) -> Bool[np.ndarray, "v"]:
    """Tokens that may be sampled: those whose text means the same when it is read again, and those that end a turn."""
    allowed = np.zeros(len(ends), bool)
    allowed[[*encoder.tokenizer.get_vocab().values()]] = True  # some ids have no token: embeddings are filled up
    special = [index for index, token in encoder.tokenizer.added_tokens_decoder.items() if token.special]
    allowed[special] = False
    return allowed | ends


def _padded(rows: np.ndarray, size: int, dtype: type = np.int32) -> np.ndarray:
    """The array with rows of zeros appended up to `size`."""
    padded = np.zeros((size, *rows.shape[1:]), dtype)
    padded[: len(rows)] = rows
    return padded


def _seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """One seed for each conversation."""
    seeds = [seed] * count if isinstance(seed, int) else [int(one) for one in seed]
    if len(seeds) != count:
        raise ValueError(f"There should be one seed, or one for each of {count} conversations, got {len(seeds)}.")
    for one in seeds:
        if not 0 <= one < 1 << 64:
            raise ValueError(f"A seed should be in [0, 2**64), got {one}.")
    return seeds


def _check_numbers(samples: int, temperature: float, max_tokens: int, most: int) -> None:
    if samples < 1:
        raise ValueError(f"samples should be at least 1, got {samples}.")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature should be finite and at least 0, got {temperature}.")
    if not 1 <= max_tokens <= most:
        raise ValueError(f"max_tokens should be in [1, {most}] (SamplerConfig.max_tokens), got {max_tokens}.")
