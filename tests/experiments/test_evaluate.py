"""Evaluations: whose proposals come from a server that fails now and then, and in whose folder."""

import dataclasses
import json
from contextlib import nullcontext
from unittest.mock import Mock

import pytest
from evaluate import (
    RANDOM,
    EvaluateConfig,
    check_inputs,
    claim,
    main,
    measure,
    measurements,
    prm_folders,
    proposer,
    read_pool,
)

from agentprm_jax.actors.config import RemoteConfig
from agentprm_jax.data import Message, Trajectory
from agentprm_jax.data.writing import write_trajectories
from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.envs.tasks import list_tasks
from agentprm_jax.reporting.evaluation import read_evaluation
from agentprm_jax.reporting.stage import FolderInUse
from agentprm_jax.scoring.base import StepScores
from agentprm_jax.search import TasksLeftOut
from agentprm_jax.search.result import SearchResult
from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.record import RunMismatch
from tests.chat_server import Reply, completion, failed

TASKS = 3
METHODS = ("random_beam", "random_beam_finished_first")


@pytest.fixture
def config(chat_server, tmp_path):
    """An evaluation whose actor is on the server; nothing but beams with random scores can be measured with it."""
    proposer.cache_clear()
    nowhere = tmp_path / "nowhere"
    return EvaluateConfig(
        pool=nowhere,
        greedy=nowhere,
        expert=nowhere,
        actor="remote",
        prms=(),
        training_trajectories=nowhere,
        output=tmp_path / "evaluation",
        environment=EnvironmentConfig(name="textcraft", max_rounds=3),
        tasks=TaskConfig(split="test", count=TASKS),
        beams=("2x2",),
        remote=RemoteConfig(model="m", base_url=chat_server.url, retries=0, first_wait=0.0),
        attempts=2,
    )


def measured(config):
    measure(config, "random-0")
    found = [read_evaluation(config.output / "measurements" / f"{method}-0.json") for method in METHODS]
    return [(search.outcomes, search.terminated, search.sampled_tokens) for e in found for search in e.beams.values()]


def varied(request):
    """Each choice another action, which depends on nothing but the request."""
    return Reply(completion(*("finish" if number else "inventory" for number in range(request["n"]))))


def test_requests_that_fail_once_change_nothing(config, chat_server, tmp_path):
    chat_server.usual = varied
    usual = measured(config)
    proposer.cache_clear()
    lost = set()

    def sometimes(request):
        key = (request["seed"], len(request["messages"]))
        if len(lost) < 4 and key not in lost:
            lost.add(key)
            return failed(503)
        return varied(request)

    chat_server.usual = sometimes
    assert measured(dataclasses.replace(config, output=tmp_path / "again")) == usual
    assert len(lost) == 4
    assert len(usual) == len(METHODS)
    assert all(len(outcomes) == TASKS and sum(tokens) > 0 for outcomes, _, tokens in usual)


def test_a_task_that_never_gets_an_answer_ends_the_measurement_and_a_later_start_goes_on(config, chat_server):
    first = []

    def usual(request):
        first.append(request["seed"])
        return failed(500, "out of memory") if request["seed"] == first[0] else varied(request)

    chat_server.usual = usual
    with pytest.raises(TasksLeftOut, match=r"1 of 3 tasks have no result.*out of memory"):
        measured(config)
    assert first.count(first[0]) == config.attempts
    assert not list((config.output / "measurements").glob("*.json"))
    chat_server.usual = varied
    assert len(measured(config)) == len(METHODS)


def test_a_path_that_never_gets_an_answer_costs_itself_and_is_counted_and_said(config, chat_server, capsys):
    def usual(request):
        return failed(400, "not this text") if request["messages"] == refused else varied(request)

    refused, chat_server.usual = None, varied
    measured(config)
    refused = next(request["messages"] for request in chat_server.requests if len(request["messages"]) > 1)
    proposer.cache_clear()
    chat_server.usual = usual
    again = dataclasses.replace(config, output=config.output / "again")
    measured(again)
    search = read_evaluation(again.output / "measurements" / "random_beam-0.json").beams["2x2"]
    assert (len(search.outcomes), sorted(search.unanswered)) == (TASKS, [0, 0, 1])
    assert "Beam search @2x2: 1 paths were given up" in capsys.readouterr().err


