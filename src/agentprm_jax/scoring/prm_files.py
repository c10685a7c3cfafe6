"""The folder of a trained PRM: the model in Hugging Face's layout, its tokenizer, and prm.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.tokenizer_files import load_encoder, save_with_tokenizer
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.loading import Shardings, load_pretrained

PRM = "prm.json"
SCHEMA = "agentprm.prm/1"


class PrmRecord(msgspec.Struct, frozen=True, tag_field="schema", tag=SCHEMA, kw_only=True):
    """What prm.json holds.

    Attributes:
        name: name of the scorer.
        method: how it was trained: `agentprm`, `agentprm_no_la`, `pvm`, `orm` or a name of your own.
        initial_value: mean outcome of the training trajectories.
        training: whatever else is worth knowing about the training; any JSON.
    """

    name: str
    method: str
    initial_value: float
    training: dict[str, Any] = {}


class PrmParts(NamedTuple):
    """What a folder holds."""

    config: DecoderConfig
    params: Params
    encoder: ChatEncoder
    record: PrmRecord


def save_prm(
    directory: str | os.PathLike[str], config: DecoderConfig, params: Params, encoder: ChatEncoder, record: PrmRecord
) -> None:
    """Writes a PRM, with a pad token that is not the token at which it is read.

    prm.json comes last, so that a folder which was only half written is not taken for a PRM.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PRM).unlink(missing_ok=True)
    save_with_tokenizer(folder, config, params, encoder)
    draft = folder / f"{PRM}.tmp"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    os.replace(draft, folder / PRM)


def load_prm(directory: str | os.PathLike[str], shardings: Shardings | None = None) -> PrmParts:
    """Reads a PRM.

    Args:
        directory: the folder.
        shardings: where the parameters shall lie, as in `load_pretrained`; None leaves them in the memory of the host.

    Raises:
        FileNotFoundError: the folder or a file of it is missing.
        ValueError: prm.json is damaged, the model is a language model without a value head, or the tokenizer has more
            tokens than the model.
    """
    folder = Path(directory)
    record = read_prm_record(folder)
    config, params = load_pretrained(folder, shardings)
    if "value_head" not in params:
        raise ValueError(
            f"{folder} holds a language model: expected a reward model, with a value head "
            "(`*ForSequenceClassification` in config.json, `score.weight` among the tensors)."
        )
    return PrmParts(config, params, load_encoder(folder, vocab_size=config.vocab_size), record)


def _kind(path: Path) -> str:
    return "a file" if path.exists() else "nothing"


def read_prm_record(folder: Path) -> PrmRecord:
    """What is known about the PRM in a folder, without its parameters.

    Raises:
        FileNotFoundError: the folder or its prm.json is missing.
        ValueError: prm.json is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no PRM in {folder}: expected a folder that `Prm.save` wrote, got {_kind(folder)}."
        )
    path = folder / PRM
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"{path} is missing, so {folder} is no PRM or was not written to the end: expected a folder that "
            f"`Prm.save` wrote, got one with {found}."
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=PrmRecord)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is damaged: {error}. Expected what `Prm.save` writes.") from error


def to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as prm.json will give them back.

    Raises:
        ValueError: they hold something that JSON cannot.
    """
    try:
        return json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"The `training` of a PRM should be JSON, got {dict(values)!r}: {error}.") from error
