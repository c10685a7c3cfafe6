"""Laws of promise and progress labels, against the equations written out as loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agentprm_jax.numerics.targets import PromiseTargets, gae, promise_targets, trajectory_gae
from tests.numerics import oracle
from tests.numerics.episodes import ROWS, STEPS, episodes, floats, junk, laws, precisions, undiscounted, unit

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # six float32 additions of numbers up to 3
jitted_gae = jax.jit(gae)
jitted_trajectory_gae = jax.jit(trajectory_gae)
jitted_targets = jax.jit(promise_targets)
numbers = floats(-2, 2)


def targets_of(batch, dtype=jnp.float32) -> PromiseTargets:
    """The library's labels as NumPy arrays."""
    promises, outcomes, initial = (
        jnp.asarray(array, dtype) for array in (batch.promises, batch.outcomes, batch.initial_values)
    )
    labels = jitted_targets(promises, outcomes, batch.mask, initial_values=initial, gamma=batch.gamma, lam=batch.lam)
    return PromiseTargets(*map(np.asarray, labels))


@st.composite
def returns(draw, numbers=numbers, discounts=unit):
    """Rewards, values, discounts (zeros among them) and lambda, as `gae` takes them."""
    return (
        draw(hnp.arrays(np.float32, (ROWS, STEPS), elements=numbers)),
        draw(hnp.arrays(np.float32, (ROWS, STEPS + 1), elements=numbers)),
        draw(hnp.arrays(np.float32, (ROWS, STEPS), elements=st.just(0.0) | discounts)),
        np.float32(draw(unit)),
    )


def gae_by_rows(rewards, values, discounts, lam) -> np.ndarray:
    rows = zip(rewards, values, discounts, strict=True)
    return np.array([oracle.gae(*(array.tolist() for array in row), float(lam)) for row in rows])


@laws
@given(returns(), precisions)
def test_gae_is_the_decayed_sum_of_temporal_differences(inputs, dtype):
    arrays = [jnp.asarray(array, dtype) for array in inputs[:3]]
    advantages = jitted_gae(*arrays, inputs[3])
    assert advantages.dtype == jnp.float32
    expected = gae_by_rows(*(np.asarray(array, np.float32) for array in arrays), inputs[3])
    np.testing.assert_allclose(advantages, expected, **CLOSE)


@laws
@given(returns())
def test_gae_with_lambda_zero_is_the_one_step_error(inputs):
    rewards, values, discounts, _ = inputs
    errors = rewards + discounts * values[:, 1:] - values[:, :-1]
    np.testing.assert_allclose(jitted_gae(rewards, values, discounts, 0.0), errors, **CLOSE)


@laws
@given(returns())
def test_gae_with_lambda_one_is_the_discounted_return_minus_the_value(inputs):
    rewards, values, discounts, _ = inputs
    returned, expected = values[:, -1].astype(np.float64), []
    for t in reversed(range(STEPS)):
        returned = rewards[:, t] + discounts[:, t] * returned
        expected.insert(0, returned - values[:, t])
    np.testing.assert_allclose(jitted_gae(rewards, values, discounts, 1.0), np.stack(expected, 1), **CLOSE)


def joined(first, second, end):
    """Rewards, values and discounts: the first's up to the step `end`, whose discount is 0, the second's behind it."""
    pairs = zip(first[:3], second[:3], strict=True)
    rewards, values, discounts = (np.concatenate([a[:, : end + 1], b[:, end + 1 :]], axis=1) for a, b in pairs)
    return rewards, values, np.where(np.arange(STEPS) == end, np.float32(0), discounts)


@laws
@given(returns(), returns(numbers | junk, unit | junk), st.integers(0, STEPS - 1))
def test_nothing_behind_a_zero_discount_reaches_the_steps_before_it(inputs, others, end):
    lam = inputs[3]
    before, after = jitted_gae(*joined(inputs, inputs, end), lam), jitted_gae(*joined(inputs, others, end), lam)
    np.testing.assert_array_equal(before[:, : end + 1], after[:, : end + 1])


@jax.jit
def paired_gae(rewards, values, discounts, lam, cotangent):
    def pair(rewards, values):
        return jnp.vdot(gae(rewards, values, discounts, lam), cotangent)

    return jax.value_and_grad(pair, argnums=(0, 1))(rewards, values)


