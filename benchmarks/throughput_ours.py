"""Our side of the benchmark of throughput: packed rows, one forward pass for all steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from workloads import Workload

from agentprm_jax.data import ExampleStore, choose_length, initial_values, make_example, pack, write_block
from agentprm_jax.models import init_reward_model, load_pretrained, logical_axes
from agentprm_jax.scoring import Prm
from agentprm_jax.training import (
    LoopConfig,
    MeshConfig,
    OptimizerConfig,
    PackedBatches,
    PrmObjectiveConfig,
    make_constrain,
    make_mesh,
    prepare,
    prm_objective,
)
from agentprm_jax.training.loop import place_batch

if TYPE_CHECKING:
    from agentprm_jax.data import Trajectory


class Rows(NamedTuple):
    """How the trajectories lie in rows.

    Attributes:
        length: tokens of a row.
        together: rows of an update.
        updates: that show each trajectory once.
        padding: share of all tokens that is padding, rows that fill up the last update included.
    """

    length: int
    together: int
    updates: int
    padding: float


def parts_in_cache(rows: int, length: int) -> int:
    """Most equal parts of an update that have 1,024 tokens or more: their activations stay near the processor."""
    return max(
        parts
        for parts in range(1, rows + 1)
        if rows % parts == 0 and (rows // parts) * length >= min(1024, rows * length)
    )


def in_parts(function: Callable[[Any, Any], Any], parts: int) -> Callable[[Any, Any], Any]:
    """The sum of `function(params, part)` over equal parts of a batch, one after the other, as an update takes them."""

    def total(params: Any, batch: Any) -> Any:
        cut = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
        shapes = jax.eval_shape(function, params, jax.tree.map(lambda x: x[0], cut))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, function(params, part)), None

        return jax.lax.scan(add, zeros, cut)[0]

    return jax.jit(total)


class Training:
    """Updates of the reward model on all trajectories, as `experiments/train_prm.py` makes them."""

    def __init__(self, workload: Workload) -> None:
        """Packs, and compiles nothing yet."""
        stored, params = load_pretrained(workload.folder)
        decoder = dataclasses.replace(stored, dtype="bfloat16")
        block = workload.folder / "encoded"
        write_block(block, (make_example(one, workload.encoder, "steps") for one in workload.trajectories))
        examples = ExampleStore([block])
        lengths = examples.lengths.tolist()
        length = choose_length(lengths)
        packed = pack(examples.with_initial_values(initial_values(examples.outcomes, examples.groups)), length=length)
        together = max(1, 2 * round(np.mean(lengths) * workload.config.together / length / 2))
        updates = -(-len(packed) // together)
        self.rows = Rows(length, together, updates, 1 - sum(lengths) / (updates * together * length))
        self._mesh = make_mesh(MeshConfig())
        parts = parts_in_cache(together, length)
        objective = prm_objective(decoder, PrmObjectiveConfig(), make_constrain(self._mesh))
        self._program = prepare(
            objective,
            partial(init_reward_model, decoder),
            logical_axes(decoder, "reward_model"),
            mesh=self._mesh,
            optimizer=OptimizerConfig(learning_rate=1e-5, schedule="constant"),
            loop=LoopConfig(rows_per_batch=together, microbatches=parts),
            total_steps=1_000_000,
        )
        self._state = self._program.init(jax.random.key(0), params)
        self._batches = PackedBatches(packed, rows_per_batch=together, seed=0)
        self._loss = in_parts(lambda params, batch: objective(params, batch).loss.total, parts)
        self._gradient = in_parts(jax.grad(lambda params, batch: objective(params, batch).loss.total), parts)
        self._done = 0

    def epoch(self) -> None:
        """Every trajectory once."""
        for _ in range(self.rows.updates):
            batch = place_batch(self._mesh, self._batches[self._done])
            self._state, _ = self._program.train_step({}, self._state, batch, np.int32(self._done))
            self._done += 1
        jax.block_until_ready(self._state)

    def parts(self) -> dict[str, Callable[[], object]]:
        """The loss, and its gradient, without the update: what is left out tells what the rest costs."""
        return {
            "forward": partial(self._sweep, self._loss),
            "forward and backward": partial(self._sweep, self._gradient),
        }

    def _sweep(self, function: Callable[[Any, Any], Any]) -> None:
        for index in range(self.rows.updates):
            jax.block_until_ready(function(self._state.params, place_batch(self._mesh, self._batches[index])))


class Scoring:
    """Scores of trajectories, as `agentprm score` asks for them."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        """Loads the model."""
        stored, params = load_pretrained(workload.folder)
        decoder = dataclasses.replace(stored, dtype=dtype, param_dtype=dtype)
        self.prm = Prm(decoder, jax.tree.map(lambda x: x.astype(dtype), params), workload.encoder, initial_value=0.5)

    def score(self, trajectories: Sequence[Trajectory]) -> list[np.ndarray]:
        """Promises of every action."""
        return [np.asarray(scores.promise) for scores in self.prm.score(trajectories)]
