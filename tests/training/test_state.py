import functools

import jax
import numpy as np
import pytest
from tiny_training import MODEL

from agentprm_jax.models import init_reward_model
from agentprm_jax.training.state import place_pretrained


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def equal(one, other):
    return all((a == b).all() for a, b in zip(leaves(one), leaves(other), strict=True))


def test_the_state_is_a_function_of_the_key(prm_program):
    first, again, other = (prm_program.init(jax.random.key(seed), {}).params for seed in (3, 3, 4))
    assert equal(first, again)
    assert not equal(first["value_head"], other["value_head"])


def test_parameters_begin_as_the_model_makes_them(prm_program):
    made = jax.jit(functools.partial(init_reward_model, MODEL))(jax.random.key(3))
    assert equal(prm_program.init(jax.random.key(3), {}).params, made)


def test_a_pretrained_subtree_takes_the_place_of_the_random_one_and_only_of_that(prm_program):
    trained, fresh = (prm_program.init(jax.random.key(seed), {}).params for seed in (1, 2))
    decoder = jax.tree.map(np.array, trained["decoder"])
    mixed = prm_program.init(jax.random.key(2), {"decoder": trained["decoder"]}).params
    assert equal(mixed["decoder"], decoder)
    assert equal(mixed["value_head"], fresh["value_head"])


def test_an_unknown_pretrained_subtree_is_refused(prm_program):
    with pytest.raises(ValueError, match="unknown subtree 'encoder'"):
        place_pretrained({"encoder": {}}, prm_program.abstract.params)


def test_a_pretrained_array_of_another_shape_or_name_is_refused_by_path(prm_program):
    head = prm_program.init(jax.random.key(0), {}).params["value_head"]
    with pytest.raises(ValueError, match=r"value_head/kernel: expected float32\[16\], got float32\[8\]"):
        place_pretrained({"value_head": {"kernel": head["kernel"][:8]}}, prm_program.abstract.params)
    with pytest.raises(ValueError, match="value_head/bias: expected nothing, got float32"):
        place_pretrained({"value_head": head | {"bias": head["kernel"]}}, prm_program.abstract.params)
    with pytest.raises(ValueError, match=r"value_head/kernel: expected float32.*, got nothing"):
        place_pretrained({"value_head": {}}, prm_program.abstract.params)
