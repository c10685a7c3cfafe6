"""Which rows go together in one call of the model, so that little is padding and few shapes are compiled."""

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

PREFILL_COST = 256
"""What one more prefill costs beside its tokens (copies of rows, dispatch), in tokens; it keeps groups few."""


class Pass(NamedTuple):
    """One call of the model on some of the prompts.

    Attributes:
        members: int64 [m]. Places of the prompts.
        starts: int64 [m]. New tokens of each that earlier passes have read.
        counts: int64 [m]. New tokens of each that this pass reads, in [1, columns].
        columns: tokens a row that the call is compiled for.
    """

    members: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    columns: int


def at_least(sizes: Sequence[int], needed: int) -> int:
    """The smallest of the rising `sizes` that is not below `needed`; the largest if none is."""
    return sizes[min(bisect.bisect_left(sizes, needed), len(sizes) - 1)]


def packed_tokens(rows: int, columns: int, needed: int, shares: int) -> int | None:
    """How many tokens to compute where so many of `rows` times `columns` are no padding; None: all of them.

    The fewest that hold them of those that a call may be compiled for, which are one, two and so on of so many shares.
    """
    whole = rows * columns
    size = at_least([-(-whole * share // shares) for share in range(1, shares + 1)], needed)
    return None if size == whole else size


def plan_passes(counts: Int[np.ndarray, "n"], lengths: Sequence[int], row_counts: Sequence[int]) -> Iterator[Pass]:
    """Cuts the new tokens of prompts into passes.

    Args:
        counts: new tokens of each prompt, at least 1; at most `row_counts[-1]` prompts.
        lengths: rising numbers of columns to choose from.
        row_counts: rising numbers of rows to choose from.

    Yields:
        Passes to be made in this order; together they read every new token once.
    """
    longest = lengths[-1]
    starts = np.zeros_like(counts)
    while len(longer := np.flatnonzero(counts - starts > longest)):
        yield Pass(longer, starts[longer], np.full(len(longer), longest), longest)
        starts[longer] += longest
    left = counts - starts
    for batch in plan_batches(left, lengths, lambda _: row_counts):
        yield Pass(batch.members, starts[batch.members], left[batch.members], batch.columns)


class Batch(NamedTuple):
    """Rows that are read in one call.

    Attributes:
        members: int64 [m]. Places of the rows.
        rows: rows that the call is compiled for, at least `m`.
        columns: tokens a row that the call is compiled for.
    """

    members: np.ndarray
    rows: int
    columns: int


def plan_batches(
    counts: Int[np.ndarray, "n"],
    lengths: Sequence[int],
    row_counts: Callable[[int], Sequence[int]],
    call_cost: int = PREFILL_COST,
) -> Iterator[Batch]:
    """Groups rows by their columns.

    Args:
        counts: columns that each row needs, in [1, lengths[-1]].
        lengths: rising numbers of columns to choose from.
        row_counts: rising numbers of rows to choose from, for a number of columns.
        call_cost: what one more call costs beside its columns, in columns.
    """
    bucket = np.searchsorted(np.asarray(lengths), counts)

    def calls_of(rows: int, columns: int) -> list[int]:
        return _calls(rows, row_counts(columns), columns, call_cost)

    def cost(rows: int, columns: int) -> int:
        return _cost(calls_of(rows, columns), columns, call_cost)

    for low, high in _cheapest_groups(np.bincount(bucket, minlength=len(lengths)).tolist(), lengths, cost):
        members, columns = np.flatnonzero((bucket >= low) & (bucket < high)), lengths[high - 1]
        start = 0
        for rows in calls_of(len(members), columns):
            yield Batch(members[start : start + rows], rows, columns)
            start += rows


def _cost(calls: Sequence[int], columns: int, call_cost: int) -> int:
    return sum(calls) * columns + len(calls) * call_cost


def _calls(rows: int, choices: Sequence[int], columns: int, call_cost: int) -> list[int]:
    """Row counts of the calls that read so many rows at the least cost: with padding, or in smaller calls."""
    full, rest = divmod(rows, choices[-1])
    calls = [choices[-1]] * full
    if not rest:
        return calls
    options = [[at_least(choices, rest)]]
    if smaller := [choice for choice in choices if choice <= rest]:
        options.append([smaller[-1], *_calls(rest - smaller[-1], choices, columns, call_cost)])
    return calls + min(options, key=lambda sizes: _cost(sizes, columns, call_cost))


def _cheapest_groups(
    population: Sequence[int], lengths: Sequence[int], cost: Callable[[int, int], int]
) -> list[tuple[int, int]]:
    """Half-open ranges of lengths to be padded to the longest of the range, by dynamic programming over the lengths."""
    costs, cuts = [0], [0]
    for high in range(1, len(lengths) + 1):
        options = []
        for low in range(high):
            options.append((costs[low] + cost(sum(population[low:high]), lengths[high - 1]), low))
        least, cut = min(options)
        costs.append(least)
        cuts.append(cut)
    groups, high = [], len(lengths)
    while high:
        groups.append((cuts[high], high))
        high = cuts[high]
    return groups[::-1]
