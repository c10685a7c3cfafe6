"""How evenly parameters lie over the devices: what each holds beyond its equal share is memory that is lost."""

import math
from typing import Any

import jax
from jax.sharding import Mesh

from agentprm_jax.models.parameters import LORA_A, LORA_B
from agentprm_jax.training.mesh import CUTTING_AXES, path_name

PyTree = Any

MOST_SURPLUS = 0.01
"""Largest share of the parameters' bytes that a device may hold beyond its equal share."""
SMALL_BYTES = 64 * 2**20
"""Models of fewer bytes in all are never refused, so that those for trying things out can have any shape."""


def surplus_bytes(mesh: Mesh, params: PyTree) -> dict[str, float]:
    """Gives for every parameter the bytes that one device holds beyond its equal share.

    The equal share is the parameter's bytes divided by the devices along the axes fsdp and tensor; the axis data is
    there to hold copies. A parameter that lies whole on each of n devices has a surplus of (1 - 1 / n) of its bytes.

    Args:
        mesh: the mesh.
        params: tree of arrays or `jax.ShapeDtypeStruct`, with shardings on the mesh.
    """
    parts = math.prod(mesh.shape[axis] for axis in CUTTING_AXES)
    return {
        path_name(path): _bytes(leaf, leaf.sharding.shard_shape(leaf.shape)) - _bytes(leaf, leaf.shape) / parts
        for path, leaf in jax.tree.leaves_with_path(params)
    }


def surplus_share(mesh: Mesh, params: PyTree) -> float:
    """Gives the surplus of all parameters as a share of their bytes: 0 is evenly cut, almost 1 is all replicated."""
    return sum(surplus_bytes(mesh, params).values()) / _total_bytes(params)


def check_cut(mesh: Mesh, params: PyTree) -> None:
    """Checks that the parameters are cut over the mesh but for a negligible rest, such as the scales of norms.

    Factors of adapters are not counted: the rank lies on no axis of the mesh, so that each is whole along one of them.

    Args:
        mesh: the mesh.
        params: as for `surplus_bytes`.

    Raises:
        ValueError: if the surplus is more than `MOST_SURPLUS` of at least `SMALL_BYTES`; names the largest by path.
    """
    leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    counted = {path: leaf for path, leaf in leaves.items() if path.rpartition("/")[2] not in (LORA_A, LORA_B)}
    surplus, share = surplus_bytes(mesh, counted), surplus_share(mesh, counted)
    if share <= MOST_SURPLUS or _total_bytes(counted) < SMALL_BYTES:
        return
    total = sum(surplus.values())
    largest = sorted(surplus, key=surplus.__getitem__, reverse=True)[:5]
    shown = ", ".join(f"{path} ({surplus[path]:,.0f} bytes)" for path in largest if surplus[path] > 0)
    axes = " and ".join(f"{axis}={mesh.shape[axis]}" for axis in CUTTING_AXES)
    raise ValueError(
        f"On the mesh with {axes} every device holds {total:,.0f} bytes of parameters beyond its equal share, "
        f"{share:.1%} of all; at most {MOST_SURPLUS:.0%} should not be cut along both axes. Most of it is {shown}. "
        "Give these axes a place in the table of rules, or choose a mesh whose axes they have."
    )


def _total_bytes(params: PyTree) -> int:
    return sum(_bytes(leaf, leaf.shape) for leaf in jax.tree.leaves(params))


def _bytes(leaf: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * leaf.dtype.itemsize
