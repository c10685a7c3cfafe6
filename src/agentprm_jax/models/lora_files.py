"""Adapters in the layout of the `peft` library: adapter_config.json and adapter_model.safetensors, without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file

from agentprm_jax.models.checkpoint import CheckpointFormatError, check_finite
from agentprm_jax.models.config import FLOAT_DTYPES, DecoderConfig
from agentprm_jax.models.json_file import read_object
from agentprm_jax.models.lora import check_adapters
from agentprm_jax.models.lora_config import PROJECTIONS, LoraConfig
from agentprm_jax.models.parameters import LORA_A, LORA_B, Params, leaves_by_path
from agentprm_jax.models.safetensors_writer import Draft
from agentprm_jax.models.saving import partial_path, write_partials
from agentprm_jax.models.weight_names import weight_table

SETTINGS, TENSORS = "adapter_config.json", "adapter_model.safetensors"
LANGUAGE_MODEL, REWARD_MODEL = "CAUSAL_LM", "SEQ_CLS"
PREFIX, HEAD = "base_model.model.", ("value_head", "kernel")

FACTORS = {LORA_A: "lora_A", LORA_B: "lora_B"}
READ = ("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "bias", "init_lora_weights", "modules_to_save")
MEANINGLESS = (
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "target_modules",
)
"""Fields of adapter_config.json that change nothing about what the tensors mean; which kernels are adapted is told by
the tensors. Every field that is neither here nor in `READ` must be empty."""


class Place(NamedTuple):
    """Where a tensor of the file lies: its parameter, the block (None: it has none), and its shape in the parameter."""

    path: tuple[str, ...]
    layer: int | None
    shape: tuple[int, ...]
    file_shape: tuple[int, ...]


def save_adapter(
    directory: str | os.PathLike[str],
    config: DecoderConfig,
    lora: LoraConfig,
    trained: Params,
    *,
    base: str | os.PathLike[str],
) -> None:
    """Writes adapters so that `peft` loads them over the base; a value head goes along as the saved module `score`.

    Args:
        directory: folder; created when missing.
        config: the decoder.
        lora: which kernels are adapted, and how strongly.
        trained: adapters, and the value head of a reward model, in memory of the host or of a device.
        base: folder or name of the model that the adapters belong to, for the record.

    Raises:
        ValueError: the adapters are not those of `lora`.
        OSError: a file could not be written.
    """
    check_adapters(lora, trained)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    flat = leaves_by_path(trained)
    places = _places(config, lora.rank, value_head=HEAD in flat)
    drafts = [
        Draft(name, place.file_shape, np.dtype(np.float32), partial(_written, flat[place.path], place))
        for name, place in places.items()
        if place.path in flat
    ]
    description = _description(lora, sorted(draft.name for draft in drafts), str(base), value_head=HEAD in flat)
    write_partials(folder, {TENSORS: drafts}, {SETTINGS: description})
    for name in (TENSORS, SETTINGS):
        os.replace(partial_path(folder, name), folder / name)


def load_adapter(directory: str | os.PathLike[str], config: DecoderConfig) -> tuple[LoraConfig, Params]:
    """Reads adapters that `save_adapter` or `peft` has written.

    Args:
        directory: folder with adapter_config.json and adapter_model.safetensors.
        config: the decoder that they belong to.

    Returns:
        The config, whose targets are the paths that are adapted, and float32 adapters (with the value head of a reward
        model) as NumPy arrays, for `with_adapters` and `merge_adapters`.

    Raises:
        FileNotFoundError: a file is missing.
        CheckpointFormatError: a tensor is unknown, missing or misshapen, or holds a number that is not finite; or a
            file is damaged.
        ValueError: the adapters are of a kind that cannot be read.
    """
    folder = Path(directory)
    for name in (SETTINGS, TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: expected an adapter as `peft` writes it.")
    description = _read_settings(folder / SETTINGS)
    value_head = description["task_type"] == REWARD_MODEL
    try:
        tensors = load_file(folder / TENSORS)
    except SafetensorError as error:
        raise CheckpointFormatError(f"{folder / TENSORS} is damaged or cut off: {error}.") from error
    flat = _assembled(config, description["r"], tensors, value_head, folder / TENSORS)
    paths = {"/".join(path[:-1]) for path in flat if path[-1] == LORA_A}
    lora = LoraConfig(
        rank=description["r"],
        alpha=float(description["lora_alpha"]),
        targets=tuple(path for path in PROJECTIONS if path in paths),
        rank_stabilized=description.get("use_rslora", False),
    )
    return lora, unflatten_dict(flat)


def _places(config: DecoderConfig, rank: int, *, value_head: bool) -> dict[str, Place]:
    """Every tensor that an adapter of this decoder may hold."""
    places = {}
    for weight in weight_table(config, value_head=value_head):
        owner = "/".join(weight.path[:-1])
        if weight.path == HEAD:
            places[PREFIX + weight.name] = Place(HEAD, None, weight.shape[1:], weight.shape)
        elif owner in PROJECTIONS and weight.path[-1] == "kernel":
            kernel, inputs = weight.read(np.empty(weight.shape, np.bool_)).shape, PROJECTIONS[owner]
            rows, columns = weight.shape
            factors = {
                LORA_A: ((*kernel[:inputs], rank), (rank, columns)),
                LORA_B: ((rank, *kernel[inputs:]), (rows, rank)),
            }
            for layer in range(config.layers):
                stem = PREFIX + weight.name.format(layer=layer).removesuffix(".weight")
                for factor, shapes in factors.items():
                    places[f"{stem}.{FACTORS[factor]}.weight"] = Place((*weight.path[:-1], factor), layer, *shapes)
    return places


def _written(leaf: Any, place: Place) -> np.ndarray:
    """Files hold `[outputs, inputs]`, of a map from the inputs to the rank or from the rank to the outputs."""
    one = np.asarray(leaf if place.layer is None else leaf[place.layer])
    return np.ascontiguousarray(one.reshape(place.file_shape[::-1]).T, np.float32)


def _assembled(
    config: DecoderConfig, rank: int, tensors: dict[str, np.ndarray], value_head: bool, source: Path
) -> dict[tuple[str, ...], np.ndarray]:
    places = _places(config, rank, value_head=value_head)
    flat: dict[tuple[str, ...], np.ndarray] = {}
    for name, tensor in tensors.items():
        if name not in places:
            raise CheckpointFormatError(f"{source} holds the unknown tensor {name!r}.")
        place = places[name]
        if tensor.shape != place.file_shape or tensor.dtype.name not in FLOAT_DTYPES:
            raise CheckpointFormatError(
                f"{source}, tensor {name!r}: expected floats of the shape {place.file_shape}, got {tensor.dtype.name} "
                f"of {tensor.shape}."
            )
        check_finite(source, name, tensor)
        value = tensor.astype(np.float32).T.reshape(place.shape)
        if place.layer is None:
            flat[place.path] = value
        else:
            flat.setdefault(place.path, np.zeros((config.layers, *place.shape), np.float32))[place.layer] = value
    missing = [name for name in _wanted(places, flat) if name not in tensors]
    if missing:
        raise CheckpointFormatError(f"{source} lacks {len(missing)} tensors, the first is {missing[0]!r}.")
    return flat


def _wanted(places: dict[str, Place], flat: dict[tuple[str, ...], np.ndarray]) -> Iterator[str]:
    """Names of the tensors that belong to what was found: both factors in every block, and the head if there is one."""
    owners = {path[:-1] for path in flat}
    for name, place in places.items():
        if place.path == HEAD or place.path[:-1] in owners:
            yield name


def _description(lora: LoraConfig, names: list[str], base: str, *, value_head: bool) -> dict[str, Any]:
    modules = {name.split(".")[-3] for name in names if name.split(".")[-2] in FACTORS.values()}
    return {
        "peft_type": "LORA",
        "task_type": REWARD_MODEL if value_head else LANGUAGE_MODEL,
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        "use_rslora": lora.rank_stabilized,
        "target_modules": sorted(modules),
        "modules_to_save": ["score"] if value_head else None,
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _read_settings(path: Path) -> dict[str, Any]:
    description = read_object(path)
    allowed = {
        "peft_type": ("LORA",),
        "task_type": (LANGUAGE_MODEL, REWARD_MODEL),
        "bias": ("none",),
        "init_lora_weights": (True, False, "gaussian"),
        "use_rslora": (True, False),
    }
    defaults = {"bias": "none", "init_lora_weights": True, "use_rslora": False}
    for field, values in allowed.items():
        got = description.get(field, defaults.get(field))
        if got not in values:
            raise ValueError(f"{path}, field {field}: expected {', '.join(map(repr, values))}, got {got!r}.")
    for field, kind in (("r", int), ("lora_alpha", int | float)):
        if not isinstance(description.get(field), kind):
            raise ValueError(f"{path}, field {field}: expected a number, got {description.get(field)!r}.")
    saved = set(description.get("modules_to_save") or ())
    if not saved <= {"score", "classifier"}:  # `peft` lists both for every classifier
        raise ValueError(f"{path}, field modules_to_save: expected 'score' at most, got {sorted(saved)}.")
    for field, value in description.items():
        if value and field not in READ + MEANINGLESS:
            raise ValueError(f"{path}, field {field}: expected it to be empty, got {value!r}.")
    return description
