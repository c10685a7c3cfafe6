"""Rotary position embedding (RoFormer, arXiv 2104.09864), in the half-split layout of Llama and Qwen."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from agentprm_jax.models.config import DecoderConfig, Llama3RopeScaling


def rope_frequencies(config: DecoderConfig) -> Float[np.ndarray, "e_half"]:
    """Radians by which each pair of a head turns per position, float64; pair `i` is the elements `i` and `i + e/2`."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequencies = config.rope_theta**-exponents
    return frequencies if config.rope_scaling is None else _llama3_scaled(frequencies, config.rope_scaling)


def _llama3_scaled(frequencies: Float[np.ndarray, "e_half"], scaling: Llama3RopeScaling) -> Float[np.ndarray, "e_half"]:
    turns = scaling.original_max_positions * frequencies / (2 * np.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = np.clip((turns - scaling.low_freq_factor) / span, 0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / scaling.factor)


def rotation(
    config: DecoderConfig, positions: Int[Array, "b t"]
) -> tuple[Float[Array, "b t 1 e_half"], Float[Array, "b t 1 e_half"]]:
    """Cosine and sine of every pair's angle at the given positions, float32; heads broadcast over the axis of 1."""
    frequencies = jnp.asarray(rope_frequencies(config), jnp.float32)
    angles = positions.astype(jnp.float32)[:, :, None, None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "*n h e"], cos: Float[Array, "*#n 1 e_half"], sin: Float[Array, "*#n 1 e_half"]
) -> Float[Array, "*n h e"]:
    """Turn the pairs of each head by the given angles, in float32; returns the dtype of `x`."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
