"""One score of a trajectory from the scores of its steps."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from agentprm_jax.numerics.steps import last_step, present, require_shape, zero_padding


def _last(promises: Array, progress: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(last_step(mask), promises, 0.0), axis=-1)


def _min(promises: Array, progress: Array, mask: Array) -> Array:
    return jnp.min(jnp.where(mask, promises, jnp.inf), axis=-1, initial=jnp.inf)


def _mean(promises: Array, progress: Array, mask: Array) -> Array:
    return jnp.sum(promises, axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1), 1)


def _product(promises: Array, progress: Array, mask: Array) -> Array:
    return jnp.prod(jnp.where(mask, jnp.maximum(promises, 0.0), 1.0), axis=-1)


def _sum_progress(promises: Array, progress: Array, mask: Array) -> Array:
    return jnp.sum(progress, axis=-1)


_SCORES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "last": _last,
    "min": _min,
    "mean": _mean,
    "product": _product,
    "sum_progress": _sum_progress,
}
AGGREGATIONS = tuple(_SCORES)


def aggregate(
    promises: Float[Array, "*b u"], progress: Float[Array, "*b u"], mask: Bool[Array, "*b u"], how: str
) -> Float32[Array, "*b"]:
    """Scores trajectories by their steps; higher is better.

    The paper ranks by "last". "product" reads promises as probabilities and counts negative ones as 0, so that two of
    them do not make a good trajectory; its factors are mostly below 1, so it also prefers short trajectories.
    "sum_progress" is the last promise minus the initial value, when progress is the difference of promises.

    Args:
        promises: promise of each step.
        progress: progress of each step.
        mask: True at steps, right-padded; what padding holds changes nothing.
        how: one of `AGGREGATIONS`.

    Returns:
        One score a trajectory; -inf for a trajectory without a step, which therefore ranks below every other.

    Raises:
        ValueError: the shapes disagree, or `how` is none of the aggregations.

    Source: "last" is AgentPRM, Best-of-N (arXiv 2511.08325).
    """
    if how not in _SCORES:
        raise ValueError(f"aggregate: `how` must be one of {AGGREGATIONS}, but is {how!r}.")
    shape = jnp.shape(promises)
    require_shape("aggregate", "progress", progress, shape)
    require_shape("aggregate", "mask", mask, shape)
    steps = present(mask)
    scores = _SCORES[how](zero_padding(promises, steps), zero_padding(progress, steps), steps)
    return jnp.where(steps.any(axis=-1), scores, -jnp.inf)
