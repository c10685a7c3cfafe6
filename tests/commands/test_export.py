"""`agentprm export`."""

import json
import shutil

import jax
import msgspec
import numpy as np
import pytest

from agentprm_jax.actors import read_stop_tokens
from agentprm_jax.data.tokenizer_files import save_with_tokenizer
from agentprm_jax.models import load_pretrained
from agentprm_jax.reporting.prm_training import prm_training
from agentprm_jax.reporting.results import write_results
from agentprm_jax.scoring import Prm
from agentprm_jax.scoring.prm_files import PrmRecord
from agentprm_jax.training.interrupt import INTERRUPTED
from tests.reporting.conftest import make_results


@pytest.fixture
def actor_folder(decoder_config, language_params, encoder, tmp_path):
    save_with_tokenizer(tmp_path / "actor", decoder_config, language_params, encoder)
    return tmp_path / "actor"


def test_an_exported_prm_is_a_classifier_with_a_card_and_still_a_prm(agentprm, prm, prm_folder, trajectories, tmp_path):
    assert agentprm("export", prm_folder, tmp_path / "out", "--license", "mit")[0] == 0
    description = json.loads((tmp_path / "out" / "config.json").read_text())
    assert description["architectures"] == ["LlamaForSequenceClassification"]
    assert (description["problem_type"], description["num_labels"]) == ("regression", 1)
    assert description["pad_token_id"] == 0
    assert Prm.load(tmp_path / "out").score(trajectories(3)) == prm.score(trajectories(3))
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith('---\nlicense: "mit"\n')
    assert "has not been evaluated" in card
    assert (tmp_path / "out" / "chat_template.jinja").is_file()


def test_an_exported_actor_stops_where_its_turns_end(agentprm, actor_folder, encoder, tmp_path):
    assert agentprm("export", actor_folder, tmp_path / "out")[0] == 0
    description = json.loads((tmp_path / "out" / "config.json").read_text())
    assert description["architectures"] == ["LlamaForCausalLM"]
    assert description["eos_token_id"] == encoder.end_of_turn_id
    assert "text-generation" in (tmp_path / "out" / "README.md").read_text()


