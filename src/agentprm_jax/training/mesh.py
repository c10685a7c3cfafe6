"""The device mesh and the one strict table from logical axis names to mesh axes.

Distribution is XLA's: arrays carry shardings, `jax.jit` with `in_shardings` and `out_shardings` (what used to be called
pjit) partitions the program. One device is the mesh of shape 1x1x1.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from agentprm_jax.data.share import Share
from agentprm_jax.models.placement import Constrain, LogicalAxes, MeshAxes, parts_along
from agentprm_jax.training.config import MeshConfig

PyTree = Any

MESH_AXES = ("data", "fsdp", "tensor")
ROW_AXES = ("data", "fsdp")
CUTTING_AXES = ("fsdp", "tensor")
"""Axes of the mesh along which parameters are cut."""

RULES: Mapping[str, MeshAxes] = {
    # parameters
    "embed": "fsdp",
    "mlp": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "vocab": "tensor",
    "layers": None,
    "rank": None,
    # activations
    "batch": ROW_AXES,
    "replica": "data",
}
"""Where every logical axis lies on the mesh; None is replicated. A name that is not here is an error."""


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Builds the mesh (data, fsdp, tensor) from the first devices that it needs.

    Args:
        config: number of devices along each axis.
        devices: devices to take from; None is `jax.devices()`.

    Raises:
        ValueError: if the mesh needs more devices than there are, or a run of several processes would leave some out.
    """
    available = jax.devices() if devices is None else list(devices)
    needed = int(np.prod(config.shape))
    if needed > len(available):
        raise ValueError(
            f"A mesh of data={config.data}, fsdp={config.fsdp}, tensor={config.tensor} needs {needed} devices, "
            f"but there are {len(available)} ({available[0].platform})."
        )
    if jax.process_count() > 1 and needed != len(available):
        raise ValueError(
            f"A run of {jax.process_count()} processes must use all of its {len(available)} devices, but the mesh of "
            f"data={config.data}, fsdp={config.fsdp}, tensor={config.tensor} uses {needed}."
        )
    # jax.make_mesh refuses meshes that split a dimension of a TPU torus, such as 32 x 32 chips of 8 x 8 x 16.
    placed = mesh_utils.create_device_mesh(config.shape, available[:needed], allow_split_physical_axes=True)
    return Mesh(placed, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def partition_spec(axes: LogicalAxes, where: str) -> PartitionSpec:
    """Translates logical axis names into mesh axes by `RULES`.

    Args:
        axes: one name or None (replicated) for each dimension.
        where: what the axes belong to, for the error.

    Raises:
        ValueError: if a name is not in the table, or two dimensions would lie on one mesh axis.
    """
    for name in axes:
        if name is not None and name not in RULES:
            raise ValueError(f"{where} has the unknown logical axis {name!r} in {axes}; known are {', '.join(RULES)}.")
    targets = [None if name is None else RULES[name] for name in axes]
    used = [axis for target in targets for axis in ((target,) if isinstance(target, str) else target or ())]
    if len(set(used)) != len(used):
        raise ValueError(f"{where} with logical axes {axes} puts two dimensions on one mesh axis: {targets}.")
    return PartitionSpec(*targets)


def parameter_shardings(mesh: Mesh, axes: PyTree, shapes: PyTree) -> PyTree:
    """Gives every parameter its sharding.

    Args:
        mesh: the mesh.
        axes: tree of tuples of logical axis names, of the same structure as `shapes`.
        shapes: tree of arrays or `jax.ShapeDtypeStruct`.

    Returns:
        A tree of `NamedSharding` of the structure of `shapes`.

    Raises:
        ValueError: if a parameter has no axes or axes have no parameter, a name is unknown, the number of names is not
            the number of dimensions, or a dimension cannot be divided by its mesh axes. Names the path.
    """
    named = _by_path(axes, is_leaf=lambda node: isinstance(node, tuple))
    shaped = _by_path(shapes)
    unmatched = sorted(named.keys() ^ shaped.keys())
    if unmatched:
        where = "logical axes but no parameter" if unmatched[0] in named else "a parameter but no logical axes"
        raise ValueError(f"At path {unmatched[0]} there is {where} ({len(unmatched)} paths differ).")
    return jax.tree.map_with_path(
        lambda path, leaf: _parameter_sharding(mesh, path_name(path), named[path_name(path)], leaf.shape), shapes
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batch arrays `[b, ...]`: rows lie over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(ROW_AXES))


def row_shards(mesh: Mesh) -> int:
    """Returns in how many parts the rows of a batch are cut."""
    return parts_along(mesh, ROW_AXES)


def row_share(mesh: Mesh, process: int | None = None) -> Share:
    """Says which parts of a batch's rows a process must give: those that any of its devices holds.

    They need not follow each other, since a mesh follows the torus of a TPU slice and not the order of its hosts.
    Processes whose devices differ only along the tensor axis hold the same rows, and each gives them.

    Args:
        mesh: the mesh.
        process: number of the process; None is this one.
    """
    asked = jax.process_index() if process is None else process
    holders = mesh.devices.reshape(row_shards(mesh), -1)
    parts = (part for part, row in enumerate(holders) if any(device.process_index == asked for device in row))
    return Share(tuple(parts), len(holders))


@dataclasses.dataclass(frozen=True)
class MeshConstrain:
    """The `Constrain` by which activations lie on a mesh as the table says."""

    mesh: Mesh
    """Where the program runs."""

    def spec(self, axes: LogicalAxes) -> PartitionSpec:
        """How an activation with these axes lies on the mesh.

        Raises:
            ValueError: if a name is not in the table, or two dimensions would lie on one mesh axis.
        """
        return partition_spec(axes, "An activation")

    def __call__(self, x: jax.Array, axes: LogicalAxes) -> jax.Array:
        """Pins the activation.

        Raises:
            ValueError: as `spec` does, or if the number of names is not the number of dimensions.
        """
        if len(axes) != x.ndim:
            raise ValueError(f"An activation of shape {x.shape} got {len(axes)} logical axes: {axes}.")
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, self.spec(axes)))


def make_constrain(mesh: Mesh) -> Constrain:
    """Returns `constrain(x, axes)`, which models call where an activation should lie as the table says."""
    return MeshConstrain(mesh)


def path_name(path: Sequence[Any]) -> str:
    """Writes a key path as `decoder/layers/kernel`."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def _by_path(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=is_leaf)}


def _parameter_sharding(mesh: Mesh, path: str, axes: LogicalAxes, shape: tuple[int, ...]) -> NamedSharding:
    where = f"The parameter {path} of shape {shape}"
    if len(axes) != len(shape):
        raise ValueError(f"{where} needs {len(shape)} logical axes, got {axes}.")
    sharding = NamedSharding(mesh, partition_spec(axes, where))
    for name, size, target in zip(axes, shape, sharding.spec, strict=True):
        parts = parts_along(mesh, target)
        if size % parts:
            raise ValueError(
                f"{where}: its axis {name!r} of size {size} cannot be cut into {parts} equal parts ({target})."
            )
    return sharding
