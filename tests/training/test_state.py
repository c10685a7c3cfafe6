import functools

import jax
import numpy as np
import pytest
from tiny_training import LORA, MODEL, pretrained_base, tiny_program

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


def test_extra_blocks_stand_above_a_pretrained_decoder_and_are_those_of_the_key():
    base, program = pretrained_base(), tiny_program(extra_blocks=2)
    fresh, taller = (program.init(jax.random.key(3), given).params["decoder"] for given in ({}, base))
    assert equal(jax.tree.map(lambda leaf: leaf[: MODEL.layers], taller["layers"]), base["decoder"]["layers"])
    assert equal(taller["embedding"], base["decoder"]["embedding"])
    above, drawn = (jax.tree.map(lambda leaf: leaf[MODEL.layers :], tree["layers"]) for tree in (taller, fresh))
    for part, writes, reads in (("attention", "out", "query"), ("mlp", "down", "gate")):
        assert not np.any(above[part][writes]["kernel"])
        assert equal(above[part][reads], drawn[part][reads])
        assert above[part][reads]["kernel"].std() > 0
    shardings = [
        jax.tree.map(lambda leaf: leaf.sharding, tree) for tree in (taller, program.abstract.params["decoder"])
    ]
    assert shardings[0] == shardings[1]


def test_a_pretrained_decoder_of_another_height_than_the_lower_blocks_is_refused():
    program = tiny_program(extra_blocks=2)
    whole = program.init(jax.random.key(0), {}).params["decoder"]
    with pytest.raises(ValueError, match=r"decoder/layers/.*: expected float32\[2,.*got float32\[4,"):
        program.init(jax.random.key(0), {"decoder": whole})


def test_blocks_are_not_added_where_only_adapters_are_trained():
    with pytest.raises(ValueError, match="extra_blocks must be 0 where adapters are trained"):
        tiny_program(extra_blocks=1, lora=LORA)


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
