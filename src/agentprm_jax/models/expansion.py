"""More blocks on top of a decoder, which begin as the identity (block expansion, LLaMA Pro, arXiv 2401.02415)."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import init_language_model
from agentprm_jax.models.parameters import Params

_INTO_STREAM = (("attention", "out"), ("mlp", "down"))
"""The projections of a block whose results are added to the residual stream."""


def add_blocks(config: DecoderConfig, decoder: Params, blocks: int, key: PRNGKeyArray) -> tuple[DecoderConfig, Params]:
    """Puts new blocks between the last one and the final norm; hidden states are what they were until training.

    What a language model knows of the next token stands in its last hidden states, at the token before. Only blocks
    above those can read it elsewhere, such as where an action ends, and hold what was expected against what was said.

    Args:
        config: shape of the decoder.
        decoder: its parameters, the `"decoder"` subtree; where they lie on devices, the new ones are cut as they are.
        blocks: how many to add, at least 0.
        key: draws their kernels, but of those that write into the residual stream, which are 0.

    Returns:
        The config with more layers, and the parameters.

    Raises:
        ValueError: `blocks` is negative.
    """
    if blocks < 0:
        raise ValueError(f"add_blocks: expected at least 0 blocks, got {blocks}.")
    if blocks == 0:
        return config, decoder
    layers = jax.tree.map(jnp.asarray, decoder["layers"])

    def extended(old: Params, key: PRNGKeyArray) -> Params:
        new = init_language_model(replace(config, layers=blocks), key)["decoder"]["layers"]
        for part, projection in _INTO_STREAM:
            new[part][projection] = jax.tree.map(jnp.zeros_like, new[part][projection])
        return jax.tree.map(lambda below, above: jnp.concatenate([below, above]), old, new)

    shardings = jax.tree.map(lambda leaf: leaf.sharding, layers)
    more = jax.jit(extended, out_shardings=shardings)(layers, key)
    return replace(config, layers=config.layers + blocks), {**decoder, "layers": more}
