"""The whole method on one machine: demonstrations, actor, pools, PRMs, Best-of-N and beam search with every control.

Command:

    uv run experiments/quickstart.py                      # about 14 minutes on two cores
    uv run experiments/quickstart.py --preset full        # five PRM seeds, twice the tasks, beam @8x8: 110 minutes
    uv run experiments/quickstart.py --preset textcraft   # the same in TextCraft

The environment is played in declared form: the actor ends an episode by saying `finish`, and the outcome is whether the
goal holds at that moment, so that neither length nor ending gives the answer away. Ends with a table on the terminal,
results.json, pictures and report.html in OUTPUT/evaluation. Interrupt it at any time; the same command goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tyro
from collect import TRAJECTORIES, CollectConfig
from evaluate import EvaluateConfig, measurement_names
from jobs import Job, run_jobs
from sft import ModelConfig, SftConfig
from train_prm import TrainPrmConfig

from agentprm_jax.actors.config import SamplerConfig
from agentprm_jax.commands.answer import run_command
from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.training.config import LoopConfig, OptimizerConfig, PrmObjectiveConfig

LEVELS = ("ActionObjDoor", "PickupLoc", "GoToLocalS8N7", "OpenDoorsOrderN4Debug")
FIRST_SEED = {"test": 0, "development": 10_000, "demonstrations": 100_000, "train": 200_000}


@dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the whole pipeline; the defaults are those of the preset."""

    preset: str = "default"
    """Which set of defaults: default, full, textcraft or smoke."""
    output: Path = Path("runs/quickstart")
    """Folder of the run; continued if it holds the same one, refused if it holds another."""
    workers: int = 2
    """Stages that run at once, each in a process of its own on one core; 1 on an accelerator."""
    environment: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
    """Environment and its form."""
    levels: tuple[str, ...] = LEVELS
    """BabyAI levels, in equal shares; empty for an environment without levels."""
    test_split: str = "test"
    """Tasks that are reported: test, or development for tuning."""
    demonstrations: int = 4000
    """Tasks that the expert shows."""
    demonstration_samples: int = 1
    """Demonstrations of each of them."""
    actor_steps: int = 400
    """Updates of the actor."""
    trunk_steps: int = 700
    """Updates of the language model that PRMs start from; it learns to predict observations too."""
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
    seed: int = 0
    """Of everything."""

    def tasks(self, split: str, count: int) -> TaskConfig:
        """The tasks of a split: disjoint ranges of level seeds, or AgentGym's split."""
        if self.levels:
            return TaskConfig(split=split, levels=self.levels, first_seed=FIRST_SEED[split], count=count)
        return TaskConfig(split="test" if split == "test" else "train", count=count)


PRESETS = {
    "default": QuickstartConfig(),
    "full": QuickstartConfig(
        preset="full",
        output=Path("runs/quickstart-full"),
        demonstrations=8000,
        trunk_steps=2500,
        train_tasks=4000,
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
    ),
    "smoke": QuickstartConfig(
        preset="smoke",
        output=Path("runs/quickstart-smoke"),
        demonstrations=200,
        actor_steps=60,
        trunk_steps=40,
        train_tasks=100,
        train_samples=2,
        prm_epochs=1.0,
        test_tasks=20,
        pool_samples=8,
        sizes=(1, 2, 4, 8),
        beams=("1x2", "2x2"),
    ),
}
"""Every preset by name."""


def main(config: QuickstartConfig) -> None:
    """Runs what OUTPUT does not hold yet, then reports."""
    import evaluate

    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.reporting.stage import StageFolder

    StageFolder(config.output, "quickstart", config, ignore=("output", "workers"))
    jobs = plan(config)
    names = run_jobs(jobs, config.workers, config.output / "logs", config.output / "compiled")
    for _ in progress(names, "stages", total=len(jobs)):
        pass
    evaluate.report(evaluation(config), stages(config, jobs), "")


def plan(config: QuickstartConfig) -> list[Job]:
    """All jobs, in an order in which each could run after those before it."""
    collections, runs = collect_configs(config), sft_configs(config)
    jobs = [Job("demonstrations", "collect", "main", (collections["demonstrations"],))]
    jobs += [Job(name, "sft", "main", (run,), ("demonstrations",)) for name, run in runs.items()]
    jobs.append(Job("expert", "collect", "main", (collections["expert"],)))
    jobs += [Job(name, "collect", "main", (collections[name],), ("actor",)) for name in ("train", "pool", "greedy")]
    prms = prm_configs(config)
    jobs += [Job(name, "train_prm", "main", (prm,), ("trunk", "train")) for name, prm in prms.items()]
    settings = evaluation(config)
    for name in measurement_names(settings):
        needs = ("pool", name) if name in prms else ("actor",)
        jobs.append(Job(f"measure-{name}", "evaluate", "measure", (settings, name), needs))
    return jobs