@jax.jit
def square_gradients(rewards, values, discounts, lam, counted):
    def square(rewards, values, lam):
        return jnp.sum(jnp.square(jnp.where(counted, gae(rewards, values, discounts, lam), 0)))

    return jax.grad(square, argnums=range(3))(rewards, values, lam)


@laws
@given(returns(), returns(numbers | junk), st.integers(0, STEPS - 1))
def test_nothing_behind_a_zero_discount_reaches_a_gradient_of_the_steps_before_it(inputs, others, end):
    padding = (*others[:2], np.zeros_like(others[2]))
    lam, counted = inputs[3], np.arange(STEPS) <= end
    clean, dirty = (
        square_gradients(*joined(inputs, behind, end), lam, counted)
        for behind in (tuple(map(np.zeros_like, padding)), padding)
    )
    for one, other in zip(clean, dirty, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


@laws
@given(returns(), hnp.arrays(np.float32, (2, ROWS, STEPS), elements=numbers | junk), st.integers(0, STEPS - 1))
def test_no_gradient_of_the_steps_before_a_zero_discount_reaches_what_is_behind_it(inputs, cotangents, end):
    arrays, lam = joined(inputs, inputs, end), inputs[3]
    cotangent, other = cotangents[0], np.where(np.arange(STEPS) <= end, cotangents[1], cotangents[0])
    for one, changed in zip(paired_gae(*arrays, lam, cotangent)[1], paired_gae(*arrays, lam, other)[1], strict=True):
        np.testing.assert_array_equal(one[:, end + 1 :], changed[:, end + 1 :])


@laws
@given(returns(), hnp.arrays(np.float32, (ROWS, STEPS), elements=numbers))
def test_the_gradient_of_gae_is_its_transpose(inputs, cotangent):
    value, gradients = paired_gae(*inputs, cotangent)
    # gae is linear in rewards and values: pairing the gradient with them gives the function back.
    paired = np.vdot(gradients[0], inputs[0]) + np.vdot(gradients[1], inputs[1])
    np.testing.assert_allclose(paired, value, rtol=1e-4, atol=1e-3)  # sums of 50 products


@pytest.mark.parametrize("leading", [(), (4,), (2, 1, 2), (0,)])
def test_gae_of_any_leading_shape_is_gae_of_each_trajectory(leading):
    rng = np.random.default_rng(0)
    rewards, values, discounts = (rng.random((*leading, n), np.float32) for n in (5, 6, 5))
    advantages = jitted_gae(rewards, values, discounts, 0.7)
    assert advantages.shape == (*leading, 5)
    for index in np.ndindex(leading):
        alone = jitted_trajectory_gae(rewards[index], values[index], discounts[index], 0.7)
        np.testing.assert_allclose(advantages[index], alone, rtol=1e-6)


@laws
@given(returns(), unit, precisions)
def test_gae_with_one_discount_is_gae_with_that_discount_at_every_step(inputs, discount, dtype):
    rewards, values = (jnp.asarray(array, dtype) for array in inputs[:2])
    gamma = np.float32(discount)
    advantages = jitted_gae(rewards, values, gamma, inputs[3])
    assert advantages.dtype == jnp.float32
    expected = gae_by_rows(
        *(np.asarray(a, np.float32) for a in (rewards, values, np.full((ROWS, STEPS), gamma))), inputs[3]
    )
    np.testing.assert_allclose(advantages, expected, **CLOSE)


@pytest.mark.parametrize("leading", [(), (4,), (2, 1, 2), (0,)])
def test_gae_with_one_discount_takes_any_leading_shape(leading):
    rng = np.random.default_rng(0)
    rewards, values = (rng.random((*leading, n), np.float32) for n in (5, 6))
    advantages = jitted_gae(rewards, values, 0.9, 0.7)
    assert advantages.shape == (*leading, 5)
    np.testing.assert_allclose(advantages, jitted_gae(rewards, values, np.full((*leading, 5), 0.9), 0.7), rtol=1e-5)


@pytest.mark.parametrize(("discount", "lam"), [(0.9, 0.7), (0.0, 0.7), (0.9, 0.0), (0.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("steps", [5, 100])
def test_gradients_of_gae_with_one_discount_are_those_with_that_discount_at_every_step(steps, discount, lam):
    rng = np.random.default_rng(0)
    rewards, values, cotangent = (rng.normal(size=(3, n)).astype(np.float32) for n in (steps, steps + 1, steps))

    def once(rewards, values, discount, lam):
        return jnp.vdot(gae(rewards, values, discount, lam), cotangent)

    def everywhere(rewards, values, discount, lam):
        return once(rewards, values, jnp.broadcast_to(discount, rewards.shape), lam)

    gradients = [jax.jit(jax.grad(f, argnums=range(4)))(rewards, values, discount, lam) for f in (once, everywhere)]
    for ours, expected in zip(*gradients, strict=True):
        # Each is a sum of up to 300 products, in another order.
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * np.max(np.abs(expected)))


def test_gae_under_vmap_over_discounts_gives_every_row_its_own():
    rng = np.random.default_rng(0)
    rewards, values, discounts = rng.random((4, 40)), rng.random((4, 41)), rng.random(4).astype(np.float32)
    mapped = jax.jit(jax.vmap(gae, in_axes=(0, 0, 0, None)))(rewards, values, discounts, 0.7)
    expected = jitted_gae(rewards, values, np.repeat(discounts[:, None], 40, 1), 0.7)
    np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-6)


def test_gae_under_vmap_over_either_axis_is_gae_of_the_whole():
    rng = np.random.default_rng(0)
    rewards, values, discounts = (rng.random((4, 3, n), np.float32) for n in (5, 6, 5))
    whole = jitted_gae(rewards, values, discounts, 0.7)
    for axis in (0, 1):
        mapped = jax.jit(jax.vmap(gae, in_axes=(axis, axis, axis, None), out_axes=axis))(
            rewards, values, discounts, 0.7
        )
        np.testing.assert_allclose(mapped, whole, rtol=1e-6)


@pytest.mark.parametrize("changed", ["values", "discounts"])
def test_gae_refuses_shapes_that_would_broadcast(changed):
    arguments = {"rewards": jnp.zeros((4, 5)), "values": jnp.zeros((4, 6)), "discounts": jnp.zeros((4, 5)), "lam": 0.5}
    with pytest.raises(ValueError, match=f"`{changed}` must have shape"):
        gae(**arguments | {changed: arguments[changed][:1]})


@laws
@given(episodes(), precisions)
def test_labels_are_the_equations_and_zero_in_the_padding(batch, dtype):
    rounded = batch.rounded(dtype)
    labels, advantages = rounded.labels()
    targets = targets_of(rounded, dtype)
    np.testing.assert_allclose(targets.promise, labels, **CLOSE)
    np.testing.assert_allclose(targets.advantage, advantages, **CLOSE)
    assert not targets.promise[~batch.mask].any()
    assert not targets.advantage[~batch.mask].any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32])
