"""The whole pipeline, small: from nothing to a report, again without work, and on after a kill and an interrupt."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import quickstart
from presets import PRESETS

from agentprm_jax.reporting.stage import FolderInUse, StageFolder

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "experiments" / "quickstart.py"


def command(output, *more):
    return [sys.executable, str(SCRIPT), "--preset", "smoke", "--output", str(output), *more]


def run(output, *more):
    return subprocess.run(command(output, *more), capture_output=True, text=True, check=False)


def stop_when(output, stage, signal_number):
    """Runs until the stage has ended, then sends the signal to the whole process group, as a terminal does."""
    with open(output.parent / "stopped.log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command(output), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 240
        while not (output / stage / "stage.json").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal_number)
        code = process.wait(timeout=120)
        log.seek(0)
        return code, log.read()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A smoke run that is killed, run on and interrupted, and then run to its end; what the interrupted one said."""
    output = tmp_path_factory.mktemp("runs") / "quickstart"
    stop_when(output, "demonstrations", signal.SIGKILL)
    interrupted = stop_when(output, "actor", signal.SIGINT)
    done = run(output)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    return output, done, interrupted


def test_a_second_start_on_one_folder_is_refused_before_it_starts_a_stage(tmp_path):
    config = dataclasses.replace(PRESETS["smoke"], output=tmp_path / "run")
    run = StageFolder(config.output, "quickstart", config, ignore=("output", "workers"))
    with run.held(), pytest.raises(FolderInUse, match=f"at work in {config.output}"):
        quickstart.main(config)
    assert [path.name for path in config.output.iterdir()] == ["config.json"]


@pytest.mark.slow
def test_an_interrupt_ends_the_run_with_a_sentence_and_no_traceback(finished):
    output, _, (code, said) = finished
    assert code == 75
    assert f"Interrupted. What was finished is kept in {output}: run the same command again to go on." in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_run_goes_on_after_a_kill_and_an_interrupt_and_ends_with_a_table_of_every_method_and_control(finished):
    _, done, _ = finished
    for row in ("AgentPRM", "PVM", "ORM", "greedy", "shortest", "oracle", "expert", "Bars"):
        assert row in done.stdout


@pytest.mark.slow
def test_results_hold_every_figure_with_tasks_costs_stages_versions_and_config(finished):
    output, _, _ = finished
    results = json.loads((output / "evaluation" / "results.json").read_text())
    search = next(table for table in results["tables"] if table["name"] == "Search")
    agentprm = next(row for row in search["rows"] if row["method"] == "agentprm")
    assert agentprm["estimates"]["bon_8"]["n_tasks"] == 20
    assert agentprm["costs"]["beam_2x2"]["tokens_sampled"] > 0
    assert all(stage["minutes"] >= 0 for stage in results["stages"])
    assert {"python", "jax"} <= results["versions"].keys()
    assert results["run"]["versions"] == [results["versions"]]
    assert {tuple(stage["machines"]) for stage in results["stages"]} == {(results["machine"],)}
    assert all(stage["versions"] for stage in results["stages"])
    assert results["config"]["beams"] == ["1x2", "2x2"]
    assert results["pipeline"]["preset"] == "smoke"
    assert results["pipeline"]["lam"] == 0.95
    assert [prm["method"] for prm in results["prms"]] == ["agentprm", "agentprm_no_la", "pvm", "orm"]
    assert results["prms"][0] | {"progress": "gae", "beta": 1.0, "epochs": 1.0} == results["prms"][0]
    trained = [stage for stage in results["stages"] if stage["tokens_trained"]]
    assert all(0 < stage["padding"] < 1 for stage in trained)
    assert all(bool(stage["commits"]) == bool(results["git_commit"]) for stage in results["stages"])


@pytest.mark.slow
def test_pictures_and_page_are_there(finished):
    output, _, _ = finished
    names = {path.name for path in (output / "evaluation").iterdir()}
    assert {
        "best_of_n.png",
        "best_of_n_tokens.png",
        "beam.png",
        "promise_paths.png",
        "training.png",
        "report.html",
        "results.md",
    } <= names


@pytest.mark.slow
def test_running_it_again_trains_nothing_and_gives_the_same_tables(finished):
    output, _, _ = finished
    before = json.loads((output / "evaluation" / "results.json").read_text())
    assert run(output).returncode == 0
    after = json.loads((output / "evaluation" / "results.json").read_text())
    assert after["tables"] == before["tables"]
    assert after["stages"] == before["stages"]
    assert after["run"] == before["run"]


@pytest.mark.slow
def test_another_configuration_in_the_same_folder_is_refused_in_a_sentence(finished):
    output, _, _ = finished
    refused = run(output, "--train-tasks", "50")
    assert refused.returncode != 0
    assert "train_tasks was 100 and is now 50" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_its_promises_are_held_against_forks_and_a_second_start_plays_nothing(finished):
    output, _, _ = finished
    script, forks = SCRIPT.with_name("fork_values.py"), output / "forks"
    given = ["--evaluation", str(output / "evaluation"), "--output", str(forks), "--count", "5", "--forks", "2"]
    once, again = (
        subprocess.run([sys.executable, str(script), *given], capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert once.returncode == 0, once.stderr[-3000:]
    assert "forks: " in once.stderr
    assert "forks: " not in again.stderr
    assert again.stdout == once.stdout
    rows = json.loads((forks / "results.json").read_text())["tables"][0]["rows"]
    assert [row["method"] for row in rows] == ["agentprm", "agentprm_no_la", "pvm", "orm", "forks"]
    assert all(row["estimates"]["mse_q"]["n_tasks"] == 5 for row in rows[:-1])