def test_a_remote_actor_without_a_model_is_refused_before_anything_is_written(config):
    with pytest.raises(ValueError, match=r"EvaluateConfig\.remote\.model must name a model"):
        dataclasses.replace(config, remote=RemoteConfig())


def test_an_evaluation_goes_on_on_other_devices_but_not_as_another_one(config):
    claim(config)
    claim(dataclasses.replace(config, mesh=MeshConfig(tensor=2), tokens_per_batch=65_536))
    with pytest.raises(RunMismatch, match=r"temperature was 0\.7 and is now 1\.0"):
        claim(dataclasses.replace(config, temperature=1.0))


def test_an_evaluation_is_kept_from_a_folder_in_which_another_process_evaluates(given):
    with claim(given).held(), pytest.raises(FolderInUse, match=str(given.output)):
        main(given)


@pytest.fixture
def given(config, tmp_path):
    """The same with all that an evaluation reads, but for PRMs: two samples of every task."""
    folder = tmp_path / "there"
    folder.mkdir()
    tasks = list_tasks("textcraft", config.tasks)
    messages = (Message("user", "x"), Message("assistant", "finish", action=True))
    ended = {"env": "textcraft", "split": "test", "messages": messages, "rewards": (0.0,), "ended": "terminated"}
    made = [Trajectory(id=f"{task}/0/{k}", task=task, **ended) for task in tasks for k in range(2)]
    write_trajectories(folder / "trajectories.jsonl", made)
    paths = {"training_trajectories": folder / "trajectories.jsonl", "actor": str(folder)}
    paths |= dict.fromkeys(("pool", "greedy", "expert"), folder)
    return dataclasses.replace(config, sizes=(1, 2), **paths)


@pytest.mark.parametrize("missing", ["pool", "greedy", "expert", "training_trajectories", "actor"])
def test_what_is_missing_is_said_before_anything_is_written(given, tmp_path, missing):
    check_inputs(given)
    nowhere = tmp_path / "none"
    with pytest.raises(FileNotFoundError, match="none"):
        main(dataclasses.replace(given, **{missing: str(nowhere) if missing == "actor" else nowhere}))
    assert not given.output.exists()


def test_a_pool_with_fewer_samples_than_best_of_n_needs_is_refused_before_anything_is_written(given):
    with pytest.raises(ValueError, match="Best of 3 needs as many samples of each task, got 2 in "):
        main(dataclasses.replace(given, sizes=(1, 3)))
    assert not given.output.exists()


def finished_prm(folder):
    """The folder of a run that has trained an ORM with seed 1, as far as it can be told from its records."""
    (folder / "model").mkdir(parents=True)
    record = {"schema": "agentprm.prm/1", "name": "x-1", "method": "orm", "initial_value": 0.5}
    (folder / "model" / "prm.json").write_text(json.dumps(record))
    (folder / "stage.json").write_text("{}")
    return folder


def test_prms_that_cannot_be_told_apart_are_refused_before_anything_is_written(given, tmp_path):
    prms = tuple(finished_prm(tmp_path / name / "prm") for name in "ab")
    config = dataclasses.replace(given, prms=prms)
    assert measurements(config)[:2] == ["a+prm", "b+prm"]
    with pytest.raises(ValueError, match=r"a/prm and .*b/prm are both ORM with seed 1"):
        main(config)
    assert not config.output.exists()


class CountingPrm:
    """Scores every step with the number of its row, and counts the pools that it has scored."""

    initial_value, tokens_scored, tokens_kept, pools = 0.5, 0, 0, 0

    def score(self, trajectories):
        self.pools, self.tokens_scored = self.pools + 1, 100
        return [StepScores.from_promise([float(row)] * len(t.rewards), 0.5) for row, t in enumerate(trajectories)]

    def forget_conversations(self):
        self.tokens_scored += 10


