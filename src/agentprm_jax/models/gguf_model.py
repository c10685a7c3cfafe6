"""llama.cpp's conventions for the supported decoders: metadata keys, tensor names, rows of queries and keys, rope."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agentprm_jax.models.checkpoint import Checkpoint, CheckpointFormatError, read_finite
from agentprm_jax.models.config import DecoderConfig, Llama3RopeScaling
from agentprm_jax.models.gguf_file import GgufFile, read_gguf
from agentprm_jax.models.hugging_face_config import allow, built
from agentprm_jax.models.rope import rope_frequencies
from agentprm_jax.models.weight_names import EMBEDDING, HEAD, Layout, Weight, weight_table

ARCHITECTURES = ("llama", "qwen2", "qwen3")
NAMES = {
    EMBEDDING: "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    HEAD: "output.weight",
    "model.layers.{layer}.input_layernorm.weight": "blk.{layer}.attn_norm.weight",
    "model.layers.{layer}.self_attn.q_proj.weight": "blk.{layer}.attn_q.weight",
    "model.layers.{layer}.self_attn.q_proj.bias": "blk.{layer}.attn_q.bias",
    "model.layers.{layer}.self_attn.q_norm.weight": "blk.{layer}.attn_q_norm.weight",
    "model.layers.{layer}.self_attn.k_proj.weight": "blk.{layer}.attn_k.weight",
    "model.layers.{layer}.self_attn.k_proj.bias": "blk.{layer}.attn_k.bias",
    "model.layers.{layer}.self_attn.k_norm.weight": "blk.{layer}.attn_k_norm.weight",
    "model.layers.{layer}.self_attn.v_proj.weight": "blk.{layer}.attn_v.weight",
    "model.layers.{layer}.self_attn.v_proj.bias": "blk.{layer}.attn_v.bias",
    "model.layers.{layer}.self_attn.o_proj.weight": "blk.{layer}.attn_output.weight",
    "model.layers.{layer}.post_attention_layernorm.weight": "blk.{layer}.ffn_norm.weight",
    "model.layers.{layer}.mlp.gate_proj.weight": "blk.{layer}.ffn_gate.weight",
    "model.layers.{layer}.mlp.up_proj.weight": "blk.{layer}.ffn_up.weight",
    "model.layers.{layer}.mlp.down_proj.weight": "blk.{layer}.ffn_down.weight",
}
"""Hugging Face's names of tensors and llama.cpp's."""

_TOKENS = "tokenizer.ggml.tokens"
_ROPE = "rope_freqs.weight"
_KNOWN = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scaling.type",
}
"""Keys of an architecture that the decoder understands; any other changes what the model computes, and is refused."""
_FREQ_BASE = 10_000.0  # what llama.cpp takes where the file does not say
_PUBLISHED = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_positions": 8192}


def open_gguf(path: Path) -> Checkpoint:
    """Reads the description of the language model in a GGUF file, and what tensors the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the package `gguf` is not installed.
        CheckpointFormatError: the file is damaged.
        ValueError: a key is missing, or has a value that the decoder does not support.
    """
    file = read_gguf(path)
    config = config_from_gguf(file)
    tensors = {name: stored for name, stored in file.tensors.items() if name != _ROPE}
    table = gguf_weight_table(config, file.require("general.architecture"))
    return Checkpoint(path, config, False, table, tensors)


def gguf_weight_table(config: DecoderConfig, architecture: str) -> list[Weight]:
    """All tensors of a GGUF file of this decoder."""
    return [_in_gguf(config, architecture, weight) for weight in weight_table(config, value_head=False)]


def config_from_gguf(file: GgufFile) -> DecoderConfig:
    """The decoder config of a GGUF file; dtypes are float32, which its tensors are widened to.

    Raises:
        ValueError: a key is missing, unknown or has a value that the decoder does not support.
    """
    architecture = file.require("general.architecture")
    allow(str(file.path), "general.architecture", architecture, ARCHITECTURES)
    found = _known_keys(file, architecture)
    number = partial(_whole_number, file, architecture)
    heads, embed = number("attention.head_count"), number("embedding_length")
    head_dim = number("attention.key_length") if "attention.key_length" in found else embed // heads
    tokens = len(file.metadata.get(_TOKENS, ())) or number("vocab_size")
    supported = {
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "rope.scaling.type": "none",
        "vocab_size": tokens,
    }
    for key, value in supported.items():
        allow(str(file.path), f"{architecture}.{key}", found.get(key, value), (value,))
    config = built(
        str(file.path),
        DecoderConfig,
        vocab_size=tokens,
        embed=embed,
        mlp=number("feed_forward_length"),
        layers=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv") if "attention.head_count_kv" in found else heads,
        head_dim=head_dim,
        rope_theta=_number(file, architecture, "rope.freq_base") if "rope.freq_base" in found else _FREQ_BASE,
        norm_eps=_number(file, architecture, "attention.layer_norm_rms_epsilon"),
        max_positions=number("context_length"),
        qkv_bias=architecture == "qwen2",
        qk_norm=architecture == "qwen3",
        tied_embeddings=NAMES[HEAD] not in file.tensors,
    )
    return _with_rope_scaling(file, config)


def _known_keys(file: GgufFile, architecture: str) -> dict[str, Any]:
    """Values of the architecture's keys, by key without the architecture's name."""
    start = f"{architecture}."
    found = {key.removeprefix(start): value for key, value in file.metadata.items() if key.startswith(start)}
    for key, value in found.items():
        if key not in _KNOWN:
            raise ValueError(f"{file.path} has the key {start}{key} = {value!r}, which the decoder does not know.")
    return found


def _whole_number(file: GgufFile, architecture: str, key: str) -> int:
    value = file.require(f"{architecture}.{key}")
    if type(value) is not int or value < 1:
        raise ValueError(f"{file.path}, key {architecture}.{key}: expected one whole number above 0, got {value!r}.")
    return value


def _number(file: GgufFile, architecture: str, key: str) -> float:
    value = file.require(f"{architecture}.{key}")
    if type(value) not in (int, float):
        raise ValueError(f"{file.path}, key {architecture}.{key}: expected one number, got {value!r}.")
    return float(value)


def _with_rope_scaling(file: GgufFile, config: DecoderConfig) -> DecoderConfig:
    """Llama 3.1 and later: llama.cpp stores by what each frequency is divided, instead of the rule behind it."""
    if _ROPE not in file.tensors:
        return config
    divisors = read_finite(_ROPE, file.tensors[_ROPE])
    factor = float(divisors.max(initial=1.0))  # no lower one is Llama 3's, so lower divisors cannot be those expected
    scaled = replace(config, rope_scaling=Llama3RopeScaling(factor=factor, **_PUBLISHED))
    expected = rope_frequencies(config) / rope_frequencies(scaled)
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-4):
        raise CheckpointFormatError(
            f"{file.path}, tensor {_ROPE!r}: expected the divisors of Llama 3's rule with {_PUBLISHED} and the factor "
            f"{factor:g}, got {divisors.tolist()}. Load the model from a folder with config.json instead."
        )
    return scaled


def _in_gguf(config: DecoderConfig, architecture: str, weight: Weight) -> Weight:
    renamed = weight._replace(name=NAMES[weight.name])
    heads = {"query": config.heads, "key": config.kv_heads}.get(weight.path[-2])
    if architecture != "llama" or heads is None:
        return renamed
    return renamed._replace(read=_in_halves(heads, weight.read))


def _in_halves(heads: int, read: Layout) -> Layout:
    """Undoes what llama.cpp does to a Llama's rows of queries and keys.

    It lays the two elements that turn together next to each other; here they are half a head apart.
    """

    def from_pairs(tensor: np.ndarray) -> np.ndarray:
        pairs = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
        return read(pairs.swapaxes(1, 2).reshape(tensor.shape))

    return from_pairs
