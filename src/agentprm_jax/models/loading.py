"""Models in: what a user calls to load a model from disk, onto the host or straight onto its devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.sharding import Sharding

from agentprm_jax.models.checkpoint import Checkpoint, check_tensors, read_finite
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Kind, Params, logical_axes
from agentprm_jax.models.gguf_file import is_gguf
from agentprm_jax.models.gguf_model import open_gguf
from agentprm_jax.models.parameters import leaves_by_path
from agentprm_jax.models.placing import place_on_devices, stack_on_devices, stack_on_host
from agentprm_jax.models.safetensors_folder import open_folder
from agentprm_jax.models.weight_names import Weight, parameter_shape, tensor_names

KeyPath = tuple[str, ...]
Shardings = Callable[[Params, Params], Params]


def load_pretrained(path: str | os.PathLike[str], shardings: Shardings | None = None) -> tuple[DecoderConfig, Params]:
    """Loads a Qwen2, Qwen3, Llama or Mistral model, as a language model or with a value head (one-label classifier).

    Tensors are read one at a time and dropped when they are where they belong. Beside the parameters, the host holds
    at most the largest tensor of the file, and a copy of the part of it that goes to a device.

    Args:
        path: folder with config.json and model.safetensors, or its shards and their index; or a GGUF file, whose
            tensors are widened to float32 as the package `gguf` dequantizes them.
        shardings: makes the tree of `jax.sharding.Sharding` of the parameters from the tree of the logical names of
            their axes and the tree of their shapes (`jax.ShapeDtypeStruct`), as
            `functools.partial(training.parameter_shardings, mesh)` does. None leaves them in the memory of the host.

    Returns:
        The decoder's config, and the parameters: NumPy arrays, or arrays on devices where shardings are given. Their
        dtype is the widest of the file's, which is the config's `param_dtype` whatever config.json says; a value head
        is float32.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        CheckpointFormatError: a tensor is unknown, missing, doubled or misshapen, or holds a number that is not
            finite; or a file is damaged.
        ImportError: the path is a GGUF file, and the package `gguf` is not installed.
        ValueError: the config has an unsupported value.
    """
    source = Path(path)
    checkpoint = open_gguf(source) if is_gguf(source) else open_folder(source)
    check_tensors(checkpoint)
    config = replace(checkpoint.config, param_dtype=_widest_dtype(checkpoint))
    wanted = {weight.path: _wanted(config, weight) for weight in checkpoint.table}
    places = {} if shardings is None else _places(checkpoint, config, shardings, wanted)
    loaded = {
        weight.path: _load(checkpoint, weight, wanted[weight.path], places.get(weight.path))
        for weight in checkpoint.table
    }
    return config, unflatten_dict(loaded)


def _widest_dtype(checkpoint: Checkpoint) -> str:
    """The narrowest dtype that holds every tensor of the decoder as it is."""
    dtypes = {
        jnp.dtype(checkpoint.tensors[name].dtype)
        for weight in checkpoint.table
        for name in tensor_names(checkpoint.config, weight)
        if weight.path[0] != "value_head"
    }
    return jnp.result_type(*dtypes).name


def _wanted(config: DecoderConfig, weight: Weight) -> jax.ShapeDtypeStruct:
    dtype = "float32" if weight.path[0] == "value_head" else config.param_dtype
    return jax.ShapeDtypeStruct(parameter_shape(config, weight), jnp.dtype(dtype))


def _places(
    checkpoint: Checkpoint, config: DecoderConfig, shardings: Shardings, wanted: Mapping[KeyPath, jax.ShapeDtypeStruct]
) -> dict[KeyPath, Sharding]:
    kind: Kind = "reward_model" if checkpoint.value_head else "language_model"
    places = leaves_by_path(shardings(logical_axes(config, kind), unflatten_dict(wanted)))
    for path in sorted(places.keys() ^ wanted.keys()):
        fault = "no sharding" if path in wanted else "a sharding, but is not in the model"
        raise ValueError(f"{checkpoint.path}: the parameter {'.'.join(path)} has {fault}.")
    return places


def _load(
    checkpoint: Checkpoint, weight: Weight, wanted: jax.ShapeDtypeStruct, sharding: Sharding | None
) -> np.ndarray | jax.Array:
    names = tensor_names(checkpoint.config, weight)
    pieces = (weight.read(read_finite(name, checkpoint.tensors[name])) for name in names)
    if weight.per_layer:
        return stack_on_host(wanted, pieces) if sharding is None else stack_on_devices(wanted, sharding, pieces)
    value = next(pieces)
    if sharding is None:
        return np.ascontiguousarray(value.astype(wanted.dtype, copy=False))
    return place_on_devices(wanted, sharding, value)
