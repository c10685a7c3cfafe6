"""Where activations lie: what a forward pass is told of the devices that it is compiled for."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

LogicalAxes = tuple[str | None, ...]
MeshAxes = str | tuple[str, ...] | None


@runtime_checkable
class Constrain(Protocol):
    """Pins the sharding of an activation given the logical names of its axes; the identity where there is no mesh."""

    @property
    def mesh(self) -> Mesh | AbstractMesh | None:
        """Devices that the program is compiled for, which need not be those of this machine; None: any one device."""
        ...

    def spec(self, axes: LogicalAxes) -> PartitionSpec:
        """How an activation with these axes lies on the mesh."""
        ...

    def __call__(self, x: Any, axes: LogicalAxes) -> Any:
        """The activation, pinned."""
        ...


@dataclass(frozen=True)
class Unconstrained:
    """The `Constrain` that does nothing."""

    mesh: None = None

    def spec(self, axes: LogicalAxes) -> PartitionSpec:
        """Every axis whole."""
        return PartitionSpec(*(None for _ in axes))

    def __call__(self, x: Any, axes: LogicalAxes) -> Any:
        """The activation itself."""
        del axes
        return x


unconstrained = Unconstrained()


def sharding_of(constrain: Constrain, axes: LogicalAxes) -> NamedSharding | None:
    """Where an array with these axes lies that is made outside a program; None: where JAX puts arrays by itself."""
    return None if constrain.mesh is None else NamedSharding(constrain.mesh, constrain.spec(axes))


def row_parts(constrain: Constrain) -> int:
    """In how many equal parts the rows of a batch are cut, of which their number must be a multiple."""
    return 1 if constrain.mesh is None else parts_along(constrain.mesh, constrain.spec(("batch",))[0])


def parts_along(mesh: Mesh | AbstractMesh, axes: MeshAxes) -> int:
    """In how many parts a dimension is cut that lies along these axes of a mesh."""
    names = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(mesh.shape[name] for name in names)


def in_equal_parts(size: int, parts: int) -> int:
    """The smallest multiple of `parts` that is not below `size`."""
    return -(-size // parts) * parts


def compiled_for(constrain: Constrain) -> str | None:
    """Platform of the devices that the program is compiled for ("tpu", "gpu", "cpu"); None where it is not told.

    It is asked of the mesh and not of this machine: a program for a TPU slice may be compiled on a host without one.
    """
    mesh = constrain.mesh
    return None if mesh is None or isinstance(mesh, AbstractMesh) else mesh.devices.flat[0].platform
