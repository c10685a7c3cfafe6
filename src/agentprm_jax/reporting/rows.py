"""Packs what a training run has encoded into rows that its model can read, and says what it leaves out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from agentprm_jax.data.encode_file import line_of
from agentprm_jax.data.packing import Examples, ExampleTooLong, PackedRows, pack


def pack_run(
    examples: Examples,
    source: Path,
    *,
    row_length: int,
    max_positions: int,
    too_long: Literal["refuse", "drop"],
    title: str | None,
) -> PackedRows:
    """The rows of a training run.

    Args:
        examples: what to train on.
        source: the file of trajectories that they were encoded from.
        row_length: tokens of a row.
        max_positions: most tokens that the model can read.
        too_long: what to do with a trajectory of more than `row_length` tokens: refuse it, or leave it out.
        title: under which this process prints what the rows are and how many trajectories were left out; None in a
            process that prints nothing.

    Raises:
        ValueError: a row is longer than the model's positions, a trajectory is too long (its line is named), or nothing
            is left.
    """
    if row_length > max_positions:
        raise ValueError(
            f"A row should have at most the model's {max_positions:,} positions (max_positions), got row_length="
            f"{row_length:,}: the model has not learnt what lies beyond."
        )
    try:
        rows = pack(examples, length=row_length, too_long="raise" if too_long == "refuse" else "drop")
    except ExampleTooLong as error:
        raise ValueError(f"{source}, line {line_of(source, error.place)}: {error}") from error
    total = len(examples.lengths)
    if rows.dropped and not len(rows):
        wanted = f"At least one trajectory should have at most {row_length:,} tokens (row_length)"
        raise ValueError(f"{wanted}, got {total:,} longer ones.")
    if rows.dropped and title is not None:
        left = f"{len(rows.dropped):,} of {total:,} trajectories have more than {row_length:,} tokens and are left out"
        print(f"{left} (too_long=drop).", file=sys.stderr)
    if title is not None:
        print(f"{title}: {rows}.", file=sys.stderr)
    return rows
