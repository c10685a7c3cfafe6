"""How files of trajectories are scored; imports no JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TOKENS_PER_BATCH = 1024
"""Tokens of a full forward pass. On a CPU more would leave the processor's cache; an accelerator wants more."""

KEPT_TOKENS = 1 << 17
"""Tokens of conversations whose keys and values are kept between calls, the unused end of each slot counted."""


@dataclass(frozen=True)
class ScoringConfig:
    """How a file of trajectories is scored."""

    tokens_per_batch: int = TOKENS_PER_BATCH
    """Tokens of a full forward pass; at least one row is taken. On an accelerator more is faster."""
    together: int = 64
    """Trajectories that are scored, and written, at once; a kill loses at most these, and memory holds no more."""
    too_long: Literal["stop", "drop"] = "stop"
    """A trajectory with more tokens than the PRM is meant for: stop, or leave it out and count it; never cut short."""
    bad_lines: Literal["stop", "skip"] = "stop"
    """A line that is no trajectory, or has words that the PRM's tokenizer does not know: stop, or skip and count it."""
    existing: Literal["stop", "replace"] = "stop"
    """A line that has scores under the same name already: stop, or replace them."""

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: a number is below 1.
        """
        for name in ("tokens_per_batch", "together"):
            if getattr(self, name) < 1:
                raise ValueError(f"ScoringConfig.{name} must be at least 1, got {getattr(self, name)}.")
