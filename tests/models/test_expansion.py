"""More blocks on top of a decoder: they change nothing until they are trained, and then they learn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models import load_pretrained, promises, save_pretrained
from agentprm_jax.models.expansion import add_blocks, depth, lower_blocks
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

DTYPES = ["float32", "bfloat16"]


def taller(config, blocks):
    """Config and decoder with more blocks; all parameters of both parts are noisy, so that no bias is 0."""
    larger = replace(config, layers=config.layers + blocks)
    return larger, add_blocks(language_model(config)["decoder"], language_model(larger, seed=5)["decoder"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_new_blocks_change_no_bit_of_the_hidden_states(family, dtype):
    config, tokens = replace(FAMILIES[family], dtype=dtype, param_dtype=dtype), random_tokens(2, 9)
    larger, decoder = taller(config, 2)
    np.testing.assert_array_equal(run(larger, decoder, tokens), run(config, language_model(config)["decoder"], tokens))


@pytest.mark.parametrize("dtype", DTYPES)
def test_old_blocks_stay_below_and_the_new_ones_have_all_their_parameters(dtype):
    config = replace(BIASED, param_dtype=dtype)
    old, (larger, decoder) = language_model(config)["decoder"], taller(config, 2)
    found, wanted = (leaves_by_path(tree) for tree in (decoder, language_model(larger, seed=5)["decoder"]))
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in found.items()} == {
        path: (leaf.shape, leaf.dtype) for path, leaf in wanted.items()
    }
    for path, leaf in leaves_by_path(old).items():
        np.testing.assert_array_equal(found[path][: len(leaf)] if path[0] == "layers" else found[path], leaf)
        if path[0] == "layers" and path[2] not in ("out", "down"):
            np.testing.assert_array_equal(found[path][len(leaf) :], wanted[path][len(leaf) :])


@pytest.mark.parametrize("config", [BIASED, NORMED])
def test_all_parameters_of_new_blocks_learn_once_those_that_write_have(config):
    batch = Readouts(
        random_tokens(1, 9), np.arange(9)[None], np.ones((1, 9), np.int32), np.asarray([[[3, 8]]], np.int32)
    )
    larger, decoder = taller(config, 2)
    params = {**reward_model(config), "decoder": decoder}
    gradient = quick_jit(jax.grad(lambda params: jnp.sum(promises(larger, params, batch) ** 2)))
    first = leaves_by_path(gradient(params)["decoder"]["layers"])
    writing = {("attention", "out", "kernel"), ("mlp", "down", "kernel")}
    assert {path for path, leaf in first.items() if np.abs(leaf[2:]).max() > 0} == writing
    moved = jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, gradient(params))
    second = leaves_by_path(gradient(moved)["decoder"]["layers"])
    unmoved = {path for path, leaf in second.items() for layer in (2, 3) if not np.abs(leaf[layer]).max() > 1e-9}
    assert unmoved <= {("attention", "key", "bias")}  # the same for every key, so that softmax takes no notice


def test_larger_model_is_saved_and_loaded_as_any_other(tmp_path):
    config, decoder = taller(PLAIN, 1)
    save_pretrained(tmp_path, config, {"decoder": decoder})
    read, params = load_pretrained(tmp_path)
    assert read.layers == 3
    tokens = random_tokens(2, 9)
    np.testing.assert_array_equal(run(read, params["decoder"], tokens), run(config, decoder, tokens))


def test_shapes_of_the_lower_blocks_are_those_of_the_model_below():
    larger, small = (
        jax.eval_shape(lambda tree: tree, tree) for tree in (taller(BIASED, 3)[1], language_model(BIASED)["decoder"])
    )
    assert depth(larger) == 5
    assert lower_blocks(larger, 3) == small
