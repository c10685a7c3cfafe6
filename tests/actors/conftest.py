"""A tiny language model as an actor, and what it would say computed without any cache."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.actors import NativeSampler, SamplerConfig
from agentprm_jax.data import ChatEncoder, Message, word_tokenizer
from agentprm_jax.models import DecoderConfig, init_language_model, lm_logits

WORDS = tuple("abcdefghijkl")


uncached_logits = jax.jit(lm_logits, static_argnums=0)


class TinyActor(NamedTuple):
    """A model with its tokenizer; `sampler` makes samplers of it."""

    config: DecoderConfig
    params: dict
    encoder: ChatEncoder

    def sampler(self, **sizes):
        """A sampler with small sizes, whatever is not given."""
        return NativeSampler(
            self.config,
            self.params,
            self.encoder,
            SamplerConfig(
                **{"slots": 32, "rows": 16, "capacity": 96, "max_tokens": 8, "prefill_lengths": (24,), **sizes}
            ),
        )

    def next_logits(self, tokens):
        """Logits of the next token by the uncached forward pass; -inf where a token may not be said."""
        padded = jnp.zeros((1, 96), jnp.int32).at[0, : len(tokens)].set(jnp.asarray(tokens))
        logits = np.array(uncached_logits(self.config, self.params, padded)[0, len(tokens) - 1], np.float64)
        pad, unknown, *_ = self.encoder.tokenizer.convert_tokens_to_ids(["<pad>", "<unk>"])
        logits[[pad, unknown]] = -np.inf
        return logits

    def greedy(self, messages, max_tokens):
        """The likeliest action, token by token."""
        tokens, said = list(self.encoder.prompt_tokens(messages)), []
        while len(said) < max_tokens and (not said or said[-1] != self.encoder.end_of_turn_id):
            said.append(int(self.next_logits(tokens + said).argmax()))
        return self.encoder.decode_action(said), len(said)


def make_actor(dtype="float32", sharpness=20.0):
    """A random model; `sharpness` scales the logits, 0 makes all tokens equally likely."""
    encoder = ChatEncoder(word_tokenizer(WORDS))
    config = DecoderConfig(
        vocab_size=encoder.vocab_size,
        embed=32,
        mlp=48,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=8,
        rope_theta=1e4,
        norm_eps=1e-6,
        max_positions=128,
        dtype=dtype,
    )
    params = init_language_model(config, jax.random.key(3))
    embedding = params["decoder"]["embedding"] * sharpness
    return TinyActor(config, params | {"decoder": params["decoder"] | {"embedding": embedding}}, encoder)


@pytest.fixture(scope="session")
def actor():
    return make_actor()


@pytest.fixture(scope="session")
def indifferent_actor():
    return make_actor(sharpness=0.0)


@pytest.fixture(scope="session")
def bfloat16_actor():
    return make_actor(dtype="bfloat16")


@pytest.fixture
def conversations():
    """Makes conversations of one to three observations of different lengths; a function of the seed."""

    def make(count, seed=0):
        rng = np.random.default_rng(seed)

        def words(most):
            return " ".join(rng.choice(WORDS, int(rng.integers(1, most))))

        made = []
        for _ in range(count):
            messages = [Message("user", words(12))]
            for _ in range(int(rng.integers(0, 3))):
                messages += [Message("assistant", words(4), action=True), Message("user", words(9))]
            made.append(messages)
        return made

    return make
