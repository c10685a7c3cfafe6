import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import RandomBatches, tiny_program

from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.loop import place_batch
from agentprm_jax.training.mesh import make_mesh
from agentprm_jax.training.step import check_batch


def advance(program, state, batch, index):
    return program.train_step({}, state, place_batch(program.mesh, batch), np.int32(index))


def copy(tree):
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_microbatches_make_the_update_of_the_whole_batch(prm_program):
    results = []
    for program in (prm_program, tiny_program("prm", microbatches=4)):
        state = program.init(jax.random.key(0), {})
        for index in range(3):
            state, metrics = advance(program, state, RandomBatches()[index], index)
        results.append((copy(state), copy(metrics)))
    (state, metrics), (state_of_parts, metrics_of_parts) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, state_of_parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), metrics, metrics_of_parts)


def test_an_update_takes_the_place_of_the_state_it_was_made_from(prm_program):
    state = prm_program.init(jax.random.key(0), {})
    before = copy(state)
    new, _ = advance(prm_program, state, RandomBatches()[0], 0)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state[1].mu)))
    assert int(new.step) == 1
    changed = jax.tree.map(lambda a, b: (np.asarray(a) != b).any(), new.params, before.params)
    assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_and_all_after_it_leave_the_state_untouched(prm_program, bad):
    batches = RandomBatches()
    state, _ = advance(prm_program, prm_program.init(jax.random.key(0), {}), batches[0], 0)
    before = copy(state)
    poisoned = batches[1]._replace(outcomes=np.full_like(batches[1].outcomes, bad))
    state, metrics = advance(prm_program, state, poisoned, 1)
    assert not metrics["finite"]
    assert_equal(copy(state), before)
    state, metrics = advance(prm_program, state, batches[2], 2)
    assert metrics["finite"]
    assert_equal(copy(state), before)


def test_metrics_count_what_is_real_and_name_the_schedule(prm_program):
    batch = RandomBatches()[0]
    _, metrics = advance(prm_program, prm_program.init(jax.random.key(0), {}), batch, 0)
    assert int(metrics["tokens"]) == (batch.segments > 0).sum() < batch.segments.size
    assert int(metrics["steps"]) == batch.step_mask.sum()
    assert metrics["learning_rate"] == jnp.float32(0.005)
    assert metrics["grad_norm"] > 0
    assert metrics["loss"] == pytest.approx(float(metrics["promise_loss"] + metrics["progress_loss"]), rel=1e-6)


def test_a_batch_that_cannot_be_cut_is_refused_with_the_number_it_must_divide_by():
    with pytest.raises(ValueError, match=r"8 rows cannot be cut into 3 microbatches .* multiple of 3"):
        check_batch(8, 3, make_mesh(MeshConfig()))
