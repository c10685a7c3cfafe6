"""Laws of the choice of meshes that are compiled."""

from dataclasses import replace

import pytest

from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.planning.candidates import Candidate, best_candidates
from agentprm_jax.training.planning.chips import GIB, GPUS, TPUS
from agentprm_jax.training.planning.presets import named_model
from agentprm_jax.training.planning.work import Workload, mesh_shapes

SEVEN = named_model("qwen2.5-7b", dtype="bfloat16", param_dtype="float32", remat=True)


def chosen(chip, chips, count, rows=None, model=SEVEN):
    candidates = [
        Candidate(MeshConfig(*shape), Workload(model, "agentprm", rows or shape[0] * shape[1], 4096))
        for shape in mesh_shapes(chips, model, rows)
    ]
    return [one.mesh.shape for one in best_candidates(chip, candidates, count)]


def test_a_large_slice_is_tried_with_few_many_and_middling_copies_and_with_tensor():
    shapes = chosen(TPUS["v5p"], 1024, 4)
    assert (32, 32, 1) in shapes
    assert len({fsdp for _, fsdp, _ in shapes}) == 4
    assert max(fsdp for _, fsdp, _ in shapes) >= 16 * min(fsdp for _, fsdp, _ in shapes)
    assert [tensor > 1 for _, _, tensor in shapes] == [False, False, False, True]


def test_what_cannot_fit_is_not_tried_while_something_can():
    assert (32, 1, 1) in mesh_shapes(32, SEVEN, None)
    assert chosen(TPUS["v5e"], 32, 4) == [(1, 32, 1), (2, 16, 1), (2, 8, 2)]


def test_where_nothing_fits_what_needs_least_comes_first():
    small = replace(TPUS["v5e"], hbm_bytes=GIB)
    assert chosen(small, 8, 2)[0] == (1, 2, 4)


def test_fewer_rows_than_chips_leave_meshes_with_tensor_alone():
    assert all(tensor == 4 for _, _, tensor in chosen(TPUS["v5e"], 256, 4, rows=64))


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_no_mesh_is_tried_twice_nor_more_than_were_asked_for(count):
    shapes = chosen(GPUS["h100"], 24, count)
    assert 0 < len(shapes) == len({*shapes}) <= count
