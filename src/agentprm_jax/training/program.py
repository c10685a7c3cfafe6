"""Composition of a training run: mesh, shapes and shardings, compiled functions, resume, loop."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console

from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.training.batches import BatchSource
from agentprm_jax.training.checkpoint import Checkpointer
from agentprm_jax.training.config import LoopConfig, OptimizerConfig
from agentprm_jax.training.console import LastingConsole
from agentprm_jax.training.interrupt import TrainingInterrupted, stop_on_signal
from agentprm_jax.training.layout import check_cut
from agentprm_jax.training.loop import fit
from agentprm_jax.training.mesh import path_name
from agentprm_jax.training.metrics import ConsoleProgress, JsonLinesWriter, TensorBoardWriter, Writer
from agentprm_jax.training.objectives import Objective
from agentprm_jax.training.optimizer import learning_rate_schedule, make_optimizer
from agentprm_jax.training.parts import InitParams, split
from agentprm_jax.training.record import check_record, fingerprint, write_record
from agentprm_jax.training.state import TrainState, abstract_state, free, make_init, place_frozen
from agentprm_jax.training.step import TrainStep, check_batch, make_train_step

PyTree = Any
RECORD = "training.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
TRAIN_ALL = LoraConfig()
"""No adapters: all parameters are trained."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What runs of one objective have in common, compiled once: several seeds can share it."""

    mesh: Mesh
    """Where everything lies."""
    optimizer: OptimizerConfig
    """The optimizer's numbers, for the record."""
    loop: LoopConfig
    """Batches, reports and checkpoints."""
    lora: LoraConfig
    """What is trained, for the record."""
    total_steps: int
    """Updates of one run."""
    frozen: dict[str, PyTree]
    """Shapes, dtypes and shardings of the top-level subtrees that are not trained; {} where all are."""
    abstract: TrainState
    """Shapes, dtypes and shardings of the state."""
    init: Callable[[jax.Array, Mapping[str, PyTree]], TrainState]
    """Makes the first state from a key and pretrained subtrees."""
    train_step: TrainStep
    """Makes one update, from what is frozen, the state, a batch and its number."""


def prepare(
    objective: Objective,
    init_params: InitParams,
    axes: PyTree,
    *,
    mesh: Mesh,
    optimizer: OptimizerConfig,
    loop: LoopConfig,
    total_steps: int,
    lora: LoraConfig = TRAIN_ALL,
    extra_blocks: int = 0,
) -> Program:
    """Builds the functions of a run; they compile when they are first used.

    Args:
        objective: what is minimised, from `sft_objective` or `prm_objective` or of one's own.
        init_params: makes parameters from a random key; it is traced.
        axes: logical axes of the parameters, from `models.logical_axes`.
        mesh: from `make_mesh`.
        optimizer: its rule and numbers.
        loop: rows of a batch and microbatches are used here.
        total_steps: length of the learning rate's course, as `loop.total_steps(rows)` gives it.
        lora: whether adapters are trained instead of the model; by default the model is.
        extra_blocks: how many of the decoder's blocks stand above those of a pretrained one, see `models.expansion`.

    Raises:
        ValueError: if rows do not fit the mesh, a parameter is not in the tables of shardings and weight decay, too
            much lies whole on every device, or blocks are added where adapters alone are trained.
    """
    check_batch(loop.rows_per_batch, loop.microbatches, mesh)
    if extra_blocks and lora.rank:
        raise ValueError(f"extra_blocks must be 0 where adapters are trained (lora.rank), got {extra_blocks}.")
    transformation = make_optimizer(optimizer, total_steps)
    parts = split(lora, init_params, axes, mesh)
    abstract = abstract_state(mesh, parts.init, transformation, parts.axes)
    check_cut(mesh, {"frozen": parts.frozen, "trained": abstract.params})
    schedule = learning_rate_schedule(optimizer, total_steps)
    return Program(
        mesh=mesh,
        optimizer=optimizer,
        loop=loop,
        lora=lora,
        total_steps=total_steps,
        frozen=parts.frozen,
        abstract=abstract,
        init=make_init(parts.init, transformation, abstract, extra_blocks),
        train_step=make_train_step(objective, transformation, schedule, mesh, parts, abstract, loop.microbatches),
    )


