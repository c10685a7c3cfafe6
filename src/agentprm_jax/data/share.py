"""Which rows of every batch a process gives."""

from typing import NamedTuple


class Share(NamedTuple):
    """Some of the equal parts into which batches are cut."""

    parts: tuple[int, ...] = (0,)
    """Numbers of the parts, from 0, in order; they need not follow each other."""
    of: int = 1
    """In how many parts a batch is cut."""


WHOLE = Share()
"""All rows."""
