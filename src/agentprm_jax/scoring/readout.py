"""Values of the steps of many trajectories in few forward passes of few shapes."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from agentprm_jax.data.encode import EncodedTrajectory
from agentprm_jax.data.packing import assign_rows_of_lengths
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params, gather_tokens, hidden_states, values_of
from agentprm_jax.models.placement import Constrain, in_equal_parts, row_parts, unconstrained

_ROW_LENGTHS = (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768)
"""Powers of two, and one length between each two."""


class ReadoutRows(NamedTuple):
    """Trajectories that share rows, with the places to be read of all that stand in a row in one list.

    NumPy's arrays outside jit, traced ones inside.
    """

    tokens: Any  # int32 [b, t]
    positions: Any  # int32 [b, t]
    segments: Any  # int32 [b, t]; trajectories, from 1
    readouts: Any  # int32 [b, u]; 0 where there is nothing to read


@partial(jax.jit, static_argnames=("config", "constrain"))
def read_rows(
    config: DecoderConfig, params: Params, rows: ReadoutRows, constrain: Constrain = unconstrained
) -> Float[Array, "b u"]:
    """Values at the read-outs of each row, float32, whole on every device."""
    hidden = hidden_states(config, params["decoder"], rows.tokens, rows.positions, rows.segments, constrain)
    return constrain(values_of(config, params, gather_tokens(hidden, rows.readouts)), (None, None))


def read_values(
    config: DecoderConfig,
    params: Params,
    trajectories: Sequence[EncodedTrajectory],
    tokens_per_batch: int,
    constrain: Constrain = unconstrained,
) -> list[Float32[np.ndarray, "u"]]:
    """The value at every read-out of every trajectory.

    One forward pass values all steps of the trajectories in it. Shapes come from a closed set: trajectories share rows
    of a standard length, a batch is full or a half, a quarter or a sixteenth of that (rounded up where a mesh cuts it
    into equal parts), and its rows have room for a power of two of read-outs. In a run of several processes all give
    the same trajectories, and each gets all values.

    Args:
        config: shape of the decoder.
        params: a reward model.
        trajectories: what to value; see `up_to_last_action`.
        tokens_per_batch: tokens of a full forward pass on all devices; at least one row is taken.
        constrain: pins activations to the mesh that the parameters lie on.

    Returns:
        One array for each trajectory, in order.
    """
    values: dict[int, np.ndarray] = {}
    for length, rows in assign_rows_of_lengths([len(one.tokens) for one in trajectories], _ROW_LENGTHS).items():
        full = max(1, tokens_per_batch // length)
        values.update(_read_rows_of(config, params, trajectories, rows, length, full, constrain))
    return [values[place] for place in range(len(trajectories))]


def _read_rows_of(
    config: DecoderConfig,
    params: Params,
    trajectories: Sequence[EncodedTrajectory],
    rows: Sequence[list[int]],
    length: int,
    full: int,
    constrain: Constrain,
) -> Iterator[tuple[int, Float32[np.ndarray, "u"]]]:
    """Values of the trajectories in rows of one length, with their places.

    All work is dispatched before any result is waited for.
    """
    room = _power_of_two(max(sum(len(trajectories[member].readouts) for member in row) for row in rows))
    waiting = []
    for chosen in _batches(rows, full, row_parts(constrain)):
        laid = _lay_out([[trajectories[member] for member in row] for row in chosen], length, room)
        waiting.append((chosen, read_rows(config, params, laid, constrain)))
    for chosen, lines in waiting:
        for row, line in zip(chosen, np.asarray(lines), strict=True):
            start = 0
            for member in row:
                stop = start + len(trajectories[member].readouts)
                yield member, line[start:stop]
                start = stop


def _batches(rows: Sequence[list[int]], full: int, parts: int) -> Iterator[list[list[int]]]:
    """The rows of each batch; what is left over fills up the smallest batch that holds it, with empty rows.

    The number of rows is a multiple of `parts`.
    """
    sizes = [in_equal_parts(size, parts) for size in (-(-full // 16), -(-full // 4), -(-full // 2), full)]
    for start in range(0, len(rows), sizes[-1]):
        chosen = list(rows[start : start + sizes[-1]])
        size = next(size for size in sizes if size >= len(chosen))
        yield chosen + [[] for _ in range(size - len(chosen))]


def _lay_out(rows: Sequence[Sequence[EncodedTrajectory]], length: int, room: int) -> ReadoutRows:
    shape = (len(rows), length)
    tokens, positions, segments = (np.zeros(shape, np.int32) for _ in range(3))
    laid = ReadoutRows(tokens, positions, segments, np.zeros((len(rows), room), np.int32))
    for row, trajectories in enumerate(rows):
        start = read = 0
        for segment, one in enumerate(trajectories, 1):
            place = slice(start, start + len(one.tokens))
            laid.tokens[row, place], laid.positions[row, place] = one.tokens, np.arange(len(one.tokens))
            laid.segments[row, place] = segment
            laid.readouts[row, read : read + len(one.readouts)] = start + one.readouts
            start, read = place.stop, read + len(one.readouts)
    return laid


def _power_of_two(needed: int) -> int:
    return 1 << max(needed - 1, 0).bit_length()
