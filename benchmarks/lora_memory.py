"""Memory of the compiled training step with adapters beside that of full training, as XLA reports it; nothing is run.

Command:

    uv run benchmarks/lora_memory.py

Frozen: the base beside adapters. State: trained parameters and their moments, updated in place. Temporary: gradients
and activations. Where the processor has no bfloat16 products, as most CPUs, XLA adds float32 copies of a bfloat16 base.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import tyro

from agentprm_jax.models.lora_config import LoraConfig


@dataclass(frozen=True)
class MemoryConfig:
    """Shape of the model (SmolLM2-135M's) and of the batch."""

    embed: int = 576
    layers: int = 30
    mlp: int = 1536
    vocab_size: int = 49_152
    rows: int = 1
    row_length: int = 256
    remat: bool = True
    rank: int = 16


def main(config: MemoryConfig) -> None:
    from agentprm_jax.models.config import DecoderConfig

    decoder = DecoderConfig(
        vocab_size=config.vocab_size,
        embed=config.embed,
        mlp=config.mlp,
        layers=config.layers,
        heads=config.embed // 64,
        kv_heads=config.embed // 192,
        head_dim=64,
        rope_theta=10_000.0,
        norm_eps=1e-5,
        max_positions=8192,
        dtype="bfloat16",
        remat=config.remat,
    )
    adapters = LoraConfig(rank=config.rank)
    full = memory(config, decoder, LoraConfig())
    print_row("all trained", full, full)
    for dtype in ("float32", "bfloat16"):
        print_row(f"adapters, {dtype} base", memory(config, decoder, replace(adapters, base_dtype=dtype)), full)


def print_row(name: str, sizes: dict[str, float], full: dict[str, float]) -> None:
    shown = ", ".join(f"{part} {size / 2**20:.0f}" for part, size in sizes.items())
    print(f"{name}: {shown} MiB; {sizes['total'] / full['total']:.2f} of the total where all is trained")


def memory(config: MemoryConfig, decoder, lora: LoraConfig) -> dict[str, float]:
    import jax
    import numpy as np

    from agentprm_jax.data.batch import Batch
    from agentprm_jax.models import init_language_model, logical_axes
    from agentprm_jax.training import (
        LoopConfig,
        MeshConfig,
        OptimizerConfig,
        make_constrain,
        make_mesh,
        prepare,
        sft_objective,
    )

    mesh = make_mesh(MeshConfig())
    program = prepare(
        sft_objective(decoder, make_constrain(mesh)),
        partial(init_language_model, decoder),
        logical_axes(decoder, "language_model"),
        mesh=mesh,
        optimizer=OptimizerConfig(),
        loop=LoopConfig(rows_per_batch=config.rows),
        total_steps=100,
        lora=lora,
    )
    tokens, floats = (jax.ShapeDtypeStruct((config.rows, config.row_length), kind) for kind in ("int32", "float32"))
    per_step, per_row = (jax.ShapeDtypeStruct((config.rows, 1, *rest), "float32") for rest in ((4,), ()))
    readouts, step_mask = (jax.ShapeDtypeStruct(per_step.shape, kind) for kind in ("int32", "bool"))
    shapes: tuple[Any, ...] = (tokens, tokens, tokens, floats, readouts, step_mask, per_row, per_row)
    batch = Batch(*shapes)
    index = jax.ShapeDtypeStruct((), np.int32)
    stats = (
        cast(Any, program.train_step).lower(program.frozen, program.abstract, batch, index).compile().memory_analysis()
    )
    frozen = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.frozen))
    state, temporary = stats.output_size_in_bytes, stats.temp_size_in_bytes
    return {"frozen": frozen, "state": state, "temporary": temporary, "total": frozen + state + temporary}


if __name__ == "__main__":
    main(tyro.cli(MemoryConfig, description=__doc__))
