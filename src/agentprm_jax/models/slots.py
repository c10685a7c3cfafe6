"""Which conversation's tokens each cache slot holds: longest-prefix match, and which slot gives way."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Prompts(NamedTuple):
    """Prompts as one right-padded matrix, and as the bytes of their tokens.

    Attributes:
        tokens: int32 [n, t]; what stands beyond a prompt's length means nothing.
        lengths: int64 [n]. At least 1.
        keys: the bytes of each prompt's int32 tokens.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    keys: list[bytes]

    @classmethod
    def from_keys(cls, keys: list[bytes]) -> "Prompts":
        """Lays out prompts that are given as the bytes of their int32 tokens."""
        lengths = np.fromiter(map(len, keys), np.int64, len(keys)) // 4
        tokens = np.zeros((len(keys), int(lengths.max())), np.int32)
        tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = np.frombuffer(b"".join(keys), np.int32)
        return cls(tokens, lengths, keys)

    def shared(self) -> int:
        """Number of tokens that all prompts begin with."""
        shortest = int(self.lengths.min())
        differs = (self.tokens[:, :shortest] != self.tokens[0, :shortest]).any(axis=0)
        return int(differs.argmax()) if differs.any() else shortest

    def take(self, places: Int[np.ndarray, "m"]) -> "Prompts":
        """Some of the prompts."""
        return Prompts(self.tokens[places], self.lengths[places], [self.keys[place] for place in places.tolist()])


class SlotTable:
    """The tokens of every slot, in the host's memory.

    The longest common prefix of a sequence with a sorted list of sequences is the one with a neighbour of its place in
    the order, so that a match costs a binary search and not a comparison with every slot.
    """

    def __init__(self, slots: int, capacity: int):
        """All slots start empty."""
        self._tokens = np.zeros((slots, capacity), np.int32)
        self._lengths = np.zeros(slots, np.int64)
        self._used = np.zeros(slots, np.int64)
        self._clock = 0
        self._keys = [b""] * slots
        self._order: list[int] = []
        self._sorted: list[bytes] = []

    def tick(self) -> None:
        """Starts a new call: what is touched from now on is newer than everything before."""
        self._clock += 2

    def match(self, prompts: Prompts) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """For each prompt the slot that holds the longest beginning of it, and how many tokens that are.

        At least the last token of a prompt is left over, since the next token is read from its hidden state. A slot of
        which at least half is matched counts as used, but less so than those that were claimed in the same call.
        """
        if not self._order:
            self._order = sorted(range(len(self._keys)), key=self._keys.__getitem__)
            self._sorted = [self._keys[slot] for slot in self._order]
        last = len(self._order) - 1
        above = [bisect.bisect_left(self._sorted, key) for key in prompts.keys]
        order = np.asarray(self._order)
        candidates = order[np.stack([np.maximum(np.subtract(above, 1), 0), np.minimum(above, last)])]
        common = self._common(candidates, prompts)
        best = np.argmax(common, axis=0)
        columns = np.arange(len(above))
        slots, matched = candidates[best, columns], np.minimum(common[best, columns], prompts.lengths - 1)
        faithful = slots[2 * matched >= np.maximum(self._lengths[slots], 1)]
        self._used[faithful] = np.maximum(self._used[faithful], self._clock)
        return slots, matched

    def _common(self, candidates: Int[np.ndarray, "c n"], prompts: Prompts) -> Int[np.ndarray, "c n"]:
        """Number of tokens that each prompt begins alike with each of its candidates."""
        width = min(prompts.tokens.shape[1], self._tokens.shape[1])
        shortest = np.minimum(self._lengths[candidates], prompts.lengths)
        differs = self._tokens[candidates, :width] != prompts.tokens[:, :width]
        first = np.where(differs.any(axis=-1), differs.argmax(axis=-1), width)
        return np.minimum(first, shortest)

    def claim(self, sources: Int[np.ndarray, "n"], matched: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """A slot for each prompt, all different; at most as many prompts as slots.

        Of the prompts that begin like a slot the one with the longest match takes it over, unless that would drop more
        than half of what the slot holds. The others get the slots used longest ago; what they share with their source
        has to be copied, for all of them at once.
        """
        longest_first = np.argsort(-matched, kind="stable")
        _, firsts = np.unique(sources[longest_first], return_index=True)
        heirs = longest_first[firsts]
        takers = heirs[(matched[heirs] > 0) & (2 * matched[heirs] >= self._lengths[sources[heirs]])]
        claims = np.full(len(sources), -1, np.int64)
        claims[takers] = sources[takers]
        claims[claims < 0] = self.others(len(sources) - len(takers), sources[takers])
        self._used[claims] = self._clock + 1
        return claims

    def others(self, count: int, slots: Int[np.ndarray, "n"]) -> Int[np.ndarray, "count"]:
        """`count` slots beside the given ones, those used longest ago; they count as used from now on."""
        taken = np.zeros(len(self._keys), bool)
        taken[slots] = True
        by_age = np.argsort(self._used, kind="stable")
        chosen = by_age[~taken[by_age]][:count]
        self._used[chosen] = self._clock + 1
        return chosen

    def record(self, slots: Int[np.ndarray, "n"], prompts: Prompts) -> None:
        """Notes that the slots now hold exactly these tokens."""
        self._tokens[slots, : prompts.tokens.shape[1]] = prompts.tokens
        self._lengths[slots] = prompts.lengths
        for slot, key in zip(slots.tolist(), prompts.keys, strict=True):
            self._keys[slot] = key
        self._order = []

    def forget(self, slots: Sequence[int] | Int[np.ndarray, "n"]) -> None:
        """Notes that the slots hold nothing that can be relied on."""
        self._lengths[np.asarray(slots, np.int64)] = 0
        for slot in np.asarray(slots, np.int64).tolist():
            self._keys[slot] = b""
        self._order = []
