"""More blocks on top of a decoder: they change nothing until they are trained, and then they learn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models import add_blocks, init_reward_model, load_pretrained, promises, save_pretrained
from agentprm_jax.models.parameters import leaves_by_path
from tests.models.tiny_models import (
    BIASED,
    FAMILIES,
    NORMED,
    PLAIN,
    Readouts,
    language_model,
    quick_jit,
    random_tokens,
    reward_model,
    run,
)


def extended(config, blocks, seed=3):
    return add_blocks(config, language_model(config)["decoder"], blocks, jax.random.key(seed))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_new_blocks_change_no_bit_of_the_hidden_states(family, blocks):
    config, tokens = FAMILIES[family], random_tokens(2, 9)
    larger, decoder = extended(config, blocks)
    assert larger == replace(config, layers=config.layers + blocks)
    np.testing.assert_array_equal(run(larger, decoder, tokens), run(config, language_model(config)["decoder"], tokens))


def test_old_blocks_stay_below_and_the_new_ones_have_all_their_parameters():
    old = language_model(BIASED)["decoder"]
    larger, decoder = extended(BIASED, 2)
    wanted = leaves_by_path(jax.eval_shape(lambda key: init_reward_model(larger, key), jax.random.key(0))["decoder"])
    found = leaves_by_path(decoder)
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in found.items()} == {
        path: (leaf.shape, leaf.dtype) for path, leaf in wanted.items()
    }
    for path, leaf in leaves_by_path(old).items():
        np.testing.assert_array_equal(found[path][: len(leaf)] if path[0] == "layers" else found[path], leaf)


def test_all_kernels_of_new_blocks_learn_once_those_that_write_have():
    batch = Readouts(
        random_tokens(1, 9), np.arange(9)[None], np.ones((1, 9), np.int32), np.asarray([[[3, 8]]], np.int32)
    )
    config, decoder = extended(NORMED, 2)
    params = {**reward_model(NORMED), "decoder": decoder}
    gradient = quick_jit(jax.grad(lambda params: jnp.sum(promises(config, params, batch) ** 2)))
    first = leaves_by_path(gradient(params)["decoder"]["layers"])
    writing = {("attention", "out", "kernel"), ("mlp", "down", "kernel")}
    assert {path for path, leaf in first.items() if np.abs(leaf[2:]).max() > 0} == writing
    moved = jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, gradient(params))
    second = leaves_by_path(gradient(moved)["decoder"]["layers"])
    assert all(np.abs(leaf[layer]).max() > 0 for leaf in second.values() for layer in (2, 3))


def test_keys_draw_the_new_blocks_alone():
    one, two, again = (leaves_by_path(extended(PLAIN, 1, seed)[1]) for seed in (1, 2, 1))
    query = ("layers", "attention", "query", "kernel")
    np.testing.assert_array_equal(one[query][:2], two[query][:2])
    assert np.abs(one[query][2] - two[query][2]).max() > 0
    np.testing.assert_array_equal(one[query], again[query])


def test_larger_model_is_saved_and_loaded_as_any_other(tmp_path):
    config, decoder = extended(PLAIN, 1)
    save_pretrained(tmp_path, config, {"decoder": decoder})
    read, params = load_pretrained(tmp_path)
    assert read.layers == 3
    np.testing.assert_array_equal(
        run(read, params["decoder"], random_tokens(2, 9)), run(config, decoder, random_tokens(2, 9))
    )


def test_negative_number_is_refused():
    with pytest.raises(ValueError, match="expected at least 0 blocks, got -1"):
        extended(PLAIN, -1)
