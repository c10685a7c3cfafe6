"""The paper's four models by name, and any model by its config.json."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agentprm_jax.models.config import DecoderConfig, Llama3RopeScaling
from agentprm_jax.models.hugging_face_config import config_from_hugging_face


def _qwen(
    vocab_size: int, embed: int, mlp: int, layers: int, heads: int, kv_heads: int, head_dim: int
) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=vocab_size,
        embed=embed,
        mlp=mlp,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rope_theta=1e6,
        norm_eps=1e-6,
        max_positions=32_768,
        qkv_bias=True,
        tied_embeddings=vocab_size == 151_936,
    )


MODELS: Mapping[str, DecoderConfig] = {
    "qwen2.5-0.5b": _qwen(151_936, 896, 4_864, 24, 14, 2, 64),
    "qwen2.5-3b": _qwen(151_936, 2_048, 11_008, 36, 16, 2, 128),
    "qwen2.5-7b": _qwen(152_064, 3_584, 18_944, 28, 28, 4, 128),
    "llama-3.1-8b": DecoderConfig(
        vocab_size=128_256,
        embed=4_096,
        mlp=14_336,
        layers=32,
        heads=32,
        kv_heads=8,
        head_dim=128,
        rope_theta=500_000.0,
        norm_eps=1e-5,
        max_positions=131_072,
        tied_embeddings=False,
        rope_scaling=Llama3RopeScaling(8.0, 1.0, 4.0, 8_192),
    ),
}


def named_model(name: str, *, dtype: str, param_dtype: str, remat: bool) -> DecoderConfig:
    """A model by its name in `MODELS` or by the path of its config.json, in given types.

    Raises:
        ValueError: there is neither such a name nor such a file, or the file has a value that is not supported.
    """
    if name in MODELS:
        model = MODELS[name]
    elif Path(name).is_file():
        model = config_from_hugging_face(json.loads(Path(name).read_text(encoding="utf-8")), name)
    else:
        raise ValueError(f"The model {name} should be one of {', '.join(MODELS)} or the path of a config.json.")
    return replace(model, dtype=dtype, param_dtype=param_dtype, remat=remat)
