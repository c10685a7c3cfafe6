"""Every signature's shapes, checked at run time while the models do real work."""

import importlib
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError, install_import_hook

from agentprm_jax.models import LoraConfig, with_adapters
from agentprm_jax.models.lora import init_trained
from tests.models.tiny_models import BIASED, NORMED, Readouts, packed, random_tokens

PACKAGE = "agentprm_jax.models"
# Those that others import come first, so that their checked copies are the ones imported.
MODULES = (
    "parameters",
    "products",
    "rope",
    "placement",
    "blockwise",
    "splash",
    "attention",
    "layers",
    "heads",
    "decoder",
    "forward",
    "cache",
)


@pytest.fixture(scope="module")
def checked():
    """Fresh copies of the modules whose every call is checked; the originals are back afterwards."""
    package = importlib.import_module(PACKAGE)
    names = {module: f"{PACKAGE}.{module}" for module in MODULES}
    originals = {module: importlib.import_module(name) for module, name in names.items()}
    for name in names.values():
        del sys.modules[name]
    with install_import_hook(list(names.values()), "beartype.beartype"):
        copies = {module: importlib.import_module(name) for module, name in names.items()}
    for module, name in names.items():
        sys.modules[name] = originals[module]
        setattr(package, module, originals[module])
    return SimpleNamespace(**copies)


def test_signatures_hold_through_a_reward_model_and_its_gradient(checked):
    *row, _ = packed([random_tokens(7), random_tokens(5)], 14)
    batch = Readouts(*map(jnp.asarray, row), jnp.array([[[2, 6], [8, 11]]]))

    def total(params):
        return checked.forward.promises(BIASED, params, batch).sum()

    def run(key):
        return jax.grad(total)(checked.forward.init_reward_model(BIASED, key))

    gradient = jax.eval_shape(run, jax.random.key(0))
    assert gradient["value_head"]["kernel"].shape == (16,)


def test_signatures_hold_with_adapters(checked):
    lora = LoraConfig(rank=3)

    def run(key, tokens):
        params = checked.forward.init_language_model(NORMED, key)
        return checked.forward.lm_logits(NORMED, with_adapters(lora, params, init_trained(lora, params, key)), tokens)

    logits = jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, 5), jnp.int32))
    assert logits.shape == (2, 5, 40)


@pytest.mark.parametrize("width", [1, 3])
def test_signatures_hold_through_a_language_model_and_its_cache(checked, width):
    def run(key, tokens):
        params = checked.forward.init_language_model(NORMED, key)
        cache = checked.cache.init_cache(NORMED, 2, 8)
        hidden, cache = checked.cache.extend(NORMED, params["decoder"], cache, tokens, jnp.full((2,), width))
        logits = checked.forward.lm_logits(NORMED, params, tokens)
        return (
            logits,
            checked.forward.logits_of(NORMED, params, hidden[:, -1]),
            checked.cache.fork(cache, jnp.arange(3)),
        )

    logits, last, forked = jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, width), jnp.int32))
    assert logits.shape == (2, width, 40)
    assert last.shape == (2, 40)
    assert forked.keys.shape == (2, 3, 2, 8, 6)


def test_a_wrong_shape_is_noticed(checked):
    with pytest.raises(TypeCheckError):
        checked.layers.rms_norm(jnp.zeros((2, 4)), jnp.zeros(3), 1e-6)
    with pytest.raises(TypeCheckError):
        checked.cache.reset(checked.cache.init_cache(BIASED, 2, 4), np.zeros(2, bool)[None])
