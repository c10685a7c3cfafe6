"""AdamW as one optax chain: clipping, warm-up and decay of the learning rate, weight decay by parameter path."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import jax
import optax

from agentprm_jax.training.config import OptimizerConfig
from agentprm_jax.training.mesh import path_name

PyTree = Any

DECAYS: Mapping[str, bool] = {
    "*/kernel": True,
    "*/embedding": True,
    "*/bias": False,
    "*/scale": False,
}
"""Which parameters decay, by a pattern for their whole path. Every path must match exactly one row."""


def learning_rate_schedule(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Gives the learning rate of every step, counted from 0.

    The warm-up is a straight line that would be 0 one step before the first, so that no step is wasted; the last step,
    `total_steps - 1`, has `final_fraction` of the highest rate.

    Args:
        config: schedule, highest rate and fractions.
        total_steps: number of updates of the whole run, at least 1.
    """
    warmup = round(config.warmup_fraction * total_steps)
    rest = max(1, total_steps - 1 - warmup)
    peak = config.learning_rate
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest, alpha=config.final_fraction),
        "linear": optax.linear_schedule(peak, peak * config.final_fraction, rest),
        "constant": optax.constant_schedule(peak),
    }[config.schedule]
    rise = optax.linear_schedule(peak / (warmup + 1), peak, max(1, warmup))
    return optax.join_schedules([rise, after], [warmup]) if warmup else after


def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """Builds AdamW with clipping by the global norm and the learning rate of `learning_rate_schedule`.

    Its `init` raises ValueError when a parameter path is not in `DECAYS`.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(learning_rate_schedule(config, total_steps)),
    )


def decay_mask(params: PyTree) -> PyTree:
    """Says for every parameter whether it decays.

    Raises:
        ValueError: if a path matches no row of `DECAYS` or more than one.
    """
    return jax.tree.map_with_path(lambda path, _: _decays(path_name(path)), params)


def _decays(path: str) -> bool:
    rows = [pattern for pattern in DECAYS if fnmatch.fnmatchcase(path, pattern)]
    if len(rows) != 1:
        found = f"matches {', '.join(rows)}" if rows else f"matches none of {', '.join(DECAYS)}"
        raise ValueError(f"The parameter {path} must match exactly one row of the weight decay table; it {found}.")
    return DECAYS[rows[0]]
