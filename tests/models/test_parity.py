"""Outputs of Qwen2, Qwen3 and Llama as `transformers` computed them, layer by layer (recorded by make_golden.py)."""

import pathlib
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from agentprm_jax.models import lm_logits, load_pretrained
from agentprm_jax.models.layers import rms_norm
from tests.models.tiny_models import quick_jit, run

RECORDED = pathlib.Path(__file__).parent.parent / "recorded" / "models"
FAMILIES = ("qwen2", "qwen3", "llama")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=FAMILIES)
def recorded(request):
    folder = RECORDED / request.param
    with np.load(folder / "expected.npz") as expected:
        return *load_pretrained(folder), dict(expected)


def first_blocks(config, decoder, count):
    """The decoder of the first `count` blocks."""
    layers = jax.tree.map(lambda x: x[:count], decoder["layers"])
    return replace(config, layers=count), decoder | {"layers": layers}


def test_the_switches_of_each_family_are_read():
    switches = {
        name: (c.qkv_bias, c.qk_norm, c.tied_embeddings, c.rope_scaling is not None)
        for name in FAMILIES
        for c in [load_pretrained(RECORDED / name)[0]]
    }
    assert switches == {
        "qwen2": (True, False, True, False),
        "qwen3": (False, True, False, False),
        "llama": (False, False, False, True),
    }


def test_logits_are_those_of_transformers(recorded):
    config, params, expected = recorded
    logits = quick_jit(partial(lm_logits, config))(params, expected["tokens"])
    np.testing.assert_allclose(logits, expected["logits"], **CLOSE)


def test_every_block_gives_the_hidden_states_of_transformers(recorded):
    config, params, expected = recorded
    decoder, hidden = params["decoder"], expected["hidden_states"]
    np.testing.assert_array_equal(decoder["embedding"][expected["tokens"]], hidden[0])
    for count in range(1, config.layers + 1):
        ours = run(*first_blocks(config, decoder, count), expected["tokens"])
        theirs = hidden[count]
        if count < config.layers:  # transformers norms its last hidden states only, we also those of fewer blocks
            theirs = rms_norm(theirs, decoder["final_norm"]["scale"], config.norm_eps)
        np.testing.assert_allclose(ours, theirs, **CLOSE)
