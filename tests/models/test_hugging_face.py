"""Weights and configs in Hugging Face's layout: nothing is guessed, dropped or doubled."""

import json
import re
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agentprm_jax.models import load_pretrained, save_pretrained
from agentprm_jax.models.checkpoint import CheckpointFormatError
from agentprm_jax.models.hugging_face_config import config_from_hugging_face, config_to_hugging_face
from agentprm_jax.models.weight_names import weight_table
from tests.models.tiny_models import BIASED, FAMILIES, NORMED, PLAIN, STRETCHED, language_model, reward_model

QUERY = "model.layers.1.self_attn.q_proj.weight"
KINDS = {"language_model": language_model, "reward_model": reward_model}


@pytest.fixture
def saved(tmp_path):
    save_pretrained(tmp_path, BIASED, language_model(BIASED))
    return tmp_path


def rewrite(folder, change):
    """Rewrites the folder's tensors by a function of their dict."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")


def shard(folder, *groups):
    """Writes tensors as shards with an index; each group is a dict."""
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, tensors in enumerate(groups):
        name = f"model-{number}.safetensors"
        save_file(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path, config, kind):
    params = KINDS[kind](config)
    save_pretrained(tmp_path, config, params)
    loaded_config, loaded = load_pretrained(tmp_path)
    assert loaded_config == config
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_bfloat16_weights_stay_bfloat16_and_the_value_head_float32(tmp_path):
    half = replace(BIASED, param_dtype="bfloat16", dtype="bfloat16")
    params = reward_model(half)
    save_pretrained(tmp_path, half, params)
    config, loaded = load_pretrained(tmp_path)
    assert config == half
    assert {leaf.dtype.name for leaf in jax.tree.leaves(loaded["decoder"])} == {"bfloat16"}
    assert loaded["value_head"]["kernel"].dtype == np.float32
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_the_dtype_of_parameters_is_that_of_the_file_whatever_the_config_says(saved):
    description = json.loads((saved / "config.json").read_text()) | {"dtype": "bfloat16"}
    (saved / "config.json").write_text(json.dumps(description))
    config, params = load_pretrained(saved)
    assert config.param_dtype == params["decoder"]["embedding"].dtype.name == "float32"


def test_shards_hold_what_a_single_file_holds(saved, tmp_path):
    _, whole = load_pretrained(saved)
    tensors = load_file(saved / "model.safetensors")
    names = sorted(tensors)
    shard(saved, {n: tensors[n] for n in names[::2]}, {n: tensors[n] for n in names[1::2]})
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(saved)[1], whole)


def test_a_missing_tensor_is_named(saved):
    rewrite(saved, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != QUERY})
    with pytest.raises(CheckpointFormatError, match=rf"{re.escape(str(saved))} lacks 1 tensors.*{re.escape(QUERY)}"):
        load_pretrained(saved)


def test_an_unknown_tensor_is_named(saved):
    rewrite(saved, lambda tensors: tensors | {"model.rotary.weight": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointFormatError, match=r"model\.safetensors holds the unknown tensor 'model\.rotary"):
        load_pretrained(saved)


def test_a_misshapen_tensor_is_named_with_both_shapes(saved):
    rewrite(saved, lambda tensors: tensors | {QUERY: np.zeros((16, 24), np.float32)})
    with pytest.raises(CheckpointFormatError, match=rf"{re.escape(QUERY)}'.*\(24, 16\), got \(16, 24\)"):
        load_pretrained(saved)


def test_a_tensor_that_two_shards_hold_is_named(saved):
    tensors = load_file(saved / "model.safetensors")
    shard(saved, tensors, {QUERY: tensors[QUERY]})
    index = saved / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    assert weight_map[QUERY] == "model-1.safetensors"  # an index can name one file only for a tensor
    with pytest.raises(CheckpointFormatError, match=rf"model-1\.safetensors.*{re.escape(QUERY)}' a second time"):
        load_pretrained(saved)


def test_a_tensor_of_whole_numbers_is_refused(saved):
    rewrite(saved, lambda tensors: tensors | {QUERY: tensors[QUERY].astype(np.int8)})
    with pytest.raises(CheckpointFormatError, match=rf"{re.escape(QUERY)}'.*float32.*got int8"):
        load_pretrained(saved)


def test_a_head_beside_a_tied_embedding_must_equal_it(saved):
    rewrite(saved, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert set(load_pretrained(saved)[1]) == {"decoder"}
    rewrite(saved, lambda tensors: tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1})
    with pytest.raises(CheckpointFormatError, match=r"'lm_head\.weight' that differs from the embedding"):
        load_pretrained(saved)


def test_a_torn_file_is_named(saved):
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointFormatError, match=r"model\.safetensors is damaged or cut off"):
        load_pretrained(saved)


def test_an_absent_folder_file_or_shard_is_named(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no model in .*absent"):
        load_pretrained(tmp_path / "absent")
    shutil.move(saved / "model.safetensors", saved / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        load_pretrained(saved)


def test_an_index_cannot_lead_out_of_its_folder(saved):
    index = {"weight_map": {QUERY: "../model.safetensors"}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointFormatError, match=r"same folder, got '\.\./model\.safetensors'"):
        load_pretrained(saved)


def test_gguf_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"model\.gguf is a GGUF file"):
        load_pretrained(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p | {"lm_head": {"kernel": np.zeros((40, 16))}}, "hold lm_head.kernel, which the config does not"),
        (lambda p: {"decoder": {k: v for k, v in p["decoder"].items() if k != "final_norm"}}, "lack decoder.final_nor"),
        (lambda p: {"decoder": p["decoder"] | {"embedding": np.zeros((39, 16))}}, "decoder.embedding: expected the sh"),
    ],
)
def test_parameters_that_are_not_those_of_the_config_are_not_written(tmp_path, change, message):
    with pytest.raises(CheckpointFormatError, match=re.escape(message)):
        save_pretrained(tmp_path, BIASED, change(language_model(BIASED)))
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_the_weight_table_names_every_parameter_once(config):
    for value_head, model in ((False, language_model), (True, reward_model)):
        table = weight_table(config, value_head=value_head)
        paths = [path for path, _ in jax.tree.leaves_with_path(model(config))]
        assert sorted(weight.path for weight in table) == sorted(tuple(k.key for k in path) for path in paths)
        assert len({weight.name for weight in table}) == len(table)


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
        ({"vocab_size": None}, "config.json: field vocab_size is missing"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "field rope_type: expected 'default', 'llama3'",
        ),
        ({"rope_parameters": {}, "rope_theta": None}, "config.json: field rope_theta is missing"),
    ],
)
def test_an_unsupported_config_is_refused_by_field_and_value(change, message):
    description = config_to_hugging_face(PLAIN, value_head=False) | change
    with pytest.raises(ValueError, match=re.escape(message)):
        config_from_hugging_face(description, "config.json")


def test_the_older_spelling_of_rotary_fields_is_read():
    description = config_to_hugging_face(STRETCHED, value_head=False)
    fields = description.pop("rope_parameters")
    description["rope_scaling"] = {name: value for name, value in fields.items() if name != "rope_theta"}
    description["torch_dtype"] = description.pop("dtype")
    assert config_from_hugging_face(description, "config.json") == STRETCHED


def test_device_arrays_are_saved_as_host_arrays_are(tmp_path):
    params = language_model(PLAIN)
    save_pretrained(tmp_path / "device", PLAIN, jax.tree.map(jnp.asarray, params))
    save_pretrained(tmp_path / "host", PLAIN, jax.tree.map(np.asarray, params))
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("device", "host"))
    assert one == other
