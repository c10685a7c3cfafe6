import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import MODEL

from agentprm_jax.models import init_reward_model
from agentprm_jax.training.config import OptimizerConfig
from agentprm_jax.training.mesh import path_name
from agentprm_jax.training.optimizer import decay_mask, learning_rate_schedule, make_optimizer


def rates(total=100, **fields):
    schedule = learning_rate_schedule(OptimizerConfig(learning_rate=1.0, **fields), total)
    return np.array([float(schedule(step)) for step in range(total)])


def test_kernels_and_embeddings_decay_and_norms_do_not():
    params = jax.eval_shape(functools.partial(init_reward_model, MODEL), jax.random.key(0))
    mask = {path_name(path): decays for path, decays in jax.tree.leaves_with_path(decay_mask(params))}
    assert {path for path, decays in mask.items() if not decays} == {
        "decoder/final_norm/scale",
        "decoder/layers/attention_norm/scale",
        "decoder/layers/mlp_norm/scale",
    }


def test_a_parameter_that_the_decay_table_does_not_know_is_refused_by_path():
    with pytest.raises(ValueError, match=r"parameter decoder/gain must match exactly one row .* matches none"):
        make_optimizer(OptimizerConfig(), 10).init({"decoder": {"gain": jnp.ones(3)}})


def test_warm_up_rises_in_equal_steps_to_the_peak_and_wastes_no_step():
    rising = rates(warmup_fraction=0.1)[:11]
    np.testing.assert_allclose(np.diff(rising), 1 / 11, rtol=1e-5)
    assert rising[0] > 0
    assert rising[10] == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_last_step_has_the_final_fraction(schedule):
    falling = rates(schedule=schedule, final_fraction=0.25)
    assert falling[-1] == pytest.approx(0.25)
    assert (np.diff(falling[5:]) < 0).all()


def test_cosine_is_half_way_down_in_the_middle():
    assert rates(101, warmup_fraction=0.0, final_fraction=0.0)[50] == pytest.approx(0.5)


def test_constant_stays_at_the_peak_after_warm_up():
    assert (rates(schedule="constant", warmup_fraction=0.1)[10:] == 1.0).all()


def test_a_run_of_one_step_has_a_learning_rate():
    assert rates(1)[0] > 0


def adamw(config, params, gradients, schedule, decays):
    """AdamW with clipping by the global norm, written out in float64."""
    m = {name: np.zeros_like(p) for name, p in params.items()}
    v = {name: np.zeros_like(p) for name, p in params.items()}
    for step, gradient in enumerate(gradients):
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        clipped = {name: g * min(1.0, config.clip_norm / norm) for name, g in gradient.items()}
        for name, g in clipped.items():
            m[name] = config.b1 * m[name] + (1 - config.b1) * g
            v[name] = config.b2 * v[name] + (1 - config.b2) * g**2
            mean, square = m[name] / (1 - config.b1 ** (step + 1)), v[name] / (1 - config.b2 ** (step + 1))
            decay = config.weight_decay * decays[name] * params[name]
            direction = mean / (np.sqrt(square) + config.eps) + decay
            params = params | {name: params[name] - float(schedule(step)) * direction}
    return params


def test_updates_equal_adamw_written_out():
    rng = np.random.default_rng(0)
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.3, clip_norm=2.0)
    flat = {"kernel": rng.normal(size=(3, 2)), "scale": rng.normal(size=3)}
    gradients = [{name: size * rng.normal(size=p.shape) for name, p in flat.items()} for size in (10.0, 0.1, 3.0, 0.01)]
    optimizer = make_optimizer(config, 4)
    params = {"layer": jax.tree.map(jnp.asarray, flat)}
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update({"layer": jax.tree.map(jnp.asarray, gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    expected = adamw(config, flat, gradients, learning_rate_schedule(config, 4), {"kernel": 1.0, "scale": 0.0})
    for name, value in expected.items():
        np.testing.assert_allclose(params["layer"][name], value, rtol=1e-5)


def first_updates(rule, gradients, params):
    optimizer = make_optimizer(OptimizerConfig(rule=rule, learning_rate=1.0, weight_decay=0.0, warmup_fraction=0.0), 9)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return {path_name(path): -np.asarray(update) for path, update in jax.tree.leaves_with_path(updates)}


def test_muon_makes_the_kernels_of_every_layer_orthogonal_and_leaves_the_rest_to_adamw():
    params = init_reward_model(MODEL, jax.random.key(0))
    gradients = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), params)
    muon, adamw = (first_updates(rule, gradients, params) for rule in ("muon", "adamw"))
    inputs = {"attention/out": MODEL.heads * MODEL.head_dim, "mlp/down": MODEL.mlp}
    orthogonal = set()
    for path, gradient in jax.tree.leaves_with_path(gradients):
        name = path_name(path)
        if np.array_equal(muon[name], adamw[name]):
            continue
        orthogonal.add(name.removeprefix("decoder/layers/").removesuffix("/kernel"))
        rows = next((size for part, size in inputs.items() if part in name), MODEL.embed)
        for layer in range(MODEL.layers):
            made, of = (np.asarray(x[layer], np.float64).reshape(rows, -1) for x in (muon[name], gradient))
            left, _, right = np.linalg.svd(of, full_matrices=False)
            values = left.T @ made @ right.T / (0.2 * max(made.shape) ** 0.5)
            off = values - np.diag(np.diag(values))
            assert np.abs(off).max() < 1e-3
            assert 0.6 < np.diag(values).min() <= np.diag(values).max() < 1.3
    assert orthogonal == {f"attention/{n}" for n in ("query", "key", "value", "out")} | {
        f"mlp/{n}" for n in ("gate", "up", "down")
    }
