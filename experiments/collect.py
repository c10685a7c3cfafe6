"""Collect trajectories: an actor, or the scripted expert, plays the tasks of an environment.

Command:

    uv run experiments/collect.py --actor expert --tasks.levels PickupLoc --tasks.count 1000 --output runs/demos
    uv run experiments/collect.py --actor runs/actor/model --samples 16 --output runs/train
    uv run experiments/collect.py --actor runs/actor/model --tasks.split test --samples 32 --output runs/pool
    uv run experiments/collect.py --actor remote --remote.model Qwen/Qwen2.5-7B-Instruct --samples 16 --output runs/pool

A remote actor is any OpenAI-compatible server, by default one on this machine at port 8000; its key is read from the
environment. An episode whose requests fail is started anew, and left out after ATTEMPTS starts: the command then ends
with an error that counts what is missing. Where the server is and how patiently it is asked may change from one start
of the command to the next. What the actor has read, and sampled for no trajectory, is added up in OUTPUT/spent.json.

The trajectories lie in OUTPUT/trajectories.jsonl, one a line, written as episodes end: run the same command again and
an interrupted collection goes on with what is missing.
"""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from agentprm_jax.actors.config import RemoteConfig, SamplerConfig
from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.ranges import check, check_counts
from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from agentprm_jax.actors.base import Actor
    from agentprm_jax.actors.remote import RemoteActor
    from agentprm_jax.actors.sampler import NativeSampler
    from agentprm_jax.data.trajectory import Trajectory, TrajectoryWriter
    from agentprm_jax.search.demonstrate import Expert
    from agentprm_jax.search.episode import MakeEnvironment

TRAJECTORIES = "trajectories.jsonl"
REMOTE, EXPERT = "remote", "expert"
WRITTEN_TOGETHER = 64
"""Trajectories between two writes that are forced to the disk; a kill loses at most these, and Ctrl-C none."""