def test_labels_are_float32_whatever_the_inputs(dtype):
    ones = jnp.ones((2, 3), dtype)
    targets = jitted_targets(
        ones, ones[:, 0], jnp.ones((2, 3), bool), initial_values=ones[:, 0], gamma=jnp.bfloat16(1), lam=jnp.bfloat16(1)
    )
    assert {label.dtype for label in targets} == {jnp.dtype(jnp.float32)}


@laws
@given(episodes())
def test_the_label_is_the_discounted_promise_plus_the_decayed_next_advantage(batch):
    targets = targets_of(batch)
    before_the_end = batch.mask[:, 1:]
    following = batch.gamma * batch.promises[:, :-1] + batch.gamma * batch.lam * targets.advantage[:, 1:]
    np.testing.assert_allclose(targets.promise[:, :-1][before_the_end], following[before_the_end], **CLOSE)


@laws
@given(episodes())
def test_the_label_is_the_advantage_plus_the_value_before(batch):
    targets = targets_of(batch)
    before = np.concatenate([batch.initial_values[:, None], batch.promises[:, :-1]], axis=1)
    np.testing.assert_allclose(targets.promise[batch.mask], (targets.advantage + before)[batch.mask], **CLOSE)


@laws
@given(episodes())
def test_the_label_of_the_last_step_is_exactly_the_outcome(batch):
    labelled = np.sum(targets_of(batch).promise * batch.last, axis=1)
    np.testing.assert_array_equal(labelled, np.where(batch.lengths > 0, batch.outcomes, 0))


@laws
@given(episodes(lam=st.just(0.0)))
def test_lambda_zero_labels_a_step_with_its_own_discounted_promise(batch):
    inner = batch.mask & ~batch.last
    np.testing.assert_allclose(targets_of(batch).promise[inner], (batch.gamma * batch.promises)[inner], **CLOSE)


