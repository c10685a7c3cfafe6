"""What the processes of a run do together after an update: the strongest wish of any of them."""

import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from agentprm_jax.training.mesh import replicated


class Wish(enum.IntEnum):
    """What a process wants; the larger one wins."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


Agree = Callable[[Wish], Wish]
"""Takes the wish of this process after an update and gives what all processes do now. All must call it as often."""


def make_agreement(mesh: Mesh) -> Agree:
    """Gives the `Agree` of a run: one process does as it wishes, several vote."""
    return (lambda wish: wish) if jax.process_count() == 1 else Vote(mesh)


class Vote:
    """The strongest wish that any process had one update ago.

    Signals and clocks differ between processes, but all must save the same step. A vote is a maximum over the devices
    that is computed behind the update and read after the next one is under way, so that no device waits for it.
    """

    def __init__(self, mesh: Mesh) -> None:
        """Prepares votes over the devices of a mesh."""
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._count = mesh.size
        self._maximum = jax.jit(jnp.max, out_shardings=replicated(mesh))
        self._open: jax.Array | None = None

    def __call__(self, wish: Wish) -> Wish:
        """Casts this process' vote and gives the result of the one before.

        What was wished while an agreed save was still unknown is forgotten; who still wants to stop says so again.
        """
        last, self._open = self._open, self._cast(wish)
        agreed = Wish.GO_ON if last is None else Wish(int(last))
        if agreed is not Wish.GO_ON:
            self._open = None
        return agreed

    def _cast(self, wish: Wish) -> jax.Array:
        votes = jax.make_array_from_callback((self._count,), self._sharding, lambda _: np.array([wish], np.int32))
        return self._maximum(votes)
