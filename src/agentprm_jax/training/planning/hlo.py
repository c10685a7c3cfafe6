"""Reads the text of a compiled program (XLA's HLO) into instructions, and says how often its loops run."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

DTYPE_BYTES: Mapping[str, float] = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    **dict.fromkeys(("s4", "u4"), 0.5),
    "token": 0,
}
"""Bytes of a number of each type."""

_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([0-9,]*)\](\{[^}]*\})?")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_OPERAND = re.compile(r"%?([A-Za-z_][\w.\-]*)$")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")


class Shape(NamedTuple):
    """One array: its type, its dimensions, and whether it lies in main memory (and not on the core itself)."""

    dtype: str
    dims: tuple[int, ...]
    in_main_memory: bool = True

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def size(self) -> float:
        """Bytes."""
        return self.elements * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shapes: tuple[Shape, ...]
    """The result: one array, or those of a tuple, nested tuples flattened."""
    opcode: str
    operands: tuple[str, ...]
    literal: str
    """What stands between the parentheses: the value of a constant, the number of a parameter."""
    attributes: str
    """Everything behind the parentheses."""

    def called(self, key: str) -> str | None:
        """Name of the computation under an attribute such as `calls` or `body`."""
        found = re.search(rf"\b{key}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else None

    def integer(self, key: str) -> int | None:
        """Value of an attribute such as `channel_id` or `index`."""
        found = re.search(rf"\b{key}=(\d+)", self.attributes)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Computation:
    """A function of the program; instructions by name, in order."""

    name: str
    instructions: Mapping[str, Instruction]
    root: Instruction


@dataclass(frozen=True)
class Module:
    """A program; it begins with `entry`."""

    computations: Mapping[str, Computation]
    entry: Computation


def parse_module(text: str) -> Module:
    """Reads a module as `compiled.as_text()` prints it.

    Raises:
        ValueError: the text has no entry computation, or a line of a computation cannot be read.
    """
    computations: dict[str, Computation] = {}
    entry = name = None
    lines: list[str] = []
    for line in text.splitlines():
        if name is None:
            header = _HEADER.match(line)
            if header:
                name, lines = header[2], []
                entry = name if header[1] else entry
        elif line == "}" or line.startswith("}, execution_thread="):
            computations[name] = _parse_computation(name, lines)
            name = None
        elif _INSTRUCTION.match(line):
            lines.append(line)
        elif lines:
            lines[-1] += line  # attributes of a kernel may hold line breaks
    if entry is None:
        raise ValueError("The text of the compiled program has no ENTRY computation.")
    return Module(computations, computations[entry])


def trip_count(module: Module, within: Computation, loop: Instruction) -> int:
    """How often a while loop runs that counts a number of its state up to a limit.

    Args:
        module: the program.
        within: the computation in which the loop stands.
        loop: the loop.

    Raises:
        ValueError: the loop is of another kind.
    """
    condition, body = (module.computations[str(loop.called(key))] for key in ("condition", "body"))
    try:
        place, limit = _compared(condition)
        step = _integer(body, body.root.operands[place], {place: 0})
        first = _integer(within, _element(within, loop.operands[0], place), {})
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"The loop {loop.name} does not count up to a constant: {error}.") from error
    if step <= 0:
        raise ValueError(f"The loop {loop.name} should count up, but its step is {step}.")
    return max(0, -(-(limit - first) // step))


def _compared(condition: Computation) -> tuple[int, int]:
    """Place of the counter in the loop's state and the number below which the loop goes on."""
    comparison = next(line for line in condition.instructions.values() if line.opcode == "compare")
    if "direction=LT" not in comparison.attributes:
        raise ValueError(f"{comparison.name} is not 'less than'")
    counter = _skip_copies(condition, comparison.operands[0])
    place = counter.integer("index")
    if counter.opcode != "get-tuple-element" or place is None:
        raise ValueError(f"{counter.name} is no element of the loop's state")
    return place, _integer(condition, comparison.operands[1], {})


def _element(within: Computation, name: str, place: int) -> str:
    """The name of the value at a place of a tuple."""
    source = _skip_copies(within, name)
    if source.opcode != "tuple":
        raise ValueError(f"{source.name} is no tuple but a {source.opcode}")
    return source.operands[place]


def _integer(within: Computation, name: str, known: Mapping[int, int]) -> int:
    """The value of a scalar made of constants, sums and known elements of the parameter."""
    line = _skip_copies(within, name)
    if line.opcode == "constant":
        return int(line.literal)
    if line.opcode == "add":
        return sum(_integer(within, operand, known) for operand in line.operands)
    place = line.integer("index")
    if line.opcode == "get-tuple-element" and place is not None and place in known:
        return known[place]
    raise ValueError(f"{line.name} is no constant but a {line.opcode}")


def _skip_copies(within: Computation, name: str) -> Instruction:
    line = within.instructions[name]
    while line.opcode in ("copy", "convert", "bitcast", "copy-start", "copy-done", "optimization-barrier"):
        line = within.instructions[line.operands[0]]
    return line


def _parse_computation(name: str, lines: list[str]) -> Computation:
    parsed = [_parse_instruction(line) for line in lines]
    root = next((instruction for is_root, instruction in parsed if is_root), None)
    if root is None:
        raise ValueError(f"The computation {name} of the compiled program has no ROOT.")
    return Computation(name, {instruction.name: instruction for _, instruction in parsed}, root)


def _parse_instruction(line: str) -> tuple[bool, Instruction]:
    matched = _INSTRUCTION.match(line)
    assert matched is not None, "Only lines that begin an instruction come here."
    rest = re.sub(r"/\*index=\d+\*/", "", matched[3])
    end = _close(rest, 0) if rest.startswith("(") else rest.index(" ")
    opcode = _OPCODE.match(rest, end)
    if not opcode:
        raise ValueError(f"Cannot read this line of the compiled program: {line.strip()[:200]}")
    start = opcode.end() - 1
    stop = _close(rest, start)
    inside = rest[start + 1 : stop - 1]
    operands = tuple(found[1] for part in _split(inside) if (found := _OPERAND.search(part.strip())))
    shapes = tuple(_shape(*found.groups()) for found in _ARRAY.finditer(rest[:end]))
    return bool(matched[1]), Instruction(matched[2], shapes, opcode[1], operands, inside, rest[stop:])


def _shape(dtype: str, dims: str, layout: str | None) -> Shape:
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"The compiled program has arrays of the unknown type {dtype!r}.")
    space = _MEMORY_SPACE.search(layout or "")
    return Shape(dtype, tuple(int(size) for size in dims.split(",") if size), space is None or space[1] == "0")


def _close(text: str, start: int) -> int:
    """The place behind the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"A parenthesis is not closed: {text[:200]}")


def _split(text: str) -> list[str]:
    """Parts between commas that stand outside of any bracket."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
