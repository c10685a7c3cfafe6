"""Models in Hugging Face's layout: config.json and safetensors, read and written without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from agentprm_jax.models.config import FLOAT_DTYPES, DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.hugging_face_config import config_from_hugging_face, config_to_hugging_face
from agentprm_jax.models.weight_names import Weight, weight_table

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


class CheckpointFormatError(ValueError):
    """A model folder that does not hold what its config promises; the message names file and tensor."""


def load_pretrained(directory: str | os.PathLike[str]) -> tuple[DecoderConfig, Params]:
    """Loads a Qwen2, Qwen3 or Llama checkpoint, as a language model or with a value head (one-label classification).

    Args:
        directory: folder with config.json and model.safetensors, or its shards and their index.

    Returns:
        The decoder's config, and the parameters as NumPy arrays in the dtype of the file, which is the config's
        `param_dtype` whatever config.json says; a value head is widened to float32.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        CheckpointFormatError: a tensor is unknown, missing, doubled or misshapen, or a file is damaged.
        ValueError: the config has an unsupported value.
    """
    folder = Path(directory)
    if folder.suffix == ".gguf":
        raise ValueError(f"{folder} is a GGUF file; only folders with config.json and safetensors can be loaded.")
    description = _read_config(folder)
    config = config_from_hugging_face(description, str(folder / CONFIG))
    value_head = _is_reward_model(description, folder)
    table = weight_table(config, value_head=value_head)
    params = _assemble(config, table, _tensors(folder), folder)
    return replace(config, param_dtype=params["decoder"]["embedding"].dtype.name), params


def save_pretrained(directory: str | os.PathLike[str], config: DecoderConfig, params: Params) -> None:
    """Writes a model so that `transformers` and other servers load it.

    A model with a value head is written as `*ForSequenceClassification` with one label (`problem_type: regression`),
    any other as `*ForCausalLM`. The tokenizer is saved beside it by its own `save_pretrained`.

    Args:
        directory: folder; created when missing.
        config: the decoder.
        params: parameters, in memory of the host or of a device.

    Raises:
        CheckpointFormatError: the parameters are not those of the config.
        OSError: a file could not be written, on a full disk for instance; a model that was there before is whole.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    value_head = "value_head" in params
    table = weight_table(config, value_head=value_head)
    _refuse_unknown(table, params)
    tensors = dict(_disassemble(config, table, params))
    partial = folder / f"{SINGLE}.partial"
    try:
        save_file(tensors, partial, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(
            f"The weights could not be written to {partial}: {error}. Make room or correct the folder's permissions, "
            "then run the same command again: training does not start over."
        ) from error
    os.replace(partial, folder / SINGLE)
    text = json.dumps(config_to_hugging_face(config, value_head=value_head), indent=2)
    partial = folder / f"{CONFIG}.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, folder / CONFIG)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise FileNotFoundError(f"There is no model in {folder}: expected a folder with {CONFIG} and {SINGLE}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointFormatError(f"{path} is not JSON: {error}.") from error


def _is_reward_model(description: dict[str, Any], folder: Path) -> bool:
    names = description.get("architectures") or []
    kinds = [kind for kind in ("ForCausalLM", "ForSequenceClassification") if names and names[0].endswith(kind)]
    if len(names) != 1 or not kinds:
        raise ValueError(
            f"{folder / CONFIG}, field architectures: expected one *ForCausalLM or *ForSequenceClassification, "
            f"got {names}."
        )
    if kinds == ["ForCausalLM"]:
        return False
    labels = description.get("num_labels", len(description.get("id2label", ())))
    if labels != 1:
        raise ValueError(f"{folder / CONFIG}: expected one label for a value head, got {labels}.")
    return True


def _tensors(folder: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name of the file, name and content of every tensor, one at a time."""
    for path in _files(folder):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing, although the model in {folder} needs it.")
        try:
            with safe_open(path, framework="np") as file:
                for name in list(file.keys()):
                    yield path.name, name, file.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointFormatError(f"{path} is damaged or cut off: {error}.") from error


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if not index.exists():
        return [folder / SINGLE]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, KeyError) as error:
        raise CheckpointFormatError(f"{index} is not an index with a weight_map: {error}.") from error
    for name in names:
        if Path(name).name != name:
            raise CheckpointFormatError(f"{index}: expected names of files in the same folder, got {name!r}.")
    return [folder / name for name in names]


def _assemble(
    config: DecoderConfig, table: list[Weight], tensors: Iterator[tuple[str, str, np.ndarray]], folder: Path
) -> Params:
    """Puts every tensor into its place; each place is filled exactly once."""
    expected = {name: (weight, layer) for weight in table for layer, name in _names(config, weight)}
    params: Params = {}
    seen: set[str] = set()
    tied_head = None
    for file, name, tensor in tensors:
        if name == "lm_head.weight" and name not in expected and config.tied_embeddings:
            tied_head = tensor  # written by some tools beside the embedding that it is tied to
            continue
        _check(folder / file, name, tensor, expected, seen)
        seen.add(name)
        weight, layer = expected[name]
        _place(config, params, weight, layer, weight.read(tensor))
    missing = sorted(expected.keys() - seen)
    if missing:
        raise CheckpointFormatError(f"{folder} lacks {len(missing)} tensors, the first is {missing[0]!r}.")
    if tied_head is not None and not np.array_equal(tied_head, params["decoder"]["embedding"]):
        raise CheckpointFormatError(
            f"{folder} holds a tensor 'lm_head.weight' that differs from the embedding, although its config ties them."
        )
    return params


def _check(path: Path, name: str, tensor: np.ndarray, expected: dict[str, Any], seen: set[str]) -> None:
    if name not in expected:
        raise CheckpointFormatError(f"{path} holds the unknown tensor {name!r}.")
    if name in seen:
        raise CheckpointFormatError(f"{path} holds the tensor {name!r} a second time.")
    shape = expected[name][0].shape
    if tensor.shape != shape:
        raise CheckpointFormatError(f"{path}, tensor {name!r}: expected the shape {shape}, got {tensor.shape}.")
    if tensor.dtype.name not in FLOAT_DTYPES:
        raise CheckpointFormatError(
            f"{path}, tensor {name!r}: expected a dtype out of {', '.join(FLOAT_DTYPES)}, got {tensor.dtype.name}."
        )


def _names(config: DecoderConfig, weight: Weight) -> list[tuple[int | None, str]]:
    if not weight.per_layer:
        return [(None, weight.name)]
    return [(layer, weight.name.format(layer=layer)) for layer in range(config.layers)]


def _place(config: DecoderConfig, params: Params, weight: Weight, layer: int | None, value: np.ndarray) -> None:
    node = params
    for key in weight.path[:-1]:
        node = node.setdefault(key, {})
    if layer is None:
        node[weight.path[-1]] = np.ascontiguousarray(value)
        return
    if weight.path[-1] not in node:
        node[weight.path[-1]] = np.zeros((config.layers, *value.shape), value.dtype)
    node[weight.path[-1]][layer] = value


def _refuse_unknown(table: list[Weight], params: Params) -> None:
    known = {weight.path for weight in table}
    for path in flatten_dict(params):
        if path not in known:
            raise CheckpointFormatError(f"The parameters hold {'.'.join(path)}, which the config does not know.")


def _disassemble(config: DecoderConfig, table: list[Weight], params: Params) -> Iterator[tuple[str, np.ndarray]]:
    for weight in table:
        node: Any = params
        for key in weight.path:
            if key not in node:
                raise CheckpointFormatError(f"The parameters lack {'.'.join(weight.path)}, which the config asks for.")
            node = node[key]
        stacked = np.asarray(node)
        for layer, name in _names(config, weight):
            tensor = weight.write(stacked if layer is None else stacked[layer])
            if tensor.shape != weight.shape:
                raise CheckpointFormatError(
                    f"Parameter {'.'.join(weight.path)}: expected the shape {weight.shape} as {name!r}, "
                    f"got {tensor.shape}."
                )
            yield name, np.ascontiguousarray(tensor)
