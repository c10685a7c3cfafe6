"""What an instruction of a compiled program reads from and writes to main memory."""

from agentprm_jax.training.planning.hlo import Computation, Instruction, Module

FREE = (
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "add-dependency"),
    *("while", "conditional", "call", "optimization-barrier", "partition-id", "replica-id"),
    *("copy-done", "async-done", "async-update", "collective-permute-done", "all-gather-done", "all-reduce-done"),
)
"""Instructions that move nothing themselves: names, and the ends of transfers that were counted where they began."""
SLICES = ("slice", "dynamic-slice", "gather")


def main_memory_bytes(module: Module, within: Computation, line: Instruction) -> float:
    """Bytes that an instruction outside of fusions moves: its operands and its results, as far as they are used.

    Arrays that the compiler has put on the core (its vector memory) count nothing. Of an array of which a part alone
    is read or replaced, such as one layer of all, that part counts.
    """
    if line.opcode in FREE or 'custom_call_target="AllocateBuffer"' in line.attributes:
        return 0.0
    if line.opcode == "fusion":
        return _fusion_bytes(module, within, line)
    if line.opcode.removesuffix("-start") in SLICES and line.opcode.endswith("-start"):
        source, part = line.shapes[:2]
        return part.size * (part.in_main_memory + source.in_main_memory)
    if line.opcode.endswith("-start") and line.opcode != "async-start":
        return sum(shape.size for shape in line.shapes if shape.in_main_memory)  # (source, target)
    if line.opcode == "async-start":
        return _fusion_bytes(module, within, line)
    if line.opcode in SLICES:
        part = line.shapes[0]
        source = within.instructions[line.operands[0]].shapes[0]
        return part.size * (part.in_main_memory + source.in_main_memory)
    if line.opcode == "dynamic-update-slice":
        part = within.instructions[line.operands[1]].shapes[0]
        return part.size * (part.in_main_memory + line.shapes[0].in_main_memory)
    read = sum(_resident(within.instructions[name]) for name in line.operands)
    return read + _resident(line)


def _resident(line: Instruction) -> float:
    return sum(shape.size for shape in line.shapes if shape.in_main_memory)


def _fusion_bytes(module: Module, within: Computation, line: Instruction) -> float:
    body = module.computations[str(line.called("calls"))]
    read = 0.0
    for place, name in enumerate(line.operands):
        source = within.instructions[name]
        if len(source.shapes) == 1 and not source.shapes[0].in_main_memory:
            continue
        used = _used(module, body, _parameter(body, place).name)
        read += _resident(source) if used is None else min(used, _resident(source))
    roots = [body.instructions[name] for name in body.root.operands] if body.root.opcode == "tuple" else [body.root]
    written = sum(_written(body, root) for root in roots)
    return read + min(written, _resident(line))


def _parameter(body: Computation, place: int) -> Instruction:
    return next(
        line for line in body.instructions.values() if line.opcode == "parameter" and line.literal.strip() == str(place)
    )


def _used(module: Module, body: Computation, name: str) -> float | None:
    """Bytes of a fusion's operand that are read; None: all of it."""
    total = 0.0
    for user in body.instructions.values():
        if name not in user.operands:
            continue
        if user.opcode == "bitcast":
            part = _used(module, body, user.name)
        elif user.opcode in SLICES and user.operands[0] == name:
            part = user.shapes[0].size
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            part = 0.0  # replaced in place
        elif user.opcode == "fusion":
            inner = module.computations[str(user.called("calls"))]
            part = _used(module, inner, _parameter(inner, user.operands.index(name)).name)
        else:
            part = None
        if part is None:
            return None
        total += part
    return total


def _written(body: Computation, root: Instruction) -> float:
    """Bytes of a fusion's result that are written."""
    line = root
    while line.opcode == "bitcast":
        line = body.instructions[line.operands[0]]
    if line.opcode == "dynamic-update-slice":
        return body.instructions[line.operands[1]].shapes[0].size
    return sum(shape.size for shape in root.shapes)
