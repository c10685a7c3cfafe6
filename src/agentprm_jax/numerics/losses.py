"""Losses of process reward models and of imitation, as unreduced sums with their weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from agentprm_jax.numerics.steps import as_float32, last_step, present, require_shape, step_before
from agentprm_jax.numerics.targets import PromiseTargets
from agentprm_jax.numerics.weighted import Weighted

PROGRESS_FORMS = ("gae", "delta_q")


class AgentPrmLoss(NamedTuple):
    """The two parts of the loss; together they read like one `Weighted`.

    Attributes:
        promise: L_Q, summed over steps.
        progress: beta * L_A, summed over the same steps.
    """

    promise: Weighted
    progress: Weighted

    @property
    def total(self) -> Float[Array, ""]:
        """Sum of both parts over all steps."""
        return self.promise.total + self.progress.total

    @property
    def weight(self) -> Float[Array, ""]:
        """Number of steps, which both parts share."""
        return self.promise.weight

    @property
    def mean(self) -> Float[Array, ""]:
        """L = L_Q + beta * L_A."""
        return Weighted(self.total, self.weight).mean


def _sum_of_squares(residuals: Float[Array, "*b u"], mask: Bool[Array, "*b u"]) -> Weighted:
    # The choice comes before the square: the derivative of a NaN's square is NaN even where it was not chosen.
    kept = jnp.where(mask, residuals, 0.0)
    return Weighted(jnp.sum(jnp.square(kept)), jnp.sum(mask, dtype=jnp.float32))


def _scale(factor: float | Float[Array, ""], summed: Weighted) -> Weighted:
    return Weighted(as_float32(factor) * summed.total, summed.weight)


def value_loss(promises: Float[Array, "*b u"], targets: Float[Array, "*b u"], mask: Bool[Array, "*b u"]) -> Weighted:
    """Half the squared error of every step: L_Q, and with the outcome as target of every step the PVM baseline.

    Args:
        promises: the model's output at each step.
        targets: the label of each step; held constant.
        mask: True at steps; what padding holds reaches neither loss nor gradient.

    Returns:
        The sum over steps, weighing the number of steps.

    Raises:
        ValueError: the shapes disagree.

    Source: AgentPRM, eq. 4 (arXiv 2511.08325).
    """
    shape = jnp.shape(promises)
    require_shape("value_loss", "targets", targets, shape)
    require_shape("value_loss", "mask", mask, shape)
    labels = jax.lax.stop_gradient(as_float32(targets))
    return _scale(0.5, _sum_of_squares(as_float32(promises) - labels, present(mask)))


def orm_loss(promises: Float[Array, "*b u"], outcomes: Float[Array, "*b"], mask: Bool[Array, "*b u"]) -> Weighted:
    """Half the squared error of the last step only, whose label is the outcome: the outcome reward model baseline.

    Args:
        promises: the model's output at each step.
        outcomes: outcome reward of each trajectory, in [0, 1]; held constant.
        mask: True at steps, right-padded.

    Returns:
        The sum over trajectories, weighing the number of trajectories that have a step.

    Raises:
        ValueError: the shapes disagree.
    """
    shape = jnp.shape(promises)
    require_shape("orm_loss", "outcomes", outcomes, shape[:-1])
    require_shape("orm_loss", "mask", mask, shape)
    labels = jnp.broadcast_to(as_float32(outcomes)[..., None], shape)
    return value_loss(promises, labels, last_step(present(mask)))


def agentprm_loss(
    promises: Float[Array, "*b u"],
    targets: PromiseTargets,
    mask: Bool[Array, "*b u"],
    *,
    initial_values: Float[Array, "*b"],
    beta: float | Float[Array, ""],
    progress: str = "gae",
) -> AgentPrmLoss:
    """The loss of AgentPRM: squared errors of promise and of progress, L = L_Q + beta * L_A.

    With M_t the promise of step t, M_{-1} and Qhat_{-1} the initial value:

        L_Q = mean_t 1/2 (M_t - Qhat_t)^2
        L_A = mean_t ((M_t - M_{t-1}) - A_t)^2                     progress = "gae"
        L_A = mean_t ((M_t - M_{t-1}) - (Qhat_t - Qhat_{t-1}))^2   progress = "delta_q"

    For t >= 1 and gamma = 1, Qhat_t - Qhat_{t-1} is (1 - lambda) A_t: "delta_q" asks for far smaller steps than "gae".
    Gradients flow through M_t and through M_{t-1}, never through targets or initial values.

    Args:
        promises: M_t, the model's output at the end of each action.
        targets: labels from `promise_targets`.
        mask: True at steps, right-padded; what padding holds reaches neither loss nor gradient.
        initial_values: the value of each trajectory's first state that the targets were made with.
        beta: weight of the progress part, at least 0.
        progress: one of `PROGRESS_FORMS`.

    Returns:
        Both parts, the second one already multiplied by beta.

    Raises:
        ValueError: the shapes disagree, or `progress` is none of the forms.

    Source: AgentPRM, eq. 4, 6, 9 and 10 (arXiv 2511.08325); "gae" is eq. 6 specialised by eq. 8, "delta_q" is eq. 9.
    """
    if progress not in PROGRESS_FORMS:
        raise ValueError(f"agentprm_loss: `progress` must be one of {PROGRESS_FORMS}, but is {progress!r}.")
    shape = jnp.shape(promises)
    require_shape("agentprm_loss", "targets.advantage", targets.advantage, shape)
    require_shape("agentprm_loss", "initial_values", initial_values, shape[:-1])
    labels, initial = jax.lax.stop_gradient((targets, as_float32(initial_values)))
    values = as_float32(promises)
    promise = value_loss(values, labels.promise, mask)
    if progress == "gae":
        wanted = as_float32(labels.advantage)
    else:
        wanted = as_float32(labels.promise) - step_before(initial, labels.promise)
    residuals = values - step_before(initial, values) - wanted
    return AgentPrmLoss(promise, _scale(beta, _sum_of_squares(residuals, present(mask))))


def cross_entropy(logits: Float[Array, "*b t v"], labels: Int[Array, "*b t"], mask: Shaped[Array, "*b t"]) -> Weighted:
    """Negative log-likelihood of tokens in nats, computed in float32.

    Args:
        logits: scores over the vocabulary, already aligned with `labels`: position t predicts labels[..., t].
        labels: token ids in [0, v) wherever the mask is not 0, anything elsewhere. An id of v or more makes the total
            NaN.
        mask: weight of each token, booleans or numbers of at least 0; what stands where it is 0 reaches neither loss
            nor gradient.

    Returns:
        The weighted sum over tokens, weighing the sum of the mask.

    Raises:
        ValueError: the shapes disagree.
    """
    shape = jnp.shape(logits)[:-1]
    require_shape("cross_entropy", "labels", labels, shape)
    require_shape("cross_entropy", "mask", mask, shape)
    weights, counted = as_float32(mask), present(mask)
    scores = jnp.where(counted[..., None], as_float32(logits), 0.0)
    ids = jnp.where(counted, labels, 0)
    chosen = jnp.take_along_axis(scores, ids[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(scores, axis=-1) - chosen
    return Weighted(jnp.sum(weights * losses), jnp.sum(weights))
