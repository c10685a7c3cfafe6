"""Laws of the forward passes of language models and reward models."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models import hidden_states, init_reward_model, lm_logits, logical_axes, logits_of, promises
from agentprm_jax.models.placement import Unconstrained
from tests.models.tiny_models import (
    BIASED,
    FAMILIES,
    NORMED,
    PLAIN,
    Readouts,
    language_model,
    packed,
    quick_jit,
    random_tokens,
    reward_model,
    run,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
logits = quick_jit(lm_logits, static_argnums=0)
read = quick_jit(promises, static_argnums=0)


@partial(quick_jit, static_argnums=0)
def loss_and_gradient(config, params, batch):
    def loss(params):
        return jnp.sum(jnp.square(promises(config, params, batch) - 1.0))

    return jax.value_and_grad(loss)(params)


def test_a_row_may_be_as_long_as_the_model_is_meant_for_and_longer_only_if_its_positions_are_given():
    short, params = replace(PLAIN, max_positions=6), language_model(PLAIN)
    full, longer = random_tokens(1, 6), random_tokens(1, 7)
    assert jax.eval_shape(lambda: lm_logits(short, params, full)).shape == (1, 6, 40)
    with pytest.raises(ValueError, match=r"tokens: expected rows of at most max_positions=6 tokens.*got 7"):
        lm_logits(short, params, longer)
    positions, segments = np.array([[0, 1, 2, 3, 0, 1, 2]]), np.array([[1, 1, 1, 1, 2, 2, 2]])
    packed_row = jax.eval_shape(lambda: lm_logits(short, params, longer, positions=positions, segments=segments))
    assert packed_row.shape == (1, 7, 40)


def two_trajectories():
    """Seven and five tokens in one row, of two steps each."""
    *row, _ = packed([random_tokens(7), random_tokens(5, seed=2)], 30)
    return Readouts(*row, np.array([[[2, 6], [8, 11]]]))


families = pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)


@families
def test_a_trajectory_in_a_packed_row_has_the_hidden_states_it_has_alone(config):
    decoder = language_model(config)["decoder"]
    sequences = [random_tokens(n, seed=n) for n in (9, 1, 14)]
    *row, starts = packed(sequences, 30)
    together = run(config, decoder, *row)
    for sequence, start in zip(sequences, starts, strict=True):
        *lone_row, _ = packed([sequence], 30)
        alone = run(config, decoder, *lone_row)[:, : len(sequence)]
        np.testing.assert_allclose(together[:, start : start + len(sequence)], alone, **CLOSE)


def test_the_promise_of_a_step_in_a_packed_row_is_its_promise_alone():
    params = reward_model(BIASED)
    sequences = [random_tokens(n, seed=n) for n in (9, 14)]
    *row, starts = packed(sequences, 30)
    columns = [[3, 8], [2, 13]]
    together = read(BIASED, params, Readouts(*row, np.array([columns]) + np.array(starts)[None, :, None]))
    assert together.shape == (1, 2, 2)
    for number, sequence in enumerate(sequences):
        *lone_row, _ = packed([sequence], 30)
        alone = read(BIASED, params, Readouts(*lone_row, np.array([[columns[number]] * 2])))
        np.testing.assert_allclose(together[0, number], alone[0, 0], **CLOSE)


def test_a_promise_is_the_product_of_the_last_hidden_state_with_the_value_kernel():
    params = reward_model(PLAIN)
    *row, _ = packed([random_tokens(9)], 30)
    hidden = run(PLAIN, params["decoder"], *row)
    got = read(PLAIN, params, Readouts(*row, np.array([[[4, 8]]])))
    np.testing.assert_allclose(got[0, 0], hidden[0, [4, 8]] @ params["value_head"]["kernel"], **CLOSE)


@families
def test_a_token_does_not_see_later_tokens(config):
    params = language_model(config)
    tokens = random_tokens(2, 12)
    changed = tokens.copy()
    changed[:, 7] = (changed[:, 7] + 1) % config.vocab_size
    before, after = logits(config, params, tokens), logits(config, params, changed)
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert np.all(np.abs(before[:, 7:] - after[:, 7:]).max(axis=-1) > 1e-4)


def test_padding_sees_no_trajectory_and_no_trajectory_sees_padding():
    decoder = language_model(PLAIN)["decoder"]
    tokens, positions, segments, _ = packed([random_tokens(6)], 30)
    filled = tokens.copy()
    filled[:, 6:] = 7
    np.testing.assert_array_equal(
        run(PLAIN, decoder, tokens, positions, segments)[:, :6], run(PLAIN, decoder, filled, positions, segments)[:, :6]
    )
    other = tokens.copy()
    other[:, :6] = (other[:, :6] + 1) % 40
    before = run(PLAIN, decoder, tokens, positions, segments)[:, 6:]
    np.testing.assert_array_equal(before, run(PLAIN, decoder, other, positions, segments)[:, 6:])


def test_rows_do_not_see_each_other():
    decoder = language_model(PLAIN)["decoder"]
    tokens = random_tokens(3, 8)
    others = random_tokens(3, 8, seed=1)
    others[1] = tokens[1]
    before, after = run(PLAIN, decoder, tokens), run(PLAIN, decoder, others)
    np.testing.assert_array_equal(before[1], after[1])
    assert np.all(np.abs(before - after)[[0, 2]].max(axis=(1, 2)) > 1e-4)


def test_padding_gets_no_gradient():
    params = reward_model(BIASED)
    tokens, positions, segments, _ = packed([random_tokens(6, vocab_size=20)], 30)
    tokens[:, 6:] = 30  # a token that occurs in padding only
    _, gradient = loss_and_gradient(BIASED, params, Readouts(tokens, positions, segments, np.array([[[2, 5]]])))
    embedding = gradient["decoder"]["embedding"]
    assert not np.any(embedding[30])
    assert np.all(np.abs(embedding[np.unique(tokens[:, :6])]).sum(axis=-1) > 0)


def test_positions_shifted_by_a_constant_change_nothing():
    decoder = language_model(PLAIN)["decoder"]
    tokens, positions, segments, _ = packed([random_tokens(30)], 30)
    before = run(PLAIN, decoder, tokens, positions, segments)
    np.testing.assert_allclose(run(PLAIN, decoder, tokens, positions + 11, segments), before, **CLOSE)


def test_tied_logits_use_the_embedding_and_untied_ones_a_head_of_their_own():
    tied, untied = language_model(PLAIN), language_model(NORMED)
    hidden = jnp.asarray(np.random.default_rng(0).standard_normal((3, 16)), jnp.float32)
    assert set(tied) == {"decoder"}
    assert set(untied) == {"decoder", "lm_head"}
    np.testing.assert_allclose(logits_of(PLAIN, tied, hidden), hidden @ tied["decoder"]["embedding"].T, **CLOSE)
    np.testing.assert_allclose(logits_of(NORMED, untied, hidden), hidden @ untied["lm_head"]["kernel"].T, **CLOSE)


@pytest.mark.parametrize(
    ("config", "present"), [(PLAIN, set()), (BIASED, {"bias"}), (NORMED, {"query_norm", "key_norm"})]
)
def test_switches_decide_which_parameters_there_are(config, present):
    attention = language_model(config)["decoder"]["layers"]["attention"]
    norms = {name for name in attention if name.endswith("_norm")}
    biased = {name for name in ("query", "key", "value", "out") if "bias" in attention[name]}
    assert norms | ({"bias"} if biased else set()) == present
    assert biased in (set(), {"query", "key", "value"})


@families
@pytest.mark.parametrize("kind", ["language_model", "reward_model"])
def test_every_parameter_has_a_logical_name_for_each_axis(config, kind):
    params = {"language_model": language_model, "reward_model": reward_model}[kind](config)
    axes = logical_axes(config, kind)
    ranks = jax.tree.map(len, axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    assert ranks == jax.tree.map(jnp.ndim, params)
    sizes = {"layers": 2, "vocab": 40, "embed": 16, "mlp": 24, "heads": 4, "kv_heads": 2, "head_dim": 6}
    named = jax.tree.map(lambda a: tuple(sizes[n] for n in a), axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    assert named == jax.tree.map(jnp.shape, params)


def test_a_reward_model_starts_from_the_given_decoder_with_promises_near_zero():
    decoder = language_model(PLAIN)["decoder"]
    params = init_reward_model(PLAIN, jax.random.key(0), decoder)
    jax.tree.map(np.testing.assert_array_equal, params["decoder"], decoder)
    assert params["value_head"]["kernel"].shape == (16,)
    *row, _ = packed([random_tokens(30)], 30)
    start = read(PLAIN, params, Readouts(*row, np.array([[[4, 8]]])))
    assert 0 < np.abs(start).max() < 4 * 16**-0.5


def test_parameters_are_a_function_of_the_key():
    init = quick_jit(partial(init_reward_model, PLAIN))
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, again))
    for name in ("query", "key", "value", "out"):
        kernels = [tree["decoder"]["layers"]["attention"][name]["kernel"] for tree in (first, other)]
        assert not np.any(kernels[0] == kernels[1])
        assert not np.any(kernels[0][0] == kernels[0][1])  # blocks differ as well


def test_rematerialisation_changes_no_gradient():
    params, batch = reward_model(BIASED), two_trajectories()
    kept, recomputed = (loss_and_gradient(replace(BIASED, remat=remat), params, batch) for remat in (False, True))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), kept, recomputed)


def test_the_gradient_is_the_slope_of_the_loss():
    params, batch = reward_model(BIASED), two_trajectories()
    _, gradient = loss_and_gradient(BIASED, params, batch)
    direction = jax.tree.map(lambda g: g / jnp.maximum(jnp.linalg.norm(g), 1e-6), gradient)
    step = 1e-3
    above, below = (
        loss_and_gradient(BIASED, jax.tree.map(lambda p, d, size=size: p + size * d, params, direction), batch)[0]
        for size in (step, -step)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float(jnp.sum(g * d)), gradient, direction)))
    assert slope == pytest.approx(float(above - below) / (2 * step), rel=2e-3)  # float32 differences


def test_bfloat16_computes_near_float32_and_hands_out_float32_numbers_and_gradients():
    params, batch = reward_model(BIASED), two_trajectories()
    half = replace(BIASED, dtype="bfloat16")
    ours, gradient = loss_and_gradient(half, params, batch)
    exact, exact_gradient = loss_and_gradient(BIASED, params, batch)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((ours, gradient))} == {"float32"}
    np.testing.assert_allclose(ours, exact, rtol=0.05)  # 8-bit numbers through two blocks
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact_gradient), strict=True):
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(exact_gradient["value_head"]["kernel"])  # as above
    assert jax.eval_shape(lambda: hidden_states(half, params["decoder"], batch.tokens)).dtype == jnp.bfloat16
    assert jax.eval_shape(lambda: lm_logits(half, params, batch.tokens)).dtype == jnp.float32


def test_constraints_see_every_kind_of_activation_with_one_name_for_each_axis():
    seen = set()

    class Note(Unconstrained):
        def __call__(self, x, axes):
            assert x.ndim == len(axes)
            seen.add(axes)
            return x

    lm_logits(PLAIN, language_model(PLAIN), random_tokens(2, 4), constrain=Note())
    assert seen == {
        ("batch", None, None),
        ("batch", None, "heads", None),
        ("batch", None, "kv_heads", None),
        ("batch", None, "mlp"),
        ("batch", None, "vocab"),
        ("replica", None),
        ("replica", None, "embed"),
    }
