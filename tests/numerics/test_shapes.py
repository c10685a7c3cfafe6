"""Every signature's shapes and dtypes, checked at run time while the functions do real work."""

import importlib
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError, install_import_hook

PACKAGE = "agentprm_jax.numerics"
# Those that others import come first, so that their checked copies are the ones imported.
ROOMS = ("steps", "weighted", "decayed_sums", "targets", "losses", "aggregate", "best_of_n", "calibration")


@pytest.fixture(scope="module")
def checked():
    """Fresh copies of the modules whose every call is checked; the originals are back afterwards."""
    package = importlib.import_module(PACKAGE)
    names = {room: f"{PACKAGE}.{room}" for room in ROOMS}
    originals = {room: importlib.import_module(name) for room, name in names.items()}
    for name in names.values():
        del sys.modules[name]
    with install_import_hook(list(names.values()), "beartype.beartype"):
        copies = {room: importlib.import_module(name) for room, name in names.items()}
    for room, name in names.items():
        sys.modules[name] = originals[room]
        setattr(package, room, originals[room])
    return SimpleNamespace(**copies)


def batch_of(leading, dtype):
    rng = np.random.default_rng(0)
    return SimpleNamespace(
        promises=jnp.asarray(rng.random((*leading, 5)), dtype),
        outcomes=jnp.asarray(rng.random(leading), dtype),
        mask=jnp.asarray(np.arange(5) < rng.integers(0, 6, leading)[..., None]),
        logits=jnp.asarray(rng.random((*leading, 5, 7)), dtype),
        labels=jnp.zeros((*leading, 5), int),
    )


def run_everything(rooms, batch):
    initial = batch.outcomes
    targets = rooms.targets.promise_targets(
        batch.promises, batch.outcomes, batch.mask, initial_values=initial, gamma=1.0, lam=0.9
    )
    losses = [
        rooms.losses.agentprm_loss(
            batch.promises, targets, batch.mask, initial_values=initial, beta=1.0, progress=progress
        )
        for progress in rooms.losses.PROGRESS_FORMS
    ]
    others = [
        rooms.losses.value_loss(batch.promises, targets.promise, batch.mask),
        rooms.losses.orm_loss(batch.promises, batch.outcomes, batch.mask),
        rooms.losses.cross_entropy(batch.logits, batch.labels, batch.mask),
    ]
    merged = rooms.weighted.merge(*others, *losses[0])
    scores = [
        rooms.aggregate.aggregate(batch.promises, targets.advantage, batch.mask, how)
        for how in rooms.aggregate.AGGREGATIONS
    ]
    return merged.mean, [loss.mean for loss in losses], scores


@pytest.mark.parametrize(("leading", "dtype"), [((), jnp.float32), ((4,), jnp.bfloat16), ((2, 3), jnp.float32)])
def test_signatures_hold_for_any_leading_shape_under_jit_and_grad(checked, leading, dtype):
    batch = batch_of(leading, dtype)

    @jax.jit
    def losses_and_gradient(promises):
        def total(promises):
            merged, losses, scores = run_everything(checked, SimpleNamespace(**vars(batch) | {"promises": promises}))
            return merged + sum(losses), (losses, scores)

        return jax.grad(total, has_aux=True)(promises)

    gradient, (losses, scores) = losses_and_gradient(batch.promises)
    assert gradient.shape == batch.promises.shape
    assert {loss.shape for loss in losses} == {()}
    assert {score.shape for score in scores} == {leading}


def test_signatures_hold_under_vmap(checked):
    batch = batch_of((4,), jnp.float32)
    everything = jax.jit(jax.vmap(lambda arrays: run_everything(checked, SimpleNamespace(**arrays))))
    merged, _, scores = everything(vars(batch))
    assert merged.shape == scores[0].shape == (4,)


def test_signatures_of_the_host_side_hold(checked):
    scores, outcomes = np.array([0.1, 0.4, 0.4]), np.array([0.0, 1.0, 0.0])
    steps, ragged = np.array([0, 1, 1]), [scores[:1], scores, scores[:0]]
    assert checked.best_of_n.best_of_n_curve(scores[None], outcomes[None], [1, 3]).shape == (1, 2)
    assert checked.best_of_n.best_of_n(scores, outcomes, 3) == 0.5
    assert checked.best_of_n.pass_at_n(outcomes, 3) == 1.0
    calibration = checked.calibration
    assert calibration.auc(scores, outcomes) == 0.75
    assert calibration.brier(scores, outcomes) == calibration.mse(scores, outcomes)
    assert calibration.constant_mse(outcomes, reference_outcomes=outcomes) > 0
    assert calibration.step_index_mse(steps, outcomes, reference_steps=steps, reference_outcomes=outcomes) > 0
    assert len(calibration.reliability(scores, outcomes, 4)) == 4
    assert len(calibration.fixed_step_auc(ragged, outcomes, ["a", "a", "b"])) == 3
    assert calibration.fixed_step_pairs(ragged, outcomes, ["a", "a", "b"]).pairs.shape == (2, 3)
    assert calibration.flatten_steps(ragged, outcomes).steps.tolist() == [0, 0, 1, 2]


def test_the_checks_are_on(checked):
    with pytest.raises(TypeCheckError):
        checked.targets.gae(jnp.zeros((2, 5)), jnp.zeros((2, 5)), jnp.zeros((2, 5)), 0.9)
    with pytest.raises(TypeCheckError):
        checked.losses.value_loss(jnp.zeros((2, 5)), jnp.zeros((2, 1)), jnp.ones((2, 5), bool))
    with pytest.raises(TypeCheckError):
        checked.calibration.auc(np.zeros(3), np.zeros(2))


def test_the_originals_are_back_after_checking(checked):
    for room in ROOMS:
        assert importlib.import_module(f"{PACKAGE}.{room}") is not getattr(checked, room)
