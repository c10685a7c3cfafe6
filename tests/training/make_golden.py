"""Makes the recorded tables of where every parameter, optimizer slot and activation of a training step lies.

    python tests/training/make_golden.py

Each file under tests/recorded/shardings belongs to one mesh. A line is an array of the state or an activation that the
step pins, with its whole shape, what one device holds of it, and the axes of the mesh along which it is cut. Nothing is
computed, so that the models can have their real sizes and the meshes more devices than there are.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
from jax.sharding import AbstractMesh, AxisType

from agentprm_jax.data.batch import Batch
from agentprm_jax.models import DecoderConfig, init_language_model, init_reward_model, logical_axes
from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.training import (
    LoopConfig,
    OptimizerConfig,
    PrmObjectiveConfig,
    make_constrain,
    prepare,
    prm_objective,
    sft_objective,
)
from agentprm_jax.training.mesh import MESH_AXES, path_name

FOLDER = pathlib.Path(__file__).parent.parent / "recorded" / "shardings"
MESHES = [(1, 32, 1), (2, 8, 4), (16, 8, 2)]
TRAIN_ALL = LoraConfig()
ROWS, LENGTH, MICROBATCHES = 256, 4096, 2
COMMON = {"norm_eps": 1e-6, "rope_theta": 1e6, "max_positions": 32_768, "head_dim": 128, "tied_embeddings": False}
QWEN2_7B = DecoderConfig(
    vocab_size=152_064, embed=3584, mlp=18_944, layers=28, heads=28, kv_heads=4, qkv_bias=True, **COMMON
)
QWEN3_8B = DecoderConfig(
    vocab_size=151_936, embed=4096, mlp=12_288, layers=36, heads=32, kv_heads=8, qk_norm=True, **COMMON
)


def table(mesh_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The lines of one mesh: a Qwen2.5-7B reward model and its adapters under AdamW, and a Qwen3-8B under Muon."""
    mesh = AbstractMesh(mesh_shape, MESH_AXES, axis_types=(AxisType.Auto,) * 3)
    constrain = make_constrain(mesh)
    prm = prm_objective(QWEN2_7B, PrmObjectiveConfig(), constrain)
    return {
        "Qwen2.5-7B reward model, AdamW": _lines(mesh, prm, QWEN2_7B, "reward_model", "adamw"),
        "Qwen2.5-7B reward model, adapters, AdamW": _lines(
            mesh, prm, QWEN2_7B, "reward_model", "adamw", LoraConfig(rank=16)
        ),
        "Qwen3-8B language model, Muon": _lines(
            mesh, sft_objective(QWEN3_8B, constrain), QWEN3_8B, "language_model", "muon"
        ),
    }


def path_of(mesh_shape: tuple[int, int, int]) -> pathlib.Path:
    """The recorded file of a mesh."""
    return FOLDER / ("_".join(f"{axis}{size}" for axis, size in zip(MESH_AXES, mesh_shape, strict=True)) + ".json")


def _lines(mesh, objective, decoder, kind, rule, lora=TRAIN_ALL) -> dict[str, Any]:
    init = {"language_model": init_language_model, "reward_model": init_reward_model}[kind]
    program = prepare(
        objective,
        lambda key: init(decoder, key),
        logical_axes(decoder, kind),
        mesh=mesh,
        optimizer=OptimizerConfig(rule=rule),
        loop=LoopConfig(rows_per_batch=ROWS, microbatches=MICROBATCHES),
        total_steps=10,
        lora=lora,
    )
    state = {path_name(path): _line(leaf, leaf.sharding) for path, leaf in jax.tree.leaves_with_path(program.abstract)}
    frozen = {path_name(path): _line(leaf, leaf.sharding) for path, leaf in jax.tree.leaves_with_path(program.frozen)}
    traced = program.train_step.trace(program.frozen, program.abstract, _batch(), jax.ShapeDtypeStruct((), jnp.int32))
    return {"state": state, "frozen": frozen, "pinned": sorted(set(_pinned(traced.jaxpr.jaxpr)))}


def _batch() -> Batch:
    tokens, steps = (ROWS, LENGTH), (ROWS, 8, 16)
    shaped = jax.ShapeDtypeStruct
    return Batch(
        *(shaped(tokens, jnp.int32) for _ in range(3)),
        loss_mask=shaped(tokens, jnp.float32),
        readouts=shaped(steps, jnp.int32),
        step_mask=shaped(steps, bool),
        outcomes=shaped(steps[:2], jnp.float32),
        initial_values=shaped(steps[:2], jnp.float32),
    )


def _pinned(jaxpr, stack: str = "") -> Iterator[str]:
    """The activations that the traced step pins, forward and backward, each after the module that it belongs to."""
    for equation in jaxpr.eqns:
        name = f"{stack}/{equation.source_info.name_stack}"
        if equation.primitive.name == "sharding_constraint":
            yield f"{_module(name)}: {_line(equation.outvars[0].aval, equation.params['sharding'])}"
        for inner in jaxprs_in_params(equation.params):
            yield from _pinned(inner, name)


def _module(name: str) -> str:
    """The part of a name stack that does not speak of differentiation."""
    plain = re.sub(r"transpose|jvp|rematted_computation|[()]", "", name)
    return "/".join(part for part in plain.split("/") if part) or "step"


def _line(leaf, sharding) -> str:
    cuts = [axis if isinstance(axis, str) else "+".join(axis or ()) or "-" for axis in sharding.spec]
    part = list(sharding.shard_shape(leaf.shape))
    return f"{leaf.dtype} {list(leaf.shape)} device {part} cut ({', '.join(cuts)})"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for mesh_shape in MESHES:
        path_of(mesh_shape).write_text(json.dumps(table(mesh_shape), indent=1) + "\n")
        print(path_of(mesh_shape))
