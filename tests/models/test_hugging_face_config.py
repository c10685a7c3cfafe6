"""config.json: the switches are read and written, and nothing that the decoder does not compute is let through."""

import re
from dataclasses import replace

import pytest
from transformers import AutoConfig

from agentprm_jax.models.hugging_face_config import config_from_hugging_face, config_to_hugging_face
from tests.models.tiny_models import BIASED, FAMILIES, NORMED, PLAIN, STRETCHED

SCALING = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("value_head", [False, True])
@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_a_config_survives_the_way_out_and_back(config, value_head):
    assert config_from_hugging_face(config_to_hugging_face(config, value_head=value_head), "config.json") == config


@pytest.mark.parametrize(
    ("config", "value_head", "name"),
    [
        (BIASED, False, "Qwen2ForCausalLM"),
        (NORMED, True, "Qwen3ForSequenceClassification"),
        (STRETCHED, True, "LlamaForSequenceClassification"),
    ],
)
def test_the_switches_decide_the_family(config, value_head, name):
    description = config_to_hugging_face(config, value_head=value_head)
    assert description["architectures"] == [name]
    assert (description.get("problem_type") == "regression") == value_head


def test_switches_that_no_family_combines_are_not_exported():
    with pytest.raises(ValueError, match="both biases and norms"):
        config_to_hugging_face(replace(BIASED, qk_norm=True), value_head=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "config.json, field model_type: expected 'qwen2', 'qwen3', 'llama'"),
        ({"hidden_act": "gelu"}, "config.json, field hidden_act: expected 'silu', got 'gelu'"),
        ({"use_sliding_window": True}, "config.json, field use_sliding_window: expected False, got True"),
        ({"attention_bias": True}, "config.json, field attention_bias: expected False, got True"),
        ({"mlp_bias": True}, "config.json, field mlp_bias: expected False, got True"),
        (
            {"quantization_config": {"bits": 4}},
            "field quantization_config: expected None, got {'bits': 4}",
        ),
        ({"partial_rotary_factor": 0.5}, "config.json, field partial_rotary_factor: expected 1.0, got 0.5"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "field layer_types: expected 'full_attention', got"),
        ({"model_type": "mistral", "sliding_window": 4096}, "field sliding_window: expected None, got 4096"),
        ({"model_type": "mistral"}, "config.json, field sliding_window: expected None, got 4096"),
        (
            {"model_type": "mistral", "use_sliding_window": False, "sliding_window": 4096},
            "config.json, field sliding_window: expected None, got 4096",
        ),
        ({"model_type": "qwen2", "use_sliding_window": True}, "field use_sliding_window: expected False, got True"),
        ({"sliding_window": 4096}, "config.json, field sliding_window: expected None, got 4096"),
        (
            {"model_type": "qwen3_moe"},
            "'llama', 'mistral', got 'qwen3_moe'",
        ),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "got 'linear'"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "got 'dynamic'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "field factor is missing"),
        ({"vocab_size": None}, "config.json: field vocab_size is missing"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "field rope_type: expected 'default', 'llama3'",
        ),
        ({"rope_parameters": {}, "rope_theta": None}, "config.json: field rope_theta is missing"),
        ({"vocab_size": "40"}, "config.json, field vocab_size: expected a whole number above 0, got '40'"),
        ({"num_attention_heads": 0}, "field num_attention_heads: expected a whole number above 0, got 0"),
        ({"num_attention_heads": True}, "field num_attention_heads: expected a whole number above 0, got True"),
        ({"num_key_value_heads": [2]}, "field num_key_value_heads: expected a whole number above 0, got [2]"),
        ({"head_dim": 6.5}, "field head_dim: expected a whole number above 0, got 6.5"),
        ({"rms_norm_eps": "1e-6"}, "config.json, field rms_norm_eps: expected a number, got '1e-6'"),
        ({"tie_word_embeddings": "false"}, "field tie_word_embeddings: expected true or false, got 'false'"),
        ({"rope_parameters": "llama3"}, "config.json, field rope_parameters: expected an object, got 'llama3'"),
        ({"layer_types": 2}, "config.json, field layer_types: expected a list, got 2"),
        ({"num_key_value_heads": 3}, "config.json: DecoderConfig.heads: expected a multiple of kv_heads = 3, got 4"),
        (
            {"dtype": "bfloat16"},
            "config.json, field torch_dtype, the older name of dtype: expected 'bfloat16', got 'float32'",
        ),
        ({"dtype": ["float32"], "torch_dtype": None}, "config.json: DecoderConfig.param_dtype: expected one of"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, **SCALING, "factor": 0.5}},
            "config.json: Llama3RopeScaling.factor: expected at least 1, got 0.5",
        ),
    ],
)
def test_an_unsupported_config_is_refused_by_field_and_value(change, message):
    description = config_to_hugging_face(PLAIN, value_head=False) | change
    with pytest.raises(ValueError, match=re.escape(message)):
        config_from_hugging_face(description, "config.json")


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "qwen2", "sliding_window": 4096},
        {"model_type": "qwen3", "use_sliding_window": False, "sliding_window": 4096},
        {"model_type": "mistral", "sliding_window": None},
        {"model_type": "mistral", "use_sliding_window": True, "sliding_window": None},
        {"use_sliding_window": False, "sliding_window": 4096},
    ],
)
def test_a_window_that_the_family_does_not_use_is_no_hindrance(change):
    description = config_to_hugging_face(PLAIN, value_head=False) | change
    assert config_from_hugging_face(description, "config.json").layers == PLAIN.layers
    if description["model_type"] != "llama":  # whose config keeps what stands there, and whose model reads none of it
        assert AutoConfig.for_model(**description).sliding_window is None


def test_rotary_fields_stand_where_older_readers_look_for_them_too():
    """Readers before transformers 5 know no rope_parameters, and fall back to plain positions in silence."""
    description = config_to_hugging_face(STRETCHED, value_head=False)
    del description["rope_parameters"]
    assert config_from_hugging_face(description, "config.json") == STRETCHED
    assert "rope_scaling" not in config_to_hugging_face(PLAIN, value_head=False)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_the_dtype_of_weights_stands_under_the_name_that_a_reader_knows(name):
    """Readers before transformers 4.56 know no dtype, and load bfloat16 as float32 in silence."""
    half = replace(PLAIN, param_dtype="bfloat16")
    description = config_to_hugging_face(half, value_head=False)
    del description[{"dtype": "torch_dtype", "torch_dtype": "dtype"}[name]]
    assert description[name] == "bfloat16"
    assert config_from_hugging_face(description, "config.json") == half


def test_the_older_spelling_of_rotary_fields_is_read():
    description = config_to_hugging_face(STRETCHED, value_head=False)
    del description["rope_scaling"]
    fields = description.pop("rope_parameters")
    description["rope_scaling"] = {name: value for name, value in fields.items() if name != "rope_theta"}
    assert config_from_hugging_face(description, "config.json") == STRETCHED
