"""Small models and batches for the tests of this room."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agentprm_jax.models import DecoderConfig, Llama3RopeScaling, hidden_states, init_language_model, init_reward_model

PLAIN = DecoderConfig(
    vocab_size=40,
    embed=16,
    mlp=24,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=6,
    rope_theta=10_000.0,
    norm_eps=1e-6,
    max_positions=256,
)
BIASED = replace(PLAIN, qkv_bias=True)
NORMED = replace(PLAIN, qk_norm=True, tied_embeddings=False)
STRETCHED = replace(
    PLAIN,
    rope_scaling=Llama3RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=16),
)
FAMILIES = {"plain": PLAIN, "biased": BIASED, "normed": NORMED, "stretched": STRETCHED}

quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""For tests of results, not of speed: compiles in half the time."""

run = quick_jit(hidden_states, static_argnums=0)


class Readouts(NamedTuple):
    """The fields of a batch that a reward model reads."""

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    readouts: np.ndarray


def shaken(params, seed=0):
    """The parameters with noise on each, so that no bias is 0 and no scale is 1."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + jnp.asarray(0.2 * rng.standard_normal(x.shape), x.dtype), params)


@partial(quick_jit, static_argnums=0)
def _language_model(config, key):
    return init_language_model(config, key)


@partial(quick_jit, static_argnums=0)
def _reward_model(config, key):
    return init_reward_model(config, key)


def language_model(config, seed=0):
    return shaken(_language_model(config, jax.random.key(seed)), seed)


def reward_model(config, seed=0):
    return shaken(_reward_model(config, jax.random.key(seed)), seed)


def random_tokens(*shape, seed=0, vocab_size=40):
    return np.random.default_rng(seed).integers(0, vocab_size, shape).astype(np.int32)


def packed(sequences, length):
    """One row with the sequences one after another: tokens, positions, segments, and the column where each starts."""
    tokens, positions, segments = (np.zeros((1, length), np.int32) for _ in range(3))
    starts, start = [], 0
    for number, sequence in enumerate(sequences, 1):
        stop = start + len(sequence)
        tokens[0, start:stop] = sequence
        positions[0, start:stop] = np.arange(len(sequence))
        segments[0, start:stop] = number
        starts.append(start)
        start = stop
    return tokens, positions, segments, starts
