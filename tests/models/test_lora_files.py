"""Adapters in the layout of `peft`: what is written is read, and what cannot be read is refused by name."""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agentprm_jax.models import LoraConfig, load_adapter, save_adapter, saving
from agentprm_jax.models.checkpoint import CheckpointFormatError
from tests.models.test_lora import trained
from tests.models.tiny_models import BIASED, language_model, reward_model

LORA = LoraConfig(rank=3, alpha=6.0, targets=("*/query", "*/out", "*/down"))
QUERY = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def adapters():
    return {kind.__name__: trained(LORA, kind(BIASED)) for kind in (language_model, reward_model)}


@pytest.fixture
def saved(tmp_path, adapters):
    save_adapter(tmp_path, BIASED, LORA, adapters["reward_model"], base="some/base")
    return tmp_path


def change_tensors(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def change_settings(folder, change):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize("kind", ["language_model", "reward_model"])
def test_what_was_saved_is_read_bit_for_bit(tmp_path, adapters, kind):
    save_adapter(tmp_path, BIASED, LORA, adapters[kind], base="some/base")
    lora, loaded = load_adapter(tmp_path, BIASED)
    assert (lora.rank, lora.alpha, lora.paths) == (LORA.rank, LORA.alpha, LORA.paths)
    jax.tree.map(np.testing.assert_array_equal, loaded, adapters[kind])


def test_a_number_that_is_not_finite_is_refused_by_its_tensor(saved):
    change_tensors(saved, lambda tensors: tensors | {QUERY: tensors[QUERY] * np.float32("nan")})
    message = rf"adapter_model\.safetensors, tensor '{re.escape(QUERY)}': expected finite numbers, got nan at \[0, 0\]"
    with pytest.raises(CheckpointFormatError, match=message):
        load_adapter(saved, BIASED)


def test_a_full_disk_leaves_the_adapter_that_was_there(saved, adapters, monkeypatch):
    def fill_up(path, drafts):
        path.write_bytes(b"torn")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_safetensors", fill_up)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(OSError, match=rf"could not be written to {saved}: .*No space left on device.*Make room"):
        save_adapter(saved, BIASED, LORA, adapters["language_model"], base="some/other")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_settings_and_names_are_those_of_peft(saved):
    settings = json.loads((saved / "adapter_config.json").read_text())
    expected = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 3, "lora_alpha": 6, "modules_to_save": ["score"]}
    expected |= {"target_modules": ["down_proj", "o_proj", "q_proj"], "base_model_name_or_path": "some/base"}
    assert expected.items() <= settings.items()
    shapes = {name: tensor.shape for name, tensor in load_file(saved / "adapter_model.safetensors").items()}
    assert shapes[QUERY] == (3, 16)
    assert shapes[QUERY.replace("lora_A", "lora_B")] == (24, 3)
    assert shapes["base_model.model.score.weight"] == (1, 16)
    assert len(shapes) == 2 * 3 * 2 + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {n: x for n, x in t.items() if n != QUERY}, f"lacks 1 tensors, the first is '{QUERY}'"),
        (lambda t: t | {"base_model.model.lm_head.lora_A.weight": t[QUERY]}, "unknown tensor 'base_model.model.lm_"),
        (lambda t: t | {QUERY: t[QUERY].T.copy()}, f"'{QUERY}': expected floats of the shape (3, 16), got float32 of"),
        (lambda t: t | {QUERY: t[QUERY].astype(np.int8)}, f"'{QUERY}': expected floats of the shape (3, 16), got int8"),
        (lambda t: {n: x for n, x in t.items() if "score" not in n}, "lacks 1 tensors, the first is 'base_model.model"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(saved, change, message):
    change_tensors(saved, change)
    with pytest.raises(CheckpointFormatError, match=re.escape(message)):
        load_adapter(saved, BIASED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "field use_dora: expected it to be empty, got True"),
        ({"rank_pattern": {"q_proj": 8}}, "field rank_pattern: expected it to be empty"),
        ({"init_lora_weights": "pissa"}, "field init_lora_weights: expected True, False, 'gaussian', got 'pissa'"),
        ({"bias": "all"}, "field bias: expected 'none', got 'all'"),
        ({"peft_type": "LOHA"}, "field peft_type: expected 'LORA', got 'LOHA'"),
        ({"modules_to_save": ["lm_head"]}, "field modules_to_save: expected 'score' at most, got ['lm_head']"),
        ({"r": None}, "field r: expected a number, got None"),
        ({"some_new_variant": {"strength": 2}}, "field some_new_variant: expected it to be empty"),
    ],
)
def test_adapters_of_another_kind_are_refused_by_field(saved, change, message):
    change_settings(saved, change)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_adapter(saved, BIASED)


def test_absent_and_torn_files_are_named(saved):
    path = saved / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointFormatError, match=r"adapter_model\.safetensors is damaged or cut off"):
        load_adapter(saved, BIASED)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model\.safetensors is missing"):
        load_adapter(saved, BIASED)
    path.touch()
    for content, fault in (
        (b"{", " is not JSON"),
        (b'{"r": "\xff"}', " is not JSON"),
        (b"[]", ": expected a JSON object"),
    ):
        (saved / "adapter_config.json").write_bytes(content)
        with pytest.raises(CheckpointFormatError, match=rf"adapter_config\.json{fault}"):
            load_adapter(saved, BIASED)
