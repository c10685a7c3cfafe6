"""How conversations that are begun alike are laid into rows: new tokens of their stem, then actions side by side."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

MOST_COLUMNS = 256
"""Tokens that are read at once after a conversation, unless one action is longer."""


class Piece(NamedTuple):
    """What one row of a call reads.

    Attributes:
        stem: place of the stem.
        begin: tokens of the stem that are read already.
        tokens: int32 [n]. The tokens of the stem that follow; they may be none.
        actions: tokens of actions that are read behind them, each by itself; where there is one the stem ends there.
        places: place of each action.
    """

    stem: int
    begin: int
    tokens: Int32[np.ndarray, "n"]
    actions: list[Sequence[int]]
    places: list[int]

    @property
    def columns(self) -> int:
        """Tokens of the row."""
        return len(self.tokens) + sum(map(len, self.actions))


class Layout(NamedTuple):
    """Pieces as rows of tokens, padded.

    Attributes:
        tokens, positions, branches: int32 [b, t], as in `Prefill`.
        places: of all actions, in the order of the rows.
        rows, columns: where the last token of each of them stands.
    """

    tokens: np.ndarray
    positions: np.ndarray
    branches: np.ndarray
    places: list[int]
    rows: list[int]
    columns: list[int]


def cut_pieces(
    stem: int,
    tokens: Int32[np.ndarray, "s"],
    begin: int,
    actions: Sequence[Sequence[int]],
    first: int,
    most: int = MOST_COLUMNS,
) -> Iterator[Piece]:
    """Cuts the new tokens of a stem and the actions that follow it into pieces, to be read one after the other.

    Args:
        stem: place of the stem.
        tokens: those of the whole stem.
        begin: how many of them are read already.
        actions: tokens of each action, at least one.
        first: place of the first action; the others follow.
        most: columns of a piece, unless one action is longer.
    """
    while len(tokens) - begin > most:
        yield Piece(stem, begin, tokens[begin : begin + most], [], [])
        begin += most
    part = Piece(stem, begin, tokens[begin:], [], [])
    for place, action in enumerate(actions, first):
        if part.columns and part.columns + len(action) > most:
            yield part
            part = Piece(stem, len(tokens), tokens[:0], [], [])
        part.actions.append(action)
        part.places.append(place)
    yield part


def lay_out(pieces: Sequence[Piece], rows: int, columns: int) -> Layout:
    """Lays pieces into rows."""
    tokens, positions, branches = (np.zeros((rows, columns), np.int32) for _ in range(3))
    layout = Layout(tokens, positions, branches, [], [], [])
    for row, piece in enumerate(pieces):
        column = len(piece.tokens)
        follow = piece.begin + column
        layout.tokens[row, :column] = piece.tokens
        layout.positions[row, :column] = np.arange(piece.begin, follow)
        for branch, action in enumerate(piece.actions, 1):
            stop = column + len(action)
            layout.tokens[row, column:stop] = action
            layout.positions[row, column:stop] = np.arange(follow, follow + len(action))
            layout.branches[row, column:stop] = branch
            layout.columns.append(stop - 1)
            column = stop
        layout.places.extend(piece.places)
        layout.rows.extend([row] * len(piece.places))
    return layout