def test_an_exported_actor_ends_at_every_token_at_which_the_actor_does(agentprm, actor_folder, encoder, tmp_path):
    (actor_folder / "generation_config.json").write_text('{"eos_token_id": [2, 5, 7]}')
    assert agentprm("export", actor_folder, tmp_path / "out")[0] == 0
    assert read_stop_tokens(tmp_path / "out") == (encoder.end_of_turn_id, 5, 7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_written_in_the_type_that_is_asked_for(agentprm, prm_folder, tmp_path, dtype):
    assert agentprm("export", prm_folder, tmp_path / "out", "--dtype", dtype)[0] == 0
    config, params = load_pretrained(tmp_path / "out")
    assert config.param_dtype == dtype
    assert params["decoder"]["embedding"].dtype.name == dtype


@pytest.mark.parametrize(
    ("path", "tensor"),
    [("layers/mlp/up/kernel", "model.layers.1.mlp.up_proj.weight"), ("final_norm/scale", "model.norm")],
)
def test_a_weight_that_float16_cannot_hold_is_refused_by_its_tensor(
    agentprm, decoder_config, language_params, encoder, tmp_path, path, tensor
):
    params = jax.tree.map(np.array, language_params)
    node = params["decoder"]
    for key in path.split("/"):
        node = node[key]
    node[-1] = -70_000.0
    save_with_tokenizer(tmp_path / "actor", decoder_config, params, encoder)
    status, said = agentprm("export", tmp_path / "actor", tmp_path / "out", "--dtype", "float16")
    assert (status, f"Tensor '{tensor}" in said, "at most 65,504" in said, "got -70,000" in said) == (
        1,
        True,
        True,
        True,
    )
    assert not (tmp_path / "out").exists()
    assert agentprm("export", tmp_path / "actor", tmp_path / "out", "--dtype", "bfloat16")[0] == 0


def test_a_folder_that_is_there_is_never_written_to(agentprm, prm_folder, tmp_path):
    (tmp_path / "out").mkdir()
    status, said = agentprm("export", prm_folder, tmp_path / "out")
    assert (status, "should not be there yet" in said, list((tmp_path / "out").iterdir())) == (1, True, [])


def test_an_export_that_is_cut_short_leaves_nothing(agentprm, prm_folder, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("agentprm_jax.reporting.model_card.prm_card", stop)
    before = sorted(tmp_path.iterdir())
    status, said = agentprm("export", prm_folder, tmp_path / "out")
    assert (status, "Interrupted. Nothing was written to" in said) == (INTERRUPTED, True)
    assert sorted(tmp_path.iterdir()) == before


def test_a_classifier_that_is_no_prm_yet_is_refused(agentprm, prm_folder, tmp_path):
    (prm_folder / "prm.json").unlink()
    status, said = agentprm("export", prm_folder, tmp_path / "out")
    assert (status, "Make it a PRM with `agentprm import`" in said) == (1, True)


def finished(run, folder):
    """A finished run with the model that lies in a folder."""
    run.mkdir(parents=True)
    shutil.copytree(folder, run / "model")
    (run / "stage.json").write_text("{}")
    (run / "config.json").write_text('{"objective": {"method": "agentprm"}}')
    return run


def evaluation(folder, **changes):
    """An evaluation in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", msgspec.structs.replace(make_results(), **changes))
    return folder


def note(model, **notes):
    """Notes about the training of a model."""
    if (model / "prm.json").is_file():
        record = json.loads((model / "prm.json").read_text())
        (model / "prm.json").write_text(json.dumps(record | {"training": notes}))
    else:
        (model / "training_notes.json").write_text(json.dumps(notes))


@pytest.fixture
def evaluated(prm_folder, tmp_path):
    """A run beside an evaluation that names it."""
    run = finished(tmp_path / "prm-agentprm-0", prm_folder)
    shutil.rmtree(prm_folder)
    evaluation(tmp_path / "evaluation", config={"output": "somewhere/evaluation", "prms": ["somewhere/prm-agentprm-0"]})
    return run


@pytest.fixture(params=["actor", "prm-agentprm-0"])
def two_roots(request, actor_folder, prm_folder, tmp_path):
    """The runs of one name in two roots a and b, each with an evaluation of its own."""
    folder, key = (actor_folder, "actor") if request.param == "actor" else (prm_folder, "prms")
    for root in ("a", "b"):
        place = f"runs/{root}/{request.param}"
        config = {"output": f"runs/{root}/evaluation", key: f"{place}/model" if key == "actor" else [place]}
        finished(tmp_path / root / request.param, folder)
        evaluation(tmp_path / root / "evaluation", config=config, title=f"Measured in {root}", prms=())
    return tmp_path / "a" / request.param, tmp_path / "b" / "evaluation"


def test_an_evaluation_beside_the_run_that_names_it_is_found_and_its_rows_stand_in_the_card(
    agentprm, evaluated, tmp_path
):
    assert agentprm("export", evaluated, tmp_path / "out")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| AgentPRM |" in card
    assert "±" in card
    assert "has not been evaluated" not in card
    assert "settings.objective.method | agentprm" in card


def test_an_evaluation_that_names_other_runs_is_neither_found_nor_taken(agentprm, evaluated, tmp_path):
    given = evaluation(tmp_path / "evaluation", config={"output": "evaluation", "prms": ["prm-agentprm-1"]})
    assert agentprm("export", evaluated, tmp_path / "out")[0] == 0
    assert "has not been evaluated" in (tmp_path / "out" / "README.md").read_text()
    status, said = agentprm("export", evaluated, tmp_path / "given", "--evaluation", given)
    assert (status, f"expected an evaluation of {evaluated}, got one of prm-agentprm-1" in said) == (1, True)
    assert not (tmp_path / "given").exists()


def test_an_evaluation_of_a_run_of_the_same_name_elsewhere_is_refused(agentprm, two_roots, tmp_path):
    run, other = two_roots
    status, said = agentprm("export", run, tmp_path / "out", "--evaluation", other)
    assert (status, f"expected an evaluation of {run}, got one of runs/b/{run.name}" in said) == (1, True)
    shutil.rmtree(other.parent / run.name)
    assert agentprm("export", run, tmp_path / "out", "--evaluation", other)[0] == 1


def test_an_evaluation_moved_with_its_run_or_away_from_it_is_still_of_it(agentprm, two_roots, tmp_path):
    run, _ = two_roots
    own = run.parent / "evaluation"
    assert agentprm("export", run, tmp_path / "beside", "--evaluation", own)[0] == 0
    shutil.move(own, tmp_path / "far" / "evaluation")
    assert agentprm("export", run, tmp_path / "away", "--evaluation", tmp_path / "far" / "evaluation")[0] == 0
    for out in ("beside", "away"):
        assert "Measured in a" in (tmp_path / out / "README.md").read_text()


def test_a_copy_is_known_by_the_notes_of_its_training(agentprm, two_roots, tmp_path):
    run, other = two_roots
    copy = run / "model"
    note(other.parent / run.name / "model", tokens=7)
    note(copy, tokens=8)
    assert agentprm("export", copy, tmp_path / "out", "--evaluation", other)[0] == 1
    note(copy, tokens=7)
    assert agentprm("export", copy, tmp_path / "out", "--evaluation", other)[0] == 0
    assert "Measured in b" in (tmp_path / "out" / "README.md").read_text()


def test_a_prm_trained_in_another_way_than_the_evaluation_tells_is_refused(agentprm, evaluated, tmp_path):
    names = {"config": {"prms": [f"away/{tmp_path.name}/prm-agentprm-0"]}}
    record = json.loads((evaluated / "model" / "prm.json").read_text())
    told = prm_training(msgspec.convert({"schema": "agentprm.prm/1", **record}, PrmRecord))
    far = evaluation(tmp_path / "far", **names, prms=(told,))
    assert agentprm("export", evaluated, tmp_path / "out", "--evaluation", far)[0] == 0
    evaluation(far, **names, prms=(msgspec.structs.replace(told, lam=0.5),))
    assert agentprm("export", evaluated, tmp_path / "other", "--evaluation", far)[0] == 1


def test_an_evaluation_without_a_row_of_the_actor_is_refused(agentprm, actor_folder, tmp_path):
    run = finished(tmp_path / "runs" / "actor", actor_folder)
    tables = tuple(
        msgspec.structs.replace(table, rows=tuple(row for row in table.rows if row.kind == "method"))
        for table in make_results().tables
    )
    config = {"output": "runs/evaluation", "actor": "runs/actor/model"}
    given = evaluation(tmp_path / "runs" / "evaluation", config=config, tables=tables)
    status, said = agentprm("export", run, tmp_path / "out", "--evaluation", given)
    assert (status, "has no row of the actor by itself: expected greedy or random" in said) == (1, True)


def test_an_evaluation_without_a_row_of_the_prm_is_refused(agentprm, evaluated, tmp_path):
    record = json.loads((evaluated / "model" / "prm.json").read_text())
    (evaluated / "model" / "prm.json").write_text(json.dumps(record | {"name": "mine", "method": "mine"}))
    status, said = agentprm("export", evaluated, tmp_path / "out", "--evaluation", tmp_path / "evaluation")
    assert (status, "has no row of mine" in said) == (1, True)
