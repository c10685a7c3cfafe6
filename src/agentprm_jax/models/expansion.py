"""A decoder with more blocks on top of trained ones; they are the identity until they are trained.

As in LLaMA Pro (arXiv 2401.02415) the projections of new blocks that write into the residual stream begin at 0. Unlike
there the new blocks are no copies, all stand on top, and everything is trained.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from agentprm_jax.models.parameters import Params

_LAYERS = "layers"
_INTO_STREAM = (("attention", "out"), ("mlp", "down"))
"""The projections of a block whose results are added to the residual stream."""


def add_blocks(decoder: Params, larger: Params) -> Params:
    """The decoder with the uppermost blocks of a larger one on top, as the identity: its hidden states stay the same.

    Most of what a language model knows of the next token stands in its last hidden states, at the token before. Blocks
    above those can read it elsewhere, such as where an action ends, and hold what was expected against what was said.

    Args:
        decoder: the `"decoder"` subtree of a trained model's parameters.
        larger: that of a model of the same shape with at least as many blocks, as it is initialised.

    Returns:
        Parameters of the shapes of `larger`. It can be traced.
    """
    blocks = depth(decoder)
    above = jax.tree.map(lambda leaf: leaf[blocks:], larger[_LAYERS])
    for part, projection in _INTO_STREAM:
        above[part][projection] = jax.tree.map(jnp.zeros_like, above[part][projection])
    layers = jax.tree.map(lambda below, new: jnp.concatenate([below, new]), decoder[_LAYERS], above)
    return {**decoder, _LAYERS: layers}


def lower_blocks(abstract: Params, blocks: int) -> Params:
    """The shapes of a decoder without its uppermost blocks, from its own.

    Args:
        abstract: a `"decoder"` subtree of `jax.ShapeDtypeStruct`.
        blocks: how many to take away, fewer than there are.
    """

    def shortened(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((leaf.shape[0] - blocks, *leaf.shape[1:]), leaf.dtype, sharding=leaf.sharding)

    return {**abstract, _LAYERS: jax.tree.map(shortened, abstract[_LAYERS])}


def depth(decoder: Params) -> int:
    """Number of blocks."""
    leaves: list[Any] = jax.tree.leaves(decoder[_LAYERS])
    return int(leaves[0].shape[0])
