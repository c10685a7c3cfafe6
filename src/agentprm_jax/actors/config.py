"""What a sampler can be told: how much it keeps and in which shapes it works."""

import dataclasses
import itertools

_SMALLEST_WINDOW = 64
_SMALLEST_ROWS = 16


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """Sizes of the native sampler. Every shape that is compiled comes from the closed sets given here."""

    slots: int = 512
    """Conversations whose keys and values are kept between calls; those used longest ago give way. At least as many as
    are in progress at once, or their prompts are computed again on every turn."""
    rows: int = 64
    """Most actions sampled at once; at most `slots`. More are sampled in turns. On a CPU a small model is fastest when
    the activations of a turn fit in the processor's cache; an accelerator wants more rows."""
    capacity: int = 256
    """Most tokens of a conversation, its next action included."""
    max_tokens: int = 32
    """Most tokens that a call may ask for in an action, the end-of-turn token included."""
    prefill_lengths: tuple[int, ...] = (8, 16, 24, 32, 64, 128, 256)
    """Rising numbers of new tokens a conversation that the model is compiled for; longer prompts are read in pieces."""

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ValueError: a size is not positive, more rows than slots, no room for a prompt, or lengths that do not rise.
        """
        for name in ("slots", "rows", "capacity", "max_tokens"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        _check(self, "rows", self.rows <= self.slots, f"at most slots={self.slots}")
        _check(self, "max_tokens", self.max_tokens < self.capacity, f"below capacity={self.capacity}")
        rising = bool(self.prefill_lengths) and self.prefill_lengths[0] >= 1
        rising = rising and all(one < next_one for one, next_one in itertools.pairwise(self.prefill_lengths))
        _check(self, "prefill_lengths", rising, "rising whole numbers of at least 1, one or more")

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Numbers of rows that the model is compiled for, rising by factors of four up to `rows`."""
        counts = [self.rows]
        while counts[0] > _SMALLEST_ROWS:
            counts.insert(0, max(_SMALLEST_ROWS, -(-counts[0] // 4)))
        return tuple(counts)

    @property
    def windows(self) -> tuple[int, ...]:
        """Numbers of cached tokens that the model is compiled for, rising by factors of two up to `capacity`."""
        windows = [self.capacity]
        while windows[0] >= 2 * _SMALLEST_WINDOW:
            windows.insert(0, -(-windows[0] // 2))
        return tuple(windows)


def _check(config: object, field: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{type(config).__name__}.{field} must be {expected}, got {getattr(config, field)!r}.")
