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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from agentprm_jax.commands.answer import run_command

if TYPE_CHECKING:
    from agentprm_jax.training.planning.plan import Plan

ChipName = Literal["v5e", "v5p", "v6e", "a100", "h100"]
GOAL_MODEL = "qwen2.5-7b"
TABLE_MESHES: tuple[tuple[ChipName, tuple[int, int, int]], ...] = (
    ("v5p", (1, 8, 1)),
    ("v5p", (1, 32, 1)),
    ("v5p", (32, 32, 1)),
)
GOAL_MESHES: tuple[tuple[ChipName, tuple[int, int, int]], ...] = (("v5e", (1, 32, 1)), ("v5e", (2, 16, 1)))


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
    """Sizes of the axes data, fsdp and tensor; auto compares several."""
    tried: int = 3
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
    table: Path | None = None
    """Page whose table shall be made anew; nothing else of this config counts then, except `cache`."""
    cache: Path = Path("runs/plans")
    """Folder that keeps what was learnt of compiled programs."""

    @property
    def output(self) -> Path:
        """Where finished work is kept, for the message of an interrupted command."""
        return self.cache


def main(config: PlanConfig) -> None:
    """Prints the plan, or makes the table of a page anew."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # what is compiled here runs elsewhere
    from rich.console import Console

    from agentprm_jax.reporting.plans import describe, with_table

    if config.table is None:
        Console(width=120).print(describe(compare(config)), highlight=False)
        return
    page = with_table(config.table.read_text(encoding="utf-8"), table_plans(config.cache), GOAL_MODEL)
    config.table.write_text(page, encoding="utf-8")


def compare(config: PlanConfig) -> list[Plan]:
    """The plans of the meshes in question, the best first.

    Raises:
        ValueError: no mesh of so many chips divides the model and the rows, or the given one has another number.
    """
    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.training.config import MeshConfig
    from agentprm_jax.training.planning.plan import best_first, plan_step
    from agentprm_jax.training.planning.presets import named_model
    from agentprm_jax.training.planning.work import Workload, mesh_shapes

    model = named_model(config.model, dtype=config.dtype, param_dtype=config.param_dtype, remat=config.remat)
    tried = mesh_shapes(config.chips, model, config.rows)[: config.tried]
    shapes = tried if config.mesh == "auto" else [config.mesh]
    if not shapes:
        raise ValueError(f"No mesh of {config.chips} chips divides the axes of {config.model} and {config.rows} rows.")
    if math.prod(shapes[0]) != config.chips:
        raise ValueError(f"The mesh {shapes[0]} has {math.prod(shapes[0])} chips, but chips is {config.chips}.")
    plans = []
    for data, fsdp, tensor in progress(shapes, "meshes", total=len(shapes)):
        rows = config.rows or data * fsdp * config.microbatches
        workload = Workload(model, config.step, rows, config.length, config.microbatches)
        plans.append(plan_step(config.chip, MeshConfig(data, fsdp, tensor), workload, config.cache))
    return best_first(plans)


def table_plans(cache: Path) -> dict[str, list[Plan]]:
    """The plans of docs/pods.md: AgentPRM training of each of the paper's models, one row of 4,096 tokens a chip."""
    from agentprm_jax.reporting.progress import progress
    from agentprm_jax.training.planning.presets import MODELS

    meshes = {name: TABLE_MESHES + (GOAL_MESHES if name == GOAL_MODEL else ()) for name in MODELS}
    jobs: list[tuple[str, ChipName, tuple[int, int, int]]] = [
        (name, chip, mesh) for name, places in meshes.items() for chip, mesh in places
    ]
    found: dict[str, list[Plan]] = {name: [] for name in MODELS}
    for name, chip, mesh in progress(jobs, "programs", total=len(jobs)):
        found[name] += compare(PlanConfig(name, chip=chip, chips=math.prod(mesh), mesh=mesh, cache=cache))
    return found


if __name__ == "__main__":
    run_command(main, tyro.cli(PlanConfig, description=__doc__))
