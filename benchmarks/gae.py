"""How fast `agentprm_jax.numerics.targets.gae` is, beside other implementations and against its goals.

Command:

    uv run benchmarks/gae.py

Prints the table, and writes report.md, times.json, times.png and goals.json into runs/benchmarks/gae. Implementations
whose packages are missing are left out, and their goals say so: the dependency group `bench` has rlax, numba and
torchrl, with which comes torch. Other shapes and dtypes: experiments/bench_gae.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from gae_implementations import ADD, ANY_DTYPE, GROUPS, IMPLEMENTATIONS, OWN, Call, make_case
from gae_report import NAME, Measured, goals, markdown, times_figure
from gae_tpu import compile_for_tpu
from goals import RUNS, write_goals
from measuring import take_turns

from agentprm_jax.reporting.canvas import save_figure
from agentprm_jax.reporting.progress import progress
from agentprm_jax.reporting.provenance import describe_machine, package_versions

SHAPES = ((4096, 32), (65536, 32), (4096, 512), (64, 32768))
DTYPES = ("float32", "bfloat16")
TURNS, SECONDS = 40, 20.0
COMPARED = ("agentprm-jax", "jax", "numpy", "torch", "rlax", "torchrl", "numba", "libtpu")
AGREEMENT = 1e-3
"""Largest difference from ours that counts as the same advantages; sums of some twenty float32 terms."""


def benchmark(
    shapes: Sequence[tuple[int, int]],
    dtypes: Sequence[str],
    names: Sequence[str],
    turns: int,
    seconds: float,
    output: Path,
) -> str:
    """Measures, and writes what was measured into `output`.

    Args:
        shapes: rows and steps.
        dtypes: of the inputs.
        names: keys of IMPLEMENTATIONS, in the order of the table.
        turns: how often each implementation is measured.
        seconds: of one shape and dtype, after which no further turn begins.
        output: folder of report.md, times.json, times.png and goals.json.

    Returns:
        The report.

    Raises:
        ValueError: a name is unknown, or an implementation computes something else.
    """
    if unknown := set(names) - set(IMPLEMENTATIONS):
        raise ValueError(f"Unknown implementations {sorted(unknown)}; known are {list(IMPLEMENTATIONS)}.")
    output.mkdir(parents=True, exist_ok=True)
    cases = [(group, shape, dtype) for group in GROUPS for dtype in dtypes for shape in shapes]
    missing: dict[str, str] = {}
    results, found = [], []
    for group, shape, dtype in progress(cases, "benchmark", total=len(cases)):
        members = [name for name in GROUPS[group] if name in names and (dtype == "float32" or name in ANY_DTYPE)]
        functions = dict(available(members, shape, dtype, missing))
        measured = Measured(group, shape, dtype, {})
        if group == "JAX" or (set(functions) & set(OWN) and set(functions) - set(OWN)):
            measured = measured._replace(timings=take_turns(functions, turns, seconds))
            check_agreement(functions, dtype)  # afterwards, so that the first call is the one that is timed
            results.append(measured)
        found += goals(measured, {name: missing[name] for name in members if name in missing})
    write_goals(output, found)
    (output / "times.json").write_text(json.dumps([times(measured) for measured in results], indent=1))
    save_figure(times_figure(results), output / "times.png")
    # Last, since libtpu may end the process.
    report = f"{describe()}\n\n{markdown(results, found, compile_for_tpu(shapes))}"
    (output / "report.md").write_text(report, encoding="utf-8")
    return report


def available(
    names: Sequence[str], shape: tuple[int, int], dtype: str, missing: dict[str, str]
) -> Iterator[tuple[str, Call]]:
    """The implementations that can be measured; why each other one cannot goes into `missing`."""
    case = make_case(shape)
    for name in names:
        try:
            yield name, IMPLEMENTATIONS[name](case, dtype)
        except ModuleNotFoundError as error:
            missing[name] = f"the package {error.name} is not installed"


def check_agreement(functions: dict[str, Call], dtype: str) -> None:
    """Refuses to compare what is not the same.

    Raises:
        ValueError: advantages differ from ours.
    """
    own = [name for name in OWN if name in functions]
    if not own or dtype != "float32":
        return
    expected = np.asarray(functions[own[0]]())
    for name, function in functions.items():
        if name not in (own[0], ADD):
            difference = float(np.max(np.abs(np.asarray(function()) - expected)))
            if not difference <= AGREEMENT:
                raise ValueError(f"{name} must compute the same advantages as ours, but differs by {difference:.3g}.")


def times(measured: Measured) -> dict[str, object]:
    """All measured seconds, for whoever wants other statistics."""
    timings = {name: {"first": timing.first, "turns": timing.turns} for name, timing in measured.timings.items()}
    return {"group": measured.group, "shape": measured.shape, "dtype": measured.dtype, "seconds": timings}


def describe() -> str:
    """Machine and versions."""
    versions = package_versions(COMPARED)
    return f"{describe_machine()}; " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."


if __name__ == "__main__":
    print(benchmark(SHAPES, DTYPES, tuple(IMPLEMENTATIONS), TURNS, SECONDS, RUNS / NAME))
