"""What is minimised: pure functions from parameters and a batch to a loss as (sum, weight), and what to report."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from agentprm_jax.models import DecoderConfig, lm_logits, promises
from agentprm_jax.models.placement import Constrain
from agentprm_jax.numerics.losses import agentprm_loss, cross_entropy, orm_loss, value_loss
from agentprm_jax.numerics.steps import last_step
from agentprm_jax.numerics.targets import PromiseTargets, promise_targets
from agentprm_jax.numerics.weighted import Weighted
from agentprm_jax.training.config import PrmObjectiveConfig

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


TracedBatch = Any
"""A `data.Batch` as it looks inside jit: the same fields, holding traced arrays."""

Objective = Callable[[PyTree, Any], ObjectiveOutput]


class _Labelled(NamedTuple):
    """Loss of one method, its parts to report, labels `[b, m, u]` and the steps `[b, m, u]` that have one."""

    loss: Weighted
    parts: dict[str, Weighted]
    labels: jax.Array
    labelled: jax.Array


def sft_objective(config: DecoderConfig, constrain: Constrain) -> Objective:
    """Cross entropy of the tokens whose `loss_mask` is set, each predicted from what precedes it in its segment."""

    def objective(params: PyTree, batch: TracedBatch) -> ObjectiveOutput:
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

    def objective(params: PyTree, batch: TracedBatch) -> ObjectiveOutput:
        predicted = promises(config, params, batch, constrain=constrain)
        result = method(prm, predicted, batch)
        means = {
            **result.parts,
            "mean_promise": _masked_mean(predicted, batch.step_mask),
            "mean_target": _masked_mean(result.labels, result.labelled),
        }
        return ObjectiveOutput(result.loss, means, _counts(batch))

    return objective


def _agentprm(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: TracedBatch) -> _Labelled:
    """AgentPRM, eq. 4-14 (arXiv 2511.08325)."""
    targets = _targets(prm, predicted, batch)
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


def _agentprm_no_la(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: TracedBatch) -> _Labelled:
    """The ablation that keeps the TD labels and drops the progress loss."""
    targets = _targets(prm, predicted, batch)
    loss = value_loss(predicted, targets.promise, batch.step_mask)
    return _Labelled(loss, {"promise_loss": loss}, targets.promise, batch.step_mask)


def _pvm(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: TracedBatch) -> _Labelled:
    """The process value model: every step is labelled with the outcome."""
    labels = jnp.where(batch.step_mask, batch.outcomes[..., None], 0.0)
    loss = value_loss(predicted, labels, batch.step_mask)
    return _Labelled(loss, {"promise_loss": loss}, labels, batch.step_mask)


def _orm(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: TracedBatch) -> _Labelled:
    """The outcome reward model: the last step alone, labelled with the outcome."""
    loss = orm_loss(predicted, batch.outcomes, batch.step_mask)
    last = last_step(batch.step_mask)
    return _Labelled(loss, {"promise_loss": loss}, jnp.where(last, batch.outcomes[..., None], 0.0), last)


METHODS: Mapping[str, Callable[[PrmObjectiveConfig, jax.Array, TracedBatch], _Labelled]] = {
    "agentprm": _agentprm,
    "agentprm_no_la": _agentprm_no_la,
    "pvm": _pvm,
    "orm": _orm,
}
"""The loss of every `PrmObjectiveConfig.method`."""


def _targets(prm: PrmObjectiveConfig, predicted: Float[Array, "b m u"], batch: TracedBatch) -> PromiseTargets:
    """TD labels, made of the very promises that they will judge."""
    return promise_targets(
        jax.lax.stop_gradient(predicted),
        batch.outcomes,
        batch.step_mask,
        initial_values=batch.initial_values,
        gamma=prm.gamma,
        lam=prm.lam,
    )


def _next_token_mask(batch: TracedBatch) -> Float[Array, "b t"]:
    """Weight of each column's prediction: that of the next token, 0 where the next token belongs to another segment."""
    same = batch.segments[:, 1:] == batch.segments[:, :-1]
    return jnp.pad(batch.loss_mask[:, 1:] * same, [(0, 0), (0, 1)])


def _masked_mean(values: Float[Array, "b m u"], mask: Array) -> Weighted:
    held = jax.lax.stop_gradient(values).astype(jnp.float32)
    return Weighted(jnp.sum(jnp.where(mask, held, 0.0)), jnp.sum(mask, dtype=jnp.float32))


def _counts(batch: TracedBatch) -> dict[str, jax.Array]:
    return {
        "tokens": jnp.sum(batch.segments > 0, dtype=jnp.int32),
        "steps": jnp.sum(batch.step_mask, dtype=jnp.int32),
    }
