"""Small GGUF files, written with the package `gguf` as llama.cpp's converter writes them."""

from __future__ import annotations

import json

import gguf
import numpy as np

from agentprm_jax.models.rope import rope_frequencies

TENSORS = {
    "token_embd": ("embedding", None),
    "output_norm": ("final_norm/scale", None),
    "output": ("lm_head/kernel", None),
    "attn_norm": ("attention_norm/scale", None),
    "ffn_norm": ("mlp_norm/scale", None),
    "attn_q": ("attention/query", "heads"),
    "attn_k": ("attention/key", "kv_heads"),
    "attn_v": ("attention/value", None),
    "attn_output": ("attention/out", None),
    "attn_q_norm": ("attention/query_norm/scale", None),
    "attn_k_norm": ("attention/key_norm/scale", None),
    "ffn_gate": ("mlp/gate", None),
    "ffn_up": ("mlp/up", None),
    "ffn_down": ("mlp/down", None),
}


def paired(rows, heads):
    """The converter's `permute`: the halves of each head, interleaved."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def architecture_of(config):
    return "qwen2" if config.qkv_bias else "qwen3" if config.qk_norm else "llama"


def tensors_of(config, params):
    """The tensors of a language model under llama.cpp's names, in its layout."""
    decoder, layers = params["decoder"], params["decoder"]["layers"]
    found = {"token_embd.weight": decoder["embedding"], "output_norm.weight": decoder["final_norm"]["scale"]}
    if "lm_head" in params:
        found["output.weight"] = params["lm_head"]["kernel"]
    if config.rope_scaling is not None:
        plain = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
        found["rope_freqs.weight"] = plain / rope_frequencies(config)
    for layer in range(config.layers):
        for name, (path, heads) in TENSORS.items():
            node = layers
            for key in path.split("/"):
                node = node.get(key) if node is not None else None
            if node is None:
                continue
            parts = {"weight": node} if not isinstance(node, dict) else dict(node)
            if "kernel" in parts:
                kernel = np.asarray(parts.pop("kernel"))[layer]
                inputs = config.mlp if name == "ffn_down" else -1 if name == "attn_output" else config.embed
                rows = kernel.reshape(-1, config.embed).T if inputs == -1 else kernel.reshape(inputs, -1).T
                parts = {"weight": rows} | {key: np.asarray(value)[layer].reshape(-1) for key, value in parts.items()}
            else:
                parts = {key: np.asarray(value)[layer] for key, value in parts.items()}
            for kind, value in parts.items():
                permuted = heads is not None and architecture_of(config) == "llama"
                found[f"blk.{layer}.{name}.{kind}"] = paired(value, getattr(config, heads)) if permuted else value
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def metadata_of(config):
    return {
        "block_count": config.layers,
        "context_length": config.max_positions,
        "embedding_length": config.embed,
        "feed_forward_length": config.mlp,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.freq_base": config.rope_theta,
        "vocab_size": config.vocab_size,
    }


def write_gguf(path, config, tensors, *, architecture=None, metadata=None, tokenizer=None, extra=None):
    """Writes a file; a tensor may be an array, or a pair of its bytes and its type."""
    architecture = architecture or architecture_of(config)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (metadata_of(config) if metadata is None else metadata).items():
        _add(writer, f"{architecture}.{key}", value)
    for key, value in (extra or {}).items():
        _add(writer, key, value)
    if tokenizer is not None:
        tokenizer(writer)
    for name, tensor in tensors.items():
        data, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer, tokenizer, *, model="gpt2", pre="qwen2", template=None, tokens=None, eos=None, more=()):
    """Writes a byte-level BPE tokenizer.

    With other `tokens` under its ids and another `eos` if there are any; `more` are further tokens with their types.
    """
    added, merges = tokenizer.added_tokens_decoder, json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    names = tokens or tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_token_list([*names, *(name for name, _ in more)])
    writer.add_token_types(
        [*(3 if index in added else 1 for index in range(len(tokenizer))), *(kind for _, kind in more)]
    )
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id if eos is None else eos)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if template:
        writer.add_chat_template(template)


def _add(writer, key, value):
    kinds = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
    kinds[type(value)](key, value)
