import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from tiny_training import MODEL

from agentprm_jax.models import logical_axes
from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.mesh import MESH_AXES, RULES, make_constrain, make_mesh, parameter_shardings, partition_spec

ONE = make_mesh(MeshConfig())


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_one_device_is_the_mesh_of_ones():
    assert dict(ONE.shape) == {"data": 1, "fsdp": 1, "tensor": 1}


def test_a_mesh_larger_than_the_machine_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"fsdp=4096.* needs 4096 devices, but there are \d+"):
        make_mesh(MeshConfig(fsdp=4096))


def test_every_rule_leads_to_axes_of_the_mesh():
    targets = [target for target in RULES.values() if target is not None]
    assert {axis for target in targets for axis in ((target,) if isinstance(target, str) else target)} == set(MESH_AXES)


@pytest.mark.parametrize("kind", ["language_model", "reward_model"])
def test_the_table_knows_every_logical_axis_of_the_models(kind):
    everything = dataclasses.replace(MODEL, qkv_bias=True, qk_norm=True, tied_embeddings=False)
    axes = jax.tree.leaves(logical_axes(everything, kind))
    assert set(axes) <= set(RULES)
    assert {"embed", "mlp", "heads", "kv_heads", "vocab", "layers"} <= set(axes)


def test_a_misspelt_logical_axis_is_refused_by_path():
    axes = {"decoder": {"up": {"kernel": ("embed", "mpl")}}}
    with pytest.raises(ValueError, match=r"decoder/up/kernel .*unknown logical axis 'mpl'"):
        parameter_shardings(ONE, axes, {"decoder": {"up": {"kernel": shaped(4, 4)}}})


def test_a_misspelt_axis_of_an_activation_is_refused():
    with pytest.raises(ValueError, match="unknown logical axis 'bach'"):
        make_constrain(ONE)(jnp.zeros((2, 3)), ("bach", None))


def test_an_activation_with_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) got 1 logical axes"):
        make_constrain(ONE)(jnp.zeros((2, 3)), ("batch",))


def test_a_parameter_without_axes_and_axes_without_a_parameter_are_refused_by_path():
    with pytest.raises(ValueError, match="path b there is a parameter but no logical axes"):
        parameter_shardings(ONE, {"a": ("embed",)}, {"a": shaped(4), "b": shaped(4)})
    with pytest.raises(ValueError, match="path b there is logical axes but no parameter"):
        parameter_shardings(ONE, {"a": ("embed",), "b": ("embed",)}, {"a": shaped(4)})


def test_a_wrong_number_of_axes_is_refused_by_path():
    with pytest.raises(ValueError, match=r"parameter a of shape .* needs 2 logical axes"):
        parameter_shardings(ONE, {"a": ("embed",)}, {"a": shaped(4, 4)})


def test_two_dimensions_on_one_mesh_axis_are_refused():
    with pytest.raises(ValueError, match="two dimensions on one mesh axis"):
        partition_spec(("heads", "mlp"), "x")


def test_a_dimension_that_cannot_be_cut_evenly_is_refused_by_path_and_name():
    mesh = AbstractMesh((1, 1, 4), MESH_AXES)
    with pytest.raises(ValueError, match=r"parameter a .*'kv_heads' of size 2 cannot be cut into 4 equal parts"):
        parameter_shardings(mesh, {"a": ("embed", "kv_heads")}, {"a": shaped(8, 2)})


def test_parameters_lie_as_the_table_says():
    spec = parameter_shardings(ONE, {"a": ("layers", "embed", "heads", "head_dim")}, {"a": shaped(2, 8, 4, 8)})[
        "a"
    ].spec
    assert spec == PartitionSpec(None, "fsdp", "tensor", None)
