"""A PRM that lies on a mesh gives the scores of one device, and every device holds its part only."""

import json
import os
import pathlib
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from any_mesh_scoring import scored
from jax.sharding import AbstractMesh

from agentprm_jax.data import write_trajectories
from agentprm_jax.models import init_reward_model
from agentprm_jax.scoring import Prm
from agentprm_jax.training import MeshConfig, make_constrain, make_mesh, parameter_shardings
from agentprm_jax.training.mesh import MESH_AXES

SCRIPT = pathlib.Path(__file__).parent / "any_mesh_scoring.py"
EIGHT = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]
SIZES = {"tokens_per_batch": 256, "kept_tokens": 1 << 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, decoder_config, encoder):
    """A PRM whose heads can be shared by four devices."""
    config = replace(decoder_config, heads=8, kv_heads=4)
    path = tmp_path_factory.mktemp("prm")
    Prm(config, init_reward_model(config, jax.random.key(1)), encoder, initial_value=0.375).save(path)
    return path


@pytest.fixture
def made(trajectories):
    """Trajectories of up to three steps, in fewer rows than a mesh has parts for."""
    return [*trajectories(4, steps=1), *trajectories(4, seed=1, steps=2), *trajectories(1, seed=2, steps=3)]


def on_eight(folder, made, *meshes):
    """What each mesh of eight devices gives."""
    write_trajectories(folder / "made.jsonl", made)
    shapes = [str(size) for mesh in meshes for size in mesh]
    given = ["--prm", folder, "--trajectories", folder / "made.jsonl", "--meshes", *shapes]
    # What is read from the cache was not compiled here, and so would not be warned of.
    devices = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run([sys.executable, SCRIPT, *given], capture_output=True, text=True, check=False, env=devices)
    assert done.returncode == 0, done.stderr
    assert "full rematerialization" not in done.stderr
    return json.loads(done.stdout)


def assert_same_scoring(result, expected, tokens):
    for scores in (result["scores"], result["scores again"]):
        np.testing.assert_allclose(np.concatenate(scores), np.concatenate(expected), atol=1e-5)
    assert result["tokens"] == tokens
    assert tokens[1] > 0
    assert result["compiled"] > 0
    assert result["compiled again"] == 0


def assert_cut(result, mesh):
    """Along d and h of the query kernel [l, d, h, e], and along k of what is kept [l, slots, k, s, e], it is cut."""
    _, fsdp, tensor = mesh
    assert result["query"] == [[2, 32, 8, 8], [2, 32 // fsdp, 8 // tensor, 8], fsdp * tensor]
    assert result["kept"] == [[2, 16, 4, 256, 8], [2, 16, 4 // tensor, 256, 8], tensor]


@pytest.mark.slow
def test_every_shape_of_eight_devices_scores_as_one_does(folder, made):
    expected = scored(Prm.load(folder, **SIZES), made)
    results = on_eight(folder, made, *EIGHT)
    for mesh, result in zip(EIGHT, results, strict=True):
        assert_same_scoring(result, *expected)
        assert_cut(result, mesh)
    assert [result["programs of copies"] for result in results] == [1, 2, 3, 4]


def test_a_mesh_of_one_device_changes_no_bit(folder, made):
    mesh = make_mesh(MeshConfig())
    shardings = partial(parameter_shardings, mesh)
    laid = Prm.load(folder, shardings=shardings, constrain=make_constrain(mesh), **SIZES)
    assert scored(laid, made[-1:]) == scored(Prm.load(folder, **SIZES), made[-1:])


def test_heads_that_cannot_be_shared_equally_are_named_before_anything_is_scored(prm, tmp_path):
    prm.save(tmp_path)
    mesh = AbstractMesh((1, 1, 4), MESH_AXES)
    with pytest.raises(ValueError, match="its axis 'kv_heads' of size 2 cannot be cut into 4 equal parts"):
        Prm.load(tmp_path, shardings=partial(parameter_shardings, mesh))
