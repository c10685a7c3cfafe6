"""A tiny PRM and trajectories for it; makes `any_mesh_scoring` importable."""

import pathlib
import sys

import jax
import numpy as np
import pytest

from agentprm_jax.data import ChatEncoder, Message, Trajectory, word_tokenizer
from agentprm_jax.models import DecoderConfig, init_reward_model
from agentprm_jax.scoring import Prm

sys.path.insert(0, str(pathlib.Path(__file__).parent))

WORDS = tuple("abcdefghijkl")


@pytest.fixture(scope="session")
def encoder():
    return ChatEncoder(word_tokenizer(WORDS))


@pytest.fixture(scope="session")
def decoder_config(encoder):
    return DecoderConfig(
        vocab_size=encoder.vocab_size,
        embed=32,
        mlp=48,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=8,
        rope_theta=1e4,
        norm_eps=1e-6,
        max_positions=400,
    )


@pytest.fixture(scope="session")
def prm(decoder_config, encoder):
    params = init_reward_model(decoder_config, jax.random.key(1))
    return Prm(decoder_config, params, encoder, initial_value=0.375, name="tiny")


@pytest.fixture
def trajectories():
    """Makes trajectories of one to eight steps; a function of the seed."""

    def make(count, seed=0, steps=None):
        rng = np.random.default_rng(seed)

        def words(most):
            return " ".join(rng.choice(WORDS, int(rng.integers(1, most))))

        made = []
        for number in range(count):
            messages = []
            length = int(rng.integers(1, 9)) if steps is None else steps
            for _ in range(length):
                messages += [Message("user", words(20)), Message("assistant", words(4), action=True)]
            made.append(
                Trajectory(
                    id=f"t{number}",
                    env="made",
                    task=f"made_{number}",
                    split="train",
                    messages=tuple(messages),
                    rewards=(0.0,) * length,
                    ended="truncated",
                )
            )
        return made

    return make
