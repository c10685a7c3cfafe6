import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL, RandomBatches

from agentprm_jax.models import init_language_model, init_reward_model, lm_logits, promises
from agentprm_jax.numerics.losses import value_loss
from agentprm_jax.numerics.targets import promise_targets
from agentprm_jax.training.config import PrmObjectiveConfig
from agentprm_jax.training.objectives import prm_objective, sft_objective

BATCH = jax.tree.map(jnp.asarray, RandomBatches(rows=3)[0])


def free(x, axes):
    return x


@pytest.fixture(scope="module")
def params():
    return jax.jit(functools.partial(init_reward_model, MODEL))(jax.random.key(0))


def evaluate(params, **fields):
    return prm_objective(MODEL, PrmObjectiveConfig(**fields), free)(params, BATCH)


def gradient(params, loss):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params))])


def test_td_labels_with_gamma_and_lambda_one_are_those_of_the_pvm(params):
    td, pvm = evaluate(params, method="agentprm_no_la", lam=1.0), evaluate(params, method="pvm")
    np.testing.assert_allclose(td.loss.mean, pvm.loss.mean, rtol=1e-5)
    np.testing.assert_allclose(td.means["mean_target"].mean, pvm.means["mean_target"].mean, rtol=1e-5)


def test_agentprm_with_beta_zero_is_agentprm_without_the_progress_loss(params):
    zero, without = evaluate(params, beta=0.0), evaluate(params, method="agentprm_no_la")
    np.testing.assert_allclose(zero.loss.mean, without.loss.mean, rtol=1e-6)
    assert set(without.means) == {"promise_loss", "mean_promise", "mean_target"}


def test_the_parts_of_the_loss_add_up_to_it(params):
    output = evaluate(params, beta=0.7)
    parts = output.means["promise_loss"].mean + output.means["progress_loss"].mean
    np.testing.assert_allclose(output.loss.mean, parts, rtol=1e-6)
    assert output.means["progress_loss"].mean > 0


def test_no_gradient_flows_through_the_labels(params):
    predicted = promises(MODEL, params, BATCH)
    labels = promise_targets(
        predicted, BATCH.outcomes, BATCH.step_mask, initial_values=BATCH.initial_values, gamma=1.0, lam=0.5
    ).promise

    def with_constant_labels(params):
        return value_loss(promises(MODEL, params, BATCH), labels, BATCH.step_mask).total

    objective = prm_objective(MODEL, PrmObjectiveConfig("agentprm_no_la", lam=0.5), free)
    own = gradient(params, lambda params: objective(params, BATCH).loss.total)
    np.testing.assert_allclose(own, gradient(params, with_constant_labels), rtol=1e-4, atol=1e-6)


def test_the_orm_learns_from_last_steps_only(params):
    output = evaluate(params, method="orm")
    predicted, last = promises(MODEL, params, BATCH), np.asarray(BATCH.step_mask).sum(-1) - 1
    final = np.take_along_axis(np.asarray(predicted), last[..., None], -1)[..., 0]
    np.testing.assert_allclose(output.loss.mean, np.mean(0.5 * (final - BATCH.outcomes) ** 2), rtol=1e-5)
    np.testing.assert_allclose(output.means["mean_target"].mean, BATCH.outcomes.mean(), rtol=1e-6)


def test_rows_of_padding_change_no_loss_and_no_count(params):
    padded = jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros_like(x)]), BATCH)
    objective = prm_objective(MODEL, PrmObjectiveConfig(), free)
    alone, with_padding = objective(params, BATCH), objective(params, padded)
    np.testing.assert_allclose(alone.loss.mean, with_padding.loss.mean, rtol=1e-6)
    assert jax.tree.map(int, alone.counts) == jax.tree.map(int, with_padding.counts)
    assert int(alone.counts["steps"]) == int(BATCH.step_mask.sum())


def test_sft_is_the_weighted_likelihood_of_action_tokens_within_their_own_trajectory():
    params = jax.jit(functools.partial(init_language_model, MODEL))(jax.random.key(1))
    logits = lm_logits(MODEL, params, BATCH.tokens, positions=BATCH.positions, segments=BATCH.segments)
    log_p, batch = np.asarray(jax.nn.log_softmax(logits, axis=-1)), jax.tree.map(np.asarray, BATCH)
    total, weight = 0.0, 0.0
    for row, column in itertools.product(range(batch.tokens.shape[0]), range(1, batch.tokens.shape[1])):
        if batch.segments[row, column] == batch.segments[row, column - 1]:
            total -= batch.loss_mask[row, column] * log_p[row, column - 1, batch.tokens[row, column]]
            weight += batch.loss_mask[row, column]
    output = sft_objective(MODEL, free)(params, BATCH)
    np.testing.assert_allclose(output.loss.mean, total / weight, rtol=1e-5)
    assert float(output.loss.weight) == weight < float(BATCH.loss_mask.sum())
    assert 0.0 <= float(output.means["token_accuracy"].mean) <= 1.0
