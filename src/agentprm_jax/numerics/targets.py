"""Training targets of promise and progress: temporal differences with generalised advantage estimation."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from agentprm_jax.numerics.decayed_sums import decayed_sums, discounted, geometric_sums, token_advantages
from agentprm_jax.numerics.steps import as_float32, last_step, present, require_shape, step_before, zero_padding


class PromiseTargets(NamedTuple):
    """Labels of a batch of trajectories, 0 at padded steps.

    Attributes:
        promise: [*b, u] float32, label of Q(s_t, a_t).
        advantage: [*b, u] float32, label of the progress A(s_t, a_t).
    """

    promise: Array
    advantage: Array


def trajectory_gae(
    rewards: Float[Array, " u"],
    values: Float[Array, " u+1"],
    discounts: Float[Array, " u"],
    lam: float | Float[Array, ""],
) -> Float32[Array, " u"]:
    """Generalised advantage estimates along one trajectory; `gae` is the same for any number of them.

    delta_t = rewards_t + discounts_t * values_{t+1} - values_t
    A_t     = delta_t + discounts_t * lam * A_{t+1}

    Source: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation"
    (arXiv 1506.02438), eq. 16.
    """
    value, scale = as_float32(values), as_float32(discounts)
    errors = as_float32(rewards) + discounted(value[1:], scale) - value[:-1]
    return decayed_sums(errors, scale, as_float32(lam))


def gae(
    rewards: Float[Array, "*b u"],
    values: Float[Array, "*b u+1"],
    discounts: Float[Array, "*b u"] | float | Float[Array, ""],
    lam: float | Float[Array, ""],
) -> Float32[Array, "*b u"]:
    """Generalised advantage estimates, computed in float32 whatever the inputs.

    One discount for all steps makes the recursion a product with a fixed matrix, which is several times as fast as
    walking. There, unlike in the walk, a number that is not finite reaches later steps of its row too.

    Args:
        rewards: reward received by each step.
        values: value of the state before each step, and of the state after the last one.
        discounts: gamma, and 0 at a step that ends its episode: nothing behind such a step reaches it, not even NaN. Or
            one gamma for all steps of rows that hold one episode each; the value after a last step that ends it is then
            0.
        lam: lambda, in [0, 1]: 0 is the one-step error, 1 the discounted return minus the value.

    Returns:
        The advantage of each step.

    Raises:
        ValueError: the shapes disagree.

    Source: AgentPRM, eq. 12-13 (arXiv 2511.08325); the recursion stands in `trajectory_gae`.
    """
    shape = jnp.shape(rewards)
    require_shape("gae", "values", values, (*shape[:-1], shape[-1] + 1))
    scales = as_float32(discounts)
    if scales.ndim == 0:
        return _undivided_gae(as_float32(rewards), as_float32(values), scales, as_float32(lam))
    require_shape("gae", "discounts", scales, shape)

    def estimate(rewards: Array, values: Array, discounts: Array) -> Array:
        return trajectory_gae(rewards, values, discounts, lam)

    return _for_each_row(estimate, len(shape) - 1)(as_float32(rewards), as_float32(values), scales)


def _undivided_gae(
    rewards: Float32[Array, "*b u"],
    values: Float32[Array, "*b u+1"],
    discount: Float32[Array, ""],
    lam: Float32[Array, ""],
) -> Float32[Array, "*b u"]:
    """Generalised advantage estimates of rows with one discount, through which no episode ends."""
    errors = rewards + discount * values[..., 1:] - values[..., :-1]
    steps = errors.shape[-1]
    return geometric_sums(errors.reshape(math.prod(errors.shape[:-1]), steps), discount * lam).reshape(errors.shape)


def trajectory_token_gae(
    rewards: Float[Array, " t"],
    values: Float[Array, " t"],
    action_mask: Bool[Array, " t"],
    gamma: float | Float[Array, "*t"],
    lam: float | Float[Array, ""],
) -> Float32[Array, " t"]:
    """Generalised advantage estimates of one row's action tokens; `token_gae` is the same for any number of rows.

    An action token hands H_t = V_t + lam * A_t to what stands before it, and A_t = r_t - V_t + gamma_t * H of the next
    action token, so H obeys a recursion of its own, which observation tokens pass on unchanged.
    """
    return token_advantages(
        as_float32(rewards), as_float32(values), present(action_mask), as_float32(gamma), as_float32(lam)
    )


def token_gae(
    rewards: Float[Array, "*b t"],
    values: Float[Array, "*b t"],
    action_mask: Bool[Array, "*b t"],
    *,
    gamma: float | Float[Array, "*b t"],
    lam: float | Float[Array, ""],
) -> Float32[Array, "*b t"]:
    """Generalised advantage estimates of the tokens of actions, between which tokens of observations stand.

    Observation tokens are skipped and carry the recursion through: the advantages are those of `gae` over the action
    tokens alone, as if nothing stood between them. (Setting observation tokens to zero instead would cut every episode
    at its first observation.) What stands at observation tokens and in the padding, NaN included, changes nothing;
    rewards belong at action tokens. The state behind the last action token has value 0.

    Args:
        rewards: reward of each action token.
        values: value of the state before each action token.
        action_mask: True at the tokens of actions.
        gamma: discount from one action token to the next, in [0, 1]. Or that of each token, [*b, t], for rows that
            several conversations are packed into: 0 at the last action token of each, so that nothing behind it, not
            even NaN, reaches it.
        lam: lambda, in [0, 1].

    Returns:
        The advantage of each action token, 0 at all others.

    Raises:
        ValueError: the shapes disagree.

    Source: verl's treatment of observation tokens in multi-turn training, `compute_gae_advantage_return`; the recursion
    is that of `trajectory_gae`.
    """
    shape = jnp.shape(rewards)
    require_shape("token_gae", "values", values, shape)
    require_shape("token_gae", "action_mask", action_mask, shape)

    given, discounts = (as_float32(rewards), as_float32(values), present(action_mask)), as_float32(gamma)

    def estimate(rewards: Array, values: Array, action_mask: Array, gamma: Array = discounts) -> Array:
        return trajectory_token_gae(rewards, values, action_mask, gamma, lam)

    if discounts.ndim == 0:
        return _for_each_row(estimate, len(shape) - 1)(*given)
    require_shape("token_gae", "gamma", discounts, shape)
    return _for_each_row(estimate, len(shape) - 1)(*given, discounts)


def _for_each_row(function: Callable[..., Array], axes: int) -> Callable[..., Array]:
    """The function of one row for rows along `axes` leading axes.

    Batching a scan moves its batch axes behind time, so the compiled loop reads contiguous time-major slices.
    """
    return functools.reduce(lambda inner, _: jax.vmap(inner), range(axes), function)


def promise_targets(
    promises: Float[Array, "*b u"],
    outcomes: Float[Array, "*b"],
    mask: Bool[Array, "*b u"],
    *,
    initial_values: Float[Array, "*b"],
    gamma: float | Float[Array, ""],
    lam: float | Float[Array, ""],
) -> PromiseTargets:
    """Labels of promise and progress, from the model's own promises.

    With Q_t the promise of step t, V_0 the initial value, V_t = Q_{t-1}, and T the last step:

        delta_t = gamma * Q_t - V_t  for t < T,      delta_T = r - V_T
        A_t     = sum_k (gamma * lam)^k delta_{t+k}
        Qhat_t  = A_t + V_t          for t < T,      Qhat_T  = r

    The state behind the last step has value 0, so delta_T does not also add gamma * Q_T. The function is pure: the
    losses hold its result constant. Whatever padding holds, NaN included, reaches neither labels nor gradients.

    Args:
        promises: Q_t, the model's output at the end of each action.
        outcomes: r, the outcome reward of each trajectory, in [0, 1].
        mask: True at steps; right-padded. A trajectory without a step gets labels 0.
        initial_values: V_0, an estimate of the value of the first state. Moves only the first advantage.
        gamma: discount, in [0, 1].
        lam: lambda, in [0, 1]. With gamma = 1, lam = 1 gives every step the label r.

    Returns:
        PromiseTargets(promise, advantage), both float32 [*b, u], 0 at padded steps.

    Raises:
        ValueError: the shapes disagree.

    Source: AgentPRM, eq. 12-14 (arXiv 2511.08325).
    """
    shape = jnp.shape(promises)
    require_shape("promise_targets", "mask", mask, shape)
    require_shape("promise_targets", "outcomes", outcomes, shape[:-1])
    require_shape("promise_targets", "initial_values", initial_values, shape[:-1])
    steps = present(mask)
    last = last_step(steps)
    known = zero_padding(promises, steps)
    initial = as_float32(initial_values)
    rewards = jnp.where(last, as_float32(outcomes)[..., None], 0.0)
    discounts = jnp.where(steps & ~last, as_float32(gamma), 0.0)
    values = jnp.concatenate([initial[..., None], known], axis=-1)
    advantage = jnp.where(steps, gae(rewards, values, discounts, lam), 0.0)
    following = jnp.flip(step_before(jnp.zeros_like(initial), jnp.flip(advantage, axis=-1)), axis=-1)
    # Qhat_t = gamma * Q_t + gamma * lam * A_{t+1} is A_t + V_t without its cancellation: the label of the last step is
    # r, and V_0 drops out, to the last bit.
    return PromiseTargets(rewards + discounted(known + discounted(following, as_float32(lam)), discounts), advantage)
