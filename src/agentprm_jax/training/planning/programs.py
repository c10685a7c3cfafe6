"""Compiles the library's own training and scoring steps ahead of time, for devices that need not be here."""

import functools
import gzip
import hashlib
import importlib.metadata
import os
import pathlib
import re
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
from jax.experimental import topologies
from jax.sharding import Mesh

from agentprm_jax.data.batch import Batch
from agentprm_jax.models import init_language_model, init_reward_model, logical_axes
from agentprm_jax.scoring.readout import ReadoutRows, read_rows
from agentprm_jax.training.config import LoopConfig, OptimizerConfig, PrmObjectiveConfig
from agentprm_jax.training.mesh import batch_sharding, make_constrain, parameter_shardings
from agentprm_jax.training.objectives import prm_objective, sft_objective
from agentprm_jax.training.planning.work import Workload
from agentprm_jax.training.program import prepare

FLAGS = ("LIBTPU_INIT_ARGS", "XLA_FLAGS")
"""Variables of the environment that change what is compiled."""
TOKENS_A_STEP = 256
"""Tokens of a step of an episode, observation and action, of which batches are made up."""
STEPS = 16
"""Steps of an episode."""
_SIZE = r"\(?([\d.]+)([KMGT])\)?"
_OUT_OF_MEMORY = re.compile(f"(?:Used|HLO temporaries) {_SIZE} (?:of|exceeds available HBM) {_SIZE}")
"""What libtpu says, in either of two sentences, when a program does not fit."""
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Memory(NamedTuple):
    """Bytes on one chip."""

    arguments: float
    """What the step is given: parameters, moments, batch."""
    outputs: float
    """What it gives back and does not write over what it was given."""
    temporaries: float
    """Everything in between, and the program itself."""
    available: float | None
    """What the compiler has to place it in; known where it did not fit."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.arguments + self.outputs + self.temporaries


class Compiled(NamedTuple):
    """A program for one slice."""

    memory: Memory
    """On each chip."""
    text: str | None
    """The compiled program; None where it does not fit in memory."""


def tpu_devices(topology: str) -> list[Any]:
    """Stands for the chips of a slice such as v5e:4x8; they can be compiled for, and nothing else.

    Raises:
        RuntimeError: libtpu is not installed, or knows no such slice.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu would ask a server of Google's cloud where it is
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # and let one process at a time use the chip
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except Exception as error:  # what libtpu raises differs from one version to the next
        raise RuntimeError(
            f"Compiling for the TPU slice {topology} needs libtpu, which said: {str(error).splitlines()[0]} Install "
            "it with `uv sync --group tpu` (Linux on x86-64)."
        ) from error


def lower_step(workload: Workload, mesh: Mesh) -> Any:
    """Traces one step of the library over full batches, up to the point where a compiler is needed.

    Raises:
        ValueError: the rows or the parameters do not fit the mesh.
    """
    return _lower_training(workload, mesh) if workload.trains else _lower_scoring(workload, mesh)


def digest_of(lowered: Any, topology: str, mesh: Mesh) -> str:
    """Identifies what a compiled program depends on: the lowered one, which does not tell chips apart, the slice, the
    places of its chips in the mesh, the compiler, and the flags that it takes from the environment."""
    flags = " ".join(f"{name}={os.environ.get(name, '')}" for name in FLAGS)
    compiler = f"{jax.__version__} {importlib.metadata.version('libtpu')} {flags}"
    places = str([device.coords for device in mesh.devices.flat])
    return hashlib.sha256("\n".join((compiler, topology, places, lowered.as_text())).encode()).hexdigest()[:24]


def compiled_before(path: pathlib.Path, lowered: Any) -> Compiled:
    """The program that a file keeps; where there is none, or one that cannot be read, it is compiled and kept."""
    try:
        return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=Compiled)
    except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error, msgspec.DecodeError):
        compiled = compile_step(lowered)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(gzip.compress(msgspec.json.encode(compiled), 6))
    os.replace(partial, path)
    return compiled


def compile_step(lowered: Any) -> Compiled:
    """Compiles a step, which takes a minute or so; says how much memory is missing where it does not fit."""
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found = _OUT_OF_MEMORY.search(str(error))
        if found is None:
            raise
        needed, available = (float(found[i]) * _UNITS[found[i + 1]] for i in (1, 3))
        return Compiled(Memory(0.0, 0.0, needed, available), None)
    stats = compiled.memory_analysis()
    fresh = stats.output_size_in_bytes - stats.alias_size_in_bytes
    temporaries = stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
    return Compiled(Memory(stats.argument_size_in_bytes, fresh, temporaries, None), compiled.as_text())


def _lower_training(workload: Workload, mesh: Mesh) -> Any:
    model, constrain = workload.model, make_constrain(mesh)
    if workload.step == "sft":
        objective, init = sft_objective(model, constrain), init_language_model
        axes = logical_axes(model, "language_model")
    else:
        objective, init = prm_objective(model, PrmObjectiveConfig(), constrain), init_reward_model
        axes = logical_axes(model, "reward_model")
    program = prepare(
        objective,
        functools.partial(init, model),
        axes,
        mesh=mesh,
        optimizer=OptimizerConfig(),
        loop=LoopConfig(rows_per_batch=workload.rows, microbatches=workload.microbatches),
        total_steps=1000,
        lora=workload.lora,
    )
    index = jax.ShapeDtypeStruct((), jnp.int32)
    return program.train_step.lower(program.frozen, program.abstract, _batch(workload, mesh), index)  # pyright: ignore[reportFunctionMemberAccess]


def _lower_scoring(workload: Workload, mesh: Mesh) -> Any:
    model = workload.model
    shapes = jax.eval_shape(functools.partial(init_reward_model, model), jax.random.key(0))
    shardings = parameter_shardings(mesh, logical_axes(model, "reward_model"), shapes)
    params = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    tokens = _rows(mesh, (workload.rows, workload.length), jnp.int32)
    readouts = _rows(mesh, (workload.rows, max(1, workload.length // TOKENS_A_STEP)), jnp.int32)
    return read_rows.lower(model, params, ReadoutRows(tokens, tokens, tokens, readouts), make_constrain(mesh))


def _batch(workload: Workload, mesh: Mesh) -> Batch:
    """A full batch of packed episodes: shapes alone."""
    rows, length = workload.rows, workload.length
    segments = max(1, length // (STEPS * TOKENS_A_STEP))
    shapes = {
        **dict.fromkeys(("tokens", "segments", "positions"), ((length,), jnp.int32)),
        "loss_mask": ((length,), jnp.float32),
        "readouts": ((segments, STEPS), jnp.int32),
        "step_mask": ((segments, STEPS), jnp.bool_),
        **dict.fromkeys(("outcomes", "initial_values"), ((segments,), jnp.float32)),
    }
    return Batch(**{name: _rows(mesh, (rows, *shape), dtype) for name, (shape, dtype) in shapes.items()})


def _rows(mesh: Mesh, shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))
