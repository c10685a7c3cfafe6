"""Sums that remember their weight, so that parts of a batch average without bias."""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

Tree = TypeVar("Tree")


class Weighted(NamedTuple):
    """An unreduced mean: divide once, after every part (micro-batch, device, host) has been merged.

    Attributes:
        total: float32, the weighted sum.
        weight: float32, the sum of the weights, at least 0; same shape as `total`.
    """

    total: Array
    weight: Array

    @property
    def mean(self) -> Float32[Array, "*s"]:
        """Total over weight; 0 where nothing was summed."""
        return self.total / self.divisor

    @property
    def divisor(self) -> Float32[Array, "*s"]:
        """What makes a mean of a sum, and the gradient of the mean of the gradient of the sum; never 0."""
        return jnp.maximum(self.weight, jnp.finfo(jnp.float32).tiny)


def merge(first: Tree, *others: Tree) -> Tree:
    """Pools the parts of a sum: totals and weights add up.

    Args:
        first: a `Weighted`, or any pytree of them such as a dict of metrics or an `AgentPrmLoss`.
        *others: more of the same structure.

    Returns:
        The same structure, whose means are those of the pooled data.
    """
    return jax.tree.map(lambda leaf, *leaves: sum(leaves, leaf), first, *others)
