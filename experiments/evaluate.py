"""Evaluate PRMs on held-out tasks: Best-of-N and beam search beside every control, and how good the promises are.

Command:

    uv run experiments/evaluate.py --pool runs/pool --greedy runs/greedy --expert runs/expert --actor runs/actor/model \
        --prms runs/prm-agentprm-0 runs/prm-orm-0 --training-trajectories runs/train/trajectories.jsonl \
        --output runs/evaluation

Prints the table, and writes results.json, pictures and report.html into OUTPUT. What was measured is kept, the scores
of the pool and every beam of each PRM for itself, so that an interrupted evaluation goes on with the next one, on other
devices if you like: a PRM that does not fit on a device lies on several of this host with --mesh.fsdp N or
--mesh.tensor N. An evaluation is one process: further hosts take evaluations of their own, of other PRMs (docs/pods.md
says why). With --actor remote --remote.model NAME an OpenAI-compatible server proposes the actions of beam search (see
collect.py); its answers are kept while the process runs, so that all scorers choose from the same ones.
"""

from __future__ import annotations

import datetime
import functools
import math
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from collect import REMOTE, TRAJECTORIES, check_remote, find_actor

from agentprm_jax.actors.config import RemoteConfig, SamplerConfig
from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.loading import load_on_mesh
from agentprm_jax.commands.model_folder import find_model
from agentprm_jax.commands.ranges import check, check_beams, check_counts, check_sizes
from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.scoring.config import TOKENS_PER_BATCH
from agentprm_jax.training.config import MeshConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agentprm_jax.actors.base import Actor
    from agentprm_jax.reporting.evaluation import SearchOutcomes
    from agentprm_jax.reporting.findings import Findings, Measurements
    from agentprm_jax.reporting.page import Picture
    from agentprm_jax.reporting.pool import Pool
    from agentprm_jax.reporting.results import Results, Stage
    from agentprm_jax.reporting.stage import StageFolder
    from agentprm_jax.scoring.base import ConversationScorer
    from agentprm_jax.search.result import SearchResult

MEASUREMENTS = "measurements"
RANDOM = {f"random-{seed}": (f"random_beam-{seed}", f"random_beam_finished_first-{seed}") for seed in range(3)}
"""Beams with random scores of one seed each, and their files: as they are, and with finished paths first."""
WIDTH = 260
"""Columns of the table where there is no terminal whose width counts."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of one evaluation."""

    pool: Path
    """Folder of a collection (collect.py): the same number of samples of every task."""
    greedy: Path
    """Folder of a collection with temperature 0, one sample a task."""
    expert: Path
    """Folder of the expert's collection, one a task."""
    actor: str
    """Folder of the actor's model, or "remote" for a model on a server; it proposes actions in beam search."""
    prms: tuple[Path, ...]
    """Folders of PRM runs (train_prm.py), or of PRMs that were imported or exported."""
    training_trajectories: Path
    """Trajectories that the PRMs were trained on: where the reference predictors take their means from."""
    output: Path
    """Folder of the evaluation; continued if it holds the same one, refused if it holds another."""
    untrained: Path | None = None
    """Folder of a collection with temperature 0 by the model that the actor was before SFT, if there is one."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """Environment and its form."""
    tasks: TaskConfig = field(default_factory=lambda: TaskConfig(split="test"))
    """Held-out tasks."""
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of samples N of Best-of-N."""
    beams: tuple[str, ...] = ("1x4", "2x2", "4x4")
    """Sizes NxM of beam search: N nodes, M candidates each."""
    temperature: float = 0.7
    """Of the candidates in beam search; 0.7 as in the paper."""
    max_tokens: int = 16
    """Most tokens of an action."""
    concurrency: int = 2048
    """Candidates that are sampled at once in beam search: how many tasks are searched together."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Sizes of the sampler."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    """Remote actor only: the server and its model."""
    attempts: int = 3
    """Remote actor only: times that it is asked about a path before the search goes on without it."""
    seed: int = 0
    """Of the candidates in beam search."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Devices of the PRM; the actor lies on the first alone."""
    tokens_per_batch: int = TOKENS_PER_BATCH
    """Tokens of a full forward pass of the PRM on all devices; at least one row is taken. On accelerators more is
    faster."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of range, and for a remote actor without a model."""
        check_sizes(self)
        check_beams(self)
        check_counts(self, "max_tokens", "concurrency", "attempts", "tokens_per_batch")
        check(self, "temperature", 0 <= self.temperature < math.inf, "a finite number of at least 0")
        check(self, "seed", self.seed >= 0, "a whole number of at least 0")
        check_remote("EvaluateConfig", self.actor, self.remote)


