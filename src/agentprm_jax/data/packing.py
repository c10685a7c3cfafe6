"""Packs trajectories of many lengths into rows of one length, so that jit compiles few shapes and little is padding."""

import bisect
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Int32, Int64

from agentprm_jax.data.batch import Batch, Example, lay_out

ROW_LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
WINDOW = 4096

_NO_EXAMPLES: tuple[Example, ...] = ()


class ExampleTooLong(ValueError):
    """An example has more tokens than a row has room for, or more steps.

    Attributes:
        place: Of the first such example among all.
    """

    def __init__(self, place: int, message: str):
        """Takes the place, and a message that names the limits."""
        super().__init__(message)
        self.place = place


class Examples(Protocol):
    """A data set of which memory holds a few numbers per example, and the rest is read when it is asked for."""

    @property
    def lengths(self) -> Int32[np.ndarray, " n"]:
        """Tokens of each example."""
        ...

    @property
    def steps(self) -> Int32[np.ndarray, " n"]:
        """Steps of each example."""
        ...

    @property
    def digest(self) -> str:
        """Identifies all that the examples hold."""
        ...

    def read(self, places: Sequence[int]) -> list[Example]:
        """The examples at some places, in that order."""
        ...


@dataclass(frozen=True, repr=False, eq=False)
class PackedRows:
    """Examples assigned to rows; they are read, and the arrays of a batch written, when it is asked for.

    Attributes:
        examples: All examples.
        order: int64 [k]. Places in ``examples`` of those that are in a row, row after row.
        bounds: int64 [rows + 1]. Row r holds ``order[bounds[r] : bounds[r + 1]]``.
        dropped: Places of the examples that were too long and left out.
        length: Tokens of a row.
        max_segments: Examples that a row has room for.
        max_steps: Steps that an example has room for.
    """

    examples: Examples
    order: Int64[np.ndarray, " k"]
    bounds: Int64[np.ndarray, " rows+1"]
    dropped: tuple[int, ...]
    length: int
    max_segments: int
    max_steps: int

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.bounds) - 1

    def __repr__(self) -> str:
        """A summary: loaders print what they hold, and the data are long."""
        return f"PackedRows({self})"

    def __str__(self) -> str:
        """How many rows there are, how long they are, and how much of them is padding."""
        return f"{len(self):,} rows of {self.length:,} tokens, {self.padding_share:.1%} padding"

    def members(self, row: int) -> list[int]:
        """Places of the examples of a row in ``examples``; the k-th one is segment k + 1."""
        return self.order[self.bounds[row] : self.bounds[row + 1]].tolist()

    @property
    def padding_share(self) -> float:
        """Share of the tokens of all rows that is padding, in [0, 1]."""
        used = int(self.examples.lengths[self.order].sum(dtype=np.int64))
        return 1.0 - used / (len(self) * self.length) if len(self) else 0.0

    def batch(self, rows: Sequence[int]) -> Batch:
        """The batch of some rows.

        Args:
            rows: Row numbers; -1 is a row of nothing but padding, to fill up a last batch.

        Returns:
            The batch, in the order of ``rows``.
        """
        chosen = [self.examples.read(self.members(row)) if row >= 0 else _NO_EXAMPLES for row in rows]
        return lay_out(chosen, length=self.length, max_segments=self.max_segments, max_steps=self.max_steps)


def pack(
    examples: Examples,
    *,
    length: int,
    max_segments: int | None = None,
    max_steps: int | None = None,
    too_long: Literal["raise", "drop"] = "raise",
    window: int = WINDOW,
) -> PackedRows:
    """Assigns examples to rows: within each window of the data, longest first, each to the fullest row that it fits in.

    Args:
        examples: What to pack; the result is a function of their order.
        length: Tokens of a row.
        max_segments: Examples that a row has room for; when not given, as many as the fullest row needs.
        max_steps: Steps that an example has room for; when not given, as many as the longest example needs.
        too_long: What to do with an example of more than ``length`` tokens or ``max_steps`` steps: ``raise``, or
            ``drop`` it and count it in ``dropped``.
        window: Number of consecutive examples that are packed among each other.

    Returns:
        The rows.

    Raises:
        ExampleTooLong: If an example is too long and ``too_long`` is ``raise``.
        ValueError: If an argument is out of range.
    """
    for name, value in (
        ("length", length),
        ("max_segments", max_segments),
        ("max_steps", max_steps),
        ("window", window),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name} should be at least 1, got {value}.")
    if too_long not in ("raise", "drop"):
        raise ValueError(f"too_long should be 'raise' or 'drop', got {too_long!r}.")
    steps_allowed = max_steps or int(examples.steps.max(initial=0)) or 1
    fits = (examples.lengths <= length) & (examples.steps <= steps_allowed)
    kept, dropped = np.flatnonzero(fits), np.flatnonzero(~fits)
    if len(dropped) and too_long == "raise":
        raise _too_long(examples, int(dropped[0]), len(dropped), length, steps_allowed)
    order, bounds = array("q"), array("q", [0])
    for row in assign_rows(examples.lengths[kept], length, max_segments, window):
        order.extend(row)
        bounds.append(len(order))
    ends = np.asarray(bounds, np.int64)
    segments = max_segments or int(np.diff(ends).max(initial=1))
    return PackedRows(
        examples, kept[np.asarray(order, np.int64)], ends, tuple(dropped.tolist()), length, segments, steps_allowed
    )


