"""Laws of masks: the last step, the step before, padding."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp

from agentprm_jax.numerics.steps import last_step, present, step_before, zero_padding
from tests.numerics.episodes import ROWS, STEPS, episodes, junk, laws

jitted_last_step = jax.jit(last_step)


@laws
@given(hnp.arrays(bool, (ROWS, STEPS)))
def test_the_last_step_is_the_last_true_even_of_a_mask_with_gaps(mask):
    expected = np.zeros_like(mask)
    for row in range(ROWS):
        if mask[row].any():
            expected[row, np.flatnonzero(mask[row])[-1]] = True
    np.testing.assert_array_equal(jitted_last_step(mask), expected)


@laws
@given(episodes(), junk)
def test_padding_becomes_zero_whatever_it_holds(batch, value):
    np.testing.assert_array_equal(zero_padding(batch.padded_with(value).promises, batch.mask), batch.promises)


@laws
@given(episodes())
def test_the_step_before_the_first_is_the_value_given_and_before_others_their_neighbour(batch):
    before = step_before(batch.initial_values, jnp.asarray(batch.promises))
    np.testing.assert_array_equal(before[:, 0], batch.initial_values)
    np.testing.assert_array_equal(before[:, 1:], batch.promises[:, :-1])


def test_a_mask_of_numbers_reads_like_the_mask_of_booleans():
    expected = jnp.array([True, True, False])
    for dtype in (jnp.float32, jnp.int32, jnp.bool_):
        np.testing.assert_array_equal(present(jnp.array([1, 1, 0], dtype)), expected)
