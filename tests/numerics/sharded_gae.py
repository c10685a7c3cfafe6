"""Computes advantages on one and on eight fake devices; prints how they differ as JSON. Started by test_sharded_gae."""

import functools
import json
import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from agentprm_jax.numerics.targets import gae, token_gae

CASES = {
    "batch": ((64, 32), PartitionSpec("batch"), PartitionSpec("batch")),
    "batch of long rows": ((16, 2048), PartitionSpec("batch"), PartitionSpec("batch")),
    "time": ((4, 8192), PartitionSpec(None, "batch"), PartitionSpec()),
}
"""Shape, how rewards and discounts lie, and how values do, whose one more column cannot be cut evenly."""
KINDS = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
COLLECTIVE = re.compile(rf"= (\(?.*?\)?) ({KINDS})(?:-start)?\(")


def collectives(text):
    """Kind and number of elements of every communication in a compiled program."""
    return [[kind, elements(shape)] for shape, kind in COLLECTIVE.findall(text)]


def elements(shape):
    """Number of elements of an array's or a tuple's shape as compiled programs write it."""
    sizes = re.findall(r"\w\[([\d,]*)\]", shape)
    return sum(int(np.prod([int(n) for n in size.split(",") if n])) for size in sizes)


def compare(mesh, shape, spec, values_spec, form):
    """Largest difference between eight devices and one, what is communicated, and how the result lies."""
    function, arrays, specs = FORMS[form](shape, spec, values_spec)
    one = jax.jit(function)(*arrays)
    placed = [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(arrays, specs, strict=True)]
    compiled = jax.jit(function, out_shardings=NamedSharding(mesh, spec)).lower(*placed).compile()
    eight = compiled(*placed)
    return {
        "difference": difference(eight, one),
        "collectives": collectives(compiled.as_text()),
        "shard": list(eight.addressable_shards[0].data.shape),
    }


def mapped_rows(mesh, shape, form):
    """Largest difference between advantages of rows that are spread by `jax.shard_map` and of all rows at once."""
    rows = PartitionSpec("batch")
    function, arrays, specs = FORMS[form](shape, rows, rows)
    inside = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=rows)
    return difference(jax.jit(inside)(*arrays), jax.jit(function)(*arrays))


def mapped_input(mesh, shape, name):
    """The same of rows on every device, where one input of gae differs between devices and they share the others."""
    inputs = [*discounts_of_steps(shape, None, None)[1], np.float32(0.95)]
    own = INPUTS.index(name)
    inputs[own] = np.multiply.outer(np.linspace(0.5, 1, mesh.size, dtype=np.float32), inputs[own])
    specs = tuple(PartitionSpec("batch") if i == own else PartitionSpec() for i in range(len(inputs)))
    each = jax.vmap(gae, in_axes=[0 if i == own else None for i in range(len(inputs))])
    inside = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("batch"))
    return difference(jax.jit(inside)(*inputs), jax.jit(each)(*inputs))


def difference(one, other):
    """Largest difference between two arrays, which may lie differently."""
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def discounts_of_steps(shape, spec, values_spec):
    """Advantages with a discount for every step."""
    rewards, values = numbers(shape)
    discounts = np.where(np.random.default_rng(1).random(shape) < 0.01, 0, 0.99).astype(np.float32)
    return functools.partial(gae, lam=0.95), (rewards, values, discounts), (spec, values_spec, spec)


def one_discount(shape, spec, values_spec):
    """Advantages with one discount."""
    return functools.partial(gae, discounts=0.99, lam=0.95), numbers(shape), (spec, values_spec)


def tokens(shape, spec, _):
    """Advantages of the tokens of actions."""
    rewards, values = numbers(shape)
    acts = np.random.default_rng(1).random(shape) < 0.3
    return functools.partial(token_gae, gamma=0.99, lam=0.95), (rewards, values[:, 1:], acts), (spec,) * 3


def tokens_packed(shape, spec, _):
    """The same with a discount for every token, as rows have into which conversations are packed."""
    _, (rewards, values, acts), _ = tokens(shape, spec, None)
    discounts = np.where(np.random.default_rng(2).random(shape) < 0.01, 0, 0.99).astype(np.float32)

    def estimate(rewards, values, acts, discounts):
        return token_gae(rewards, values, acts, gamma=discounts, lam=0.95)

    return estimate, (rewards, values, acts, discounts), (spec,) * 4


def numbers(shape):
    """Rewards and values."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=size).astype(np.float32) for size in (shape, (shape[0], shape[1] + 1)))


LENGTHS = (32, 2048)
INPUTS = ("rewards", "values", "discounts", "lambda")
FORMS = {
    "discounts of steps": discounts_of_steps,
    "one discount": one_discount,
    "tokens": tokens,
    "tokens of packed rows": tokens_packed,
}


if __name__ == "__main__":
    devices = Mesh(np.array(jax.devices()), ("batch",), axis_types=(AxisType.Auto,))
    cases = {f"{name}, {form}": compare(devices, *case, form) for name, case in CASES.items() for form in FORMS}
    inside = {f"{steps}, {form}": mapped_rows(devices, (16, steps), form) for steps in LENGTHS for form in FORMS}
    shared = {f"{steps}, {name}": mapped_input(devices, (4, steps), name) for steps in LENGTHS for name in INPUTS}
    print(json.dumps({"jit": cases, "shard_map": inside | shared}))
