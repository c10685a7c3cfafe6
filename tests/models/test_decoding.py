"""Laws of decoding one token a row at a time."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models import extend, init_cache, logits_of
from agentprm_jax.models.decoding import decode_step, decode_weights, next_logits, start_decoding
from tests.models.tiny_models import FAMILIES, NORMED, PLAIN, language_model, quick_jit, random_tokens, run

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
PROMPTS, ROOM = np.array([5, 2, 7], np.int32), 4
read, decode = quick_jit(extend, static_argnums=0), quick_jit(decode_step, static_argnums=0)


def cache_of(config, decoder, tokens):
    """Rows that have read the first `PROMPTS` of their tokens, with room for `ROOM` more."""
    cache = read(config, decoder, init_cache(config, 3, 8), tokens[:, :8], PROMPTS)[1]
    keys, values = (jax.lax.bitcast_convert_type(kept, jnp.dtype(config.dtype)) for kept in (cache.keys, cache.values))
    return start_decoding(config, zip(keys, values, strict=True), cache.lengths, ROOM)


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_in_every_family_what_is_said_token_by_token_equals_the_whole(config):
    params, tokens = language_model(config), random_tokens(3, 12)
    decoder, weights = params["decoder"], decode_weights(config, params)
    cache = cache_of(config, decoder, tokens)
    whole = run(config, decoder, tokens)
    for step in range(ROOM):
        columns = PROMPTS + step
        hidden, cache = decode(config, weights, cache, tokens[np.arange(3), columns])
        np.testing.assert_allclose(hidden.T, whole[np.arange(3), columns], **CLOSE)
    assert int(cache.generated) == ROOM


def test_in_bfloat16_what_is_said_stays_near_the_whole():
    half = replace(PLAIN, dtype="bfloat16")
    params, tokens = language_model(PLAIN), random_tokens(3, 12)
    decoder = params["decoder"]
    cache = cache_of(half, decoder, tokens)
    hidden, _ = decode(half, decode_weights(half, params), cache, tokens[np.arange(3), PROMPTS])
    exact = run(half, decoder, tokens)[np.arange(3), PROMPTS].astype(jnp.float32)
    np.testing.assert_allclose(hidden.T.astype(jnp.float32), exact, atol=0.1)  # 8-bit numbers of size up to 3


def test_in_bfloat16_no_matrix_is_widened_to_float32():
    half = replace(NORMED, embed=64, mlp=96, head_dim=16, dtype="bfloat16")
    params, tokens = language_model(half), random_tokens(3, 12)
    weights, cache = decode_weights(half, params), cache_of(half, params["decoder"], tokens)
    program = jax.jit(decode_step, static_argnums=0).lower(half, weights, cache, tokens[:, 0]).compile().as_text()
    first = weights.layers[0]
    for kernel in (first.heads.kernel, first.out.kernel, first.gate_and_up.kernel, first.down.kernel):
        shape = ",".join(map(str, kernel.shape))
        assert f"bf16[{shape}]" in program
        assert f"f32[{shape}]" not in program


@pytest.mark.parametrize("config", [PLAIN, NORMED], ids=["tied", "untied"])
def test_the_logits_of_the_next_token_are_those_of_the_model(config):
    params, hidden = language_model(config), np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    np.testing.assert_allclose(
        next_logits(decode_weights(config, params), hidden.T).T, logits_of(config, params, hidden), **CLOSE
    )
