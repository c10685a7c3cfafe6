"""Tokenizers on disk: read from beside a model's weights or from a GGUF file, and written together with a model."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.template import TurnsDepend, stand_in
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.gguf_file import is_gguf
from agentprm_jax.models.json_file import read_object
from agentprm_jax.models.safetensors_folder import CONFIG
from agentprm_jax.models.saving import save_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_LOG = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
GENERATION_CONFIG = "generation_config.json"


def load_encoder(path: str | os.PathLike[str], *, vocab_size: int, chat_template: str | None = None) -> ChatEncoder:
    """Reads the tokenizer and the chat template that belong to a model.

    A tokenizer's own template that does not write every turn by itself gives way to one that comes with this package,
    where that asks for actions in the same way: Qwen3's takes the thoughts from earlier turns, the one instead of it
    keeps them. A warning says so.

    Args:
        path: what `models.load_pretrained` takes: a folder in Hugging Face's layout, or a GGUF file. No code that lies
            there is ever run.
        vocab_size: how many tokens the model embeds: its config's.
        chat_template: Jinja template that replaces the tokenizer's own.

    Raises:
        FileNotFoundError: there is no tokenizer.
        ValueError: the tokenizer is damaged, has a token id that the model does not embed, knows none of the special
            tokens that the model's config names, or its chat template is missing or cannot be used; the message names
            the path.
    """
    source = Path(path)
    tokenizer = _from_gguf(source) if is_gguf(source) else _from_folder(source)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    try:
        encoder = _encoder(tokenizer, source) if chat_template is None else ChatEncoder(tokenizer)
    except ValueError as error:
        raise ValueError(f"The tokenizer in {source} cannot be used: {error}") from error
    check_vocabulary(vocab_size, encoder, str(source))
    _check_named_tokens(source, encoder)
    return encoder


def save_with_tokenizer(
    directory: str | os.PathLike[str],
    config: DecoderConfig,
    params: Params,
    encoder: ChatEncoder,
    stop_tokens: Sequence[int] = (),
) -> None:
    """Writes a model and its tokenizer so that other libraries pad it and stop its turns as its encoder does.

    Args:
        directory: folder; created when missing.
        config: the decoder.
        params: parameters of a language model or of a reward model.
        encoder: made of the tokenizer that the model was trained with.
        stop_tokens: tokens at which its generation ends beside the end of the turn, as `actors.read_stop_tokens` gives
            them of the model that it was made from. How that model's authors would sample is not carried over.

    Raises:
        OSError: a file could not be written.
    """
    ids = {"pad_token_id": encoder.pad_id, "end_of_turn_id": encoder.end_of_turn_id}
    save_pretrained(directory, config, params, **ids)
    encoder.save_tokenizer(directory)
    path = Path(directory) / GENERATION_CONFIG
    path.unlink(missing_ok=True)
    if stop_tokens:
        ends = list(dict.fromkeys([encoder.end_of_turn_id, *stop_tokens]))
        text = json.dumps({"eos_token_id": ends, "pad_token_id": encoder.pad_id}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def check_vocabulary(vocab_size: int, encoder: ChatEncoder, where: str) -> None:
    """Checks that every token of the tokenizer has an embedding.

    Raises:
        ValueError: it has not.
    """
    if encoder.vocab_size > vocab_size:
        raise ValueError(
            f"{where}: the tokenizer's highest token id is {encoder.vocab_size - 1}, but the model embeds {vocab_size} "
            f"tokens, with ids below {vocab_size}; expected the tokenizer that the model was trained with."
        )


def named_tokens(path: Path, field: str) -> list[int]:
    """The token ids that a field of a model's JSON file names: one, a list of them, or none, also where no file is.

    Raises:
        ValueError: the file is damaged, or the field holds something else; names both.
    """
    named = read_object(path).get(field) if path.is_file() else None
    tokens = [] if named is None else named if isinstance(named, list) else [named]
    if not all(type(token) is int and token >= 0 for token in tokens):
        raise ValueError(f"{path}, field {field}: expected a token id or a list of them, got {named!r}.")
    return tokens


def _encoder(tokenizer: PreTrainedTokenizerFast, source: Path) -> ChatEncoder:
    try:
        return ChatEncoder(tokenizer)
    except TurnsDepend:
        other = stand_in(tokenizer)
        if other is None:
            raise
    _LOG.warning(
        "%s: the chat template writes a turn differently depending on the turns around it. One that comes along takes "
        "its place: where nobody has thought yet it asks for actions with the same text, and it keeps the thoughts of "
        "earlier turns. `agentprm import --chat-template FILE` gives the model another.",
        source,
    )
    tokenizer.chat_template = other
    return ChatEncoder(tokenizer)


def _check_named_tokens(folder: Path, encoder: ChatEncoder) -> None:
    """Checks that texts begin and end at special tokens: with the tokenizer of another model they seldom do.

    One of several is enough, because users add plain tokens at which generation is to end.
    """
    special = {*encoder.tokenizer.all_special_ids, *encoder.tokenizer.added_tokens_decoder}
    for name, field in itertools.product((CONFIG, GENERATION_CONFIG), ("bos_token_id", "eos_token_id")):
        named = named_tokens(folder / name, field)
        if named and special.isdisjoint(named):
            raise ValueError(
                f"{folder / name}, field {field}: expected a special token of the tokenizer beside it, got "
                f"{', '.join(map(str, named))}; expected the tokenizer that the model was trained with."
            )


def _from_gguf(path: Path) -> PreTrainedTokenizerFast:
    from agentprm_jax.data.gguf_tokenizer import gguf_tokenizer  # slow to import, and only needed here

    return gguf_tokenizer(path)


def _from_folder(folder: Path) -> PreTrainedTokenizerFast:
    path = folder / TOKENIZER
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected the tokenizer that the model was trained with beside it.")
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast  # slow to import, and only needed here

    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises no narrower class
        raise ValueError(f"{path} is damaged: {error}. Copy or download the file again.") from error
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
