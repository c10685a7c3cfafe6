"""Batches of trajectories of different lengths, drawn at one shape so that each function compiles once."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.numerics import oracle

ROWS, STEPS = 4, 6
laws = settings(max_examples=20, deadline=None)


def floats(lowest: float, highest: float) -> st.SearchStrategy[float]:
    """Float32 numbers without the subnormal ones, which XLA rounds to 0 and NumPy does not."""
    return st.floats(lowest, highest, width=32, allow_subnormal=False)


unit = floats(0, 1)
precisions = st.sampled_from([jnp.float32, jnp.bfloat16])
junk = st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -7.0])


class Episodes(NamedTuple):
    """Arrays of float32, and the labels that the oracle gives for them."""

    promises: np.ndarray  # [b, u], 0 in the padding
    outcomes: np.ndarray  # [b]
    lengths: np.ndarray  # [b]
    initial_values: np.ndarray  # [b]
    gamma: np.float32
    lam: np.float32

    @property
    def mask(self) -> np.ndarray:
        return np.arange(STEPS) < self.lengths[:, None]

    @property
    def last(self) -> np.ndarray:
        return np.arange(STEPS) == self.lengths[:, None] - 1

    def rows(self) -> list[tuple[list[float], float, float]]:
        """Promises without padding, outcome and initial value of each trajectory."""
        return [
            (row[:length].tolist(), float(outcome), float(initial))
            for row, length, outcome, initial in zip(
                self.promises, self.lengths, self.outcomes, self.initial_values, strict=True
            )
        ]

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The oracle's promise and advantage labels, padded with 0."""
        both = np.zeros((2, ROWS, STEPS))
        for index, (promises, outcome, initial) in enumerate(self.rows()):
            labels = oracle.promise_targets(promises, outcome, initial, float(self.gamma), float(self.lam))
            both[:, index, : len(promises)] = labels
        return both[0], both[1]

    def rounded(self, dtype: jnp.dtype) -> "Episodes":
        """The same numbers as a lower precision holds them."""
        cast = {
            name: np.asarray(jnp.asarray(getattr(self, name), dtype), np.float32)
            for name in ("promises", "outcomes", "initial_values")
        }
        return self._replace(**cast)

    def padded_with(self, value: float) -> "Episodes":
        """The same trajectories with something else in the padding, and around trajectories without a step."""
        return self._replace(
            promises=np.where(self.mask, self.promises, np.float32(value)),
            outcomes=np.where(self.lengths > 0, self.outcomes, np.float32(value)),
            initial_values=np.where(self.lengths > 0, self.initial_values, np.float32(value)),
        )


@st.composite
def episodes(draw, gamma=unit, lam=unit, shortest=0) -> Episodes:
    lengths = draw(hnp.arrays(np.int64, ROWS, elements=st.integers(shortest, STEPS)))
    promises = draw(hnp.arrays(np.float32, (ROWS, STEPS), elements=floats(-1, 2)))
    outcomes = draw(hnp.arrays(np.float32, ROWS, elements=unit))
    initial = draw(hnp.arrays(np.float32, ROWS, elements=unit))
    inside = np.arange(STEPS) < lengths[:, None]
    return Episodes(
        np.where(inside, promises, np.float32(0)),
        outcomes,
        lengths,
        initial,
        np.float32(draw(gamma)),
        np.float32(draw(lam)),
    )


undiscounted = episodes(gamma=st.just(1.0))
