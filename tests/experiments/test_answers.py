"""What stops a command is answered in one paragraph."""

import json
import pathlib
import subprocess
import sys

import pytest
from tiny_runs import environment, make_inputs

from agentprm_jax.reporting.training_notes import TRAINING
from agentprm_jax.scoring.prm_files import PRM

EXPERIMENTS = pathlib.Path(__file__).parent.parent.parent / "experiments"


def started(script, *arguments, **options):
    line = [sys.executable, str(EXPERIMENTS / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def answer(script, *arguments):
    done = started(script, *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_an_unknown_level_is_answered_with_those_that_exist(tmp_path):
    levels = ("--tasks.levels", "Nowhere", "--tasks.count", 4)
    said = answer("collect", "--actor", "expert", "--output", tmp_path / "x", *levels)
    assert "'Nowhere'" in said
    assert "PickupLoc" in said
    assert not (tmp_path / "x").exists()


def test_a_value_out_of_range_is_answered_with_its_field(tmp_path):
    said = answer("collect", "--actor", "expert", "--output", tmp_path / "x", "--environment.max-rounds", 0)
    assert "max_rounds must be at least 1" in said


def test_a_missing_model_is_answered_with_what_is_expected_there(tmp_path):
    levels = ("--tasks.levels", "PickupLoc", "--tasks.count", 1)
    said = answer("collect", "--actor", tmp_path / "none", "--output", tmp_path / "x", *levels)
    assert "There is no model in" in said
    assert started("collect", "--actor", "expert", "--output", tmp_path / "x", *levels).returncode == 0


@pytest.mark.parametrize("script", ["sft", "train_prm"])
def test_what_is_refused_before_anything_is_made_can_be_corrected_and_then_says_its_share_of_padding(tmp_path, script):
    make_inputs(tmp_path)
    given = {"--trajectories": tmp_path / "trajectories.jsonl", "--init": tmp_path / "init"}
    rest = ("--output", tmp_path / "x", "--loop.steps", 1, "--row-length", 32)
    (tmp_path / "bad.jsonl").write_text("{}")
    for name, wrong in (("--init", "none"), ("--trajectories", "bad.jsonl")):
        words = given | {name: tmp_path / wrong}
        assert wrong in answer(script, *(word for pair in words.items() for word in pair), *rest)
    words = (word for pair in given.items() for word in pair)
    done = started(script, *words, *rest, env=environment())
    assert done.returncode == 0
    padding = json.loads((tmp_path / "x" / "stage.json").read_text())["padding"]
    assert f"rows of 32 tokens, {padding:.1%} padding" in done.stderr
    notes = json.loads((tmp_path / "x" / "model" / {"sft": TRAINING, "train_prm": PRM}[script]).read_text())
    assert notes.get("training", notes)["data"]["padding"] == padding > 0


def test_a_training_that_diverges_is_answered_with_the_update_and_what_is_kept(tmp_path):
    make_inputs(tmp_path)
    arguments = ("--trajectories", tmp_path / "trajectories.jsonl", "--init", tmp_path / "init", "--row-length", 32)
    rates = ("--optimizer.learning-rate", 1e38, "--optimizer.schedule", "constant", "--optimizer.warmup-fraction", 0)
    said = answer("train_prm", *arguments, *rates, "--output", tmp_path / "x", "--loop.steps", 5)
    assert "NonFiniteUpdate: Update" in said
    assert "there is no checkpoint yet" in said


def test_a_malformed_trajectory_line_is_answered_with_file_line_and_field(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"schema":"agentprm.trajectory/1","id":3}\n')
    said = answer("sft", "--trajectories", path, "--output", tmp_path / "x")
    assert "bad.jsonl" in said
    assert "line 1" in said
    assert "`id`" in said


@pytest.mark.parametrize("count", [4, 5])
def test_an_output_folder_of_another_run_is_refused_and_kept(tmp_path, count):
    arguments = ("--actor", "expert", "--output", tmp_path / "x", "--tasks.levels", "PickupLoc", "--tasks.count")
    first = [sys.executable, str(EXPERIMENTS / "collect.py"), *map(str, arguments), "3"]
    subprocess.run(first, check=True, capture_output=True)
    before = (tmp_path / "x" / "trajectories.jsonl").read_bytes()
    assert f"tasks.count was 3 and is now {count}" in answer("collect", *arguments, count)
    assert (tmp_path / "x" / "trajectories.jsonl").read_bytes() == before


def test_a_collection_is_not_continued_with_other_room_for_conversations_since_that_ends_episodes(tmp_path):
    arguments = ("--actor", "expert", "--output", tmp_path / "x", "--tasks.levels", "PickupLoc", "--tasks.count", 3)
    first = [sys.executable, str(EXPERIMENTS / "collect.py"), *map(str, arguments)]
    subprocess.run(first, check=True, capture_output=True)
    assert "sampler.capacity was 256 and is now 300" in answer("collect", *arguments, "--sampler.capacity", 300)
