"""One update as a pure function, jitted with shardings and a donated state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from agentprm_jax.training.mesh import ROW_AXES, batch_sharding, replicated, row_shards
from agentprm_jax.training.objectives import Objective, ObjectiveOutput
from agentprm_jax.training.parts import Parts
from agentprm_jax.training.state import TrainState, state_shardings

PyTree = Any
Metrics = dict[str, jax.Array]
Update = Callable[[TrainState, Any, Any], tuple[TrainState, Metrics]]
TrainStep = Callable[[PyTree, TrainState, Any, Any], tuple[TrainState, Metrics]]
"""An `Update` that is told first what is frozen."""

FINITE = "finite"
"""The metric that is 1 where an update was made and 0 where it was refused."""


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    mesh: Mesh,
    parts: Parts,
    abstract: TrainState,
    microbatches: int = 1,
) -> TrainStep:
    """Compiles `train_step(frozen, state, batch, index) -> (state, metrics)`.

    The update is made only if the loss and the norm of its gradient are finite and `state.step == index`; else the
    state comes back as it was. Since a refused update does not advance `state.step`, all later ones are refused too:
    the state stays as it was before the first bad batch, although the host hears of it only with the next metrics.

    Args:
        objective: the loss.
        optimizer: its transformation of gradients.
        learning_rate: the schedule inside `optimizer`, for the metrics.
        mesh: where everything lies; rows of the batch are cut over data and fsdp.
        parts: how the model is made up of `frozen`, for which no gradient is made, and the state's parameters.
        abstract: shapes and shardings of the state, which is donated.
        microbatches: equal parts of the batch that are differentiated one after the other.

    Returns:
        The jitted function. Metrics are scalars: loss, the objective's means and counts, grad_norm (before clipping),
        learning_rate, finite.
    """

    def total(params: PyTree, frozen: PyTree, batch: Any) -> tuple[jax.Array, ObjectiveOutput]:
        output = objective(parts.join(frozen, params), batch)
        return output.loss.total, output

    def train_step(frozen: PyTree, state: TrainState, batch: Any, index: Any) -> tuple[TrainState, Metrics]:
        def differentiate(params: PyTree, part: Any) -> tuple[PyTree, ObjectiveOutput]:
            return jax.grad(total, has_aux=True)(params, frozen, part)

        gradients, output = _accumulate(differentiate, state.params, _cut(batch, microbatches, mesh), microbatches)
        scale = 1.0 / output.loss.divisor
        mean_gradients = jax.tree.map(lambda g, p: (g * scale).astype(p.dtype), gradients, state.params)
        grad_norm = optax.tree.norm(mean_gradients)
        updates, opt_state = optimizer.update(mean_gradients, state.opt_state, state.params)
        proposed = TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state)
        finite = jnp.isfinite(output.loss.mean) & jnp.isfinite(grad_norm)
        accepted = finite & (state.step == index)
        new_state = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposed, state)
        return new_state, _metrics(output, grad_norm, learning_rate(state.step), finite)

    shardings, everywhere = state_shardings(abstract), replicated(mesh)
    return jax.jit(
        train_step,
        in_shardings=(state_shardings(parts.frozen), shardings, batch_sharding(mesh), everywhere),
        out_shardings=(shardings, everywhere),
        donate_argnums=1,
    )


def check_batch(rows: int, microbatches: int, mesh: Mesh) -> None:
    """Checks that a batch can be cut into microbatches and over the mesh.

    Raises:
        ValueError: if the rows of a batch are not a multiple of both.
    """
    shards = row_shards(mesh)
    if rows % (microbatches * shards):
        raise ValueError(
            f"A batch of {rows} rows cannot be cut into {microbatches} microbatches over the {shards} devices of the "
            f"mesh's axes {' and '.join(ROW_AXES)}; it must be a multiple of {microbatches * shards}."
        )


def _cut(batch: Any, microbatches: int, mesh: Mesh) -> Any:
    """Cuts `[b, ...]` into `[microbatches, b / microbatches, ...]`, each part lying over the devices as the whole."""
    if microbatches == 1:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(None, ROW_AXES))

    def cut(x: jax.Array) -> jax.Array:
        parts = x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(parts, sharding)

    return jax.tree.map(cut, batch)


def _accumulate(
    differentiate: Callable[[PyTree, Any], tuple[PyTree, ObjectiveOutput]],
    params: PyTree,
    batch: Any,
    microbatches: int,
) -> tuple[PyTree, ObjectiveOutput]:
    """Sums gradients and outputs over microbatches; sums and not means, so that unequal weights cannot bias them.

    Gradients add up in float32 whatever the parameters' dtype.
    """
    if microbatches == 1:
        return differentiate(params, batch)
    gradients, output = jax.eval_shape(differentiate, params, jax.tree.map(lambda x: x[0], batch))
    zeros = (
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), gradients),
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), output),
    )

    def add(carry: PyTree, part: Any) -> tuple[PyTree, None]:
        return jax.tree.map(lambda total, x: total + x.astype(total.dtype), carry, differentiate(params, part)), None

    total, _ = jax.lax.scan(add, zeros, batch)
    return total


def _metrics(output: ObjectiveOutput, grad_norm: jax.Array, learning_rate: Any, finite: jax.Array) -> Metrics:
    return {
        "loss": output.loss.mean,
        **{name: weighted.mean for name, weighted in output.means.items()},
        **output.counts,
        "grad_norm": grad_norm,
        "learning_rate": jnp.asarray(learning_rate, jnp.float32),
        FINITE: finite,
    }
