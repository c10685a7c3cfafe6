import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL, RandomBatches

from agentprm_jax.numerics.losses import value_loss
from agentprm_jax.numerics.targets import promise_targets
from agentprm_jax.training import objectives
from agentprm_jax.training.config import PrmObjectiveConfig

BATCH = jax.tree.map(jnp.asarray, RandomBatches(rows=3)[0])
PROMISES = jax.random.uniform(jax.random.key(0), BATCH.step_mask.shape)


@pytest.fixture(autouse=True)
def parameters_are_what_the_model_says(monkeypatch):
    """Puts a table in the place of the model: its parameters are the promises or the logits themselves."""
    monkeypatch.setattr(objectives, "promises", lambda config, params, batch, constrain: params)
    monkeypatch.setattr(objectives, "lm_logits", lambda config, params, tokens, **options: params)


def free(x, axes):
    return x


def objective(**fields):
    return objectives.prm_objective(MODEL, PrmObjectiveConfig(**fields), free)


def evaluate(**fields):
    return objective(**fields)(PROMISES, BATCH)


def test_td_labels_with_gamma_and_lambda_one_are_those_of_the_pvm():
    td, pvm = evaluate(method="agentprm_no_la", lam=1.0), evaluate(method="pvm")
    np.testing.assert_allclose(td.loss.mean, pvm.loss.mean, rtol=1e-5)
    np.testing.assert_allclose(td.means["mean_target"].mean, pvm.means["mean_target"].mean, rtol=1e-5)


def test_agentprm_with_beta_zero_is_agentprm_without_the_progress_loss():
    zero, without = evaluate(beta=0.0), evaluate(method="agentprm_no_la")
    np.testing.assert_allclose(zero.loss.mean, without.loss.mean, rtol=1e-6)
    assert set(without.means) == {"promise_loss", "mean_promise", "mean_target"}


def test_the_parts_of_the_loss_add_up_to_it():
    output = evaluate(beta=0.7)
    parts = output.means["promise_loss"].mean + output.means["progress_loss"].mean
    np.testing.assert_allclose(output.loss.mean, parts, rtol=1e-6)
    assert output.means["progress_loss"].mean > 0


def test_the_form_of_the_progress_loss_is_the_configured_one():
    gae, delta_q = evaluate(progress="gae"), evaluate(progress="delta_q")
    np.testing.assert_allclose(gae.means["promise_loss"].mean, delta_q.means["promise_loss"].mean, rtol=1e-6)
    assert gae.means["progress_loss"].mean != delta_q.means["progress_loss"].mean


def test_no_gradient_flows_through_the_labels():
    labels = promise_targets(
        PROMISES, BATCH.outcomes, BATCH.step_mask, initial_values=BATCH.initial_values, gamma=1.0, lam=0.5
    ).promise
    own = jax.grad(lambda p: objective(method="agentprm_no_la", lam=0.5)(p, BATCH).loss.total)(PROMISES)
    constant = jax.grad(lambda p: value_loss(p, labels, BATCH.step_mask).total)(PROMISES)
    np.testing.assert_allclose(own, constant, rtol=1e-6)


def test_the_orm_learns_from_last_steps_only():
    output = evaluate(method="orm")
    steps = np.asarray(BATCH.step_mask).sum(-1)
    final = np.take_along_axis(np.asarray(PROMISES), steps[..., None] - 1, -1)[..., 0]
    np.testing.assert_allclose(output.loss.mean, np.mean(0.5 * (final - BATCH.outcomes) ** 2), rtol=1e-5)
    np.testing.assert_allclose(output.means["mean_target"].mean, BATCH.outcomes.mean(), rtol=1e-6)
    gradient = jax.grad(lambda p: objective(method="orm")(p, BATCH).loss.total)(PROMISES)
    np.testing.assert_array_equal(gradient != 0, np.arange(PROMISES.shape[-1]) == steps[..., None] - 1)


@pytest.mark.parametrize("method", ["agentprm", "agentprm_no_la", "pvm", "orm"])
def test_rows_of_padding_change_no_loss_and_no_count(method):
    padded = jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros_like(x)]), BATCH)
    alone = evaluate(method=method)
    with_padding = objective(method=method)(jnp.concatenate([PROMISES, PROMISES]), padded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), alone, with_padding)
    assert int(alone.counts["steps"]) == BATCH.step_mask.sum()
    assert int(alone.counts["tokens"]) == (BATCH.segments > 0).sum()


def test_sft_is_the_weighted_likelihood_of_action_tokens_within_their_own_trajectory():
    logits = jax.random.normal(jax.random.key(1), (*BATCH.tokens.shape, MODEL.vocab_size))
    log_p, batch = np.asarray(jax.nn.log_softmax(logits, axis=-1)), jax.tree.map(np.asarray, BATCH)
    total, hits, weight = 0.0, 0.0, 0.0
    for row, column in itertools.product(range(batch.tokens.shape[0]), range(1, batch.tokens.shape[1])):
        if batch.segments[row, column] == batch.segments[row, column - 1]:
            total -= batch.loss_mask[row, column] * log_p[row, column - 1, batch.tokens[row, column]]
            hits += batch.loss_mask[row, column] * (log_p[row, column - 1].argmax() == batch.tokens[row, column])
            weight += batch.loss_mask[row, column]
    output = objectives.sft_objective(MODEL, free)(logits, BATCH)
    np.testing.assert_allclose(output.loss.mean, total / weight, rtol=1e-5)
    np.testing.assert_allclose(output.means["token_accuracy"].mean, hits / weight, rtol=1e-5)
    assert float(output.loss.weight) == weight < float(BATCH.loss_mask.sum())
