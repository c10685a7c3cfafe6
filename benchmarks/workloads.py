"""What the benchmark of throughput works on: trajectories of realistic lengths, with a tokenizer and a random model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from random_llama import byte_pair_tokenizer

from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.models.config import DecoderConfig

if TYPE_CHECKING:
    from agentprm_jax.data import ChatEncoder, EncodedTrajectory, Trajectory

LEVELS = ("ActionObjDoor", "PickupLoc", "GoToLocalS8N7", "OpenDoorsOrderN4Debug")
"""The levels of the quickstart."""
LONG_STEPS = 15
"""Actions of the trajectories whose prefixes are scored."""
_DISTURBED, _DISTURBANCE = 0.75, 0.5
_SPECIAL = 3


@dataclass(frozen=True)
class WorkloadConfig:
    """How a workload is made."""

    environment: EnvironmentConfig
    """What is played, and in which words."""
    trajectories: int
    """How many are trained on and scored; a multiple of `together`."""
    together: int
    """Trajectories of one update, on both sides."""
    long: int
    """How many trajectories of LONG_STEPS actions are scored by prefixes."""
    model: dict[str, Any]
    """Fields of the decoder; the vocabulary is the tokenizer's where none is given."""


@dataclass(frozen=True)
class Workload:
    """Trajectories and a model.

    Attributes:
        name: key of WORKLOADS.
        config: how it was made.
        trajectories: to train on and to score.
        long: all of LONG_STEPS actions.
        encoder: makes tokens.
        decoder: float32.
        folder: the reward model in Hugging Face's layout, weights in float32.
        parameters: how many it has.
    """

    name: str
    config: WorkloadConfig
    trajectories: Sequence[Trajectory]
    long: Sequence[Trajectory]
    encoder: ChatEncoder
    decoder: DecoderConfig
    folder: Path
    parameters: int

    def real_tokens(self, trajectories: Sequence[Trajectory]) -> int:
        """Tokens of trajectories without any padding."""
        return sum(len(one.tokens) for one in self.encoded(trajectories))

    def encoded(self, trajectories: Sequence[Trajectory]) -> list[EncodedTrajectory]:
        """Tokens up to the last action, which are all that a reward model needs."""
        return [self.encoder.encode(trajectory).up_to_last_action() for trajectory in trajectories]


WORKLOADS = {
    "quickstart": WorkloadConfig(
        environment=EnvironmentConfig(),
        trajectories=256,
        together=32,
        long=8,
        model={"embed": 128, "mlp": 256, "layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 32},
    ),
    "half-width Qwen2.5-0.5B": WorkloadConfig(
        environment=EnvironmentConfig(form="agentgym", text="agentgym", max_rounds=20),
        trajectories=16,
        together=8,
        long=1,
        model={
            "vocab_size": 16_384,
            "embed": 448,
            "mlp": 2432,
            "layers": 6,
            "heads": 7,
            "kv_heads": 1,
            "head_dim": 64,
        },
    ),
}
"""The model and the words of the quickstart; and a quarter of the layers of Qwen2.5-0.5B at half their width, over
AgentGym's sentences."""


def make_workload(name: str, folder: Path) -> Workload:
    """Plays, makes a tokenizer and writes a random reward model into `folder`."""
    import jax

    from agentprm_jax.data import ChatEncoder, word_tokenizer
    from agentprm_jax.envs.tasks import compact_vocabulary
    from agentprm_jax.models import init_reward_model, save_pretrained

    config = WORKLOADS[name]
    played = play(config.environment, config.trajectories, seed=0)
    long = play_long(config.environment, config.long)
    if config.environment.text == "compact":
        encoder = ChatEncoder(word_tokenizer(compact_vocabulary(config.environment)))
    else:
        texts = [message.content for trajectory in played for message in trajectory.messages]
        encoder = ChatEncoder(byte_pair_tokenizer(texts, config.model["vocab_size"] - _SPECIAL))
    shape: dict[str, Any] = {"vocab_size": encoder.vocab_size} | config.model
    decoder = DecoderConfig(**shape, rope_theta=1e6, norm_eps=1e-6, max_positions=8192, qkv_bias=True)
    params = init_reward_model(decoder, jax.random.key(0))
    ends = {"pad_token_id": encoder.pad_id, "end_of_turn_id": encoder.end_of_turn_id}
    save_pretrained(folder, decoder, params, **ends)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Workload(name, config, played, long, encoder, decoder, folder, parameters)


def play(
    environment: EnvironmentConfig,
    count: int,
    *,
    seed: int,
    disturbed: float = _DISTURBED,
    disturbance: float = _DISTURBANCE,
) -> list[Trajectory]:
    """Episodes of the expert; in a share of them some actions are random, as an actor in training would play."""
    from agentprm_jax.actors.babyai_expert import BabyAIExpert
    from agentprm_jax.envs import make_env
    from agentprm_jax.envs.tasks import list_tasks
    from agentprm_jax.search.demonstrate import demonstrate

    tasks = list_tasks(environment.name, TaskConfig(levels=LEVELS, count=count, first_seed=seed))
    return list(
        demonstrate(
            tasks,
            make_environment=lambda: make_env(environment.name, **environment.options),
            expert=BabyAIExpert(),
            seed=seed,
            disturbed=disturbed,
            disturbance=disturbance,
        )
    )


def play_long(environment: EnvironmentConfig, count: int) -> list[Trajectory]:
    """Episodes of random actions that are cut off after LONG_STEPS."""
    limited = replace(environment, form="agentgym", max_rounds=LONG_STEPS)
    played = play(limited, 8 * count, seed=1000, disturbed=1.0, disturbance=1.0)
    return [trajectory for trajectory in played if len(trajectory.rewards) == LONG_STEPS][:count]
