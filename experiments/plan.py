"""Plan a run on accelerators that are not here: memory, time and what limits it, before anything is paid for.

Command:

    uv run --group tpu experiments/plan.py --model qwen2.5-7b --chip v5e --chips 32
    uv run --group tpu experiments/plan.py --table docs/pods.md

The library's own training or scoring step is compiled ahead of time for the TPU slice, with libtpu and without a TPU,
and the compiled program is read: memory on each chip, operations, traffic of main memory, and what chips exchange,
loops counted as often as they run. The roofline divides these by the chips' peak rates. A program takes one to four
minutes to compile; what is known of it is kept in CACHE. GPUs are planned by arithmetic alone.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.ranges import check_counts
from agentprm_jax.models.lora_config import LoraConfig

if TYPE_CHECKING:
    from agentprm_jax.training.planning.candidates import Candidate
    from agentprm_jax.training.planning.plan import Plan

ChipName = Literal["v5e", "v5p", "v6e", "a100", "h100"]
GOAL_MODEL = "qwen2.5-7b"
TABLE_CHIPS = (8, 32, 64, 128, 256, 512, 1024)
"""Chips of v5p, and of H100 with the best mesh by arithmetic, for which every model has a row in the table."""
SHARE = 8
"""Chips over which a model is cut in these rows; their other axis holds copies."""
OTHER_MESHES: tuple[tuple[int, int, int], ...] = ((1, 32, 1), (32, 32, 1))
"""Meshes of v5p that stand beside them, with more of a model's parts and fewer copies."""
GOAL_MESHES: tuple[tuple[ChipName, tuple[int, int, int]], ...] = (("v5e", (1, 32, 1)), ("v5e", (2, 16, 1)))
"""Rows beside them of the model for which goals are set."""
SCORING_CHIPS = (8, 32)
"""Chips of v5e for which the table of scoring has a row."""


@dataclass(frozen=True)
class PlanConfig:
    """What shall run where."""

    model: str = "qwen2.5-7b"
    """qwen2.5-0.5b, qwen2.5-3b, qwen2.5-7b, llama-3.1-8b, or the path of a config.json in Hugging Face's layout."""
    step: Literal["agentprm", "sft", "score"] = "agentprm"
    """An update of the reward model, an update of an imitating actor, or a forward pass of the scorer."""
    chip: ChipName = "v5e"
    """Kind of the chips; GPUs are planned by arithmetic alone."""
    chips: int = 32
    """Number of chips: a slice from 8 to 256 (v5e, v6e) or 1024 (v5p), any number of GPUs."""
    mesh: Literal["auto"] | tuple[int, int, int] = "auto"
    """Sizes of the axes data, fsdp and tensor; auto compares those that are best by arithmetic."""
    tried: int = 4
    """Meshes that auto compares at most."""
    rows: int | None = None
    """Rows of a batch over all chips; None takes one for each part into which the mesh cuts a batch."""
    length: int = 4096
    """Tokens of a row."""
    microbatches: int = 1
    """Equal parts of the batch that are differentiated one after the other."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of activations."""
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of parameters and moments."""
    remat: bool = True
    """Whether the backward pass computes each block again instead of keeping its activations."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters that are trained instead of the model."""
    table: Path | None = None
    """Page whose tables shall be made anew; nothing else of this config counts then, except `cache`."""
    cache: Path = Path("runs/plans")
    """Folder that keeps what was learnt of compiled programs."""

    def __post_init__(self) -> None:
        """Raises ValueError for a count below 1, and for rows that cannot be cut into so many microbatches."""
        check_counts(self, "chips", "tried", "length", "microbatches", *(() if self.rows is None else ("rows",)))
        if self.rows is not None and self.rows % self.microbatches:
            raise ValueError(f"{self.rows} rows cannot be cut into {self.microbatches} equal microbatches.")

    @property
    def output(self) -> Path:
        """Where finished work is kept, for the message of an interrupted command."""
        return self.cache