@laws
@given(episodes(gamma=st.just(1.0), lam=st.just(1.0)))
def test_gamma_and_lambda_one_label_every_step_with_the_outcome(batch):
    expected = np.where(batch.mask, batch.outcomes[:, None], 0)
    np.testing.assert_allclose(targets_of(batch).promise, expected, **CLOSE)


@laws
@given(episodes(), hnp.arrays(np.float32, ROWS, elements=floats(-1e6, 1e6)))
def test_promise_labels_do_not_depend_on_the_initial_value(batch, others):
    first, second = targets_of(batch), targets_of(batch._replace(initial_values=others))
    np.testing.assert_array_equal(first.promise, second.promise)
    np.testing.assert_array_equal(first.advantage[:, 1:], second.advantage[:, 1:])


@laws
@given(episodes(shortest=1), hnp.arrays(np.float32, ROWS, elements=unit))
def test_the_first_advantage_falls_by_what_the_initial_value_rises(batch, others):
    first, second = targets_of(batch), targets_of(batch._replace(initial_values=others))
    risen = others - batch.initial_values
    np.testing.assert_allclose(first.advantage[:, 0] - second.advantage[:, 0], risen, **CLOSE)


@laws
@given(undiscounted)
def test_consecutive_labels_differ_by_one_minus_lambda_advantages(batch):
    targets = targets_of(batch)
    rises = np.diff(targets.promise, axis=1)[batch.mask[:, 1:]]
    expected = ((1 - batch.lam) * targets.advantage)[:, 1:][batch.mask[:, 1:]]
    np.testing.assert_allclose(rises, expected, **CLOSE)


@laws
@given(episodes())
def test_discounted_consecutive_labels_differ_by_the_general_identity(batch):
    targets = targets_of(batch)
    rises = np.diff(targets.promise, axis=1)
    expected = (1 - batch.gamma * batch.lam) * targets.advantage[:, 1:] + (1 - batch.gamma) * batch.promises[:, :-1]
    np.testing.assert_allclose(rises[batch.mask[:, 1:]], expected[batch.mask[:, 1:]], **CLOSE)


@laws
@given(undiscounted)
def test_undiscounted_labels_average_later_promises_and_the_outcome(batch):
    targets = targets_of(batch)
    for index, (promises, outcome, _) in enumerate(batch.rows()):
        for t in range(len(promises)):
            weights = (1 - batch.lam) * batch.lam ** np.arange(len(promises) - 1 - t)
            mixture = weights @ np.array(promises[t:-1]) + batch.lam ** (len(promises) - 1 - t) * outcome
            np.testing.assert_allclose(targets.promise[index, t], mixture, **CLOSE)
            assert min([*promises[t:-1], outcome]) - 1e-5 <= targets.promise[index, t]
            assert targets.promise[index, t] <= max([*promises[t:-1], outcome]) + 1e-5


def test_adding_the_outcome_to_the_bootstrapped_value_of_the_end_would_label_above_one():
    promises, outcome, initial = [0.6, 0.7, 0.8], 1.0, 0.5
    literal = oracle.double_counting_labels(promises, outcome, initial, gamma=1.0, lam=0.95)
    ours = jitted_targets(
        jnp.array(promises),
        jnp.array(outcome),
        jnp.ones(3, bool),
        initial_values=jnp.array(initial),
        gamma=1.0,
        lam=0.95,
    )
    assert min(literal) > 1.5
    assert float(jnp.max(ours.promise)) <= 1.0


@laws
@given(episodes(), junk)
def test_the_promise_of_the_last_step_changes_no_label(batch, value):
    changed = batch._replace(promises=np.where(batch.last, np.float32(value), batch.promises))
    for one, other in zip(targets_of(batch), targets_of(changed), strict=True):
        np.testing.assert_array_equal(one, other)


@laws
@given(episodes(), junk)
def test_padding_changes_no_label(batch, value):
    for clean, dirty in zip(targets_of(batch), targets_of(batch.padded_with(value)), strict=True):
        np.testing.assert_array_equal(clean, dirty)


def test_more_padding_changes_no_label():
    rng = np.random.default_rng(0)
    promises, mask = rng.random((3, 4), np.float32), np.arange(4) < np.array([[2], [4], [1]])
    arguments = {"initial_values": rng.random(3, np.float32), "gamma": 0.9, "lam": 0.8}
    short = jitted_targets(promises, np.ones(3), mask, **arguments)
    wide = [np.pad(array, [(0, 0), (0, 5)]) for array in (promises, mask)]
    long = jitted_targets(wide[0], np.ones(3), wide[1], **arguments)
    for narrow, padded in zip(short, long, strict=True):
        np.testing.assert_allclose(np.pad(narrow, [(0, 0), (0, 5)]), padded, rtol=1e-6)


