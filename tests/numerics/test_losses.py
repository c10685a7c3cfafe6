"""Laws of the losses: their values, their gradients, and what they leave alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agentprm_jax.numerics.losses import PROGRESS_FORMS, AgentPrmLoss, agentprm_loss, orm_loss, value_loss
from agentprm_jax.numerics.targets import PromiseTargets, promise_targets
from tests.numerics import oracle
from tests.numerics.episodes import ROWS, STEPS, episodes, floats, junk, laws, precisions, undiscounted

CLOSE = {"rtol": 1e-5, "atol": 1e-4}  # float32 sums of 24 squares of numbers up to 4
forms = st.sampled_from(PROGRESS_FORMS)
betas = floats(0, 2).map(np.float32)
jitted_value_loss = jax.jit(value_loss)
jitted_orm_loss = jax.jit(orm_loss)
jitted_agentprm_loss = jax.jit(agentprm_loss, static_argnames="progress")


def step_arrays():
    return hnp.arrays(np.float32, (ROWS, STEPS), elements=floats(-2, 2))


@functools.partial(jax.jit, static_argnames="progress")
def self_labelled(promises, outcomes, mask, initial_values, gamma, lam, beta, progress) -> AgentPrmLoss:
    """The loss as in training: labels come from the promises that are being trained."""
    targets = promise_targets(promises, outcomes, mask, initial_values=initial_values, gamma=gamma, lam=lam)
    return agentprm_loss(promises, targets, mask, initial_values=initial_values, beta=beta, progress=progress)


@functools.partial(jax.jit, static_argnames="progress")
def gradients_of_parts(promises, outcomes, mask, initial_values, gamma, lam, beta, progress):
    """Gradients of L_Q and of beta * L_A, summed over steps, with respect to the promises."""

    def part(promises, index):
        return self_labelled(promises, outcomes, mask, initial_values, gamma, lam, beta, progress)[index].total

    return jax.grad(part)(promises, 0), jax.grad(part)(promises, 1)


def arguments(batch):
    return batch.promises, batch.outcomes, batch.mask, batch.initial_values, batch.gamma, batch.lam


def errors_of(batch) -> np.ndarray:
    """e_t = M_t - Qhat_t, 0 in the padding."""
    return np.where(batch.mask, batch.promises - batch.labels()[0], 0.0)


def rises_of(errors: np.ndarray) -> np.ndarray:
    """e_t - e_{t-1} with e_{-1} = 0."""
    return np.diff(errors, axis=1, prepend=0.0)


@laws
@given(episodes(), step_arrays(), precisions)
def test_value_loss_is_half_the_squared_errors_of_the_steps(batch, labels, dtype):
    promises = jnp.asarray(batch.promises, dtype)
    loss = jitted_value_loss(promises, labels, batch.mask)
    errors = (np.asarray(promises, np.float64) - labels)[batch.mask]
    assert loss.total.dtype == loss.weight.dtype == jnp.float32
    np.testing.assert_allclose(loss.total, 0.5 * np.sum(errors**2), **CLOSE)
    assert loss.weight == batch.lengths.sum()


@laws
@given(episodes(), precisions)
def test_orm_loss_is_half_the_squared_error_of_the_last_step_of_each_trajectory(batch, dtype):
    promises = jnp.asarray(batch.promises, dtype)
    loss = jitted_orm_loss(promises, batch.outcomes, batch.mask)
    errors = (np.asarray(promises, np.float64) - batch.outcomes[:, None])[batch.last]
    assert loss.total.dtype == loss.weight.dtype == jnp.float32
    np.testing.assert_allclose(loss.total, 0.5 * np.sum(errors**2), **CLOSE)
    assert loss.weight == np.count_nonzero(batch.lengths)


@laws
@given(episodes(), step_arrays(), step_arrays(), betas, forms, precisions)
def test_agentprm_loss_is_the_equations_for_any_labels(batch, labels, advantages, beta, form, dtype):
    rounded = batch.rounded(dtype)
    loss = jitted_agentprm_loss(
        jnp.asarray(rounded.promises, dtype),
        PromiseTargets(labels, advantages),
        rounded.mask,
        initial_values=rounded.initial_values,
        beta=beta,
        progress=form,
    )
    expected = np.zeros(2)
    for index, (promises, _, initial) in enumerate(rounded.rows()):
        expected += oracle.agentprm_parts(promises, labels[index], advantages[index], initial, float(beta), form)
    np.testing.assert_allclose([loss.promise.total, loss.progress.total], expected, **CLOSE)
    assert loss.promise.weight == loss.progress.weight == batch.lengths.sum()
    assert {leaf.dtype for leaf in jax.tree.leaves(loss)} == {jnp.dtype(jnp.float32)}


@laws
@given(episodes(), betas)
def test_the_residual_of_the_gae_form_is_the_error_of_the_promise(batch, beta):
    loss = self_labelled(*arguments(batch), beta, "gae")
    np.testing.assert_allclose(loss.progress.total, beta * np.sum(errors_of(batch) ** 2), **CLOSE)
    np.testing.assert_allclose(loss.progress.total, 2 * beta * loss.promise.total, **CLOSE)


@laws
@given(episodes(), betas)
def test_the_residual_of_the_delta_q_form_is_the_rise_of_the_error(batch, beta):
    loss = self_labelled(*arguments(batch), beta, "delta_q")
    rises = np.where(batch.mask, rises_of(errors_of(batch)), 0.0)
    np.testing.assert_allclose(loss.progress.total, beta * np.sum(rises**2), **CLOSE)


@laws
@given(episodes(), floats(-1, 1))
def test_equal_errors_along_an_episode_cost_the_delta_q_form_only_the_first_step(batch, error):
    targets = PromiseTargets(batch.promises - np.float32(error), np.zeros_like(batch.promises))
    loss = jitted_agentprm_loss(
        batch.promises,
        targets,
        batch.mask,
        initial_values=batch.initial_values,
        beta=1.0,
        progress="delta_q",
    )
    np.testing.assert_allclose(loss.progress.total, np.count_nonzero(batch.lengths) * error**2, **CLOSE)


@laws
@given(undiscounted, betas)
def test_the_delta_q_form_is_the_gae_form_with_later_targets_shrunk_by_one_minus_lambda(batch, beta):
    targets = PromiseTargets(*map(jnp.float32, batch.labels()))
    shrunk = targets._replace(advantage=targets.advantage.at[:, 1:].multiply(1 - batch.lam))
    # The first step keeps its own target, Qhat_0 - V_0 = A_0.
    given = {"initial_values": batch.initial_values, "beta": beta}
    delta_q = jitted_agentprm_loss(batch.promises, targets, batch.mask, **given, progress="delta_q")
    gae = jitted_agentprm_loss(batch.promises, shrunk, batch.mask, **given, progress="gae")
    np.testing.assert_allclose(delta_q.progress.total, gae.progress.total, **CLOSE)


@laws
@given(episodes(), betas)
def test_the_gae_form_pulls_each_promise_by_its_error_and_the_one_before_by_the_opposite(batch, beta):
    promise, progress = gradients_of_parts(*arguments(batch), beta, "gae")
    errors = errors_of(batch)
    following = np.pad(errors[:, 1:], [(0, 0), (0, 1)])
    np.testing.assert_allclose(promise, errors, **CLOSE)
    np.testing.assert_allclose(progress, 2 * beta * (errors - following), **CLOSE)


@laws
@given(episodes(), betas)
def test_the_delta_q_form_pulls_both_promises_of_each_rise(batch, beta):
    _, progress = gradients_of_parts(*arguments(batch), beta, "delta_q")
    rises = np.where(batch.mask, rises_of(errors_of(batch)), 0.0)
    following = np.pad(rises[:, 1:], [(0, 0), (0, 1)])
    np.testing.assert_allclose(progress, 2 * beta * (rises - following), **CLOSE)


@laws
@given(episodes())
def test_the_gae_form_weighs_the_last_step_three_times(batch):
    promise, progress = gradients_of_parts(*arguments(batch), np.float32(1), "gae")
    pulled = np.asarray(promise + progress)
    np.testing.assert_allclose(pulled[batch.last], 3 * np.asarray(promise)[batch.last], **CLOSE)


@jax.jit
def gradients_of_constants(promises, labels, advantages, mask, initial_values):
    def total(targets, initial_values, progress):
        given = {"initial_values": initial_values, "beta": 1.0, "progress": progress}
        return agentprm_loss(promises, targets, mask, **given).total

    targets = PromiseTargets(labels, advantages)
    return [jax.grad(total, argnums=(0, 1))(targets, initial_values, form) for form in PROGRESS_FORMS]


@laws
@given(episodes(), step_arrays(), step_arrays())
def test_no_gradient_reaches_labels_or_initial_values(batch, labels, advantages):
    gradients = gradients_of_constants(batch.promises, labels, advantages, batch.mask, batch.initial_values)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_no_gradient_reaches_the_labels_of_the_baselines():
    promises, mask = jnp.array([[0.2, 0.9]]), jnp.ones((1, 2), bool)
    assert not jnp.any(jax.grad(lambda labels: value_loss(promises, labels, mask).total)(jnp.ones((1, 2))))
    assert not jnp.any(jax.grad(lambda outcomes: orm_loss(promises, outcomes, mask).total)(jnp.ones(1)))


@laws
@given(episodes(gamma=st.just(1.0), lam=st.just(1.0)), forms)
def test_lambda_one_makes_the_promise_part_the_process_value_model(batch, form):
    loss = self_labelled(*arguments(batch), np.float32(1), form)
    repeated = np.broadcast_to(batch.outcomes[:, None], batch.promises.shape)
    process_value = jitted_value_loss(batch.promises, repeated, batch.mask)
    np.testing.assert_allclose(loss.promise.total, process_value.total, **CLOSE)
    assert loss.promise.weight == process_value.weight


@laws
@given(episodes(gamma=st.just(1.0), lam=st.just(0.0)))
def test_lambda_zero_makes_the_promise_part_the_outcome_model_over_more_steps(batch):
    loss = self_labelled(*arguments(batch), np.float32(0), "gae")
    np.testing.assert_allclose(
        loss.promise.total, jitted_orm_loss(batch.promises, batch.outcomes, batch.mask).total, **CLOSE
    )
    assert loss.promise.weight == batch.lengths.sum()


@laws
@given(episodes(), betas, forms)
def test_the_mean_is_the_promise_part_plus_beta_times_the_progress_part(batch, beta, form):
    plain = self_labelled(*arguments(batch), np.float32(1), form)
    loss = self_labelled(*arguments(batch), beta, form)
    np.testing.assert_allclose(loss.mean, plain.promise.mean + beta * plain.progress.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss.total, loss.promise.total + loss.progress.total)
    assert loss.weight == loss.promise.weight


@laws
@given(episodes(), betas, forms, junk)
def test_padding_reaches_neither_the_loss_nor_its_gradient(batch, beta, form, value):
    dirty = batch.padded_with(value)
    for function in (self_labelled, gradients_of_parts):
        clean, poisoned = (jax.tree.leaves(function(*arguments(some), beta, form)) for some in (batch, dirty))
        for one, other in zip(clean, poisoned, strict=True):
            np.testing.assert_array_equal(one, other)
    assert not any(np.asarray(part)[~batch.mask].any() for part in gradients_of_parts(*arguments(dirty), beta, form))


@jax.jit
def baseline_losses_and_gradients(promises, labels, outcomes, mask):
    def total(promises, loss, target):
        return loss(promises, target, mask).total

    grad = jax.value_and_grad(total)
    return grad(promises, value_loss, labels), grad(promises, orm_loss, outcomes)


@laws
@given(episodes(), step_arrays(), junk)
def test_padding_reaches_neither_the_baselines_nor_their_gradients(batch, labels, value):
    dirty = batch.padded_with(value)
    dirty_labels = np.where(batch.mask, labels, np.float32(value))
    clean = baseline_losses_and_gradients(batch.promises, labels, batch.outcomes, batch.mask)
    poisoned = baseline_losses_and_gradients(dirty.promises, dirty_labels, dirty.outcomes, dirty.mask)
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(poisoned), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_of_nothing_but_padding_has_mean_and_gradient_zero():
    nothing = jnp.full((2, 3), jnp.nan)
    mask = jnp.zeros((2, 3), bool)

    def mean(promises):
        targets = PromiseTargets(nothing, nothing)
        return agentprm_loss(promises, targets, mask, initial_values=nothing[:, 0], beta=1.0).mean

    value, gradient = jax.jit(jax.value_and_grad(mean))(nothing)
    assert value == 0.0
    assert not jnp.any(gradient)


@pytest.mark.parametrize("form", PROGRESS_FORMS)
@pytest.mark.parametrize("leading", [(), (2, 2), (0,)])
def test_a_loss_of_any_leading_shape_is_the_sum_over_its_trajectories(leading, form):
    rng = np.random.default_rng(0)
    promises, labels, advantages = rng.random((3, *leading, 5), np.float32)
    outcomes, initial = rng.random((2, *leading), np.float32)
    mask = np.arange(5) < rng.integers(0, 6, leading)[..., None]
    loss = jitted_agentprm_loss(
        promises, PromiseTargets(labels, advantages), mask, initial_values=initial, beta=0.5, progress=form
    )
    expected = np.zeros(2)
    for index in np.ndindex(leading):
        inside = promises[index][mask[index]]
        expected += oracle.agentprm_parts(inside, labels[index], advantages[index], initial[index], 0.5, form)
    np.testing.assert_allclose([loss.promise.total, loss.progress.total], expected, **CLOSE)
    assert loss.weight == mask.sum()
    assert jitted_orm_loss(promises, outcomes, mask).weight == mask.any(axis=-1).sum()


def test_the_loss_under_vmap_is_the_loss_of_each_trajectory():
    rng = np.random.default_rng(0)
    promises, labels, advantages = rng.random((3, 4, 5), np.float32)
    initial = rng.random(4, np.float32)
    mask = np.arange(5) < np.array([[5], [3], [0], [1]])

    def loss(promises, targets, mask, initial):
        return jitted_agentprm_loss(promises, targets, mask, initial_values=initial, beta=0.5)

    mapped = jax.vmap(loss)(promises, PromiseTargets(labels, advantages), mask, initial)
    whole = loss(promises, PromiseTargets(labels, advantages), mask, initial)
    np.testing.assert_allclose(mapped.weight, [5, 3, 0, 1])
    np.testing.assert_allclose(mapped.total.sum(), whole.total, rtol=1e-6)


def test_an_unknown_form_of_progress_is_refused_by_name():
    zeros = jnp.zeros((1, 2))
    with pytest.raises(ValueError, match=r"'gae', 'delta_q'.*but is 'delta'"):
        agentprm_loss(
            zeros, PromiseTargets(zeros, zeros), zeros, initial_values=zeros[:, 0], beta=1.0, progress="delta"
        )


@pytest.mark.parametrize("changed", ["promise", "advantage", "mask", "initial_values"])
def test_losses_refuse_shapes_that_would_broadcast(changed):
    arrays = {name: jnp.zeros((4, 5)) for name in ("promise", "advantage", "mask")} | {"initial_values": jnp.zeros(4)}
    wrong = arrays | {changed: arrays[changed][:1]}
    targets = PromiseTargets(wrong["promise"], wrong["advantage"])
    with pytest.raises(ValueError, match="must have shape"):
        agentprm_loss(jnp.zeros((4, 5)), targets, wrong["mask"], initial_values=wrong["initial_values"], beta=1.0)


def test_baselines_refuse_shapes_that_would_broadcast():
    promises, mask = jnp.zeros((4, 5)), jnp.ones((4, 5), bool)
    with pytest.raises(ValueError, match="value_loss: `targets` must have shape"):
        value_loss(promises, jnp.zeros((4, 1)), mask)
    with pytest.raises(ValueError, match="orm_loss: `outcomes` must have shape"):
        orm_loss(promises, jnp.zeros(()), mask)
