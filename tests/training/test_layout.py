import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from agentprm_jax.models import DecoderConfig, init_language_model, init_reward_model, logical_axes
from agentprm_jax.training.layout import MOST_SURPLUS, check_cut, surplus_bytes, surplus_share
from agentprm_jax.training.mesh import MESH_AXES, parameter_shardings

MESH = AbstractMesh((2, 4, 2), MESH_AXES)
QWEN2_HALF_B = DecoderConfig(
    vocab_size=151_936,
    embed=896,
    mlp=4864,
    layers=24,
    heads=14,
    kv_heads=2,
    head_dim=64,
    rope_theta=1e6,
    norm_eps=1e-6,
    max_positions=32_768,
    qkv_bias=True,
)


def leaf(shape, *spec, mesh=MESH):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def placed(mesh, kind):
    init = {"language_model": init_language_model, "reward_model": init_reward_model}[kind]
    shapes = jax.eval_shape(lambda key: init(QWEN2_HALF_B, key), jax.random.key(0))
    shardings = parameter_shardings(mesh, logical_axes(QWEN2_HALF_B, kind), shapes)
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, shardings)


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
def test_a_real_model_is_cut_but_for_a_rest_far_below_the_limit(kind, shape):
    mesh = AbstractMesh(shape, MESH_AXES)
    params = placed(mesh, kind)
    assert 0 <= surplus_share(mesh, params) < MOST_SURPLUS / 10
    check_cut(mesh, params)


def test_a_large_parameter_that_is_not_cut_is_refused_with_path_and_bytes():
    params = placed(MESH, "language_model")
    params["decoder"]["embedding"] = leaf((151_936, 896), None, None)
    with pytest.raises(
        ValueError, match=r"fsdp=4 and tensor=2 .* (2\d\.\d%).* decoder/embedding \(476,471,296 bytes\)"
    ):
        check_cut(MESH, params)


def test_a_small_model_is_never_refused():
    check_cut(MESH, {"whole": leaf((1024, 1024))})
