"""`agentprm score`."""

import json
import os
import subprocess
import sys

import pytest

from agentprm_jax.data import read_trajectories, write_trajectories
from agentprm_jax.scoring import lines as lines_module
from agentprm_jax.training.interrupt import INTERRUPTED


def scores(path):
    return [one.scores["tiny"].promise for one in read_trajectories(path)]


def test_lines_come_out_with_scores_beside_the_file_that_was_read(agentprm, prm, prm_folder, file, tmp_path):
    status, said = agentprm("score", file, "--prm", prm_folder)
    assert status == 0
    assert "9 trajectories with" in said
    assert "steps/s" in said
    assert "tokens/s" in said
    made = read_trajectories(file)
    scored = scores(tmp_path / "some.scored.jsonl")
    for mine, theirs in zip(scored, prm.score(made), strict=True):
        assert mine == pytest.approx(theirs.promise, abs=1e-5)
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_compressed_files_give_the_same_scores(agentprm, prm_folder, file, tmp_path, suffix):
    write_trajectories(tmp_path / f"packed{suffix}", read_trajectories(file))
    assert agentprm("score", file, "--prm", prm_folder, "--output", tmp_path / "plain.jsonl")[0] == 0
    assert agentprm("score", tmp_path / f"packed{suffix}", "--prm", prm_folder)[0] == 0
    assert scores(tmp_path / f"packed.scored{suffix}") == scores(tmp_path / "plain.jsonl")


def test_an_interrupted_scoring_goes_on_and_ends_as_if_it_had_never_stopped(
    agentprm, prm_folder, file, tmp_path, monkeypatch
):
    words = ("score", file, "--prm", prm_folder, "--together", 2)
    assert agentprm(*words, "--output", tmp_path / "whole.jsonl")[0] == 0
    score, calls = lines_module.LineScorer._score, []

    def interrupted(self, waiting):
        calls.append(len(waiting))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, waiting)

    monkeypatch.setattr(lines_module.LineScorer, "_score", interrupted)
    output = tmp_path / "out.jsonl"
    status, said = agentprm(*words, "--output", output)
    assert (status, output.exists()) == (INTERRUPTED, False)
    assert f"Interrupted. What was scored is kept beside {output}: run the same command again to go on." in said
    status, said = agentprm(*words, "--output", output)
    assert (status, "5 trajectories (4 more were scored before)" in said) == (0, True)
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == [f"t{n}" for n in range(9)]
    for one, other in zip(scores(output), scores(tmp_path / "whole.jsonl"), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.slow
def test_what_one_device_left_unfinished_is_finished_by_two_with_equal_scores(
    agentprm, prm, prm_folder, file, tmp_path, monkeypatch
):
    words = ("score", file, "--prm", prm_folder, "--together", 4)
    score = lines_module.LineScorer._score

    def interrupted(self, waiting):
        if self.scored:
            raise KeyboardInterrupt
        return score(self, waiting)

    with monkeypatch.context() as patched:
        patched.setattr(lines_module.LineScorer, "_score", interrupted)
        assert agentprm(*words)[0] == INTERRUPTED
    code = "from agentprm_jax.commands.main import main; main()"
    line = [sys.executable, "-c", code, *map(str, words), "--mesh.fsdp", "2"]
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=devices)
    assert done.returncode == 0, done.stderr
    assert "5 trajectories (4 more were scored before)" in done.stdout
    for mine, theirs in zip(scores(tmp_path / "some.scored.jsonl"), prm.score(read_trajectories(file)), strict=True):
        assert mine == pytest.approx(theirs.promise, abs=1e-5)


def test_more_devices_than_there_are_are_refused(agentprm, prm_folder, file, tmp_path):
    status, said = agentprm("score", file, "--prm", prm_folder, "--mesh.tensor", 2)
    assert (status, "needs 2 devices, but there are 1 (cpu)" in said) == (1, True)
    assert not (tmp_path / "some.scored.jsonl").exists()


def test_an_unfinished_output_of_another_command_is_not_continued(agentprm, prm_folder, file, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lines_module.LineScorer, "_score", stop)
        agentprm("score", file, "--prm", prm_folder)
    (partial,) = tmp_path.glob("*.partial.jsonl")
    status, said = agentprm("score", file, "--prm", prm_folder, "--name", "other", "--too-long", "drop")
    assert (status, "was begun by a command with another name and another too_long" in said) == (1, True)
    partial.unlink()
    assert agentprm("score", file, "--prm", prm_folder, "--name", "other")[0] == 0


def test_an_output_that_is_there_is_replaced_only_when_told_to(agentprm, prm_folder, file, tmp_path):
    output = tmp_path / "some.scored.jsonl"
    output.write_text("mine")
    status, said = agentprm("score", file, "--prm", prm_folder)
    assert (status, "exists already" in said, output.read_text()) == (1, True, "mine")
    assert agentprm("score", file, "--prm", prm_folder, "--overwrite")[0] == 0
    assert len(scores(output)) == 9


def test_a_file_of_which_nothing_can_be_scored_gives_no_output(agentprm, prm_folder, file, tmp_path, trajectories):
    write_trajectories(file, trajectories(2, steps=60))
    before = sorted(tmp_path.iterdir())
    status, said = agentprm("score", file, "--prm", prm_folder, "--too-long", "drop")
    assert (status, "No line of" in said, "is meant for at most 400" in said) == (1, True, True)
    assert sorted(tmp_path.iterdir()) == before


def test_the_run_of_a_prm_stands_for_its_model_once_it_is_finished(agentprm, prm_folder, file, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    prm_folder.rename(run / "model")
    status, said = agentprm("score", file, "--prm", run)
    assert (status, "is a run that has not finished" in said) == (1, True)
    (run / "stage.json").write_text("{}")
    assert agentprm("score", file, "--prm", run)[0] == 0


def test_a_name_that_no_trajectory_file_has_is_answered_before_anything_is_read(agentprm, prm_folder, file, tmp_path):
    status, said = agentprm("score", file, "--prm", prm_folder, "--output", tmp_path / "out.csv")
    assert status != 0
    assert ".jsonl, .jsonl.gz, .jsonl.zst" in said
