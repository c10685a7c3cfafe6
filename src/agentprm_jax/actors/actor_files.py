"""The folder of an actor: the language model in Hugging Face's layout and its tokenizer."""

from __future__ import annotations

from pathlib import Path

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.saving import save_pretrained


def save_actor(folder: Path, config: DecoderConfig, params: Params, encoder: ChatEncoder) -> None:
    """Writes an actor so that other libraries stop where its turns end.

    Args:
        folder: created when missing.
        config: the decoder.
        params: a language model's parameters.
        encoder: made of the tokenizer that the model was trained with.

    Raises:
        OSError: a file could not be written.
    """
    save_pretrained(folder, config, params, pad_token_id=encoder.pad_id, end_of_turn_id=encoder.end_of_turn_id)
    encoder.save_tokenizer(folder)
