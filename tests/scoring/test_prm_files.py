import json
import os
import pathlib
from dataclasses import replace

import jax
import pytest

from agentprm_jax.models import init_language_model, init_reward_model, save_pretrained
from agentprm_jax.scoring import Prm


@pytest.fixture
def saved(prm, tmp_path):
    prm.save(tmp_path / "prm")
    return tmp_path / "prm"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_prm_comes_back_with_equal_scores_and_description(
    decoder_config, encoder, trajectories, tmp_path, dtype
):
    config = replace(decoder_config, dtype=dtype)
    params = init_reward_model(config, jax.random.key(4))
    notes = {"epochs": 2, "lam": 0.95}
    prm = Prm(config, params, encoder, initial_value=0.3, name="mine", method="pvm", training=notes)
    prm.save(tmp_path)
    loaded = Prm.load(tmp_path)
    made = trajectories(6)
    assert loaded.score(made) == prm.score(made)
    assert (loaded.name, loaded.method, loaded.initial_value, loaded.training) == ("mine", "pvm", 0.3, notes)


def test_saving_over_a_prm_replaces_it(decoder_config, encoder, saved, trajectories):
    other = Prm(decoder_config, init_reward_model(decoder_config, jax.random.key(9)), encoder, initial_value=0.9)
    other.save(saved)
    assert Prm.load(saved).score(trajectories(3)) == other.score(trajectories(3))


def test_the_folder_names_schema_and_initial_value(saved):
    record = json.loads((saved / "prm.json").read_text())
    assert record == {
        "schema": "agentprm.prm/1",
        "name": "tiny",
        "method": "agentprm",
        "initial_value": 0.375,
        "training": {},
    }


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no PRM in .*nowhere: expected a folder .* got nothing"):
        Prm.load(tmp_path / "nowhere")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(FileNotFoundError, match="got a file"):
        Prm.load(tmp_path / "model")


def test_a_folder_without_prm_json_says_what_it_holds(saved):
    (saved / "prm.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"prm\.json is missing.*got one with .*config\.json"):
        Prm.load(saved)


def test_a_damaged_prm_json_names_the_field(saved):
    (saved / "prm.json").write_text('{"schema": "agentprm.prm/1", "name": "x", "method": "y", "initial_value": "z"}')
    with pytest.raises(ValueError, match=r"prm\.json is damaged: .*initial_value"):
        Prm.load(saved)


def test_a_language_model_in_the_folder_is_told_from_a_reward_model(decoder_config, saved):
    save_pretrained(saved, decoder_config, init_language_model(decoder_config, jax.random.key(0)))
    with pytest.raises(ValueError, match=r"holds a language model: expected a reward model.*score\.weight"):
        Prm.load(saved)


def test_a_missing_tokenizer_is_named(saved):
    (saved / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing: expected the tokenizer"):
        Prm.load(saved)


def test_a_missing_model_is_named(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        Prm.load(saved)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(decoder_config, saved):
    smaller = replace(decoder_config, vocab_size=10)
    save_pretrained(saved, smaller, init_reward_model(smaller, jax.random.key(0)))
    with pytest.raises(ValueError, match=r"highest token id is 15, but the model embeds 10 tokens"):
        Prm.load(saved)


def test_a_save_that_was_cut_short_is_not_taken_for_a_prm(prm, saved, monkeypatch):
    def stop(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(OSError, match="No space left"):
        prm.save(pathlib.Path(saved))
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match=r"was not written to the end"):
        Prm.load(saved)
