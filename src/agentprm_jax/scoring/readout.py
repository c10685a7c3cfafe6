"""Values of many conversations in few forward passes of few shapes; what conversations share is computed once."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from agentprm_jax.data.encode import EncodedTrajectory
from agentprm_jax.data.packing import ROW_LENGTHS, assign_rows
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params, gather_tokens, hidden_states, values_of
from agentprm_jax.models.placement import Constrain, unconstrained

_SHORTEST_ROW = 256


class Tree(NamedTuple):
    """Tokens to be read at some places: a stem, and branches that each continue the stem and do not see each other.

    Attributes:
        tokens: int32 [t].
        positions: int32 [t]. Position of each token in its own conversation.
        branches: int32 [t]. 0 on the stem, which all branches see; from 1 on the branches, in order.
        readouts: int32 [u]. Columns to read.
    """

    tokens: Int32[np.ndarray, " t"]
    positions: Int32[np.ndarray, " t"]
    branches: Int32[np.ndarray, " t"]
    readouts: Int32[np.ndarray, " u"]

    @classmethod
    def of_trajectory(cls, encoded: EncodedTrajectory) -> "Tree":
        """A stem alone, up to the last action and read after every action."""
        known = encoded.up_to_last_action()
        count = len(known.tokens)
        return cls(known.tokens, np.arange(count, dtype=np.int32), np.zeros(count, np.int32), known.readouts)

    @classmethod
    def of_continuations(cls, stem: Sequence[int], continuations: Sequence[Sequence[int]]) -> "Tree":
        """A stem with continuations, each of one token or more and read at its last."""
        lengths = np.array([len(one) for one in continuations])
        tokens = np.concatenate([np.asarray(part, np.int32) for part in (stem, *continuations)])
        positions = [np.arange(len(stem)), *(len(stem) + np.arange(length) for length in lengths)]
        branches = np.repeat(np.arange(len(lengths) + 1), [len(stem), *lengths])
        readouts = len(stem) + np.cumsum(lengths) - 1
        return cls(tokens, *(part.astype(np.int32) for part in (np.concatenate(positions), branches, readouts)))


class ReadoutRows(NamedTuple):
    """Trees that share rows, with the places to be read of all trees of a row in one list.

    NumPy's arrays outside jit, traced ones inside.
    """

    tokens: Any  # int32 [b, t]
    positions: Any  # int32 [b, t]
    segments: Any  # int32 [b, t]; trees, from 1
    branches: Any  # int32 [b, t]; None where no tree has one
    readouts: Any  # int32 [b, u]; 0 where there is nothing to read


@partial(jax.jit, static_argnames=("config", "constrain"))
def read_rows(
    config: DecoderConfig, params: Params, rows: ReadoutRows, constrain: Constrain = unconstrained
) -> Float[Array, "b u"]:
    """Values at the read-outs of each row, float32."""
    hidden = hidden_states(
        config, params["decoder"], rows.tokens, rows.positions, rows.segments, constrain, branches=rows.branches
    )
    return values_of(config, params, gather_tokens(hidden, rows.readouts))


def read_values(
    config: DecoderConfig,
    params: Params,
    trees: Sequence[Tree],
    tokens_per_batch: int,
    constrain: Constrain = unconstrained,
) -> list[Float32[np.ndarray, "u"]]:
    """The value at every read-out of every tree.

    One forward pass values all steps of the trees in it. Shapes come from a closed set: trees share rows of a standard
    length, a batch is full or a quarter or a sixteenth of that, and its rows have room for a power of two of read-outs.

    Args:
        config: shape of the decoder.
        params: a reward model.
        trees: what to value.
        tokens_per_batch: tokens of a full forward pass; at least one row is taken.
        constrain: pins activations to the mesh that the parameters lie on.

    Returns:
        One array for each tree, in order.
    """
    values: dict[int, np.ndarray] = {}
    for length, places in _by_row_length(trees).items():
        group = [trees[place] for place in places]
        for member, read in _read_group(config, params, group, length, max(1, tokens_per_batch // length), constrain):
            values[places[member]] = read
    return [values[place] for place in range(len(trees))]


def _by_row_length(trees: Sequence[Tree]) -> dict[int, list[int]]:
    """Places of the trees by the length of the row that they are to share."""
    groups: dict[int, list[int]] = {}
    for place, tree in enumerate(trees):
        count = len(tree.tokens)
        wanted = _SHORTEST_ROW if count <= _SHORTEST_ROW else 2 * count
        length = next((length for length in ROW_LENGTHS if length >= wanted), ROW_LENGTHS[-1])
        groups.setdefault(max(length, count), []).append(place)
    return groups


def _read_group(
    config: DecoderConfig, params: Params, trees: Sequence[Tree], length: int, full: int, constrain: Constrain
) -> Iterator[tuple[int, Float32[np.ndarray, "u"]]]:
    """Values of trees that share rows of one length, with their places.

    All work is dispatched before any result is waited for.
    """
    rows = assign_rows([len(tree.tokens) for tree in trees], length)
    room = _power_of_two(max(sum(len(trees[member].readouts) for member in row) for row in rows))
    waiting = []
    for chosen in _batches(rows, full):
        laid = _lay_out([[trees[member] for member in row] for row in chosen], length, room)
        waiting.append((chosen, read_rows(config, params, laid, constrain)))
    for chosen, lines in waiting:
        for row, line in zip(chosen, np.asarray(lines), strict=True):
            start = 0
            for member in row:
                stop = start + len(trees[member].readouts)
                yield member, line[start:stop]
                start = stop


def _batches(rows: Sequence[list[int]], full: int) -> Iterator[list[list[int]]]:
    """The rows of each batch; what is left over fills up the smallest batch that holds it, with empty rows."""
    for start in range(0, len(rows), full):
        chosen = list(rows[start : start + full])
        size = min(size for size in (full, -(-full // 4), -(-full // 16)) if size >= len(chosen))
        yield chosen + [[] for _ in range(size - len(chosen))]


def _lay_out(rows: Sequence[Sequence[Tree]], length: int, room: int) -> ReadoutRows:
    shape = (len(rows), length)
    tokens, positions, segments, branches = (np.zeros(shape, np.int32) for _ in range(4))
    laid = ReadoutRows(tokens, positions, segments, branches, np.zeros((len(rows), room), np.int32))
    for row, trees in enumerate(rows):
        start = read = 0
        for segment, tree in enumerate(trees, 1):
            place = slice(start, start + len(tree.tokens))
            laid.tokens[row, place], laid.positions[row, place] = tree.tokens, tree.positions
            laid.segments[row, place], laid.branches[row, place] = segment, tree.branches
            laid.readouts[row, read : read + len(tree.readouts)] = start + tree.readouts
            start, read = place.stop, read + len(tree.readouts)
    return laid if laid.branches.any() else laid._replace(branches=None)


def _power_of_two(needed: int) -> int:
    return 1 << max(needed - 1, 0).bit_length()
