"""The folder of an actor: the language model in Hugging Face's layout and its tokenizer."""

from __future__ import annotations

from pathlib import Path

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.tokenizer_files import write_tokenizer
from agentprm_jax.models.amend_config import amend_config
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.hugging_face import save_pretrained


def save_actor(folder: Path, config: DecoderConfig, params: Params, encoder: ChatEncoder) -> None:
    """Writes an actor so that other libraries stop where its turns end.

    Args:
        folder: created when missing.
        config: the decoder.
        params: a language model's parameters.
        encoder: made of the tokenizer that the model was trained with.

    Raises:
        OSError: a file could not be written.
        ValueError: the tokenizer has no token that could be the pad token.
    """
    save_pretrained(folder, config, params)
    write_tokenizer(folder, encoder)
    amend_config(folder, eos_token_id=encoder.end_of_turn_id)
