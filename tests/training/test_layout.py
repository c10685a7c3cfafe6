import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from agentprm_jax.models import LoraConfig, init_language_model, init_reward_model, logical_axes
from agentprm_jax.training.layout import MOST_SURPLUS, SMALL_BYTES, check_cut, surplus_bytes, surplus_share
from agentprm_jax.training.mesh import MESH_AXES, parameter_shardings
from agentprm_jax.training.parts import split
from agentprm_jax.training.planning.presets import MODELS

MESH = AbstractMesh((2, 4, 2), MESH_AXES)
HALF_B = MODELS["qwen2.5-0.5b"]


def leaf(shape, *spec, mesh=MESH):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def placed(mesh, kind, model, rank=0):
    """The parameters of a model, as `prepare` has them checked."""
    init = {"language_model": init_language_model, "reward_model": init_reward_model}[kind]
    parts = split(LoraConfig(rank=rank), functools.partial(init, model), logical_axes(model, kind), mesh)
    shapes = jax.eval_shape(parts.init, jax.random.key(0))
    shardings = parameter_shardings(mesh, parts.axes, shapes)
    trained = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, shardings)
    return {"frozen": parts.frozen, "trained": trained}


def test_the_surplus_is_what_a_device_holds_beyond_its_equal_share():
    params = {
        "cut": leaf((8, 8), "fsdp", "tensor"),
        "half": leaf((8, 8), None, "tensor"),
        "whole": leaf((8, 8)),
    }
    assert surplus_bytes(MESH, params) == {"cut": 0, "half": 256 * (1 / 2 - 1 / 8), "whole": 256 * (1 - 1 / 8)}
    assert surplus_share(MESH, params) == pytest.approx((3 / 8 + 7 / 8) / 3)


def test_copies_along_the_axis_data_are_no_surplus():
    mesh = AbstractMesh((8, 1, 1), MESH_AXES)
    assert surplus_share(mesh, {"whole": leaf((8, 8), mesh=mesh)}) == 0


@pytest.mark.parametrize("kind", ["language_model", "reward_model"])
@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 1, 2), (4, 4, 2), (1, 128, 2)])
@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_paper_are_cut_but_for_a_rest_far_below_the_limit(kind, shape, name):
    mesh = AbstractMesh(shape, MESH_AXES)
    params = placed(mesh, kind, MODELS[name])
    assert 0 <= surplus_share(mesh, params) < MOST_SURPLUS / 100
    check_cut(mesh, params)


def test_adapters_are_let_through_and_their_base_is_not():
    mesh = AbstractMesh((1, 8, 1), MESH_AXES)
    params = placed(mesh, "language_model", HALF_B, rank=64)
    assert surplus_share(mesh, params) > MOST_SURPLUS
    check_cut(mesh, params)
    params["frozen"]["decoder"]["embedding"] = leaf((151_936, 896), mesh=mesh)
    with pytest.raises(ValueError, match=r"frozen/decoder/embedding \(476,471,296 bytes\)"):
        check_cut(mesh, params)


def test_a_large_parameter_that_is_not_cut_is_refused_with_path_and_bytes():
    params = placed(MESH, "language_model", HALF_B)
    params["trained"]["decoder"]["embedding"] = leaf((151_936, 896), None, None)
    with pytest.raises(
        ValueError, match=r"fsdp=4 and tensor=2 .* (2\d\.\d%).* trained/decoder/embedding \(476,471,296 bytes\)"
    ):
        check_cut(MESH, params)


def test_a_few_mebibytes_that_are_not_cut_are_refused_by_their_share_alone():
    params = {"cut": leaf((1 << 19, 1024), "fsdp", "tensor"), "whole": leaf((1 << 14, 1024))}  # 2 GiB and 64 MiB
    assert sum(surplus_bytes(MESH, params).values()) < SMALL_BYTES
    with pytest.raises(ValueError, match=r"2\.7% of all.* whole \(58,720,256 bytes\)"):
        check_cut(MESH, params)


def test_a_small_model_is_never_refused():
    check_cut(MESH, {"whole": leaf((SMALL_BYTES // 4 - 1,))})
    with pytest.raises(ValueError, match=r"87\.5% of all"):
        check_cut(MESH, {"whole": leaf((SMALL_BYTES // 4,))})
