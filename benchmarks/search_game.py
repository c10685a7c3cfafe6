"""A beam search with random weights in a made world, played once; what it asked can be asked again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from goals import RUNS

from agentprm_jax.actors.base import Action, Usage
from agentprm_jax.envs.base import Environment, Observation

if TYPE_CHECKING:
    from agentprm_jax.actors import NativeSampler
    from agentprm_jax.data import ChatEncoder, Message
    from agentprm_jax.models import DecoderConfig
    from agentprm_jax.scoring import Prm

    Conversation = Sequence[Message]

WORDS = tuple(f"w{number}" for number in range(196))
SIZES: dict[str, dict[str, Any]] = {
    "small": {"embed": 128, "mlp": 256, "layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 32},
    "large": {"embed": 512, "mlp": 1408, "layers": 10, "heads": 8, "kv_heads": 4, "head_dim": 64},
}
"""The models of the quickstart, and one of 30 million parameters."""
EVERY = {"small": 1, "large": 5}
"""Reading every conversation whole is timed in every so-manieth round."""


@dataclass(frozen=True)
class SearchConfig:
    """Settings of the measurement."""

    models: tuple[str, ...] = ("small", "large")
    """Sizes of the model: small, large."""
    dtype: str = "float32"
    """Type of activations and of what is kept."""
    nodes: int = 8
    """N, paths kept."""
    candidates: int = 8
    """M, actions proposed a node."""
    steps: int = 15
    """Actions of an episode."""
    tasks: int = 1
    """Tasks that are searched together."""
    opening_words: int = 60
    """Words of the first observation."""
    observation_words: int = 18
    """Words of each of the others."""
    action_tokens: int = 8
    """Most tokens of an action; random weights seldom say fewer."""
    passes: int = 3
    """Times that each side is measured."""
    output: Path = RUNS / "search"
    """Folder of numbers.json and goals.json."""


class Asked(NamedTuple):
    """What one round of a search asks of the actor."""

    conversations: list[Conversation]
    seeds: list[int]
    samples: int


class MadeWorld(Environment):
    """Answers every action with words that are a function of all actions so far; ends after so many of them."""

    name = "made"

    def __init__(self, config: SearchConfig, said: tuple[str, ...] = ()):
        """A world in which these things were said."""
        self.config = config
        self.said = said

    def reset(self, task: str) -> Observation:
        """Starts an episode."""
        self.said = (task,)
        return Observation(self._words(self.config.opening_words))

    def step(self, action: str) -> Observation:
        """Takes an action."""
        self.said += (action,)
        return Observation(self._words(self.config.observation_words), terminated=len(self.said) > self.config.steps)

    def fork(self) -> MadeWorld:
        """A copy."""
        return MadeWorld(self.config, self.said)

    def _words(self, count: int) -> str:
        digest = hashlib.sha256("|".join(self.said).encode()).digest()
        return " ".join(np.random.default_rng(list(digest)).choice(WORDS, count))


class Recorder:
    """Passes a search's questions on and keeps them; the scorer and the actor of the search at once."""

    name = "recorder"

    def __init__(self, prm: Prm, sampler: NativeSampler):
        """Nothing was asked yet."""
        self.prm, self.sampler = prm, sampler
        self.scored: list[list[Conversation]] = []
        self.asked: list[Asked] = []
        self.sampled_tokens = 0

    def score_conversations(self, conversations: Sequence[Conversation]) -> list[float]:
        """As the scorer does."""
        self.scored.append(list(conversations))
        return self.prm.score_conversations(conversations)

    @property
    def usage(self) -> Usage:
        """Of the sampler."""
        return self.sampler.usage

    def act(
        self,
        conversations: Sequence[Conversation],
        *,
        samples: int = 1,
        temperature: float = 1.0,
        seed: int | Sequence[int] = 0,
        max_tokens: int = 32,
    ) -> list[list[Action]]:
        """As the sampler does."""
        seeds = [seed] * len(conversations) if isinstance(seed, int) else list(seed)
        self.asked.append(Asked([list(messages) for messages in conversations], seeds, samples))
        given = self.sampler.act(
            conversations, samples=samples, temperature=temperature, seed=seeds, max_tokens=max_tokens
        )
        self.sampled_tokens += sum(action.tokens for actions in given for action in actions)
        return given


def make_model(config: SearchConfig, model: str) -> tuple[DecoderConfig, ChatEncoder, Any]:
    """A decoder with both heads and random weights."""
    import jax

    from agentprm_jax.data import ChatEncoder, word_tokenizer
    from agentprm_jax.models import DecoderConfig, init_reward_model

    encoder = ChatEncoder(word_tokenizer(WORDS))
    decoder = DecoderConfig(
        vocab_size=encoder.vocab_size,
        rope_theta=1e4,
        norm_eps=1e-6,
        max_positions=4096,
        dtype=config.dtype,
        tied_embeddings=True,
        **SIZES[model],
    )
    return decoder, encoder, init_reward_model(decoder, jax.random.key(0))


def make_sampler(config: SearchConfig, decoder: DecoderConfig, encoder: ChatEncoder, params: Any) -> NativeSampler:
    """The actor, its slots large enough for the longest episode."""
    from agentprm_jax.actors import NativeSampler, SamplerConfig

    longest = config.opening_words + config.steps * (config.observation_words + config.action_tokens + 2) + 64
    rows = config.tasks * config.nodes * config.candidates
    sizes = SamplerConfig(
        slots=2 * rows, rows=min(64, rows), capacity=-(-longest // 64) * 64, max_tokens=config.action_tokens
    )
    return NativeSampler(decoder, params, encoder, sizes)


def play(config: SearchConfig, decoder: DecoderConfig, encoder: ChatEncoder, params: Any) -> Recorder:
    """Plays the search once and keeps what it asked."""
    from agentprm_jax.scoring import Prm
    from agentprm_jax.search import beam_search

    prm = Prm(decoder, params, encoder, initial_value=0.0)
    recorder = Recorder(prm, make_sampler(config, decoder, encoder, params))
    beam_search(
        [f"made_{task}" for task in range(config.tasks)],
        make_environment=lambda: MadeWorld(config),
        actor=recorder,
        scorer=recorder,
        nodes=config.nodes,
        candidates=config.candidates,
        temperature=1.0,
        seed=0,
        max_tokens=config.action_tokens,
    )
    return recorder