def assign_rows(
    lengths: Sequence[int] | Int32[np.ndarray, " n"],
    length: int,
    max_segments: int | None = None,
    window: int = WINDOW,
) -> Iterator[list[int]]:
    """Best-fit decreasing inside windows: which lengths share a row.

    Args:
        lengths: Tokens of each example, at most ``length``.
        length: Tokens of a row.
        max_segments: Examples that a row has room for; no limit when not given.
        window: Number of consecutive examples that are packed among each other.

    Yields:
        For each row the places of its examples in ``lengths``, in increasing order.
    """
    for start in range(0, len(lengths), window):
        part = np.asarray(lengths[start : start + window]).tolist()
        rows = _best_fit(part, lambda _: length, max_segments)
        yield from (sorted(start + place for place in row) for row in rows)


def assign_rows_of_lengths(lengths: Sequence[int], choices: Sequence[int]) -> dict[int, list[list[int]]]:
    """Best-fit decreasing over rows of several lengths: a row is as long as the first choice that holds its longest.

    Short rows cost attention less, and what is shorter than the rest of a row fills it up.

    Args:
        lengths: Tokens of each example.
        choices: Rising row lengths; beyond the last one a row's length is a multiple of it.

    Returns:
        For each length of row, its rows: the places of their examples in ``lengths``, in increasing order.
    """

    def opened(needed: int) -> int:
        found = bisect.bisect_left(choices, needed)
        return choices[found] if found < len(choices) else -(-needed // choices[-1]) * choices[-1]

    groups: dict[int, list[list[int]]] = {}
    for row in _best_fit(lengths, opened, None):
        groups.setdefault(opened(lengths[row[0]]), []).append(sorted(row))
    return groups


def _best_fit(lengths: Sequence[int], length_for: Callable[[int], int], max_segments: int | None) -> list[list[int]]:
    """Rows whose first example is their longest; `length_for` says how long a row is opened for it."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row) of the rows that can take more, sorted
    for place in np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist():
        found = bisect.bisect_left(room, (lengths[place], -1))
        if found < len(room):
            free, row = room.pop(found)
        else:
            free, row = length_for(lengths[place]), len(rows)
            rows.append([])
        rows[row].append(place)
        if max_segments is None or len(rows[row]) < max_segments:
            bisect.insort(room, (free - lengths[place], row))
    return rows


def choose_length(
    lengths: Sequence[int],
    *,
    choices: Sequence[int] = ROW_LENGTHS,
    most_padding: float = 0.1,
    max_segments: int | None = None,
) -> int:
    """The shortest row length of a closed set that holds every example and wastes little.

    Args:
        lengths: Tokens of each example.
        choices: The row lengths to choose from.
        most_padding: Share of padding to accept, in [0, 1].
        max_segments: As for ``pack``.

    Returns:
        The shortest choice that holds the longest example with at most that share of padding; if every choice pads
        more, the one that pads least.

    Raises:
        ValueError: If there are no examples, or the longest is longer than every choice.
    """
    if not len(lengths):
        raise ValueError("A row length can only be chosen for at least one example, got none.")
    able = sorted(choice for choice in choices if choice >= max(lengths))
    if not able:
        raise ValueError(
            f"The longest row length, {max(choices)} tokens, should hold every example, got one of {max(lengths)}."
        )
    shares = {}
    for choice in able:
        rows = sum(1 for _ in assign_rows(lengths, choice, max_segments))
        shares[choice] = 1.0 - sum(lengths) / (rows * choice)
        if shares[choice] <= most_padding:
            return choice
    return min(able, key=lambda choice: (shares[choice], choice))


def _too_long(examples: Examples, first: int, count: int, length: int, steps: int) -> ExampleTooLong:
    name = examples.read([first])[0].encoded.id
    return ExampleTooLong(
        first,
        f"Every trajectory should have at most {length} tokens and {steps} steps, but {count} have more; the first is "
        f"{name} with {examples.lengths[first]} tokens and {examples.steps[first]} steps. "
        "Choose a longer row, or drop such trajectories with too_long='drop'.",
    )
