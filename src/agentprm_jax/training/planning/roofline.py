"""How long a step takes at least, from what it does and what the chips can do; and what limits it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentprm_jax.training.planning.chips import Tpu
from agentprm_jax.training.planning.costs import Collective, Costs

Coordinates = Sequence[tuple[int, ...]]
"""Where each chip of a mesh stands in the torus, in the order of the mesh."""


@dataclass(frozen=True)
class Roofline:
    """Seconds that a step needs for each of three things, if each ran at its peak rate."""

    compute: float
    """Matrix products."""
    memory: float
    """Traffic of main memory."""
    exchange: float
    """Collectives between chips, one after the other."""

    @property
    def seconds(self) -> float:
        """The least time of a step: that of the slowest, behind which the other two are hidden."""
        return max(self.compute, self.memory, self.exchange)

    @property
    def unhidden(self) -> float:
        """The time of a step in which nothing is hidden behind anything else."""
        return self.compute + self.memory + self.exchange

    @property
    def middle(self) -> float:
        """The time halfway between the two, by which meshes are compared: how much is hidden nobody knows before."""
        return (self.seconds + self.unhidden) / 2

    @property
    def limit(self) -> str:
        """What the least time is spent on."""
        return max(("compute", self.compute), ("memory", self.memory), ("exchange", self.exchange), key=lambda x: x[1])[
            0
        ]

    def utilisation(self, model_flops: float, peak_flops: float) -> float:
        """The most that the share of peak operations can be which go into the model (MFU), in [0, 1].

        Args:
            model_flops: operations that the model needs, for each chip.
            peak_flops: operations a second of a chip.
        """
        return model_flops / (peak_flops * self.seconds)


def tpu_roofline(chip: Tpu, costs: Costs, coordinates: Coordinates) -> Roofline:
    """The roofline of a compiled program on a slice of TPU chips.

    Args:
        chip: kind of the chips.
        costs: what one chip does.
        coordinates: places of all chips.
    """
    exchange = sum(
        collective.received / (chip.link_bandwidth * links_used(chip, collective, coordinates, costs))
        for collective in costs.collectives
        if collective.received
    )
    return Roofline(costs.flops / chip.flops, costs.memory_bytes / chip.hbm_bandwidth, exchange)


def links(chip: Tpu, collective: Collective, coordinates: Coordinates) -> int:
    """Links through which each chip of a group receives at the same time.

    A group has two links along every dimension that is a ring and that it runs all around, and one along those in which
    it is a line, whose ends have no more. A group that takes chips from a dimension with gaps counts as a line.
    """
    sizes = [max(along) + 1 for along in zip(*coordinates, strict=True)]
    members = [coordinates[place] for place in collective.group]
    counts = [len(set(along)) for along in zip(*members, strict=True)]
    along = zip(counts, sizes, chip.rings(sizes), strict=True)
    spanned = sum(2 if ring and count == size else 1 for count, size, ring in along if count > 1)
    return max(1, spanned)


def links_used(chip: Tpu, collective: Collective, coordinates: Coordinates, costs: Costs) -> int:
    """Links through which each chip receives at the same time in an exchange of a program: all those of its group.

    But a message of a permute comes over one link. If the program sends the other way too, both are on their way at
    once, over two links, as long as they only go from neighbour to neighbour: where one goes back from the end of a
    line to its beginning, it takes the links of the other direction.
    """
    if not collective.pairs:
        return links(chip, collective, coordinates)
    back = frozenset((receiver, sender) for sender, receiver in collective.pairs)
    both_ways = back != collective.pairs and any(other.pairs == back for other in costs.collectives)
    return 2 if both_ways and _between_neighbours(chip, collective, coordinates) else 1


def _between_neighbours(chip: Tpu, permute: Collective, coordinates: Coordinates) -> bool:
    places = np.array(coordinates)
    shape = places.max(axis=0) + 1
    senders, receivers = np.array(sorted(permute.pairs)).T
    apart = np.abs(places[senders] - places[receivers])
    links_between = np.where(chip.rings(shape.tolist()), np.minimum(apart, shape - apart), apart).sum(axis=1)
    return bool((links_between == 1).all())