def main(config: EvaluateConfig, stages: Sequence[Stage] = (), headline: str = "") -> Results:
    """Measures what is missing, then reports."""
    from agentprm_jax.reporting.progress import progress

    check_inputs(config)
    with claim(config).held():
        jobs = measurements(config)
        for name in progress(jobs, "evaluate", total=len(jobs)):
            measure(config, name)
        return report(config, stages, headline)


def check_inputs(config: EvaluateConfig) -> None:
    """Checks, before anything is written, that what is evaluated is there and that its PRMs can be told apart.

    Raises:
        FileNotFoundError: trajectories, a PRM or the actor are missing.
        ValueError: the pool does not hold enough samples of the tasks, or two PRMs would be the same line of a table.
    """
    from agentprm_jax.reporting.prm_training import check_apart, prm_training
    from agentprm_jax.scoring.prm_files import read_prm_record

    folders = [config.pool, config.greedy, config.expert, *([config.untrained] if config.untrained else [])]
    for path in (*(folder / TRAJECTORIES for folder in folders), config.training_trajectories):
        if not path.is_file():
            raise FileNotFoundError(f"There are no trajectories in {path}: expected a file that collect.py wrote.")
    if config.actor != REMOTE and not Path(config.actor).exists():
        raise FileNotFoundError(f"There is no actor in {config.actor}: expected the folder of a model, or {REMOTE}.")
    samples = read_pool(config).shape[1]
    if samples < config.sizes[-1]:
        raise ValueError(
            f"Best of {config.sizes[-1]} needs as many samples of each task, got {samples} in {config.pool}."
        )
    check_apart({prm: prm_training(read_prm_record(find_model(prm).model)) for prm in config.prms})


def claim(config: EvaluateConfig) -> StageFolder:
    """Notes in OUTPUT what is evaluated there, or raises RunMismatch if that is something else."""
    from agentprm_jax.reporting.stage import StageFolder

    return StageFolder(config.output, "evaluate", config, ignore=("output", "mesh", "tokens_per_batch"))


def prm_folders(config: EvaluateConfig) -> dict[str, Path]:
    """The PRMs by the names of their measurements."""
    from agentprm_jax.reporting.evaluation import measurement_names

    return measurement_names(config.prms, taken=[*RANDOM, *(name for pair in RANDOM.values() for name in pair)])


def measurements(config: EvaluateConfig) -> list[str]:
    """What has to be measured: every PRM, and beams with random scores."""
    return [*prm_folders(config), *RANDOM]


def measure(config: EvaluateConfig, name: str) -> None:
    """Measures one PRM, or the beams with random scores of one seed, unless that is done."""
    folder = config.output / MEASUREMENTS
    folder.mkdir(parents=True, exist_ok=True)
    if name in RANDOM:
        measure_random(config, name, folder)
    else:
        measure_prm(config, prm_folders(config)[name], folder / f"{name}.json")


def measure_prm(config: EvaluateConfig, prm_folder: Path, path: Path) -> None:
    """Scores the pool and searches with one PRM."""
    from agentprm_jax.reporting.evaluation import check_kept, digest_inputs
    from agentprm_jax.reporting.prm_training import prm_training
    from agentprm_jax.scoring.prm_files import PRM, read_prm_record

    folder = find_model(prm_folder).model

    def inputs() -> str:
        return digest_inputs([folder / PRM, config.pool / TRAJECTORIES])

    if path.exists():
        check_kept(path, inputs())
        return
    start = time.monotonic()
    prm = load_on_mesh(folder, config.mesh, tokens_per_batch=config.tokens_per_batch)
    training = prm_training(read_prm_record(folder))
    actor = proposer(config.actor, config.sampler, config.remote)

    def score_pool() -> dict[str, Any]:
        promises = [list(scores.promise) for scores in prm.score(read_pool(config).flat)]
        return {"promises": promises, "pool_tokens": prm.tokens_scored}

    def search_beam(size: str) -> dict[str, Any]:
        prm.forget_conversations()  # every search pays for what it reads
        scored, kept = prm.tokens_scored, prm.tokens_kept
        found = search(config, size, actor, prm, finished_first=False)
        return {"beams": {size: outcomes_of(found, prm.tokens_scored - scored, prm.tokens_kept - kept)}}

    # the largest beam first: much of what the others need is remembered then
    beams = {size: functools.partial(search_beam, size) for size in reversed(config.beams)}
    whose = {"method": training.method, "seed": training.seed, "initial_value": prm.initial_value, "training": training}
    measure_parts(path, {"pool": score_pool} | beams, whose | {"inputs": inputs()}, start)


