"""Weights from disk: nothing is guessed, dropped, doubled or held twice."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agentprm_jax.models import load_pretrained, save_pretrained
from agentprm_jax.models.checkpoint import CheckpointFormatError, check_finite
from tests.models.tiny_models import BIASED, NORMED, PLAIN, language_model, reward_model

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
    description = json.loads((saved / "config.json").read_text()) | dict.fromkeys(("dtype", "torch_dtype"), "bfloat16")
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


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_by_its_tensor_and_place(saved, number, dtype):
    def spoil(tensors):
        tensors[QUERY][5, 3] = number
        return {name: tensor.astype(dtype) for name, tensor in tensors.items()}

    rewrite(saved, spoil)
    message = rf"model\.safetensors, tensor '{re.escape(QUERY)}': expected finite.*got {number} at \[5, 3\]"
    with pytest.raises(CheckpointFormatError, match=message):
        load_pretrained(saved)


def test_the_largest_and_the_smallest_numbers_are_finite(saved):
    ends = np.array([np.finfo(np.float32).max, np.finfo(np.float32).min, 1e-45, -0.0], np.float32)
    rewrite(saved, lambda tensors: tensors | {"model.norm.weight": np.tile(ends, 4)})
    np.testing.assert_array_equal(load_pretrained(saved)[1]["decoder"]["final_norm"]["scale"], np.tile(ends, 4))


def test_the_last_number_of_a_large_tensor_is_checked_too():
    tensor = np.zeros((5, 10_000), ml_dtypes.bfloat16)
    check_finite(pathlib.Path("file"), "name", tensor)
    tensor[-1, -1] = np.nan
    with pytest.raises(CheckpointFormatError, match=r"file, tensor 'name'.*got nan at \[4, 9999\]"):
        check_finite(pathlib.Path("file"), "name", tensor)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": "LlamaForCausalLM"}, "field architectures: expected one .*, got LlamaForCausalLM"),
        ({"architectures": [1]}, r"field architectures: expected one .*, got \[1\]"),
        (
            {"architectures": ["XForSequenceClassification"], "id2label": 3},
            "expected one label .*, got 3",
        ),
    ],
)
def test_a_config_that_does_not_say_what_the_model_is_for_is_refused(saved, change, message):
    description = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(description | change))
    with pytest.raises(ValueError, match=rf"config\.json.*{message}"):
        load_pretrained(saved)


def test_a_single_file_beside_an_index_of_shards_is_refused(saved, tmp_path):
    """`transformers` reads the single file, so the two would not be the same model."""
    save_pretrained(tmp_path / "other", PLAIN, reward_model(PLAIN), max_shard_bytes=2000)
    for path in (tmp_path / "other").glob("model*"):
        path.rename(saved / path.name)
    with pytest.raises(CheckpointFormatError, match=r"both model\.safetensors and model\.safetensors\.index\.json"):
        load_pretrained(saved)


def test_an_index_of_the_single_file_is_no_second_model(saved):
    index = {"weight_map": dict.fromkeys(load_file(saved / "model.safetensors"), "model.safetensors")}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_pretrained(saved)[0].embed == PLAIN.embed


def test_an_index_cannot_lead_out_of_its_folder(saved):
    index = {"weight_map": {QUERY: "../model.safetensors"}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointFormatError, match=r"same folder, got '\.\./model\.safetensors'"):
        load_pretrained(saved)


def test_tensors_of_different_dtypes_are_widened_to_the_widest(saved):
    rewrite(saved, lambda tensors: tensors | {QUERY: tensors[QUERY].astype(ml_dtypes.bfloat16)})
    config, params = load_pretrained(saved)
    assert config.param_dtype == "float32"
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_named(saved, content):
    (saved / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointFormatError, match=r"model\.safetensors\.index\.json"):
        load_pretrained(saved)


@pytest.mark.parametrize("position", [0, 7, 8, 20])
def test_a_file_whose_header_is_damaged_is_named(saved, position):
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[position] ^= 0xFF
    (saved / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(CheckpointFormatError, match=r"model\.safetensors is damaged or cut off.*Copy or download"):
        load_pretrained(saved)


def test_loading_holds_one_tensor_beside_the_parameters(tmp_path):
    config = replace(PLAIN, embed=64, mlp=512, layers=16)
    save_pretrained(tmp_path, config, language_model(config))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(load_pretrained(tmp_path)[1]))
    largest = 4 * config.embed * config.mlp
    tracemalloc.start()
    load_pretrained(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 20 * largest
    assert peak < size + 3 * largest


def test_a_parameter_without_a_sharding_is_named(saved):
    with pytest.raises(ValueError, match=r"the parameter decoder\.embedding has no sharding"):
        load_pretrained(saved, lambda axes, shapes: {})


@pytest.mark.slow
def test_on_eight_devices_every_parameter_lies_as_its_sharding_says(tmp_path):
    config = replace(NORMED, embed=16, mlp=24, heads=4, kv_heads=2, vocab_size=40, layers=4)
    save_pretrained(tmp_path, config, language_model(config))
    script = pathlib.Path(__file__).parent / "any_mesh_loading.py"
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=devices)
    assert done.returncode == 0, done.stderr
    shards = json.loads(done.stdout)
    assert shards["by rules"]["decoder/layers/attention/query/kernel"] == [[4, 4, 2, 6], 8]
    assert shards["by layers"]["decoder/layers/attention/query/kernel"] == [[2, 16, 4, 6], 2]
    assert shards["by rules"]["decoder/final_norm/scale"] == [[4], 4]
