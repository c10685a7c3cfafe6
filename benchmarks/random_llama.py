"""Random models with tokenizers of their own, for measurements without any download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_random_llama(folder: Path, texts: Sequence[str]) -> None:
    """Writes a small random Llama and a tokenizer of the words of the texts, as models from scratch have.

    Words are read again as the tokens that were said. Bytes would not be: what a random model says of them is no UTF-8,
    which no conversation of text can hold.
    """
    import jax

    from agentprm_jax.data.vocabulary import PROMPT, word_tokenizer
    from agentprm_jax.models import DecoderConfig, init_language_model, save_pretrained

    tokenizer = word_tokenizer(sorted({word for text in texts for word in text.split()} - {PROMPT}))
    decoder = DecoderConfig(
        vocab_size=len(tokenizer),
        embed=256,
        mlp=768,
        layers=6,
        heads=4,
        kv_heads=2,
        head_dim=64,
        rope_theta=1e4,
        norm_eps=1e-5,
        max_positions=2048,
    )
    save_pretrained(folder, decoder, init_language_model(decoder, jax.random.key(0)))
    tokenizer.save_pretrained(folder)


def byte_pair_tokenizer(texts: Sequence[str], most: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that was trained on the texts, with the chat template of Qwen; special tokens come on top.

    Args:
        texts: to train on.
        most: tokens beside the special ones.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    backend.decoder = decoders.ByteLevel()  # pyright: ignore
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=most, initial_alphabet=alphabet, show_progress=False)
    )
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=special[0], eos_token=special[2])
    tokenizer.chat_template = _CHATML
    return tokenizer
