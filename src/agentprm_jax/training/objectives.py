"""What is minimised: pure functions from parameters and a batch to a loss as (sum, weight), and what to report."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from agentprm_jax.data.batch import Batch
from agentprm_jax.models import DecoderConfig, lm_logits, promises
from agentprm_jax.numerics.losses import agentprm_loss, cross_entropy, orm_loss, value_loss
from agentprm_jax.numerics.targets import promise_targets
from agentprm_jax.numerics.weighted import Weighted
from agentprm_jax.training.config import PrmObjectiveConfig
from agentprm_jax.training.mesh import Constrain

PyTree = Any


class ObjectiveOutput(NamedTuple):
    """What an objective says about one batch; all parts add up over parts of the batch.

    Fields:
        loss: the loss to minimise is its mean.
        means: quantities to report as means, float32.
        counts: quantities to report as sums, int32 scalars.
    """

    loss: Weighted
    means: dict[str, Weighted]
    counts: dict[str, jax.Array]


Objective = Callable[[PyTree, Any], ObjectiveOutput]


class _Labelled(NamedTuple):
    """Loss of one method: parts to report, their sum, and labels `[b, m, u]` with the steps `[b, m, u]` that have one."""

    loss: Weighted
    parts: dict[str, Weighted]
    labels: jax.Array
    labelled: jax.Array


def sft_objective(config: DecoderConfig, constrain: Constrain) -> Objective:
    """Cross entropy of the tokens whose `loss_mask` is set, each predicted from what precedes it in its segment."""

    def objective(params: PyTree, batch: Batch) -> ObjectiveOutput:
        logits = lm_logits(
            config, params, batch.tokens, positions=batch.positions, segments=batch.segments, constrain=constrain
        )
        labels, mask = jnp.roll(batch.tokens, -1, axis=1), _next_token_mask(batch)
        loss = cross_entropy(logits, labels, mask)
        hits = jnp.where(mask > 0, jnp.argmax(logits, axis=-1) == labels, False).astype(jnp.float32)
        accuracy = Weighted(jnp.sum(hits * mask), jnp.sum(mask))
        return ObjectiveOutput(loss, {"token_accuracy": accuracy}, _counts(batch))

    return objective


def prm_objective(config: DecoderConfig, prm: PrmObjectiveConfig, constrain: Constrain) -> Objective:
    """The reward model's loss on labels that are made of the promises of the same forward pass, held constant.

    Args:
        config: the decoder.
        prm: method and its numbers.
        constrain: pins activations to the mesh.
    """
    method = METHODS[prm.method]

    def objective(params: PyTree, batch: Batch) -> ObjectiveOutput:
        predicted = promises(config, params, batch, constrain=constrain)
        result = method(prm, predicted, batch)
        means = {
            **result.parts,
            "mean_promise": _masked_mean(predicted, batch.step_mask),
            "mean_target": _masked_mean(result.labels, result.labelled),
        }
        return ObjectiveOutput(result.loss, means, _counts(batch))

    return objective


def _agentprm(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: Batch) -> _Labelled:
    """AgentPRM, eq. 4-14 (arXiv 2511.08325)."""
    targets = promise_targets(
        jax.lax.stop_gradient(predicted),
        batch.outcomes,
        batch.step_mask,
        initial_values=batch.initial_values,
        gamma=prm.gamma,
        lam=prm.lam,
    )
    loss = agentprm_loss(
        predicted,
        targets,
        batch.step_mask,
        initial_values=batch.initial_values,
        beta=prm.beta,
        progress=prm.progress,
    )
    parts = {"promise_loss": loss.promise, "progress_loss": loss.progress}
    return _Labelled(Weighted(loss.total, loss.weight), parts, targets.promise, batch.step_mask)


def _agentprm_without_progress(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: Batch) -> _Labelled:
    """The ablation that keeps the TD labels and drops the progress loss."""
    targets = promise_targets(
        jax.lax.stop_gradient(predicted),
        batch.outcomes,
        batch.step_mask,
        initial_values=batch.initial_values,
        gamma=prm.gamma,
        lam=prm.lam,
    )
    loss = value_loss(predicted, targets.promise, batch.step_mask)
    return _Labelled(loss, {"promise_loss": loss}, targets.promise, batch.step_mask)


def _pvm(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: Batch) -> _Labelled:
    """The process value model: every step is labelled with the outcome."""
    labels = jnp.where(batch.step_mask, batch.outcomes[..., None], 0.0)
    loss = value_loss(predicted, labels, batch.step_mask)
    return _Labelled(loss, {"promise_loss": loss}, labels, batch.step_mask)


def _orm(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: Batch) -> _Labelled:
    """The outcome reward model: the last step alone, labelled with the outcome."""
    loss = orm_loss(predicted, batch.outcomes, batch.step_mask)
    following = jnp.pad(batch.step_mask[..., 1:], [(0, 0), (0, 0), (0, 1)])
    last = batch.step_mask & ~following
    return _Labelled(loss, {"promise_loss": loss}, jnp.where(last, batch.outcomes[..., None], 0.0), last)


METHODS: Mapping[str, Callable[[PrmObjectiveConfig, jax.Array, Batch], _Labelled]] = {
    "agentprm": _agentprm,
    "agentprm_no_la": _agentprm_without_progress,
    "pvm": _pvm,
    "orm": _orm,
}
"""The loss of every `PrmObjectiveConfig.method`."""


def _next_token_mask(batch: Batch) -> Float[Array, "b t"]:
    """Weight of each column's prediction: that of the next token, 0 where the next token belongs to another segment."""
    same = batch.segments[:, 1:] == batch.segments[:, :-1]
    return jnp.pad(batch.loss_mask[:, 1:] * same, [(0, 0), (0, 1)])


def _masked_mean(values: Float[Array, "b m u"], mask: Array) -> Weighted:
    held = jax.lax.stop_gradient(values).astype(jnp.float32)
    return Weighted(jnp.sum(jnp.where(mask, held, 0.0)), jnp.sum(mask, dtype=jnp.float32))


def _counts(batch: Batch) -> dict[str, jax.Array]:
    return {
        "tokens": jnp.sum(batch.segments > 0, dtype=jnp.int32),
        "steps": jnp.sum(batch.step_mask, dtype=jnp.int32),
    }
