"""A training run says what its rows cannot hold; nothing is cut short, left out or read beyond the model in silence."""

import json
import os
import subprocess

import pytest
from tiny_runs import command, make_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def run(inputs, output, *more):
    """The exit status and what was said."""
    line = command(inputs, output, "--loop.steps", 1, *more)
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"})
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_rows_beyond_the_models_positions_are_refused(inputs, tmp_path):
    status, said = run(inputs, tmp_path / "run", "--row-length", 65)
    assert status == 1
    assert "at most the model's 64 positions (max_positions), got row_length=65" in said


def test_a_trajectory_that_no_row_holds_is_refused_with_what_to_do(inputs, tmp_path):
    status, said = run(inputs, tmp_path / "run", "--row-length", 16)
    assert status == 1
    assert "trajectories.jsonl, line 1: Every trajectory should have at most 16 tokens" in said
    assert "too_long='drop'" in said


def test_trajectories_that_are_left_out_are_counted_printed_and_recorded(inputs, tmp_path):
    status, said = run(inputs, tmp_path / "run", "--row-length", 16, "--too-long", "drop")
    assert status == 0, said
    data = json.loads((tmp_path / "run" / "model" / "prm.json").read_text())["training"]["data"]
    assert 0 < data["left_out"] < data["trajectories"] == 40
    assert f"{data['left_out']} of 40 trajectories have more than 16 tokens and are left out" in said


def test_a_run_of_which_every_trajectory_is_too_long_is_refused(inputs, tmp_path):
    status, said = run(inputs, tmp_path / "run", "--row-length", 2, "--too-long", "drop")
    assert status == 1
    assert "At least one trajectory should have at most 2 tokens (row_length), got 40 longer ones." in said