def measure_random(config: EvaluateConfig, name: str, folder: Path) -> None:
    """Searches with random scores: as they are, and preferring paths that ended by themselves."""
    from agentprm_jax.scoring.random_scorer import RandomScorer

    seed = int(name.removeprefix("random-"))
    actor = proposer(config.actor, config.sampler, config.remote)

    def search_beam(size: str, finished_first: bool) -> dict[str, Any]:
        found = search(config, size, actor, RandomScorer(seed), finished_first=finished_first)
        return {"beams": {size: outcomes_of(found)}}

    for file, finished_first in zip(RANDOM[name], (False, True), strict=True):
        path = folder / f"{file}.json"
        if not path.exists():
            beams = {size: functools.partial(search_beam, size, finished_first) for size in config.beams}
            measure_parts(path, beams, {"method": file.rsplit("-", 1)[0], "seed": seed}, time.monotonic())


def measure_parts(
    path: Path, parts: Mapping[str, Callable[[], dict[str, Any]]], whose: dict[str, Any], start: float
) -> None:
    """Measures what is missing of one scorer and keeps every part, so that an interruption costs the one it comes in.

    Args:
        path: the file of the whole, which takes the place of the parts when all are there.
        parts: what gives the fields of `Evaluation` that each part is about, by the names of their files.
        whose: the fields that all have in common.
        start: when work on the first one that is missing began, on the monotonic clock.
    """
    from agentprm_jax.reporting.evaluation import Evaluation, check_kept, join_parts, write_evaluation
    from agentprm_jax.reporting.provenance import join_origins, origin_here

    folder = path.with_name(f"{path.stem}.parts")
    folder.mkdir(exist_ok=True)
    common = {"promises": [], "pool_tokens": 0, "beams": {}} | join_origins([origin_here()]) | whose
    files = {folder / f"{part}.json": measured for part, measured in parts.items()}
    kept = []
    for file, measured in files.items():
        if not file.exists():
            fields = common | measured()
            write_evaluation(file, Evaluation(**fields, minutes=(time.monotonic() - start) / 60))
            start = time.monotonic()
        kept.append(check_kept(file, common.get("inputs")))
    write_evaluation(path, join_parts(kept))
    shutil.rmtree(folder)


@functools.cache
def proposer(actor: str, sampler: SamplerConfig, remote: RemoteConfig) -> Actor:
    """The actor of all searches in this process: what one has asked is at hand for the next."""
    from agentprm_jax.actors.remembering import RememberingActor

    return RememberingActor(find_actor(actor, sampler, remote))


def search(
    config: EvaluateConfig, size: str, actor: Actor, scorer: ConversationScorer, *, finished_first: bool
) -> list[SearchResult]:
    """Beam search on all tasks."""
    from agentprm_jax.envs import make_env
    from agentprm_jax.envs.tasks import list_tasks
    from agentprm_jax.search import beam_search

    nodes, candidates = map(int, size.split("x"))
    found = beam_search(
        list_tasks(config.environment.name, config.tasks),
        make_environment=lambda: make_env(config.environment.name, **config.environment.options),
        actor=actor,
        scorer=scorer,
        nodes=nodes,
        candidates=candidates,
        temperature=config.temperature,
        seed=config.seed,
        max_tokens=config.max_tokens,
        concurrency=config.concurrency,
        attempts=config.attempts,
        finished_first=finished_first,
    )
    if given_up := sum(result.unanswered for result in found):
        print(
            f"Beam search @{size}: {given_up} paths were given up, because the actor gave no answer.", file=sys.stderr
        )
    return found


def outcomes_of(results: Sequence[SearchResult], scored_tokens: int = 0, kept_tokens: int = 0) -> SearchOutcomes:
    """The record of a search on all tasks, for which a scorer read so many tokens and had kept so many."""
    from agentprm_jax.reporting.evaluation import SearchOutcomes

    return SearchOutcomes(
        outcomes=[r.trajectory.outcome for r in results],
        terminated=[r.trajectory.ended == "terminated" for r in results],
        sampled_tokens=[r.sampled_tokens for r in results],
        scored_actions=[r.scored_actions for r in results],
        environment_steps=[r.environment_steps for r in results],
        scored_tokens=scored_tokens / len(results),
        kept_tokens=kept_tokens / len(results),
        unanswered=[r.unanswered for r in results],
    )


def read_pool(config: EvaluateConfig) -> Pool:
    """The pool of samples of the held-out tasks."""
    from agentprm_jax.data.trajectory import iterate_trajectories
    from agentprm_jax.envs.tasks import list_tasks
    from agentprm_jax.reporting.pool import Pool

    return Pool.of(iterate_trajectories(config.pool / TRAJECTORIES), list_tasks(config.environment.name, config.tasks))