def collect_configs(config: QuickstartConfig) -> dict[str, CollectConfig]:
    """Who plays what."""
    test = config.tasks(config.test_split, config.test_tasks)
    shared = {
        "environment": config.environment,
        "sampler": sampler(config),
        "seed": config.seed,
        "max_tokens": max_tokens(config),
    }
    actor = str(config.output / "actor" / "model")
    return {
        "demonstrations": CollectConfig(
            actor="expert",
            output=config.output / "demonstrations",
            tasks=config.tasks("demonstrations", config.demonstrations),
            samples=config.demonstration_samples,
            disturbed=0.75,
            **shared,
        ),
        "expert": CollectConfig(actor="expert", output=config.output / "expert", tasks=test, **shared),
        "train": CollectConfig(
            actor=actor,
            output=config.output / "train",
            tasks=config.tasks("train", config.train_tasks),
            samples=config.train_samples,
            **shared,
        ),
        "pool": CollectConfig(
            actor=actor, output=config.output / "pool", tasks=test, samples=config.pool_samples, **shared
        ),
        "greedy": CollectConfig(actor=actor, output=config.output / "greedy", tasks=test, temperature=0.0, **shared),
    }


def sft_configs(config: QuickstartConfig) -> dict[str, SftConfig]:
    """The actor, and the better trained language model that PRMs start from."""
    shared = {
        "trajectories": config.output / "demonstrations" / TRAJECTORIES,
        "environment": config.environment,
        "model": ModelConfig(max_positions=episode_tokens(config)),
        "optimizer": OptimizerConfig(rule="muon", learning_rate=6e-3),
        "row_length": demonstration_tokens(config),
        "seed": config.seed,
    }
    batch = batches(demonstration_tokens(config))
    return {
        "actor": SftConfig(
            output=config.output / "actor", loop=LoopConfig(steps=config.actor_steps, **batch), **shared
        ),
        "trunk": SftConfig(
            output=config.output / "trunk",
            loop=LoopConfig(steps=config.trunk_steps, **batch),
            imitate="everything",
            **shared,
        ),
    }


def prm_configs(config: QuickstartConfig) -> dict[str, TrainPrmConfig]:
    """Every method and seed."""
    return {
        f"prm-{method}-{seed}": TrainPrmConfig(
            trajectories=config.output / "train" / TRAJECTORIES,
            init=config.output / "trunk" / "model",
            output=config.output / f"prm-{method}-{seed}",
            objective=PrmObjectiveConfig(method=method, lam=config.lam),  # pyright: ignore[reportArgumentType]
            optimizer=OptimizerConfig(learning_rate=config.prm_learning_rate),
            loop=LoopConfig(epochs=config.prm_epochs, **batches(episode_tokens(config))),
            row_length=episode_tokens(config),
            seed=seed,
        )
        for seed in range(config.prm_seeds)
        for method in config.methods
    }


def evaluation(config: QuickstartConfig) -> EvaluateConfig:
    """The evaluation of all PRMs."""
    return EvaluateConfig(
        pool=config.output / "pool",
        greedy=config.output / "greedy",
        expert=config.output / "expert",
        actor=config.output / "actor" / "model",
        prms=tuple(prm.output for prm in prm_configs(config).values()),
        training_trajectories=config.output / "train" / TRAJECTORIES,
        output=config.output / "evaluation",
        environment=config.environment,
        tasks=config.tasks(config.test_split, config.test_tasks),
        sizes=config.sizes,
        beams=config.beams,
        max_tokens=max_tokens(config),
        sampler=sampler(config),
        seed=config.seed,
    )


def batches(row_length: int) -> dict[str, int]:
    """Rows of a batch, of 4,096 tokens at most, and the parts of it that are differentiated one after the other.

    The activations of 1,024 tokens stay in the cache of one core: that is a third faster than all of them at once.
    """
    rows = 4096 // row_length
    return {"rows_per_batch": rows, "microbatches": rows // (1024 // row_length)}


def demonstration_tokens(config: QuickstartConfig) -> int:
    """Tokens of a row that holds the longest demonstration."""
    return 384 if config.environment.name == "babyai" else 640


def episode_tokens(config: QuickstartConfig) -> int:
    """Tokens of a row, and of a slot of the sampler; an episode that needs more is cut off."""
    return 512 if config.environment.name == "babyai" else 640


def max_tokens(config: QuickstartConfig) -> int:
    """Most tokens of an action."""
    return 8 if config.environment.name == "babyai" else 24


def sampler(config: QuickstartConfig) -> SamplerConfig:
    """Slots that hold an episode."""
    return SamplerConfig(slots=1024, capacity=episode_tokens(config), max_tokens=max_tokens(config))


def stages(config: QuickstartConfig, jobs: list[Job]) -> list:
    """The records of the stages before the evaluation."""
    import msgspec

    from agentprm_jax.reporting.results import Stage
    from agentprm_jax.reporting.stage import DONE_FILE

    folders = [config.output / job.name for job in jobs if job.module != "evaluate"]
    return [msgspec.json.decode((folder / DONE_FILE).read_bytes(), type=Stage) for folder in folders]


def parse() -> QuickstartConfig:
    """Reads the command line: the preset first, which gives the defaults of all else."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=sorted(PRESETS), default="default")
    preset = PRESETS[first.parse_known_args()[0].preset]
    return tyro.cli(QuickstartConfig, default=preset, description=__doc__)


if __name__ == "__main__":
    run_command(main, parse())
