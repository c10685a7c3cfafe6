"""A small byte-level tokenizer with a ChatML template, and a random model of it."""

import functools

import jax
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agentprm_jax.data import ChatEncoder
from agentprm_jax.models import DecoderConfig, init_language_model

_CORPUS = ["go to the red door", "Observation: you see a door\n", "ab ab aab", "öö €€", "user assistant system"]
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@functools.cache
def byte_pair_encoder() -> ChatEncoder:
    """An encoder of any text, whose end of text is not its end of turn."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        _CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=SPECIAL[0], eos_token=SPECIAL[0])
    tokenizer.chat_template = _CHATML
    return ChatEncoder(tokenizer)


@functools.cache
def byte_pair_model(sharpness: float = 20.0):
    """Config and parameters of a random model of that vocabulary; `sharpness` scales its logits."""
    config = DecoderConfig(
        vocab_size=byte_pair_encoder().vocab_size,
        embed=32,
        mlp=48,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=8,
        rope_theta=1e4,
        norm_eps=1e-6,
        max_positions=512,
    )
    params = init_language_model(config, jax.random.key(3))
    embedding = params["decoder"]["embedding"] * sharpness
    return config, params | {"decoder": params["decoder"] | {"embedding": embedding}}
