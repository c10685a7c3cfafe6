"""What the training commands hold on the devices, and their options that save it."""

import gc
import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import sft
import train_prm
from tiny_runs import make_inputs

from agentprm_jax.models import LoraConfig, load_pretrained, save_pretrained
from agentprm_jax.training import LoopConfig, OptimizerConfig, PackedBatches

LOOP = LoopConfig(steps=2, rows_per_batch=8)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Trajectories, and a model that is stored in bfloat16."""
    folder = make_inputs(tmp_path_factory.mktemp("inputs"))
    config, params = load_pretrained(folder / "init")
    narrow = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params)
    save_pretrained(folder / "init", replace(config, param_dtype="bfloat16"), narrow)
    return folder


@pytest.fixture
def held(monkeypatch):
    """Bytes of all arrays on the devices, noted before the first update; those of other tests are not counted."""
    gc.collect()
    before, noted, fetch = live_bytes(), [], PackedBatches.__getitem__

    def watched(batches, index):
        gc.collect()
        noted.append(live_bytes() - before)
        return fetch(batches, index)

    monkeypatch.setattr(PackedBatches, "__getitem__", watched)
    return noted


def live_bytes():
    """Bytes of all buffers; several arrays may share one."""
    arrays = [array for array in jax.live_arrays() if not array.is_deleted()]
    return sum({array.unsafe_buffer_pointer(): array.nbytes for array in arrays}.values())


def settings(inputs, output, **more):
    given = {"trajectories": inputs / "trajectories.jsonl", "init": inputs / "init", "output": output}
    return given | {"loop": LOOP, "row_length": 32, "optimizer": OptimizerConfig(learning_rate=1e-2)} | more


def recorded(output):
    """Dtype and shape of every parameter that a run trains."""
    return json.loads((output / "training.json").read_text())["parameters"]


def parameter_bytes(output):
    return sum(
        np.prod(json.loads(shape[shape.index("[") :]), dtype=int) * (2 if "bfloat16" in shape else 4)
        for shape in recorded(output).values()
    )


@pytest.mark.parametrize("param_dtype", ["stored", "float32"])
def test_a_prm_in_training_lies_on_the_devices_as_parameters_and_two_moments_alone(inputs, held, tmp_path, param_dtype):
    train_prm.main(train_prm.TrainPrmConfig(**settings(inputs, tmp_path / "run", param_dtype=param_dtype)))
    assert held[0] == pytest.approx(3 * parameter_bytes(tmp_path / "run"), rel=0.01)


@pytest.mark.parametrize("param_dtype", ["stored", "float32"])
def test_an_actor_in_training_lies_on_the_devices_as_parameters_and_two_moments_alone(
    inputs, held, tmp_path, param_dtype
):
    sft.main(sft.SftConfig(**settings(inputs, tmp_path / "run", param_dtype=param_dtype)))
    dtype = "bfloat16" if param_dtype == "stored" else "float32"
    assert all(shape.startswith(f"{dtype}[") for shape in recorded(tmp_path / "run").values())
    assert held[0] == pytest.approx(3 * parameter_bytes(tmp_path / "run"), rel=0.01)


def test_beside_adapters_the_model_lies_on_the_devices_once(inputs, held, tmp_path):
    config = sft.SftConfig(**settings(inputs, tmp_path / "run", lora=LoraConfig(rank=2)))
    sft.main(config)
    _, base = load_pretrained(inputs / "init")
    frozen = sum(leaf.nbytes for leaf in jax.tree.leaves(base))
    assert held[0] == pytest.approx(frozen + 3 * parameter_bytes(tmp_path / "run"), rel=0.01)


def test_an_actor_whose_blocks_are_computed_again_becomes_the_same(inputs, tmp_path):
    runs = [tmp_path / "kept", tmp_path / "again"]
    for run in runs:
        sft.main(sft.SftConfig(**settings(inputs, run, param_dtype="float32", remat=run == runs[1])))
    kept, again = (load_pretrained(run / "model")[1] for run in runs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), kept, again)
