"""Which kernels of a decoder get low-rank adapters, how wide and how strong; imports no JAX."""

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

PROJECTIONS: Mapping[str, int] = {
    "decoder/layers/attention/query": 1,
    "decoder/layers/attention/key": 1,
    "decoder/layers/attention/value": 1,
    "decoder/layers/attention/out": 2,
    "decoder/layers/mlp/gate": 1,
    "decoder/layers/mlp/up": 1,
    "decoder/layers/mlp/down": 1,
}
"""The linear maps that can be adapted, by their path in the parameters, and how many axes of their kernel
`[l, *inputs, *outputs]` are inputs."""

BaseDtype = Literal["bfloat16", "float32", "stored"]


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation (LoRA, arXiv 2106.09685): the base stays as it is, small matrices beside it are trained."""

    rank: int = 0
    """Rank of the adapters; 0 trains all parameters instead."""
    alpha: float = 32.0
    """An adapter's product is multiplied by alpha / rank."""
    targets: tuple[str, ...] = ("*/attention/*", "*/mlp/*")
    """Patterns for paths of the linear maps that are adapted, such as "*/query" "*/value"."""
    rank_stabilized: bool = False
    """Multiply by alpha / sqrt(rank) instead (rsLoRA, arXiv 2312.03732)."""
    base_dtype: BaseDtype = "bfloat16"
    """Type in which the frozen base lies on the devices while adapters are trained, themselves float32; they are merged
    into the base as it is stored."""

    def __post_init__(self) -> None:
        """Raises ValueError when a number is out of range or a pattern matches no linear map."""
        if self.rank < 0:
            raise ValueError(f"LoraConfig.rank must be at least 0, got {self.rank}.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"LoraConfig.alpha must be a finite number above 0, got {self.alpha}.")
        if self.base_dtype not in get_args(BaseDtype):
            raise ValueError(
                f"LoraConfig.base_dtype must be one of {', '.join(get_args(BaseDtype))}, got {self.base_dtype!r}."
            )
        if not self.targets:
            raise ValueError("LoraConfig.targets must hold at least one pattern, got none.")
        for pattern in self.targets:
            if not any(fnmatch.fnmatchcase(path, pattern) for path in PROJECTIONS):
                raise ValueError(
                    f"LoraConfig.targets: the pattern {pattern!r} matches none of the linear maps, which are "
                    f"{', '.join(PROJECTIONS)}."
                )

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the linear maps that are adapted."""
        return tuple(path for path in PROJECTIONS if any(fnmatch.fnmatchcase(path, p) for p in self.targets))

    @property
    def scale(self) -> float:
        """What an adapter's product is multiplied by; only where the rank is above 0."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)
