"""Checks of values that a command is given, so that what will fail later fails at once; imports no JAX."""

from __future__ import annotations

import itertools
import re

_BEAM = re.compile(r"[1-9]\d*x[1-9]\d*")


def check(config: object, field: str, holds: bool, expected: str) -> None:
    """Checks a field of a config.

    Raises:
        ValueError: `holds` is false; names class, field, what was expected and the value.
    """
    if not holds:
        raise ValueError(f"{type(config).__name__}.{field} must be {expected}, got {getattr(config, field)!r}.")


def check_counts(config: object, *fields: str) -> None:
    """Checks that fields are at least 1.

    Raises:
        ValueError: one is not.
    """
    for field in fields:
        check(config, field, getattr(config, field) >= 1, "a whole number of at least 1")


def check_sizes(config: object, most: int | None = None) -> None:
    """Checks the numbers of samples `sizes` of Best-of-N, of which a curve is drawn.

    Args:
        config: has them.
        most: samples of a task that there are; None where that is not known yet.

    Raises:
        ValueError: they are fewer than two, below 1, not rising or above `most`.
    """
    sizes = config.sizes  # pyright: ignore[reportAttributeAccessIssue]
    rising = all(one < other for one, other in itertools.pairwise(sizes))
    check(config, "sizes", len(sizes) > 1 and sizes[0] >= 1 and rising, "two or more rising numbers of at least 1")
    if most is not None:
        check(config, "sizes", sizes[-1] <= most, f"at most the {most} samples that a task has")


def check_beams(config: object) -> None:
    """Checks the sizes `beams` of beam search.

    Raises:
        ValueError: there is none, one is not of the form NxM, or one stands there twice.
    """
    beams = config.beams  # pyright: ignore[reportAttributeAccessIssue]
    well = bool(beams) and all(_BEAM.fullmatch(beam) for beam in beams) and len(set(beams)) == len(beams)
    check(config, "beams", well, "one or more different sizes NxM such as 2x2, N and M at least 1")
