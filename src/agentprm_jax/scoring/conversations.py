"""Reads actions after conversations of which it keeps keys and values, so that a search pays for new tokens only."""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from agentprm_jax.models.call_plan import at_least, plan_batches
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params, values_of
from agentprm_jax.models.placement import Constrain, in_equal_parts, unconstrained
from agentprm_jax.models.slot_store import Prefill, SlotStore, copy_slots, init_store, prefill_slots
from agentprm_jax.models.slots import Prompts, SlotTable
from agentprm_jax.scoring.pieces import MOST_COLUMNS, Layout, Piece, cut_pieces, lay_out

_SMALLEST_CAPACITY = 256
_SMALLEST_COLUMNS = 16
_MOST_PAIRS = 1 << 23
"""Pairs of a new and a kept token in a call, for each head: their scores are held at one time."""


class Sizes(NamedTuple):
    """Shapes of the calls; all come from closed sets.

    Attributes:
        slots: conversations that are kept.
        capacity: most tokens of one, without the action that is read after it.
        tokens_per_batch: tokens of a full call on all devices; at least one row is taken.
        row_parts: number that divides the number of rows of every call.
    """

    slots: int
    capacity: int
    tokens_per_batch: int
    row_parts: int

    @classmethod
    def for_conversations_of(cls, tokens: int, kept_tokens: int, tokens_per_batch: int, row_parts: int = 1) -> "Sizes":
        """Sizes for conversations of so many tokens that grow."""
        capacity = doubling(_SMALLEST_CAPACITY, 2 * tokens)[-1]
        return cls(max(1, kept_tokens // capacity), capacity, tokens_per_batch, row_parts)

    @property
    def windows(self) -> tuple[int, ...]:
        """Numbers of kept tokens to look at: none, or all that there may be.

        To look at fewer would save a small part of the work, and every number is one more program to compile for every
        shape of new tokens, which takes as long as scoring tens of thousands of them.
        """
        return (0, self.capacity)

    @property
    def copy_counts(self) -> tuple[int, ...]:
        """Numbers of slots that are copied at once."""
        return doubling(16, self.slots, 4)

    def row_counts(self, columns: int, window: int) -> tuple[int, ...]:
        """Numbers of rows of so many columns: an eighth of a full call, or all of it."""
        full = max(1, min(self.tokens_per_batch // columns, _MOST_PAIRS // (columns * max(window, columns))))
        return tuple(sorted({in_equal_parts(size, self.row_parts) for size in (-(-full // 8), full)}))


class Read(NamedTuple):
    """What was read.

    Attributes:
        values: value of each action.
        new_tokens: tokens run through the model.
        kept_tokens: tokens of the conversations that were found in slots instead.
    """

    values: Float[np.ndarray, "n"]
    new_tokens: int
    kept_tokens: int


@partial(jax.jit, static_argnames=("config", "window", "constrain"), donate_argnames="store")
def read_pieces(
    config: DecoderConfig,
    params: Params,
    store: SlotStore,
    prefill: Prefill,
    *,
    window: int,
    constrain: Constrain = unconstrained,
) -> tuple[Float[Array, "b t"], SlotStore]:
    """Values at all tokens of a prefill, float32, whole on every device, and the store; see `prefill_slots`."""
    hidden, store = prefill_slots(config, params["decoder"], store, prefill, window, constrain)
    return constrain(values_of(config, params, hidden), (None, None)), store


class ConversationReader:
    """Values of actions after conversations.

    Every call stands alone: what is kept only saves work. Conversations that begin like one that is kept go on from
    there, in its slot or in a copy; those used longest ago give way. A conversation is known by its tokens.
    """

    def __init__(self, config: DecoderConfig, params: Params, sizes: Sizes, constrain: Constrain = unconstrained):
        """Allocates the slots."""
        self.sizes = sizes
        self._config = config
        self._params = params
        self._constrain = constrain
        self._table = SlotTable(sizes.slots, sizes.capacity)
        self._store = init_store(config, sizes.slots, sizes.capacity, constrain)

    def read(self, stems: Sequence[bytes], actions: Sequence[Sequence[Sequence[int]]]) -> Read:
        """Reads actions.

        After an exception the reader is of no use.

        Args:
            stems: the bytes of the int32 tokens of each conversation, all different, none empty; at most `capacity`.
            actions: for each of them the tokens of actions that may follow, one or more of one token or more.

        Returns:
            The value at the last token of every action: those of the first stem, then those of the second, and so on.
        """
        firsts = np.cumsum([0, *map(len, actions)])
        prompts = Prompts.from_keys(list(stems))
        self._table.tick()
        _, matched = self._table.match(prompts)  # marks slots: no part takes what a later one continues
        order = np.argsort(-matched, kind="stable")
        waiting: list[tuple[Layout, Array]] = []
        new_tokens = kept_tokens = 0
        for start in range(0, len(order), self.sizes.slots):
            members = order[start : start + self.sizes.slots]
            part = prompts.take(members)
            slots, begin = self._claim(part)
            pieces = []
            for place, member in enumerate(members.tolist()):
                stem, first = part.tokens[place, : part.lengths[place]], int(firsts[member])
                pieces.append(list(cut_pieces(place, stem, int(begin[place]), actions[member], first)))
            for wave in itertools.zip_longest(*pieces):
                waiting += self._read_wave([piece for piece in wave if piece is not None], slots)
            self._table.record(slots, part)
            new_tokens += sum(piece.columns for own in pieces for piece in own)
            kept_tokens += int(begin.sum())
        values = np.zeros(firsts[-1], np.float32)
        for layout, found in waiting:
            values[layout.places] = np.asarray(found)[layout.rows, layout.columns]
        return Read(values, new_tokens, kept_tokens)

    def _claim(self, prompts: Prompts) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """A slot for each conversation, and how many of its tokens the slot holds."""
        sources, matched = self._table.match(prompts)
        slots = self._table.claim(sources, matched)
        moved = np.flatnonzero((matched > 0) & (sources != slots))
        if len(moved):
            size = at_least(self.sizes.copy_counts, len(moved))
            self._store = copy_slots(
                self._store,
                padded(sources[moved], size),
                padded(slots[moved], size, self.sizes.slots),
                columns=at_least(self.sizes.windows, int(matched[moved].max())),
                constrain=self._constrain,
            )
        return slots, matched

    def _read_wave(self, pieces: Sequence[Piece], slots: Int[np.ndarray, "n"]) -> Iterator[tuple[Layout, Array]]:
        """Dispatches the prefill of one piece of every conversation, and yields where the values will be."""
        counts = np.array([piece.columns for piece in pieces])
        windows = np.searchsorted(self.sizes.windows, [piece.begin for piece in pieces])
        longest = max(MOST_COLUMNS, int(counts.max()))
        lengths = doubling(_SMALLEST_COLUMNS, longest)
        for index in np.unique(windows).tolist():
            window, members = self.sizes.windows[index], np.flatnonzero(windows == index)
            for batch in plan_batches(counts[members], lengths, partial(self.sizes.row_counts, window=window)):
                chosen = [pieces[member] for member in members[batch.members].tolist()]
                layout = lay_out(chosen, batch.rows, batch.columns)
                prefill = Prefill(
                    slots=padded(slots[[piece.stem for piece in chosen]], batch.rows, self.sizes.slots),
                    begin=padded([piece.begin for piece in chosen], batch.rows),
                    tokens=layout.tokens,
                    counts=padded([len(piece.tokens) for piece in chosen], batch.rows),
                    positions=layout.positions,
                    branches=layout.branches,
                )
                found, self._store = read_pieces(
                    self._config, self._params, self._store, prefill, window=window, constrain=self._constrain
                )
                yield layout, found


def padded(numbers: Sequence[int] | Int[np.ndarray, "m"], size: int, padding: int = 0) -> Int32[np.ndarray, "b"]:
    """The numbers, and behind them others up to `size`."""
    filled = np.full(size, padding, np.int32)
    filled[: len(numbers)] = numbers
    return filled


def doubling(first: int, last: int, factor: int = 2) -> tuple[int, ...]:
    """`first` and its products with powers of `factor`, up to the first that is not below `last`."""
    numbers = [first]
    while numbers[-1] < last:
        numbers.append(factor * numbers[-1])
    return tuple(numbers)