def train(
    program: Program,
    batches: BatchSource,
    output: pathlib.Path,
    *,
    seed: int,
    pretrained: Mapping[str, PyTree] | None = None,
    settings: Mapping[str, Any] | None = None,
    label: str = "training",
    console: Console | None = None,
) -> PyTree:
    """Runs a program to its end, from its newest checkpoint if `output` holds one.

    The result is a function of the program, the batches, the seed and what is pretrained; on one mesh an interrupted
    run equals an uninterrupted one bit for bit. The folder then holds checkpoints, metrics.jsonl, TensorBoard's
    events and training.json, the record by which a run with other settings is refused.

    Args:
        program: from `prepare`.
        batches: gives the batch of every update, such as `PackedBatches`.
        output: folder of this run.
        seed: of the initial parameters; the order of the data is the business of `batches`.
        pretrained: top-level subtrees of the parameters, such as {"decoder": ...}: what stays frozen, of which all is
            needed in every session, and what takes the place of random parameters. The record holds its fingerprint.
            Of the latter, arrays on devices are used up: the state takes their memory, and they cannot be read again.
        settings: what else must be the same for the run to be continued, as JSON, such as the objective's config.
        label: what the progress bar calls it.
        console: where progress is shown; None is the standard error stream.

    Returns:
        The final parameters of what was trained, lying on the program's mesh.

    Raises:
        RunMismatch: `output` holds a run with other settings or of another base.
        ValueError: a frozen part is missing or does not fit.
        NonFiniteUpdate, TrainingInterrupted, CheckpointError: as `fit` does.
    """
    given = dict(pretrained or {})
    base = {name: subtree for name, subtree in given.items() if name in program.frozen}
    beginnings = {name: subtree for name, subtree in given.items() if name not in program.frozen}
    record = _record(program, batches.digest, seed, fingerprint(given), settings or {})
    console = console or LastingConsole(stderr=True)
    with contextlib.ExitStack() as stack:
        checkpointer = stack.enter_context(Checkpointer(output / CHECKPOINTS, program.loop.keep))
        if checkpointer.latest_step() is None:
            frozen = place_frozen(base, program.frozen)
            if jax.process_index() == 0:
                write_record(output / RECORD, record)
            state = program.init(jax.random.key(seed), beginnings)
            free(beginnings)
        else:
            check_record(output / RECORD, record)
            free(beginnings)
            frozen = place_frozen(base, program.frozen)
            state = checkpointer.restore(program.abstract)
        writers = _open_writers(program, output, int(state.step), label, console)
        for writer in writers:
            stack.callback(writer.close)
        stack.enter_context(_farewell_on(console))
        return fit(
            state,
            functools.partial(program.train_step, frozen),
            batches,
            program.total_steps,
            mesh=program.mesh,
            loop=program.loop,
            checkpointer=checkpointer,
            writers=writers,
            stop=stack.enter_context(stop_on_signal()),
            clock=time.monotonic,
        ).params


@contextlib.contextmanager
def _farewell_on(console: Console) -> Iterator[None]:
    """The first process says why the run ends before its end, since an exit with a code is silent."""
    try:
        yield
    except TrainingInterrupted as interrupted:
        if jax.process_index() == 0:
            console.print(str(interrupted), highlight=False, markup=False, soft_wrap=True)
        raise


def _record(program: Program, data: str, seed: int, pretrained: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result. The mesh, microbatches and how often to report or save may change between sessions."""
    shapes = jax.tree.leaves_with_path(program.abstract.params)
    return {
        "seed": seed,
        "data": data,
        "total_steps": program.total_steps,
        "rows_per_batch": program.loop.rows_per_batch,
        "optimizer": dataclasses.asdict(program.optimizer),
        "lora": dataclasses.asdict(program.lora),
        "pretrained": pretrained,
        "parameters": {path_name(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in shapes},
        "settings": dict(settings),
    }


def _open_writers(program: Program, output: pathlib.Path, start: int, label: str, console: Console) -> list[Writer]:
    """Opens the writers of the first process; the others stay silent."""
    if jax.process_index() != 0:
        return []
    return [
        JsonLinesWriter(output / METRICS, start),
        TensorBoardWriter(output / TENSORBOARD, start, program.loop.log_every),
        ConsoleProgress(program.total_steps, console=console, clock=time.monotonic, label=label),
    ]