def main(config: PlanConfig) -> None:
    """Prints the plan, or makes the tables of a page anew."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # what is compiled here runs elsewhere
    from rich.console import Console

    from agentprm_jax.reporting.plans import describe, with_tables

    if config.table is None:
        Console(width=120).print(describe(compare(config)), highlight=False)
        return
    training, scoring = table_plans(config.cache)
    page = with_tables(config.table.read_text(encoding="utf-8"), training, scoring, GOAL_MODEL)
    config.table.write_text(page, encoding="utf-8")


def compare(config: PlanConfig) -> list[Plan]:
    """The plans of the meshes in question, the best first.

    Raises:
        ValueError: no mesh of so many chips divides the model and the rows, or the given one has another number.
    """
    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.training.planning.plan import best_first, plan_step

    chosen = candidates(config)
    steps = progress(chosen, "meshes", total=len(chosen))
    return best_first([plan_step(config.chip, mesh, workload, config.cache) for mesh, workload in steps])


def candidates(config: PlanConfig) -> list[Candidate]:
    """The mesh that is given, or those to compare, with the step on each.

    Raises:
        ValueError: no mesh of so many chips divides the model and the rows of a microbatch, or the given one does not,
            or has another number.
    """
    from agentprm_jax.training.config import MeshConfig
    from agentprm_jax.training.planning.candidates import Candidate, best_candidates
    from agentprm_jax.training.planning.chips import GPUS, TPUS
    from agentprm_jax.training.planning.presets import named_model
    from agentprm_jax.training.planning.work import Workload, mesh_shapes

    model = named_model(config.model, dtype=config.dtype, param_dtype=config.param_dtype, remat=config.remat)
    given = config.mesh
    if given != "auto" and math.prod(given) != config.chips:
        raise ValueError(f"The mesh {given} has {math.prod(given)} chips, but chips is {config.chips}.")
    shapes = mesh_shapes(config.chips, model, config.rows and config.rows // config.microbatches)
    chosen = shapes if given == "auto" else [shape for shape in shapes if shape == given]
    if not chosen:
        which = f"No mesh of {config.chips} chips" if given == "auto" else f"The mesh {given} is none that"
        rows = f" and {config.rows} rows in {config.microbatches} microbatches" if config.rows else ""
        raise ValueError(
            f"{which} divides {config.model}{rows}: data x fsdp must divide the rows of a microbatch, fsdp the width "
            f"{model.embed}, and tensor the {model.kv_heads} heads of keys and values, the {model.mlp} features and "
            f"the vocabulary of {model.vocab_size}."
        )
    found = []
    for data, fsdp, tensor in chosen:
        rows = config.rows or data * fsdp * config.microbatches
        workload = Workload(model, config.step, rows, config.length, config.microbatches, config.lora)
        found.append(Candidate(MeshConfig(data, fsdp, tensor), workload))
    return best_candidates({**TPUS, **GPUS}[config.chip], found, config.tried)


def table_plans(cache: Path) -> tuple[dict[str, list[Plan]], dict[str, list[Plan]]]:
    """The plans of docs/pods.md, by model: AgentPRM training, and scoring, with one row of 4,096 tokens for a chip."""
    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.training.planning.presets import MODELS

    jobs = [config for name in MODELS for config in (*table_configs(name, cache), *scoring_configs(name, cache))]
    training: dict[str, list[Plan]] = {name: [] for name in MODELS}
    scoring: dict[str, list[Plan]] = {name: [] for name in MODELS}
    for config in progress(jobs, "programs", total=len(jobs)):
        (scoring if config.step == "score" else training)[config.model].append(compare(config)[0])
    return training, scoring


def table_configs(model: str, cache: Path) -> list[PlanConfig]:
    """What the table says of training one model: of TPUs each of its meshes, of GPUs the best for each number."""
    shapes = [*((chips // SHARE, SHARE, 1) for chips in TABLE_CHIPS), *OTHER_MESHES]
    meshes: list[tuple[ChipName, tuple[int, int, int]]] = [("v5p", mesh) for mesh in shapes]
    meshes += GOAL_MESHES if model == GOAL_MODEL else ()
    tpus = [PlanConfig(model, chip=chip, chips=math.prod(mesh), mesh=mesh, cache=cache) for chip, mesh in meshes]
    return tpus + [PlanConfig(model, chip="h100", chips=chips, cache=cache) for chips in TABLE_CHIPS]


def scoring_configs(model: str, cache: Path) -> list[PlanConfig]:
    """What the table says of scoring with one model."""
    meshes = [(chips, (chips // SHARE, SHARE, 1)) for chips in SCORING_CHIPS]
    return [
        PlanConfig(model, step="score", chips=chips, mesh=mesh, param_dtype="bfloat16", cache=cache)
        for chips, mesh in meshes
    ]


if __name__ == "__main__":
    run_command(main, tyro.cli(PlanConfig, description=__doc__))
