"""Values of many encoded trajectories in few forward passes of few shapes."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from agentprm_jax.data.batch import Example
from agentprm_jax.data.encode import EncodedTrajectory
from agentprm_jax.data.packing import ROW_LENGTHS, PackedRows, pack
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params, promises

TOKENS_PER_BATCH = 2048
"""Tokens of a full forward pass. On a CPU more would leave the processor's cache; an accelerator wants more."""
_SHORTEST_ROW = 256


class ReadoutRows(NamedTuple):
    """Packed rows, with the places to be read of all trajectories of a row in one list."""

    tokens: np.ndarray  # int32 [b, t]
    positions: np.ndarray  # int32 [b, t]
    segments: np.ndarray  # int32 [b, t]
    readouts: np.ndarray  # int32 [b, 1, u]; 0 where there is nothing to read


@partial(jax.jit, static_argnames="config")
def read_rows(config: DecoderConfig, params: Params, rows: ReadoutRows) -> Float[Array, "b u"]:
    """Values at the read-outs of each row, float32."""
    return promises(config, params, rows)[:, 0]


def read_values(
    config: DecoderConfig,
    params: Params,
    encoded: Sequence[EncodedTrajectory],
    tokens_per_batch: int,
) -> list[Float32[np.ndarray, "u"]]:
    """The value at every read-out of every trajectory.

    One forward pass values all steps of the trajectories in it. Shapes come from a closed set: trajectories share
    rows of a standard length, a batch is full or a quarter or a sixteenth of that, and its rows have room for a power
    of two of read-outs.

    Args:
        config: shape of the decoder.
        params: a reward model.
        encoded: what to value.
        tokens_per_batch: tokens of a full forward pass; at least one row is taken.

    Returns:
        One array for each trajectory, in order.
    """
    values: dict[int, np.ndarray] = {}
    for length, places in _by_row_length(encoded).items():
        group = [encoded[place] for place in places]
        for member, read in _read_group(config, params, group, length, max(1, tokens_per_batch // length)):
            values[places[member]] = read
    return [values[place] for place in range(len(encoded))]


def _by_row_length(encoded: Sequence[EncodedTrajectory]) -> dict[int, list[int]]:
    """Places of the trajectories by the length of the row that they are to share."""
    groups: dict[int, list[int]] = {}
    for place, one in enumerate(encoded):
        count = len(one.tokens)
        wanted = _SHORTEST_ROW if count <= _SHORTEST_ROW else 2 * count
        length = next((length for length in ROW_LENGTHS if length >= wanted), ROW_LENGTHS[-1])
        groups.setdefault(max(length, count), []).append(place)
    return groups


def _read_group(
    config: DecoderConfig, params: Params, encoded: Sequence[EncodedTrajectory], length: int, full: int
) -> Iterator[tuple[int, Float32[np.ndarray, "u"]]]:
    """Values of trajectories that share rows of one length, with their places.

    All work is dispatched before any result is waited for.
    """
    packed = pack([Example(one, 0.0, 0.0, (1.0,) * len(one.readouts)) for one in encoded], length=length)
    steps = [len(one.readouts) for one in encoded]
    room = _power_of_two(max(sum(steps[member] for member in row) for row in packed.members))
    waiting = []
    for chosen in _batches(len(packed), full):
        waiting.append((chosen, read_rows(config, params, _readout_rows(packed, chosen, room))))
    for chosen, lines in waiting:
        for row, line in zip(chosen, np.asarray(lines), strict=True):
            members = packed.members[row] if row >= 0 else ()
            starts = np.cumsum([0, *(steps[member] for member in members)])
            for member, start in zip(members, starts, strict=False):
                yield member, line[start : start + steps[member]]


def _batches(rows: int, full: int) -> Iterator[list[int]]:
    """Row numbers of each batch; what is left over fills up the smallest batch that holds it, with -1."""
    for start in range(0, rows, full):
        chosen = list(range(start, min(start + full, rows)))
        size = min(size for size in (full, -(-full // 4), -(-full // 16)) if size >= len(chosen))
        yield chosen + [-1] * (size - len(chosen))


def _readout_rows(packed: PackedRows, chosen: Sequence[int], room: int) -> ReadoutRows:
    batch = packed.batch(chosen)
    readouts = np.zeros((len(chosen), 1, room), np.int32)
    for row, (columns, mask) in enumerate(zip(batch.readouts, batch.step_mask, strict=True)):
        real = columns[mask]
        readouts[row, 0, : len(real)] = real
    return ReadoutRows(batch.tokens, batch.positions, batch.segments, readouts)


def _power_of_two(needed: int) -> int:
    return 1 << max(needed - 1, 0).bit_length()
