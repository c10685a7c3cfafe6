"""Counts what a compiled program does on one chip: operations, traffic of main memory, and what it exchanges."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agentprm_jax.training.planning.groups import group_of, pairs_of
from agentprm_jax.training.planning.hlo import Computation, Instruction, Module, trip_count
from agentprm_jax.training.planning.traffic import main_memory_bytes

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
KERNEL_PRODUCTS: Mapping[str, int] = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}
"""Products of [block, block] scores that each attention kernel makes for every pair of blocks (values, weights and
their gradients), by the beginning of its name."""


@dataclass(frozen=True)
class Collective:
    """One exchange between chips, and how often it takes place."""

    kind: str
    group: tuple[int, ...]
    """Places in the mesh of the chips that exchange with the first of them."""
    payload: float
    """Bytes that each chip receives every time."""
    times: int
    """How often."""
    pairs: frozenset[tuple[int, int]] = frozenset()
    """Sender and receiver of every message, where it is a permute."""

    @property
    def received(self) -> float:
        """Bytes that each chip receives in all."""
        return self.payload * self.times


@dataclass(frozen=True)
class Costs:
    """What one chip does in one run of the program."""

    flops: float
    """Products and sums of matrix products, convolutions and attention kernels."""
    memory_bytes: float
    """Bytes read from and written to main memory, each operand once."""
    collectives: tuple[Collective, ...]
    """All exchanges."""


class _Visit(NamedTuple):
    """An instruction with the computation it stands in, how often it runs, and whether it is part of a fusion."""

    within: Computation
    line: Instruction
    times: int
    fused: bool


def count_costs(module: Module) -> Costs:
    """Counts everything, loops as often as they run.

    Raises:
        ValueError: the program has a loop, a kernel or a collective that is not understood.
    """
    flops = memory = 0.0
    collectives: dict[tuple[str, int | str], Collective] = {}
    for visit in _visits(module, module.entry, 1, fused=False):
        flops += visit.times * _flops(visit.within, visit.line)
        if not visit.fused:
            memory += visit.times * main_memory_bytes(module, visit.within, visit.line)
        found = _collective(visit)
        if found is not None:
            # The compiler writes a collective that it spreads over several fusions down in each, under one channel.
            channel = visit.line.integer("channel_id")
            key = (found.kind, visit.line.name if channel is None else channel)
            collectives[key] = max(found, collectives.get(key, found), key=lambda one: one.received)
    return Costs(flops, memory, tuple(collectives.values()))


def _visits(module: Module, within: Computation, times: int, fused: bool) -> Iterator[_Visit]:
    for line in within.instructions.values():
        yield _Visit(within, line, times, fused)
        if line.opcode == "while":
            rounds = times * trip_count(module, within, line)
            yield from _visits(module, module.computations[str(line.called("body"))], rounds, fused)
            continue
        inside = fused or line.opcode in ("fusion", "async-start")
        called = line.called("calls") or (line.called("to_apply") if line.opcode == "call" else None)
        if called is not None:
            yield from _visits(module, module.computations[called], times, inside)
        for branch in re.findall(r"%([\w.\-]+)", _braces(line.attributes, "branch_computations")):
            yield from _visits(module, module.computations[branch], times, fused)


def _braces(attributes: str, key: str) -> str:
    found = re.search(rf"\b{key}=\{{([^}}]*)\}}", attributes)
    return found[1] if found else ""


def _flops(within: Computation, line: Instruction) -> float:
    if line.opcode == "dot":
        left = within.instructions[line.operands[0]].shapes[0].dims
        contracted = [left[int(axis)] for axis in _braces(line.attributes, "lhs_contracting_dims").split(",") if axis]
        return 2.0 * line.shapes[0].elements * float(np.prod(contracted))
    if line.opcode == "convolution":
        return _convolution_flops(within, line)
    if line.opcode == "custom-call" and 'custom_call_target="tpu_custom_call"' in line.attributes:
        return _kernel_flops(within, line)
    return 0.0


def _convolution_flops(within: Computation, line: Instruction) -> float:
    """Two for every pair of numbers that are multiplied; those that meet padding are not."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line.attributes)
    if labels is None:
        raise ValueError(f"The convolution {line.name} of the compiled program does not say what its dimensions are.")
    left, right = (within.instructions[name].shapes[0].dims for name in line.operands[:2])
    out = line.shapes[0].dims
    flops = 2.0 * out[labels[3].index("b")] * out[labels[3].index("f")] * right[labels[2].index("i")]
    window = _braces(line.attributes, "window")
    for axis in sorted(letter for letter in labels[3] if letter.isdigit()):
        sizes = (left[labels[1].index(axis)], right[labels[2].index(axis)], out[labels[3].index(axis)])
        flops *= _meetings(window, int(axis), *sizes)
    return flops


def _meetings(window: str, axis: int, inputs: int, kernel: int, outputs: int) -> int:
    """Pairs of an output and a kernel column along a spatial axis at which there is an input."""

    def setting(key: str, default: str) -> str:
        found = re.search(rf"\b{key}=(\S+)", window)
        return found[1].split("x")[axis] if found else default

    stride, left_dilation, right_dilation = (int(setting(k, "1")) for k in ("stride", "lhs_dilate", "rhs_dilate"))
    padding = int(setting("pad", "0_0").split("_")[0])
    place = np.arange(outputs)[:, None] * stride + np.arange(kernel) * right_dilation - padding
    there = (place >= 0) & (place <= (inputs - 1) * left_dilation) & (place % left_dilation == 0)
    return int(there.sum())


def _kernel_flops(within: Computation, line: Instruction) -> float:
    """Products of an attention kernel over the pairs of blocks on and below the diagonal."""
    products = next((count for name, count in KERNEL_PRODUCTS.items() if line.name.startswith(name)), None)
    block = re.search(r"block_q\w*\W+(\d+)", line.attributes)
    if products is None or block is None:
        raise ValueError(f"Nobody knows how many operations the kernel {line.name} of the compiled program makes.")
    operands = [shape for name in line.operands for shape in within.instructions[name].shapes]
    *heads, length, width = max(operands, key=lambda shape: shape.elements).dims
    size = int(block[1])
    pairs = size**2 * (length // size) * (length // size + 1) // 2
    return products * 2.0 * float(np.prod(heads)) * pairs * width


def _collective(visit: _Visit) -> Collective | None:
    line = visit.line
    kind = line.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
        return None
    if kind == "all-reduce" and visit.within.name.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # the compiler's fusion of a reduction with the choice of a part
    group = group_of(line)
    whole = sum(shape.size for name in line.operands for shape in visit.within.instructions[name].shapes)
    others = len(group) - 1
    received = {
        "all-gather": whole * others,
        "reduce-scatter": whole * others / len(group),
        "all-reduce": 2 * whole * others / len(group),
        "all-to-all": whole * others / len(group),
        "collective-permute": whole if others else 0.0,
    }
    return Collective(kind, group, received[kind], visit.times, frozenset(pairs_of(line)))
