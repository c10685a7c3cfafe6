"""Models out: what a user calls to write a model that `transformers` and other servers load."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agentprm_jax.models.checkpoint import CheckpointFormatError
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.hugging_face_config import config_to_hugging_face
from agentprm_jax.models.parameters import leaves_by_path
from agentprm_jax.models.safetensors_folder import CONFIG, INDEX, SINGLE
from agentprm_jax.models.safetensors_writer import Draft, write_safetensors
from agentprm_jax.models.weight_names import Weight, parameter_shape, tensor_names, weight_table

MAX_SHARD_BYTES = 5_000_000_000


def save_pretrained(
    directory: str | os.PathLike[str],
    config: DecoderConfig,
    params: Params,
    *,
    pad_token_id: int | None = None,
    end_of_turn_id: int | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes a model so that `transformers` and other servers load it.

    A model with a value head is written as `*ForSequenceClassification` with one label (`problem_type: regression`),
    any other as `*ForCausalLM`. `data.ChatEncoder.save_tokenizer` writes the tokenizer beside it. Weights are written
    layer by layer, and everything is written before anything takes the place of what was there; config.json comes last,
    so that a folder without it is no model.

    Args:
        directory: folder; created when missing.
        config: the decoder.
        params: parameters, in memory of the host or of a device.
        pad_token_id: token that fills rows of a batch. `transformers` reads a classifier at the last token that is
            another, so it must not be the end-of-turn token, at which a value head is read. None leaves it open for a
            language model; a value head cannot be read in batches without one, and gets the last token of the
            vocabulary that is not `end_of_turn_id`, so give your tokenizer's own if that is a token of your texts.
        end_of_turn_id: token at which generation stops.
        max_shard_bytes: a model with more bytes is cut into shards of at most so many (or one tensor) and an index.

    Raises:
        CheckpointFormatError: the parameters are not those of the config.
        ValueError: the padding of a reward model is its end of turn, or no family has the config's switches.
        OSError: a file could not be written, on a full disk for instance; a model that was there before is whole.
    """
    value_head = "value_head" in params
    if value_head and pad_token_id is not None and pad_token_id == end_of_turn_id:
        raise ValueError(
            f"The padding and the end of turn of a reward model are both token {pad_token_id}: `transformers` would "
            "read it before the end of the last turn. Give another pad_token_id."
        )
    pad = _unused_token(config, end_of_turn_id) if value_head and pad_token_id is None else pad_token_id
    description = config_to_hugging_face(config, value_head=value_head)
    description |= {"pad_token_id": pad, "eos_token_id": end_of_turn_id, "bos_token_id": None}
    drafts = _drafts(config, weight_table(config, value_head=value_head), params)
    write_checkpoint(Path(directory), description, drafts, max_shard_bytes)


def _unused_token(config: DecoderConfig, end_of_turn_id: int | None) -> int:
    """The last token, which most vocabularies leave unused, unless a turn ends with it."""
    last = config.vocab_size - 1
    return last - 1 if last == end_of_turn_id else last


def write_checkpoint(folder: Path, description: dict[str, Any], drafts: Sequence[Draft], max_shard_bytes: int) -> None:
    """Writes config.json and tensors, one at a time.

    Everything is written beside what was there before anything takes its place.

    Raises:
        OSError: a file could not be written; nothing is changed.
    """
    shards = _shards(drafts, max_shard_bytes)
    texts = {CONFIG: description} | ({INDEX: _index(shards)} if len(shards) > 1 else {})
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("model*.partial"):  # by a process that was killed
        left.unlink()
    write_partials(folder, shards, texts)
    _put_in_place(folder, [*shards, *texts])


def write_partials(folder: Path, shards: Mapping[str, Sequence[Draft]], texts: Mapping[str, Any]) -> None:
    """Writes tensors and JSON beside what may be there, each under the name of `partial_path`; renaming is left over.

    Args:
        folder: where.
        shards: the tensors of every safetensors file, by its name.
        texts: the content of every JSON file, by its name.

    Raises:
        OSError: a file could not be written; none stays.
    """
    try:
        for name, shard in shards.items():
            write_safetensors(partial_path(folder, name), shard)
        for name, content in texts.items():
            partial_path(folder, name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        for name in (*shards, *texts):
            partial_path(folder, name).unlink(missing_ok=True)
        raise OSError(
            f"The weights could not be written to {folder}: {error}. Make room or correct the folder's permissions, "
            "then run the same command again: training does not start over."
        ) from error


def partial_path(folder: Path, name: str) -> Path:
    """Where a file is written before it takes its place."""
    return folder / f"{name}.partial"


def _put_in_place(folder: Path, names: list[str]) -> None:
    """Renames what was written; while weights of two models may lie side by side there is no config.json."""
    stale = _present(folder) - set(names)
    (folder / CONFIG).unlink(missing_ok=True)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == CONFIG):
        os.replace(partial_path(folder, name), folder / name)


def _present(folder: Path) -> set[str]:
    """Names of the weight files of a model that is there already."""
    shards = [path.name for path in folder.glob("model-*-of-*.safetensors")]
    return {name for name in (SINGLE, INDEX, *shards) if (folder / name).exists()}


def _drafts(config: DecoderConfig, table: list[Weight], params: Params) -> list[Draft]:
    """What is to be written: every tensor with its size, and how to make it when it is its turn."""
    given = leaves_by_path(params)
    wanted = {weight.path: parameter_shape(config, weight) for weight in table}
    for path in given.keys() - wanted.keys():
        raise CheckpointFormatError(f"The parameters hold {'.'.join(path)}, which the config does not know.")
    for path in wanted.keys() - given.keys():
        raise CheckpointFormatError(f"The parameters lack {'.'.join(path)}, which the config asks for.")
    for path, shape in wanted.items():
        if given[path].shape != shape:
            raise CheckpointFormatError(
                f"Parameter {'.'.join(path)}: expected the shape {shape}, got {given[path].shape}."
            )
    return [draft for weight in table for draft in _drafts_of(config, weight, given[weight.path])]


def _drafts_of(config: DecoderConfig, weight: Weight, parameter: Any) -> Iterator[Draft]:
    for layer, name in enumerate(tensor_names(config, weight)):
        write = partial(_write, weight, parameter, layer if weight.per_layer else ...)
        yield Draft(name, weight.shape, np.dtype(parameter.dtype), write)


def _write(weight: Weight, parameter: Any, place: Any) -> np.ndarray:
    return weight.write(np.asarray(parameter[place]))


def _shards(drafts: Sequence[Draft], most: int) -> dict[str, list[Draft]]:
    """The drafts of each file, by its name."""
    groups: list[list[Draft]] = [[]]
    size = 0
    for draft in drafts:
        if groups[-1] and size + draft.bytes > most:
            groups.append([])
            size = 0
        groups[-1].append(draft)
        size += draft.bytes
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {f"model-{i:05}-of-{len(groups):05}.safetensors": group for i, group in enumerate(groups, 1)}


def _index(shards: Mapping[str, list[Draft]]) -> dict[str, Any]:
    total = sum(draft.bytes for shard in shards.values() for draft in shard)
    weight_map = {draft.name: file for file, shard in shards.items() for draft in shard}
    return {"metadata": {"total_size": total}, "weight_map": weight_map}