@dataclass(frozen=True)
class CollectConfig:
    """Settings of one collection."""

    actor: str
    """Folder or GGUF file of the actor's model, "remote" for a model on a server, or "expert" for the environment's
    scripted one."""
    output: Path
    """Folder of the collection; continued if it holds the same one, refused if it holds another."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """Environment and its form."""
    tasks: TaskConfig = field(default_factory=TaskConfig)
    """Tasks to play."""
    samples: int = 1
    """Trajectories a task; the paper takes 16. Those of the expert differ where they are disturbed."""
    temperature: float = 1.0
    """Sampling temperature of the actor; 0 is greedy."""
    max_tokens: int = 16
    """Most tokens of an action; one that is cut off there is played as it is, marked in its trajectory and counted."""
    disturbed: float = 0.0
    """Expert only: share of the episodes into which random actions are mixed, in [0, 1]; those carry no loss."""
    disturbance: float = 0.2
    """Expert only: chance that an action of a disturbed episode is random, in [0, 1]."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Sizes of the sampler."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    """Remote actor only: the server and its model."""
    attempts: int = 3
    """Remote actor only: times that an episode is started before it is left out."""
    seed: int = 0
    """Of sampling and disturbance."""

    def __post_init__(self) -> None:
        """Raises ValueError for a number out of range, and for a remote actor without a model."""
        check_counts(self, "samples", "max_tokens", "attempts")
        check(self, "temperature", 0 <= self.temperature < math.inf, "a finite number of at least 0")
        for name in ("disturbed", "disturbance"):
            check(self, name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        check(self, "seed", self.seed >= 0, "a whole number of at least 0")
        check_remote("CollectConfig", self.actor, self.remote)

    @property
    def what(self) -> CollectConfig:
        """The settings that decide what is collected; the server's address and our patience with it do not."""
        asked = RemoteConfig(model=self.remote.model, stop=self.remote.stop)
        return replace(self, remote=asked, attempts=CollectConfig.attempts)


def main(config: CollectConfig) -> None:
    """Collects what OUTPUT does not hold yet."""
    from agentprm_jax.data.trajectory import iterate_trajectories
    from agentprm_jax.envs import make_env
    from agentprm_jax.envs.tasks import list_tasks
    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.reporting.spending import accounted, read_account
    from agentprm_jax.reporting.stage import StageFolder

    tasks = list_tasks(config.environment.name, config.tasks)
    stage = StageFolder(config.output, f"collect {config.output.name}", config.what, ignore=("output",))
    if stage.done:
        return
    path = config.output / TRAJECTORIES

    def make_environment():
        return make_env(config.environment.name, **config.environment.options)

    with stage.clock():
        actor = None if config.actor == EXPERT else find_actor(config.actor, config.sampler, config.remote)
        with open_collection(path) as writer, accounted(actor, path) if actor else nullcontext():
            known = list(iterate_trajectories(path))
            done = {trajectory.id for trajectory in known}
            if actor is None:
                missing = expert_play(config, tasks, make_environment, done)
            else:
                missing = actor_play(config, actor, tasks, make_environment, done)
            shown = progress(missing, stage.name, total=len(tasks) * config.samples, done=len(known))
            known += write_together(writer, shown)
        stage.finish(**tally(known), **read_account(config.output))
    print(f"{stage.name}: {endings(known)}.", file=sys.stderr)


@contextmanager
def open_collection(path: Path) -> Iterator[TrajectoryWriter]:
    """The writer of the collection; a file into which nothing has been written is not left behind."""
    from agentprm_jax.data.trajectory import TrajectoryWriter

    with TrajectoryWriter(path) as writer:
        try:
            yield writer
        finally:
            if not path.stat().st_size:
                path.unlink()


def write_together(writer: TrajectoryWriter, trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """Writes trajectories as they come, `WRITTEN_TOGETHER` at once, and returns them.

    Whatever stops them from coming, those that came are written before it goes on its way.
    """
    written, batch = [], []
    try:
        for trajectory in trajectories:
            written.append(trajectory)
            batch.append(trajectory)
            if len(batch) == WRITTEN_TOGETHER:
                full, batch = batch, []  # what the disk refuses is not sent to it again below
                writer.extend(full)
    finally:
        writer.extend(batch)
    return written


def tally(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    """What the trajectories have taken, as counting fields of `Stage`."""
    return {
        "tokens_sampled": sum(one.actor.sampled_tokens for one in trajectories if one.actor),
        "environment_steps": sum(len(one.rewards) for one in trajectories),
        "episodes_outgrown": sum(outgrown(one) for one in trajectories),
        "actions_cut": sum(sum(one.action_cut) for one in trajectories),
    }


def endings(trajectories: Sequence[Trajectory]) -> str:
    """How many trajectories ended in which way, and how many actions were cut off, for people."""
    counts, cut = tally(trajectories), sum(one.ended == "truncated" for one in trajectories)
    long = counts["episodes_outgrown"]
    said = f"{len(trajectories):,} trajectories, {len(trajectories) - cut:,} of them ended by themselves"
    ends = f"{said}, {cut - long:,} at the round limit and {long:,} where the actor's context was full"
    return f"{ends}; max_tokens cut off {counts['actions_cut']:,} of {counts['environment_steps']:,} actions"


def outgrown(trajectory: Trajectory) -> bool:
    """Whether the actor's context ended the episode."""
    from agentprm_jax.search.episode import CONTEXT, ENDED_BY

    return trajectory.extra.get(ENDED_BY) == CONTEXT


def expert_play(
    config: CollectConfig, tasks: list[str], make_environment: MakeEnvironment, done: Container[str]
) -> Iterator[Trajectory]:
    """Demonstrations of the tasks that are not done."""
    from agentprm_jax.search.demonstrate import demonstrate

    return demonstrate(
        tasks,
        make_environment=make_environment,
        expert=load_expert(config.environment.name),
        samples=config.samples,
        seed=config.seed,
        disturbed=config.disturbed,
        disturbance=config.disturbance,
        split=config.tasks.split,
        done=done,
    )


def actor_play(
    config: CollectConfig, actor: Actor, tasks: list[str], make_environment: MakeEnvironment, done: Container[str]
) -> Iterator[Trajectory]:
    """Sampled trajectories that are not done."""
    from agentprm_jax.search import collect

    return collect(
        tasks,
        make_environment=make_environment,
        actor=actor,
        samples=config.samples,
        temperature=config.temperature,
        seed=config.seed,
        max_tokens=config.max_tokens,
        concurrency=config.remote.concurrency if config.actor == REMOTE else config.sampler.slots,
        attempts=config.attempts,
        split=config.tasks.split,
        done=done,
    )


def load_expert(environment: str) -> Expert:
    """The scripted expert of an environment."""
    if environment == "babyai":
        from agentprm_jax.actors.babyai_expert import BabyAIExpert

        return BabyAIExpert()
    from agentprm_jax.actors.textcraft_expert import TextCraftExpert

    return TextCraftExpert()


def find_actor(actor: str, sampler: SamplerConfig, remote: RemoteConfig) -> Actor:
    """The model in a folder, or the one on a server."""
    return load_remote(remote) if actor == REMOTE else load_actor(Path(actor), sampler)


def check_remote(owner: str, actor: str, remote: RemoteConfig) -> None:
    """Checks that a remote actor has a model, before anything is written.

    Raises:
        ValueError: it has none.
    """
    if actor == REMOTE and not remote.model:
        raise ValueError(f"{owner}.remote.model must name a model of the server for a remote actor, got ''.")


def load_actor(folder: Path, sampler: SamplerConfig) -> NativeSampler:
    """The sampler of a model folder."""
    from agentprm_jax.actors.sampler import NativeSampler
    from agentprm_jax.actors.stops import read_stop_tokens
    from agentprm_jax.data.tokenizer_files import load_encoder
    from agentprm_jax.models import load_pretrained

    config, params = load_pretrained(folder)
    encoder = load_encoder(folder, vocab_size=config.vocab_size)
    stops = read_stop_tokens(folder)
    return NativeSampler(config, params, encoder, sampler, stop_tokens=stops, name=actor_name(folder))


def actor_name(model: Path) -> str:
    """What the actor of a model is called in trajectories: as the folder or the file of the model.

    A folder that is called `model`, as training writes them, is named by the one that it lies in.
    """
    whole = Path(os.path.abspath(model))
    if whole.is_file():
        return whole.stem
    return whole.parent.name if whole.name == "model" else whole.name


def load_remote(config: RemoteConfig) -> RemoteActor:
    """The actor that asks a server."""
    from agentprm_jax.actors.remote import RemoteActor

    return RemoteActor(config)


if __name__ == "__main__":
    run_command(main, tyro.cli(CollectConfig, description=__doc__))
