"""Low-rank adapters: what they compute, what their gradients are, and what is merged."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models import LoraConfig, extend, init_cache, lm_logits, merge_adapters, promises, with_adapters
from agentprm_jax.models.lora import init_trained
from agentprm_jax.models.lora_config import PROJECTIONS
from tests.models.tiny_models import (
    BIASED,
    NORMED,
    PLAIN,
    Readouts,
    language_model,
    packed,
    quick_jit,
    random_tokens,
    reward_model,
    run,
    shaken,
)

LORA = LoraConfig(rank=3, alpha=5.0)
fresh_adapters = quick_jit(init_trained, static_argnums=0)
logits = quick_jit(lm_logits, static_argnums=0)


def leaf(tree, path):
    for key in path.split("/"):
        tree = tree[key]
    return tree


def trained(lora, base, seed=0):
    """Adapters as they may be after training: no factor is zero."""
    return shaken(fresh_adapters(lora, base, jax.random.key(seed)), seed)


def test_new_adapters_change_no_bit_of_the_output():
    config = NORMED
    base, tokens = language_model(config), random_tokens(2, 9)
    fresh = fresh_adapters(LORA, base, jax.random.key(3))
    np.testing.assert_array_equal(
        logits(config, with_adapters(LORA, base, fresh), tokens), logits(config, base, tokens)
    )


def test_new_factors_are_drawn_as_peft_draws_them():
    fresh = fresh_adapters(replace(LORA, rank=50), language_model(PLAIN), jax.random.key(3))
    for path, inputs in {"attention/query": 16, "attention/out": 24, "mlp/down": 24}.items():
        a, b = (np.asarray(leaf(fresh["decoder"]["layers"], f"{path}/{name}")) for name in ("lora_a", "lora_b"))
        bound = inputs**-0.5
        assert not b.any()
        assert 0.98 * bound < np.abs(a).max() <= bound
        assert a.std() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert a.dtype == b.dtype == np.float32
    assert (leaf(fresh, "decoder/layers/mlp/gate/lora_a") != leaf(fresh, "decoder/layers/mlp/up/lora_a")).any()


@pytest.mark.parametrize("config", [BIASED, NORMED])
def test_a_merged_model_computes_what_the_base_computes_with_its_adapters(config):
    base, tokens = language_model(config), random_tokens(2, 9)
    adapters = trained(LORA, base)
    merged = merge_adapters(LORA, base, adapters)
    ours = logits(config, with_adapters(LORA, base, adapters), tokens)
    np.testing.assert_allclose(ours, logits(config, merged, tokens), atol=2e-5, rtol=1e-5)
    assert jax.tree.structure(merged) == jax.tree.structure(base)
    assert np.abs(ours - logits(config, base, tokens)).max() > 0.1


def test_the_cache_is_extended_with_adapters_as_without():
    base, tokens = language_model(PLAIN), random_tokens(2, 6)
    decoder = with_adapters(LORA, base, trained(LORA, base))["decoder"]
    cache, counts = init_cache(PLAIN, 2, 8), jnp.full((2,), 3)
    parts = []
    for part in (tokens[:, :3], tokens[:, 3:]):
        hidden, cache = quick_jit(extend, static_argnums=0)(PLAIN, decoder, cache, part, counts)
        parts.append(hidden)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), run(PLAIN, decoder, tokens), atol=1e-5)


@pytest.mark.parametrize("remat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_of_adapters_are_the_projections_of_the_gradient_of_the_merged_model(remat):
    config = replace(BIASED, remat=remat)
    base = reward_model(config)
    adapters = trained(LORA, base)
    *row, _ = packed([random_tokens(7), random_tokens(5)], 14)
    batch = Readouts(*map(jnp.asarray, row), jnp.array([[[2, 6], [8, 11]]]))

    def total(params):
        return jnp.square(promises(config, params, batch)).sum()

    ours = quick_jit(jax.grad(lambda adapters: total(with_adapters(LORA, base, adapters))))(adapters)
    full = quick_jit(jax.grad(total))(merge_adapters(LORA, base, adapters))
    for path, inputs in PROJECTIONS.items():
        gradient = np.asarray(leaf(full, f"{path}/kernel"), np.float64)
        for layer in range(config.layers):
            a, b = (np.asarray(leaf(adapters, f"{path}/{name}"))[layer] for name in ("lora_a", "lora_b"))
            matrix = gradient[layer].reshape(np.prod(gradient.shape[1 : 1 + inputs]), -1)
            for_a = LORA.scale * matrix @ b.reshape(LORA.rank, -1).T
            for_b = LORA.scale * a.reshape(-1, LORA.rank).T @ matrix
            for name, expected in (("lora_a", for_a), ("lora_b", for_b)):
                got = np.asarray(leaf(ours, f"{path}/{name}"))[layer].reshape(expected.shape)
                np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max(), err_msg=f"{path}/{name}")
    np.testing.assert_allclose(ours["value_head"]["kernel"], full["value_head"]["kernel"], rtol=1e-4, atol=1e-5)


def test_merging_adds_in_float32_and_rounds_once():
    base = language_model(replace(PLAIN, param_dtype="bfloat16"))
    adapters = jax.tree.map(lambda x: 1e-2 * x, trained(LORA, base))
    merged = merge_adapters(LORA, base, adapters)
    kernel, a, b = (np.asarray(leaf(t, f"decoder/layers/mlp/up/{n}")) for t, n in (
        (base, "kernel"), (adapters, "lora_a"), (adapters, "lora_b")))  # fmt: skip
    expected = (kernel.astype(np.float32) + LORA.scale * (a @ b)).astype(kernel.dtype)
    np.testing.assert_array_equal(leaf(merged, "decoder/layers/mlp/up/kernel"), expected)
    assert (expected != kernel).any()
    assert leaf(merged, "decoder/embedding") is leaf(base, "decoder/embedding")


def test_only_targets_are_adapted_and_only_they_change():
    lora = LoraConfig(rank=2, targets=("*/query", "*/mlp/d*"))
    assert lora.paths == ("decoder/layers/attention/query", "decoder/layers/mlp/down")
    base = reward_model(PLAIN)
    adapters = trained(lora, base)
    assert {*adapters["decoder"]["layers"]["attention"]} == {"query"}
    assert {*adapters["decoder"]["layers"]["mlp"]} == {"down"}
    assert {*adapters} == {"decoder", "value_head"}
    merged = merge_adapters(lora, base, adapters)
    changed = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), merged, base)
    assert [path for path in PROJECTIONS if leaf(changed, path)["kernel"]] == list(lora.paths)
    assert sum(jax.tree.leaves(changed)) == 3  # the value head, which is trained itself, is the third


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": ("*/query", "*/gates")}, r"pattern '\*/gates' matches none .* decoder/layers/mlp/gate, "),
        ({"targets": ()}, "at least one pattern, got none"),
        ({"rank": -1}, "rank must be at least 0, got -1"),
        ({"alpha": 0.0}, "alpha must be a finite number above 0"),
        ({"base_dtype": "int8"}, "base_dtype must be one of bfloat16, float32, stored, got 'int8'"),
    ],
)
def test_what_cannot_be_adapted_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**fields)


def test_the_scale_is_alpha_over_the_rank_or_its_root():
    assert LoraConfig(rank=16, alpha=8.0).scale == 0.5
    assert LoraConfig(rank=16, alpha=8.0, rank_stabilized=True).scale == 2.0


def test_adapters_of_another_config_are_refused_by_path():
    base = language_model(PLAIN)
    adapters = trained(LORA, base)
    with pytest.raises(ValueError, match=r"attention/key/lora_a: expected rank 4, .* got rank 3"):
        with_adapters(replace(LORA, rank=4), base, adapters)
    with pytest.raises(ValueError, match=r"attention/key/lora_a: expected nothing, .* got rank 3"):
        merge_adapters(replace(LORA, targets=("*/query",)), base, adapters)
    with pytest.raises(ValueError, match=r"attention/key/lora_a: expected rank 3, .* got nothing"):
        merge_adapters(LORA, base, base)
    halved = jax.tree.map(lambda x: x, adapters)
    del halved["decoder"]["layers"]["mlp"]["up"]["lora_b"]
    with pytest.raises(ValueError, match=r"mlp/up/lora_b: expected rank 3, .* got nothing"):
        with_adapters(LORA, base, halved)