@pytest.mark.parametrize("scorer", ["prm-orm-1", "random-0"])
def test_an_interrupted_measurement_goes_on_with_the_part_that_it_was_interrupted_in(
    given, tmp_path, monkeypatch, scorer
):
    folder, prm, searched = finished_prm(tmp_path / "prm-orm-1"), CountingPrm(), []
    config = dataclasses.replace(given, prms=(folder,), beams=("1x2", "2x2", "4x4"))
    last = config.beams[0] if scorer in prm_folders(config) else config.beams[-1]
    interrupt = Mock(side_effect=[KeyboardInterrupt, None, None])

    def search(_, size, *rest, finished_first):
        if size == last:
            interrupt()
        searched.append((size, finished_first))
        return [SearchResult(read_pool(config).flat[0], 0.0, 3, 2, 1)] * TASKS

    monkeypatch.setattr("evaluate.load_on_mesh", lambda *_, **__: prm)
    monkeypatch.setattr("evaluate.proposer", lambda *_: None)
    monkeypatch.setattr("evaluate.search", search)
    with pytest.raises(KeyboardInterrupt):
        measure(config, scorer)
    kept = list(searched)
    assert len(kept) == 2
    measure(config, scorer)
    assert not set(kept) & set(searched[2:])
    assert prm.pools == (scorer in prm_folders(config))
    names = [scorer] if prm.pools else RANDOM[scorer]
    assert sorted(path.name for path in (config.output / "measurements").iterdir()) == [
        f"{name}.json" for name in names
    ]
    for name in names:
        found = read_evaluation(config.output / "measurements" / f"{name}.json")
        assert set(found.beams) == set(config.beams)
        assert found.promises == ([[float(row)] for row in range(2 * TASKS)] if prm.pools else [])
        assert found.pool_tokens == 100 * prm.pools


@pytest.mark.parametrize("interrupted", [True, False])
@pytest.mark.parametrize("changed", ["prm", "pool"])
def test_what_was_measured_of_another_prm_or_pool_under_the_same_name_is_refused(
    given, tmp_path, monkeypatch, interrupted, changed
):
    folder = finished_prm(tmp_path / "prm-orm-1")
    config = dataclasses.replace(given, prms=(folder,), beams=("1x2",))
    found = [SearchResult(read_pool(config).flat[0], 0.0, 3, 2, 1)] * TASKS
    monkeypatch.setattr("evaluate.load_on_mesh", lambda *_, **__: CountingPrm())
    monkeypatch.setattr("evaluate.proposer", lambda *_: None)
    monkeypatch.setattr("evaluate.search", Mock(side_effect=[KeyboardInterrupt] if interrupted else [found]))
    with pytest.raises(KeyboardInterrupt) if interrupted else nullcontext():
        measure(config, folder.name)
    made = {"prm": folder / "model" / "prm.json", "pool": config.pool / "trajectories.jsonl"}[changed]
    made.write_text(made.read_text() + "\n")
    kept = "prm-orm-1.parts/pool.json" if interrupted else "prm-orm-1.json"
    with pytest.raises(ValueError, match=f"{kept} was measured with another PRM or another pool"):
        measure(config, folder.name)


def test_what_older_code_has_measured_as_a_whole_is_not_measured_again(config):
    path = config.output / "measurements" / "random_beam-0.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"method":"random_beam","seed":0,"promises":[],"pool_tokens":0,"beams":{},"commit":"a1"}')
    path.with_name("random_beam_finished_first-0.json").write_bytes(path.read_bytes())
    measure(config, "random-0")
    assert read_evaluation(path).commits == ("a1",)
    assert read_evaluation(path).beams == {}


def test_a_prm_is_loaded_for_batches_of_so_many_tokens_on_the_devices_that_were_named(config, monkeypatch, tmp_path):
    asked = []

    def load(folder, mesh, *, tokens_per_batch):
        asked.append((folder, mesh, tokens_per_batch))
        raise FileNotFoundError(folder)

    monkeypatch.setattr("evaluate.load_on_mesh", load)
    run, exported, mesh = tmp_path / "prm-orm-0", tmp_path / "exported", MeshConfig(fsdp=8)
    for file in (run / "model" / "config.json", run / "stage.json", exported / "config.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for prm in (run, exported):
        with pytest.raises(FileNotFoundError):
            measure(dataclasses.replace(config, prms=(prm,), mesh=mesh, tokens_per_batch=65_536), prm.name)
    assert asked == [(run / "model", mesh, 65_536), (exported, mesh, 65_536)]
    with pytest.raises(ValueError, match="tokens_per_batch must be a whole number of at least 1, got 0"):
        dataclasses.replace(config, tokens_per_batch=0)
