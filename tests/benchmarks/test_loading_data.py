"""Laws of the measurement of a training run's input, and that its memory does not grow with the data."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from goals import read_goals
from loading_data import MIB, PARTS, WEIGHTS_OF_LAYERS, LoadingDataConfig, generate, in_process, main, source, speed

from agentprm_jax.data.trajectory import iterate_trajectories
from agentprm_jax.training.planning.presets import MODELS

KEPT = 16 * MIB


def test_the_weights_that_are_counted_are_those_of_the_model_that_is_named():
    model = MODELS["qwen2.5-0.5b"]
    attention = 2 * model.embed * (model.heads + model.kv_heads) * model.head_dim
    assert model.layers * (attention + 3 * model.embed * model.mlp) == WEIGHTS_OF_LAYERS


def test_the_generated_file_holds_the_steps_that_were_asked_for_in_trajectories_of_many_lengths(tmp_path):
    config = LoadingDataConfig(steps=300, folder=tmp_path)
    counted = generate(config)
    lengths = [len(one.rewards) for one in iterate_trajectories(source(config))]
    assert counted["steps"] == sum(lengths) >= 300
    assert counted["trajectories"] == len(lengths)
    assert len(set(lengths)) > 5


def test_an_epoch_that_does_not_show_all_tokens_is_refused():
    batches = [SimpleNamespace(segments=np.array([[1, 1, 2, 2, 2, 0]]))] * 3
    assert speed(batches, range(3), 15)[0] > 0
    with pytest.raises(ValueError, match="all 16 tokens once, got 15"):
        speed(batches, range(3), 16)


@pytest.mark.slow
def test_a_small_data_set_is_measured_by_the_command_with_a_verdict_on_each_goal(tmp_path, capsys):
    folder, output = tmp_path / "data", tmp_path / "goals"
    folder.mkdir()
    main(LoadingDataConfig(steps=2000, folder=folder, row_length=4096, cold_batches=2, output=output))
    goals = read_goals(output)
    assert [goal.name for goal in goals] == [
        "memory while encoding",
        "memory while iterating",
        "loading, cached, one thread, against one H100",
        "loading, cold, one thread, against one H100",
    ]
    assert [goal.verdict for goal in goals[:2]] == ["pass", "pass"]
    printed = capsys.readouterr().out
    assert all(goal.words in printed for goal in goals)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_ten_times_the_data_need_no_more_memory(tmp_path):
    measured = {}
    for steps in (10_000, 100_000):
        folder = tmp_path / str(steps)
        folder.mkdir()
        config = LoadingDataConfig(steps=steps, folder=folder)
        measured[steps] = {part: in_process(config, folder, part) for part in PARTS}
    small, large = measured.values()
    print(json.dumps(measured))
    assert large["encode"]["bytes"] - small["encode"]["bytes"] > KEPT  # a process that held the data would show
    for part in ("encode", "iterate"):
        assert large[part]["peak"] - small[part]["peak"] < KEPT
