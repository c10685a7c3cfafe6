"""Measure the speed of gae for shapes, dtypes, implementations and a platform of your choice.

Command:

    uv run experiments/bench_gae.py --shapes 4096x32 64x32768 --dtypes float32 --output runs/bench_gae

Prints the table of benchmarks/gae.py, which measures the shapes that have goals, and writes it with all times and a
picture into OUTPUT. Implementations whose packages are missing are named and left out.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from agentprm_jax.commands.answer import run_command

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@dataclass(frozen=True)
class BenchGaeConfig:
    """Settings of one measurement."""

    output: Path
    """Folder of report.md, times.json and times.png."""
    shapes: tuple[str, ...] = ("4096x32", "65536x32", "4096x512", "64x32768")
    """Rows x steps."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
    """Of rewards, values and discounts; ours computes in float32 whatever they are."""
    implementations: tuple[str, ...] = ()
    """Names as in the table; none means all."""
    platform: Literal["", "cpu", "cuda", "tpu"] = ""
    """Where JAX computes; empty leaves the choice to JAX. Torch and numba always use the CPU."""
    repeats: int = 40
    """How often each implementation is measured."""
    seconds: float = 20.0
    """Of one shape and dtype, after which no further round begins."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and steps as numbers.

        Raises:
            ValueError: a shape is written otherwise.
        """
        found = [(shape, re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", shape)) for shape in self.shapes]
        if wrong := [shape for shape, match in found if match is None]:
            raise ValueError(f"BenchGaeConfig.shapes must be written like 4096x32, got {', '.join(wrong)}.")
        return tuple((int(match[1]), int(match[2])) for _, match in found if match)


def main(config: BenchGaeConfig) -> None:
    """Measures and prints."""
    sizes = config.sizes
    if config.platform:
        os.environ["JAX_PLATFORMS"] = config.platform
    sys.path.append(str(BENCHMARKS))
    from gae import benchmark
    from gae_implementations import IMPLEMENTATIONS

    names = config.implementations or tuple(IMPLEMENTATIONS)
    print(benchmark(sizes, config.dtypes, names, config.repeats, config.seconds, config.output))


if __name__ == "__main__":
    run_command(main, tyro.cli(BenchGaeConfig))
