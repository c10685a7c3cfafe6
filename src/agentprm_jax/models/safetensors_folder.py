"""Folders with config.json and safetensors, one file or shards with an index, opened for reading."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from agentprm_jax.models.checkpoint import Checkpoint, CheckpointFormatError, StoredTensor
from agentprm_jax.models.hugging_face_config import config_from_hugging_face
from agentprm_jax.models.json_file import DOWNLOAD_AGAIN, read_object
from agentprm_jax.models.weight_names import EMBEDDING, HEAD, weight_table

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# What safetensors calls the dtypes; any other is named as it stands there and then refused.
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "I8": "int8", "U8": "uint8", "F64": "float64"}


def open_folder(folder: Path) -> Checkpoint:
    """Reads the description of the model in a folder, and what tensors its files hold.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        CheckpointFormatError: a file is damaged, or holds a tensor that another holds too.
        ValueError: the config has an unsupported value.
    """
    description = _read_config(folder)
    config = config_from_hugging_face(description, str(folder / CONFIG))
    value_head = _is_reward_model(description, folder)
    tensors: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        for name, stored in _list_tensors(path, folder):
            if name in tensors:
                raise CheckpointFormatError(
                    f"{path} holds the tensor {name!r} a second time; {tensors[name].file.name} holds it too."
                )
            tensors[name] = stored
    table = weight_table(config, value_head=value_head)
    if config.tied_embeddings and not value_head and HEAD in tensors:  # some tools write both
        _check_tied(folder, tensors)
        del tensors[HEAD]
    return Checkpoint(folder, config, value_head, table, tensors)


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of the model in a folder, as its index names them.

    Raises:
        CheckpointFormatError: the index is damaged, leads out of the folder, or is not all that there is.
    """
    index = folder / INDEX
    if not index.exists():
        return [folder / SINGLE]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointFormatError(f"{index} is not an index with a weight_map: {error}. {DOWNLOAD_AGAIN}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointFormatError(f"{index}: expected names of files in the same folder, got {name!r}.")
    if (folder / SINGLE).exists() and names != [SINGLE]:
        raise CheckpointFormatError(
            f"{folder} holds both {SINGLE} and {INDEX} with other files, so there are two models in it, of which "
            "`transformers` reads the first: expected one of them. Remove the one that does not belong there."
        )
    return [folder / name for name in names]


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model in {folder}: expected a folder with {CONFIG} and {SINGLE}, or a .gguf file."
        )
    return read_object(path)


def _is_reward_model(description: dict[str, Any], folder: Path) -> bool:
    names = description.get("architectures")
    one = str(names[0]) if isinstance(names, list) and len(names) == 1 else ""
    kinds = [kind for kind in ("ForCausalLM", "ForSequenceClassification") if one.endswith(kind)]
    if not kinds:
        raise ValueError(
            f"{folder / CONFIG}, field architectures: expected one *ForCausalLM or *ForSequenceClassification, "
            f"got {names}."
        )
    if kinds == ["ForCausalLM"]:
        return False
    named = description.get("id2label")
    labels = description.get("num_labels", len(named) if isinstance(named, dict) else named)
    if labels != 1:
        raise ValueError(f"{folder / CONFIG}: expected one label for a value head, got {labels}.")
    return True


def _list_tensors(path: Path, folder: Path) -> list[tuple[str, StoredTensor]]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing, although the model in {folder} needs it.")
    try:
        with safe_open(path, framework="np") as file:
            return [(name, _stored(path, name, file.get_slice(name))) for name in sorted(file.keys())]
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _stored(path: Path, name: str, header: Any) -> StoredTensor:
    kind = str(header.get_dtype())
    return StoredTensor(path, tuple(header.get_shape()), _DTYPES.get(kind, kind), partial(_read, path, name))


def _read(path: Path, name: str) -> np.ndarray:
    """Opens the file for one tensor only, so that no pages of other tensors stay mapped."""
    try:
        with safe_open(path, framework="np") as file:
            return file.get_tensor(name)
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointFormatError:
    return CheckpointFormatError(f"{path} is damaged or cut off: {error}. {DOWNLOAD_AGAIN}")


def _check_tied(folder: Path, tensors: dict[str, StoredTensor]) -> None:
    embedding, head = tensors.get(EMBEDDING), tensors[HEAD]
    if embedding is not None and _digest(embedding) != _digest(head):
        raise CheckpointFormatError(
            f"{folder} holds a tensor {HEAD!r} that differs from the embedding, although its config ties them."
        )


def _digest(stored: StoredTensor) -> bytes:
    """Stands for the content, so that two large tensors can be compared without holding both."""
    return hashlib.sha256(stored.read().view(np.uint8).data).digest()
