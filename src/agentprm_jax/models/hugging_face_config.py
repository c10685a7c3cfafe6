"""config.json of Hugging Face's Qwen2, Qwen3 and Llama, read strictly and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from agentprm_jax.models.config import DecoderConfig, Llama3RopeScaling

Built = TypeVar("Built")

FAMILIES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama", "mistral": "Mistral"}
_SUPPORTED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "hidden_act": ("silu", ("silu",)),
    "attention_bias": (False, (False,)),
    "mlp_bias": (False, (False,)),
    "quantization_config": (None, (None,)),
    "partial_rotary_factor": (1.0, (1.0,)),
}
"""What a field means when it is missing, and the values of it that the decoder computes."""
_MISTRAL_WINDOW = 4096
"""What `transformers` takes for Mistral where the config does not say; null is none."""
_KINDS = {
    int: "a whole number above 0",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "an object",
    list: "a list",
}
COMPUTE_DTYPE = "agentprm_compute_dtype"
"""Key under which the dtype of activations stands where it differs from that of the weights."""


def config_from_hugging_face(description: dict[str, Any], source: str) -> DecoderConfig:
    """The decoder config of a parsed config.json.

    Args:
        description: the parsed file.
        source: its path, for errors.

    Raises:
        ValueError: a field is missing, or has a value that the decoder does not support.
    """
    family = _require(description, "model_type", source, str)
    allow(source, "model_type", family, tuple(FAMILIES))
    for field, (default, allowed) in _SUPPORTED.items():
        allow(source, field, description.get(field, default), allowed)
    for kind in _optional(description, "layer_types", source, list, ()):
        allow(source, "layer_types", kind, ("full_attention",))
    _check_window(description, family, source)
    heads, embed = (_require(description, name, source) for name in ("num_attention_heads", "hidden_size"))
    theta, scaling = _rope(description, source)
    stored = _stored_dtype(description, source)
    return built(
        source,
        DecoderConfig,
        vocab_size=_require(description, "vocab_size", source),
        embed=embed,
        mlp=_require(description, "intermediate_size", source),
        layers=_require(description, "num_hidden_layers", source),
        heads=heads,
        kv_heads=_optional(description, "num_key_value_heads", source, int, heads),
        head_dim=_optional(description, "head_dim", source, int, embed // heads),
        rope_theta=theta,
        norm_eps=_require(description, "rms_norm_eps", source, float),
        max_positions=_require(description, "max_position_embeddings", source),
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
        tied_embeddings=_optional(description, "tie_word_embeddings", source, bool, False),
        rope_scaling=scaling,
        dtype=description.get(COMPUTE_DTYPE, stored),
        param_dtype=stored,
    )


def config_to_hugging_face(config: DecoderConfig, *, value_head: bool) -> dict[str, Any]:
    """The content of config.json for a decoder, as a language model or as a one-label classifier.

    Raises:
        ValueError: no family has this combination of switches.
    """
    if config.qkv_bias and config.qk_norm:
        raise ValueError(
            "No Hugging Face family has both biases and norms on queries and keys, so it cannot be exported."
        )
    family = "qwen2" if config.qkv_bias else "qwen3" if config.qk_norm else "llama"
    head = "ForSequenceClassification" if value_head else "ForCausalLM"
    description: dict[str, Any] = {
        "architectures": [FAMILIES[family] + head],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied_embeddings,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, **_scaling_fields(config.rope_scaling)},
        "attention_dropout": 0.0,
        "dtype": config.param_dtype,
        "torch_dtype": config.param_dtype,  # where readers before transformers 4.56 look for it
        COMPUTE_DTYPE: config.dtype,
    }
    if config.rope_scaling is not None:  # where readers before transformers 5 look for it
        description["rope_scaling"] = _scaling_fields(config.rope_scaling)
    if family == "llama":
        description |= {"attention_bias": False, "mlp_bias": False}
    if value_head:
        labels = {"id2label": {"0": "promise"}, "label2id": {"promise": 0}, "num_labels": 1}
        description |= labels | {"problem_type": "regression"}
    return description


def _stored_dtype(description: dict[str, Any], source: str) -> Any:
    """The dtype of the weights; where both its names stand, they say the same."""
    older = description.get("torch_dtype")
    stored = description.get("dtype") or older or "float32"
    allow(source, "torch_dtype, the older name of dtype", older or stored, (stored,))
    return stored


def _check_window(description: dict[str, Any], family: str, source: str) -> None:
    """Refuses attention to a window of tokens, which each family says in its own way.

    The Qwens have a switch beside the width, off by default; Mistral has the width alone, and ignores a switch. Llama
    has neither: what stands there all the same is taken at its word.
    """
    if family == "mistral":
        allow(source, "sliding_window", description.get("sliding_window", _MISTRAL_WINDOW), (None,))
        return
    allow(source, "use_sliding_window", description.get("use_sliding_window", False), (False,))
    if family == "llama" and "use_sliding_window" not in description:
        allow(source, "sliding_window", description.get("sliding_window"), (None,))


def _rope(description: dict[str, Any], source: str) -> tuple[float, Llama3RopeScaling | None]:
    places = [_optional(description, name, source, dict, {}) for name in ("rope_scaling", "rope_parameters")]
    fields = {**places[0], **places[1]}
    theta = float(_require({**description, **fields}, "rope_theta", source, float))
    allow(source, "partial_rotary_factor", fields.get("partial_rotary_factor", 1.0), (1.0,))
    kind = fields.get("rope_type", fields.get("type", "default"))
    allow(source, "rope_type", kind, ("default", "llama3"))
    if kind == "default":
        return theta, None
    return theta, built(
        source,
        Llama3RopeScaling,
        factor=_require(fields, "factor", source, float),
        low_freq_factor=_require(fields, "low_freq_factor", source, float),
        high_freq_factor=_require(fields, "high_freq_factor", source, float),
        original_max_positions=_require(fields, "original_max_position_embeddings", source),
    )


def _scaling_fields(scaling: Llama3RopeScaling | None) -> dict[str, Any]:
    if scaling is None:
        return {"rope_type": "default"}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_positions,
    }


def _require(description: dict[str, Any], field: str, source: str, kind: type = int) -> Any:
    """A field's value, of the kind that JSON should give it; whole numbers are sizes and counts, so above 0."""
    value = description.get(field)
    if value is None:
        raise ValueError(f"{source}: field {field} is missing.")
    if type(value) not in ((int, float) if kind is float else (kind,)) or (kind is int and value < 1):
        raise ValueError(f"{source}, field {field}: expected {_KINDS[kind]}, got {value!r}.")
    return value


def _optional(description: dict[str, Any], field: str, source: str, kind: type, default: Any) -> Any:
    return default if description.get(field) is None else _require(description, field, source, kind)


def built(source: str, kind: Callable[..., Built], **fields: Any) -> Built:
    """Makes a config of fields that a file gave.

    Raises:
        ValueError: the fields do not fit together; names the source.
    """
    try:
        return kind(**fields)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def allow(source: str, field: str, got: Any, allowed: tuple[Any, ...]) -> None:
    """Refuses a value that the decoder does not support.

    Raises:
        ValueError: `got` is not among the allowed values; names the source and the field.
    """
    if got not in allowed:
        shown = ", ".join(map(repr, allowed))
        raise ValueError(f"{source}, field {field}: expected {shown}, got {got!r}.")