def read_measurements(config: EvaluateConfig) -> Measurements:
    """Everything that was measured."""
    from agentprm_jax.data.trajectory import iterate_trajectories
    from agentprm_jax.reporting.evaluation import read_evaluation
    from agentprm_jax.reporting.findings import UNTRAINED, Measurements
    from agentprm_jax.reporting.pool import Pool

    pool = read_pool(config)

    def read(folder: Path) -> Pool:
        found = iterate_trajectories(folder / TRAJECTORIES)
        return Pool.of((t for t in found if t.task in pool.tasks), pool.tasks)

    names = [*prm_folders(config), *(name for pair in zip(*RANDOM.values(), strict=True) for name in pair)]
    greedy, expert = read(config.greedy), read(config.expert)
    untrained = None if config.untrained is None else read(config.untrained)
    played = {"greedy": greedy, "expert": expert, UNTRAINED: untrained}
    return Measurements(
        pool=pool,
        sizes=config.sizes,
        beams=config.beams,
        beam_temperature=config.temperature,
        evaluations=tuple(read_evaluation(config.output / MEASUREMENTS / f"{name}.json") for name in names),
        greedy=greedy.outcomes.mean(axis=1),
        untrained=None if untrained is None else untrained.outcomes.mean(axis=1),
        expert=expert.outcomes.mean(axis=1),
        played={name: one.cost(1) for name, one in played.items() if one is not None},
        reference=[(len(t.rewards), t.outcome) for t in iterate_trajectories(config.training_trajectories)],
    )


def report(
    config: EvaluateConfig, stages: Sequence[Stage], headline: str, pipeline: dict[str, Any] | None = None
) -> Results:
    """Turns measurements into results.json, pictures, report.html and a table on the terminal."""
    from rich.console import Console

    from agentprm_jax.reporting.bars import quickstart_bars
    from agentprm_jax.reporting.findings import Findings
    from agentprm_jax.reporting.page import write_page
    from agentprm_jax.reporting.provenance import Origin, describe_machine, git_commit, join_origins, package_versions
    from agentprm_jax.reporting.results import Results, write_results
    from agentprm_jax.reporting.stage import plain_config
    from agentprm_jax.reporting.tables import markdown_results, print_results

    findings = Findings(read_measurements(config))
    worked = (*stages, findings.stage())
    results = Results(
        title=f"AgentPRM on {config.environment.name} ({config.environment.form} form)",
        headline=headline or findings.headline(),
        created=datetime.datetime.now(datetime.UTC),
        command="uv run " + shlex.join(sys.argv),
        machine=describe_machine(),
        git_commit=git_commit(Path(__file__).parent),
        versions=package_versions(),
        run=Origin(**join_origins(worked)),
        config=plain_config(config),
        pipeline=pipeline or {},
        prms=findings.trainings(),
        tables=(findings.search_table(), findings.value_table()),
        curves=findings.curves(),
        comparisons=findings.comparisons(),
        checks=quickstart_bars(findings),
        stages=worked,
    )
    write_results(config.output / "results.json", results)
    (config.output / "results.md").write_text(markdown_results(results), encoding="utf-8")
    examples = findings.examples()
    write_page(config.output / "report.html", results, draw(config, findings, results), examples)
    print_results(results, Console() if sys.stdout.isatty() else Console(width=WIDTH))
    print(f"\nWritten: {config.output / 'results.json'}, results.md, report.html and the pictures beside them.")
    return results


def draw(config: EvaluateConfig, findings: Findings, results: Results) -> list[Picture]:
    """All pictures, as PNG files beside the results and as SVG for the page."""
    from agentprm_jax.reporting.canvas import figure_svg, save_figure
    from agentprm_jax.reporting.evaluation import read_evaluation
    from agentprm_jax.reporting.page import Picture
    from agentprm_jax.reporting.pictures import draw_all
    from agentprm_jax.reporting.stage import read_metrics

    firsts = {}
    for name, prm in prm_folders(config).items():
        method = read_evaluation(config.output / MEASUREMENTS / f"{name}.json").method
        if (metrics := prm / "metrics.jsonl").is_file():  # a PRM from elsewhere has none
            firsts.setdefault(method, read_metrics(metrics))
    pictures = []
    for drawing in draw_all(findings, results, firsts):
        save_figure(drawing.figure, config.output / f"{drawing.name}.png")
        pictures.append(Picture(drawing.title, figure_svg(drawing.figure).encode(), drawing.caption))
    return pictures


if __name__ == "__main__":
    run_command(main, tyro.cli(EvaluateConfig, description=__doc__))
