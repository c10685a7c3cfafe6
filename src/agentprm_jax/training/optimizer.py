"""AdamW or Muon as one optax chain: clipping, a decaying learning rate, weight decay and rules by parameter path."""

import fnmatch
import math
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
    "*/lora_a": True,
    "*/lora_b": True,
}
"""Which parameters decay, by a pattern for their whole path. Every path must match exactly one row."""

MUON: Mapping[str, int] = {
    "*/attention/out/kernel": 2,
    "*/attention/*/kernel": 1,
    "*/mlp/*/kernel": 1,
    "*/attention/out/lora_a": 2,
    "*/lora_a": 1,
    "*/lora_b": 1,
}
"""What the rule "muon" treats as matrices, `[layer, *inputs, *outputs]`, and how many of its axes are inputs;
the first pattern that matches counts. Everything else, embeddings and heads too, gets AdamW's direction."""

ADAM_RMS = 0.2
"""Root mean square of Muon's updates at learning rate 1, about that of AdamW's (arXiv 2502.16982, section 2.2)."""


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
    """Builds the optimizer: clipping, AdamW's or Muon's direction, weight decay, the rate of `learning_rate_schedule`.

    Its `init` raises ValueError when a parameter path is not in `DECAYS`.
    """
    adam = optax.scale_by_adam(config.b1, config.b2, config.eps)
    muon = optax.contrib.scale_by_muon(beta=config.muon_momentum, weight_dimension_numbers=_matrices)
    directions = {
        "adamw": adam,
        "muon": optax.partition({"adamw": adam, "muon": optax.chain(muon, _scale_to_adam())}, _rules),
    }
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        directions[config.rule],
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(learning_rate_schedule(config, total_steps)),
    )


def _rules(params: PyTree) -> PyTree:
    return jax.tree.map_with_path(lambda path, _: "adamw" if _inputs(path) is None else "muon", params)


def _matrices(kernels: PyTree) -> PyTree:
    """How optax shall read kernels as matrices, one for each layer."""

    def matrix(path: Any, kernel: Any) -> optax.contrib.MuonDimensionNumbers:
        outputs = _first_output(path)
        return optax.contrib.MuonDimensionNumbers(tuple(range(1, outputs)), tuple(range(outputs, kernel.ndim)))

    return jax.tree.map_with_path(matrix, kernels)


def _inputs(path: Any) -> int | None:
    name = path_name(path)
    return next((axes for pattern, axes in MUON.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _first_output(path: Any) -> int:
    """The place of a Muon kernel's first output axis, behind the layer and the inputs."""
    inputs = _inputs(path)
    assert inputs is not None, "Muon is given the kernels of its table alone."
    return 1 + inputs


def _scale_to_adam() -> optax.GradientTransformation:
    """Scales orthogonal matrices of n inputs and m outputs, of root mean square 1 / sqrt(max(n, m)), to `ADAM_RMS`."""

    def scale(path: Any, kernel: jax.Array) -> jax.Array:
        outputs = _first_output(path)
        inner, outer = math.prod(kernel.shape[1:outputs]), math.prod(kernel.shape[outputs:])
        return kernel * (ADAM_RMS * math.sqrt(max(inner, outer)))

    return optax.stateless(lambda updates, _: jax.tree.map_with_path(scale, updates))


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
