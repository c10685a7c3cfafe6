"""Accelerators: what each kind of chip can do, and the slices it comes in. Numbers of the makers' data sheets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """Peak rates of one chip."""

    name: str
    """As users call it."""
    flops: float
    """Products and sums of bfloat16 a second."""
    hbm_bytes: float
    """Main memory that a program can have."""
    hbm_bandwidth: float
    """Bytes a second from or to main memory."""


@dataclass(frozen=True)
class Tpu(Chip):
    """A TPU chip; chips form a grid, in which each has two links along every dimension."""

    link_bandwidth: float
    """Bytes a second that one link brings in (as many go out)."""
    ring_unit: int
    """A dimension of a multiple of so many chips has its two ends joined to a ring."""
    in_cubes: bool
    """Whether it has them joined only where all dimensions are such multiples, since switches join whole cubes."""
    slices: Mapping[int, str]
    """Topology by number of chips, as libtpu names it."""

    def rings(self, shape: Sequence[int]) -> tuple[bool, ...]:
        """Which dimensions of a slice of this shape are rings; the others are lines."""
        joined = tuple(size % self.ring_unit == 0 for size in shape)
        return (all(joined),) * len(joined) if self.in_cubes else joined

    def bandwidth_among(self, chips: int, groups: int = 1) -> float:
        """Bytes a second into one of so many chips, roughly: as if each group that exchanges were a ring of its own."""
        del groups
        return min(2, chips - 1 or 1) * self.link_bandwidth


@dataclass(frozen=True)
class Gpu(Chip):
    """A GPU; those of one host are joined more tightly than hosts are."""

    host_bandwidth: float
    """Bytes a second into one GPU from others of its host (NVLink)."""
    network_bandwidth: float
    """Bytes a second into one GPU from other hosts."""
    per_host: int = 8
    """GPUs of a host."""

    def bandwidth_among(self, chips: int, groups: int = 1) -> float:
        """Bytes a second into one of so many GPUs that stand side by side.

        What several hosts exchange comes into a host through all of its network cards and is passed on inside; where
        the GPUs are so many groups that exchange apart from each other, the groups in a host share its cards.
        """
        if chips <= self.per_host:
            return self.host_bandwidth
        return min(self.host_bandwidth, self.per_host * self.network_bandwidth / min(groups, self.per_host))


_FLAT = {8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
    512: "8x8x8",
    1024: "8x8x16",
}

# Of cards of 80 GB CUDA finds 79 GiB, and what NVIDIA gives XLA is 0.9 of that, since its libraries need memory too:
# docs.nvidia.com/jax-toolbox/performance-profiling/gpu-performance.
_GPU_MEMORY = 0.9 * 79 * GIB

# Rings: docs.cloud.google.com/tpu/docs/v5p (from 4x4x4 on), jax-ml.github.io/scaling-book/tpus (v5e along 16 chips).
TPUS: Mapping[str, Tpu] = {
    "v5e": Tpu("v5e", 197e12, 16 * GIB, 819e9, 45e9, 16, False, _FLAT),
    "v5p": Tpu("v5p", 459e12, 95 * GIB, 2765e9, 90e9, 4, True, _CUBES),
    "v6e": Tpu("v6e", 918e12, 32 * GIB, 1640e9, 90e9, 16, False, _FLAT),
}
GPUS: Mapping[str, Gpu] = {
    "a100": Gpu("a100", 312e12, _GPU_MEMORY, 2039e9, 300e9, 25e9),
    "h100": Gpu("h100", 989e12, _GPU_MEMORY, 3350e9, 450e9, 50e9),
}


def topology_name(chip: Tpu, chips: int) -> str:
    """The name of a slice, such as v5p:2x4x4.

    Raises:
        ValueError: there is no such slice.
    """
    if chips not in chip.slices:
        raise ValueError(
            f"There is no slice of {chips} {chip.name} chips; there are those of {', '.join(map(str, chip.slices))}. "
            "Several slices that are joined by a network are not planned here."
        )
    return f"{chip.name}:{chip.slices[chips]}"
