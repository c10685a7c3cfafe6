"""Models are written whole or not at all, and layer by layer."""

import json
import re
import tracemalloc
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from agentprm_jax.models import load_pretrained, save_pretrained, saving
from agentprm_jax.models.checkpoint import CheckpointFormatError
from tests.models.tiny_models import BIASED, FAMILIES, PLAIN, language_model, reward_model

KINDS = {"language_model": language_model, "reward_model": reward_model}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path, config, kind):
    params = KINDS[kind](config)
    save_pretrained(tmp_path, config, params)
    loaded_config, loaded = load_pretrained(tmp_path)
    assert loaded_config == config
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


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


def test_device_arrays_are_saved_as_host_arrays_are(tmp_path):
    params = language_model(PLAIN)
    save_pretrained(tmp_path / "device", PLAIN, jax.tree.map(jnp.asarray, params))
    save_pretrained(tmp_path / "host", PLAIN, jax.tree.map(np.asarray, params))
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("device", "host"))
    assert one == other


@pytest.mark.parametrize("kind", KINDS)
def test_shards_are_no_larger_than_asked_and_hold_the_whole_model(tmp_path, kind):
    config = replace(BIASED, param_dtype="bfloat16", dtype="bfloat16")
    params = KINDS[kind](config)
    save_pretrained(tmp_path, config, params, max_shard_bytes=2000)
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    sizes = [sum(tensor.nbytes for tensor in load_file(tmp_path / name).values()) for name in shards]
    assert shards == [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    assert len(shards) > 1
    assert max(sizes) <= 2000
    assert index["metadata"]["total_size"] == sum(sizes)
    assert sorted(set(index["weight_map"].values())) == shards
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], params)


def test_of_two_models_saved_into_one_folder_the_second_is_left(tmp_path):
    for number, limit in enumerate([10**9, 3000, 1000, 10**9, 1000]):
        params = language_model(PLAIN, seed=number)
        save_pretrained(tmp_path, PLAIN, params, max_shard_bytes=limit)
        jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], params)
        held = [load_file(path) for path in tmp_path.glob("*.safetensors")]
        assert sum(map(len, held)) == len({name for names in held for name in names}) == 20
        assert (tmp_path / "model.safetensors.index.json").exists() == (limit < 10**9)
        assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("limit", [10**9, 1000])
def test_a_full_disk_leaves_the_model_that_was_there(tmp_path, monkeypatch, limit):
    params = language_model(PLAIN)
    save_pretrained(tmp_path, PLAIN, params)
    written = []

    def fill_up(path, drafts):
        if len(written) == 1 or limit == 10**9:
            path.write_bytes(b"torn")
            raise OSError(28, "No space left on device")
        written.append(path)

    monkeypatch.setattr(saving, "write_safetensors", fill_up)
    with pytest.raises(OSError, match=rf"could not be written to {tmp_path}: .*No space left on device.*Make room"):
        save_pretrained(tmp_path, PLAIN, language_model(PLAIN, seed=1), max_shard_bytes=limit)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], params)
    assert not list(tmp_path.glob("*.partial"))


def test_what_a_killed_save_left_is_no_model_and_is_cleared_by_the_next(tmp_path, monkeypatch):
    def die(folder, names):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "_put_in_place", die)
    with pytest.raises(KeyboardInterrupt):
        save_pretrained(tmp_path, PLAIN, language_model(PLAIN), max_shard_bytes=1000)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="no model"):
        load_pretrained(tmp_path)
    save_pretrained(tmp_path, PLAIN, language_model(PLAIN))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_makes_no_second_copy_of_the_model(tmp_path):
    config = replace(PLAIN, embed=64, mlp=2048, layers=16)
    params = jax.tree.map(np.asarray, language_model(config))
    largest = 4 * config.embed * config.mlp
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    save_pretrained(tmp_path, config, params)  # whatever is imported or cached on first use
    tracemalloc.start()
    save_pretrained(tmp_path, config, params)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 20 * largest
    assert peak < 4 * largest


def test_the_tokens_that_pad_and_end_are_written_where_transformers_reads_them(tmp_path):
    save_pretrained(tmp_path, PLAIN, reward_model(PLAIN), pad_token_id=3, end_of_turn_id=2)
    description = json.loads((tmp_path / "config.json").read_text())
    assert (description["pad_token_id"], description["eos_token_id"], description["bos_token_id"]) == (3, 2, None)


@pytest.mark.parametrize(("end_of_turn_id", "pad"), [(None, 39), (2, 39), (39, 38)])
def test_a_reward_model_is_padded_also_where_nobody_says_with_what(tmp_path, end_of_turn_id, pad):
    """Without padding `transformers` refuses a batch of more than one row."""
    save_pretrained(tmp_path / "reward", PLAIN, reward_model(PLAIN), end_of_turn_id=end_of_turn_id)
    assert json.loads((tmp_path / "reward" / "config.json").read_text())["pad_token_id"] == pad
    save_pretrained(tmp_path / "language", PLAIN, language_model(PLAIN), end_of_turn_id=end_of_turn_id)
    assert json.loads((tmp_path / "language" / "config.json").read_text())["pad_token_id"] is None


def test_a_reward_model_is_not_padded_with_its_end_of_turn(tmp_path):
    with pytest.raises(ValueError, match=r"padding and the end of turn of a reward model are both token 2"):
        save_pretrained(tmp_path, PLAIN, reward_model(PLAIN), pad_token_id=2, end_of_turn_id=2)