@jax.jit
def label_gradients(promises, outcomes, mask, initial_values, gamma, lam):
    def total(promises, outcomes, initial_values, gamma, lam):
        targets = promise_targets(promises, outcomes, mask, initial_values=initial_values, gamma=gamma, lam=lam)
        return sum(jnp.sum(jnp.square(label)) for label in targets)

    return jax.grad(total, argnums=range(5))(promises, outcomes, initial_values, gamma, lam)


@laws
@given(episodes(), junk)
def test_padding_reaches_no_gradient_of_the_labels(batch, value):
    dirty = batch.padded_with(value)
    clean, poisoned = (
        label_gradients(some.promises, some.outcomes, some.mask, some.initial_values, some.gamma, some.lam)
        for some in (batch, dirty)
    )
    assert not np.asarray(poisoned[0])[~batch.mask].any()
    for one, other in zip(clean, poisoned, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_first_label_moves_with_later_promises_by_their_weights_in_the_mixture():
    promises, lam = jnp.array([0.2, 0.4, 0.1, 0.9]), 0.5

    def first_label(promises, outcome):
        mask = jnp.ones(4, bool)
        return promise_targets(promises, outcome, mask, initial_values=jnp.array(0.3), gamma=1.0, lam=lam).promise[0]

    by_promise, by_outcome = jax.jit(jax.grad(first_label, argnums=(0, 1)))(promises, jnp.array(1.0))
    np.testing.assert_allclose(by_promise, [0.5, 0.25, 0.125, 0.0], atol=1e-7)
    np.testing.assert_allclose(by_outcome, 0.125, atol=1e-7)


@pytest.mark.parametrize("leading", [(), (4,), (2, 1, 2), (0,)])
def test_labels_of_any_leading_shape_are_the_labels_of_each_trajectory(leading):
    rng = np.random.default_rng(0)
    promises, (outcomes, initial) = rng.random((*leading, 5), np.float32), rng.random((2, *leading), np.float32)
    lengths = rng.integers(0, 6, leading)
    mask = np.arange(5) < lengths[..., None]
    targets = jitted_targets(promises, outcomes, mask, initial_values=initial, gamma=0.9, lam=0.8)
    assert targets.promise.shape == targets.advantage.shape == promises.shape
    for index in np.ndindex(leading):
        alone = oracle.promise_targets(promises[index][mask[index]], outcomes[index], initial[index], 0.9, 0.8)
        for whole, expected in zip(targets, alone, strict=True):
            np.testing.assert_allclose(whole[index][mask[index]], expected, **CLOSE)


def test_labels_under_vmap_are_the_labels_of_the_whole():
    rng = np.random.default_rng(0)
    promises, (outcomes, initial) = rng.random((4, 5), np.float32), rng.random((2, 4), np.float32)
    mask = np.arange(5) < rng.integers(0, 6, 4)[:, None]

    def label(promises, outcome, mask, initial):
        return jitted_targets(promises, outcome, mask, initial_values=initial, gamma=0.9, lam=0.8)

    mapped = jax.vmap(label)(promises, outcomes, mask, initial)
    for one, other in zip(mapped, label(promises, outcomes, mask, initial), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_batch_without_step_columns_has_labels_without_step_columns():
    empty = jnp.zeros((3, 0))
    targets = jitted_targets(empty, jnp.ones(3), empty, initial_values=jnp.ones(3), gamma=1.0, lam=0.9)
    assert targets.promise.shape == targets.advantage.shape == (3, 0)


@pytest.mark.parametrize("changed", ["outcomes", "mask", "initial_values"])
def test_labels_refuse_shapes_that_would_broadcast(changed):
    arguments = {
        "promises": jnp.zeros((4, 5)),
        "outcomes": jnp.zeros(4),
        "mask": jnp.ones((4, 5), bool),
        "initial_values": jnp.zeros(4),
    }
    with pytest.raises(ValueError, match=f"`{changed}` must have shape"):
        promise_targets(**arguments | {changed: arguments[changed][:1]}, gamma=1.0, lam=0.9)
