"""Which chips a collective joins, read from the several ways in which a compiled program writes them."""

import re

import numpy as np

from agentprm_jax.training.planning.hlo import Instruction


def group_of(line: Instruction) -> tuple[int, ...]:
    """Places, in the program's order of devices, of the chips that exchange with the first of them; that one included.

    Raises:
        ValueError: the groups are written in a way that is not known.
    """
    text = line.attributes
    pairs = pairs_of(line)
    if pairs:
        return _connected(pairs)
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(([^)]*)\))? \{([^}]*)\}", text)
    if mesh and not mesh[2]:
        return _of_mesh(mesh[1], mesh[3])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", text)
    if listed:
        return tuple(int(place) for place in listed[1].split(","))
    cut = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if cut:
        places = np.arange(int(cut[1]) * int(cut[2])).reshape([int(size) for size in cut[3].split(",")])
        if cut[4]:
            places = places.transpose([int(axis) for axis in cut[4].split(",")])
        return tuple(places.reshape(int(cut[1]), -1)[0].tolist())
    found = re.search(r"replica_groups=\S*", text)
    raise ValueError(f"{line.name}: its groups of chips are written in an unknown way: {found and found[0][:120]}.")


def pairs_of(line: Instruction) -> list[tuple[int, int]]:
    """Sender and receiver of every message of a permute; none of other collectives."""
    written = re.search(r"source_target_pairs=\{(.*?)\}\}", line.attributes)
    return [(int(a), int(b)) for a, b in re.findall(r"\{(\d+),(\d+)", written[0])] if written else []


def _of_mesh(sizes: str, joined: str) -> tuple[int, ...]:
    """Chips along the named axes of a mesh, an axis perhaps in part, as in `'x':(2)4`: its middle of 2 x 4 x rest."""
    axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", sizes)}
    places = np.arange(int(np.prod(list(axes.values())))).reshape(list(axes.values()))
    chosen: list[slice | int | np.ndarray] = [np.array([0]) for _ in axes]
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", joined):
        whole = axes[name]
        step = whole // (int(before) * int(size)) if before else 1
        steps = np.arange(int(size) if before else whole) * step
        kept = chosen[list(axes).index(name)]
        assert isinstance(kept, np.ndarray)
        chosen[list(axes).index(name)] = (kept[:, None] + steps).ravel()
    return tuple(places[np.ix_(*chosen)].ravel().tolist())


def _connected(pairs: list[tuple[int, int]]) -> tuple[int, ...]:
    """The chips that a message from the first of the pairs could reach."""
    neighbours: dict[int, set[int]] = {}
    for one, other in pairs:
        neighbours.setdefault(one, set()).add(other)
        neighbours.setdefault(other, set()).add(one)
    found, waiting = set(), [pairs[0][0]]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(neighbours[one])
    return tuple(sorted(found))
