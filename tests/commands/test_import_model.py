"""`agentprm import`."""

import json

import jax
import pytest

from agentprm_jax.actors import read_stop_tokens
from agentprm_jax.data.vocabulary import word_tokenizer
from agentprm_jax.models import load_pretrained, save_pretrained
from agentprm_jax.reporting.training_notes import TRAINING, read_notes
from agentprm_jax.scoring import Prm
from agentprm_jax.scoring.prm_files import PRM

RECORD = ("--name", "mine", "--method", "pvm", "--initial-value", 0.25)


@pytest.fixture
def classifier(prm_folder):
    (prm_folder / "prm.json").unlink()
    return prm_folder


@pytest.fixture
def language_model(decoder_config, language_params, encoder, tmp_path):
    save_pretrained(tmp_path / "lm", decoder_config, language_params)
    encoder.tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


def test_a_classifier_becomes_a_prm_with_the_same_promises(agentprm, classifier, prm, trajectories, tmp_path):
    assert agentprm("import", classifier, tmp_path / "out", *RECORD)[0] == 0
    imported = Prm.load(tmp_path / "out")
    assert (imported.name, imported.method, imported.initial_value) == ("mine", "pvm", 0.25)
    mine, theirs = imported.score(trajectories(3)), prm.score(trajectories(3))
    assert [one.promise for one in mine] == [one.promise for one in theirs]


def test_a_classifier_is_asked_what_it_does_not_say(agentprm, classifier, tmp_path):
    status, said = agentprm("import", classifier, tmp_path / "out", "--name", "mine")
    assert (status, "expected --name, --method and --initial-value, got --name" in said) == (1, True)
    assert not (tmp_path / "out").exists()


def test_a_language_model_becomes_an_actor_with_the_same_weights(agentprm, language_model, tmp_path):
    status, said = agentprm("import", language_model, tmp_path / "out")
    assert (status, "actor with 2 layers of width 32, 16 token ids" in said) == (0, True)
    jax.tree.map(
        lambda one, other: (one == other).all() or pytest.fail("weights differ"),
        load_pretrained(tmp_path / "out")[1],
        load_pretrained(language_model)[1],
    )
    status, said = agentprm("import", language_model, tmp_path / "other", *RECORD)
    assert (status, "is a language model, which becomes an actor" in said) == (1, True)


def test_the_card_of_an_imported_model_does_not_claim_its_training(agentprm, language_model, classifier, tmp_path):
    for model, flags in ((language_model, ()), (classifier, RECORD)):
        source = f"{tmp_path.name}/{model.name}"
        assert agentprm("import", model, tmp_path / f"{model.name}-in", *flags)[0] == 0
        assert agentprm("export", tmp_path / f"{model.name}-in", tmp_path / f"{model.name}-out")[0] == 0
        card = (tmp_path / f"{model.name}-out" / "README.md").read_text()
        method = "PVM (`mine`)" if flags else "not known"
        assert "Trained elsewhere and exported with agentprm-jax" in card
        assert f"Method: {method}; imported from `{source}`." in card


def test_what_is_known_about_the_training_of_our_own_model_survives_export_and_import(
    agentprm, language_model, prm_folder, tmp_path
):
    notes = {"settings": {"init": "base/model"}, "updates": 300}
    (language_model / TRAINING).write_text(json.dumps(notes))
    record = json.loads((prm_folder / PRM).read_text())
    (prm_folder / PRM).write_text(json.dumps(record | {"training": notes}))
    for model, flags in ((language_model, ()), (prm_folder, RECORD)):
        exported, imported, again = (tmp_path / f"{model.name}-{number}" for number in range(3))
        assert agentprm("export", model, exported)[0] == 0
        assert agentprm("import", exported, imported, *flags)[0] == 0
        assert agentprm("export", imported, again)[0] == 0
        assert read_notes(again) == notes
        assert "Trained with agentprm-jax" in (again / "README.md").read_text()


def test_damaged_notes_are_named(agentprm, language_model, tmp_path):
    for content, fault in (("{", " is not JSON: "), ("[]", ": expected a JSON object, got list")):
        (language_model / TRAINING).write_text(content)
        for command in ("import", "export"):
            status, said = agentprm(command, language_model, tmp_path / "out")
            assert (status, TRAINING + fault in said) == (1, True)


def test_the_other_tokens_at_which_a_model_ends_come_along_and_its_sampling_does_not(
    agentprm, language_model, encoder, tmp_path
):
    """Llama 3 ends at several tokens, which only generation_config.json names."""
    (language_model / "generation_config.json").write_text('{"eos_token_id": [2, 5, 7], "temperature": 0.6}')
    for source, output in ((language_model, "actor"), (tmp_path / "actor", "out")):
        assert agentprm("import", source, tmp_path / output)[0] == 0
        assert json.loads((tmp_path / output / "generation_config.json").read_text()) == {
            "eos_token_id": [encoder.end_of_turn_id, 5, 7],
            "pad_token_id": encoder.pad_id,
        }
    assert set(read_stop_tokens(tmp_path / "out")) == {encoder.end_of_turn_id, 5, 7}


def test_weights_and_activations_can_be_given_another_type(agentprm, language_model, tmp_path):
    assert agentprm("import", language_model, tmp_path / "out", "--dtype", "bfloat16")[0] == 0
    config, params = load_pretrained(tmp_path / "out")
    assert (config.dtype, config.param_dtype) == ("bfloat16", "bfloat16")
    stored = load_pretrained(language_model)[1]
    jax.tree.map(
        lambda one, other: (one == other.astype("bfloat16")).all() or pytest.fail("weights differ"), params, stored
    )


def test_a_value_head_stays_in_float32(agentprm, classifier, tmp_path):
    assert agentprm("import", classifier, tmp_path / "out", *RECORD, "--dtype", "bfloat16")[0] == 0
    params = load_pretrained(tmp_path / "out")[1]
    assert params["value_head"]["kernel"].dtype == "float32"
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params["decoder"])} == {"bfloat16"}


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(agentprm, language_model, tmp_path):
    word_tokenizer([*"abcdefghijkl", "more"]).save_pretrained(language_model)
    status, said = agentprm("import", language_model, tmp_path / "out")
    assert (status, "highest token id is 16, but the model embeds 16" in said) == (1, True)


def test_another_chat_template_can_be_given(agentprm, language_model, tmp_path):
    (language_model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    status, _ = agentprm("import", language_model, tmp_path / "out")
    assert status == 1
    good = tmp_path / "good.jinja"
    good.write_text(str(word_tokenizer(["a"]).chat_template))
    assert agentprm("import", language_model, tmp_path / "out", "--chat-template", good)[0] == 0
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == good.read_text()


@pytest.mark.parametrize(("content", "said"), [(None, "got none"), (b"\xff", "in UTF-8")])
def test_a_file_that_is_no_template_is_named(agentprm, language_model, tmp_path, content, said):
    path = tmp_path / "template.jinja"
    if content is not None:
        path.write_bytes(content)
    status, answer = agentprm("import", language_model, tmp_path / "out", "--chat-template", path)
    assert (status, f"--chat-template {path}: expected a" in answer, said in answer) == (1, True, True)


def test_what_is_no_model_is_named(agentprm, tmp_path):
    status, said = agentprm("import", tmp_path / "none", tmp_path / "out")
    assert (status, "There is no model in" in said) == (1, True)
    assert list(tmp_path.iterdir()) == []
