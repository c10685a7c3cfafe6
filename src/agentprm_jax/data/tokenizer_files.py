"""The tokenizer of a model folder: read, and written with a pad token that no other token is taken for.

`transformers` reads a `*ForSequenceClassification` at the last token that is not the pad token. A promise is read at
the end-of-turn token, so that one must not be the pad token, as it is in some published tokenizers (SmolLM2).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.models.amend_config import amend_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER = "tokenizer.json"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, from the disk alone.

    Raises:
        FileNotFoundError: the folder has no tokenizer.json.
    """
    if not (folder / TOKENIZER).is_file():
        raise FileNotFoundError(
            f"{folder / TOKENIZER} is missing: expected the tokenizer that the model was trained with beside it."
        )
    from transformers import PreTrainedTokenizerFast  # slow to import, and only needed here

    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def load_encoder(folder: Path) -> ChatEncoder:
    """The encoder of a model folder's tokenizer and chat template.

    Raises:
        FileNotFoundError: the folder has no tokenizer.json.
        ValueError: the chat template is missing or does not write every turn by itself.
    """
    return ChatEncoder(load_tokenizer(folder))


def choose_pad_token(encoder: ChatEncoder) -> str:
    """A special token that no conversation ends with and, if there is one, that no conversation holds.

    Args:
        encoder: the tokenizer with its chat template.

    Returns:
        The tokenizer's own pad token, if it is another than the end-of-turn token; else a token named like padding, the
        end of text or a beginning, in this order; else any special token that the chat template does not write.

    Raises:
        ValueError: there is none.
    """
    tokenizer = encoder.tokenizer
    special = {
        token.content: index
        for index, token in sorted(tokenizer.added_tokens_decoder.items())
        if token.special and index != encoder.end_of_turn_id
    }
    if tokenizer.pad_token in special:
        return str(tokenizer.pad_token)
    written = set(_template_ids(encoder))
    unwritten = [token for token, index in special.items() if index not in written]
    named = [
        token for word in ("pad", "endoftext", "end_of_text", "unk") for token in unwritten if word in token.lower()
    ]
    for token in (*named, *unwritten):
        return token
    raise ValueError(
        "The tokenizer has no special token that could fill unused places: expected one besides those of its chat "
        f"template, got {', '.join(special) or 'none'}. The promise is read at the last token that is no padding, so "
        "the end-of-turn token cannot be padding as well. Set `pad_token` to another special token."
    )


def write_tokenizer(folder: Path, encoder: ChatEncoder) -> None:
    """Writes the tokenizer with its chat template and a pad token, and names the pad token in config.json."""
    tokenizer: PreTrainedTokenizerFast = copy.deepcopy(encoder.tokenizer)
    tokenizer.pad_token = choose_pad_token(encoder)
    tokenizer.save_pretrained(folder)
    amend_config(folder, pad_token_id=tokenizer.pad_token_id)


def _template_ids(encoder: ChatEncoder) -> list[int]:
    """Tokens that the chat template itself writes around any turn."""
    texts = [encoder.template.generation_prompt]
    texts += [part for turn in encoder.template.turns.values() for part in (turn.prefix, turn.suffix)]
    return [token for text in texts for token in encoder.tokenizer.encode(text, add_special_tokens=False)]
