"""Saying one token a row at a time after prompts that are only read; every layer has arrays of its own.

A scan over layers copies each layer's weights and each layer's past before it uses them, which costs as much as the
products of a single token. Here the layers are unrolled, the past of the prompts is never written to, and as all rows
say their tokens in step, what they have said is written in place, at the same column of every row.
"""

import operator
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, Int

from agentprm_jax.models.attention import Context, Draft
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.layers import Block, RMSNorm
from agentprm_jax.models.parameters import Params, apply
from agentprm_jax.models.products import contract
from agentprm_jax.models.rope import rotation


class Drafts(NamedTuple):
    """What the rows have seen: prompts of different lengths, and behind each as many tokens said."""

    layers: tuple[Draft, ...]
    lengths: Array  # int32 [b]; tokens of the prompts
    said: Array  # int32 []; tokens said by every row


def unstacked_layers(config: DecoderConfig, decoder: Params) -> tuple[Params, ...]:
    """The parameters of each block by itself."""
    return tuple(jax.tree.map(operator.itemgetter(layer), decoder["layers"]) for layer in range(config.layers))


def say(
    config: DecoderConfig, decoder: Params, layers: tuple[Params, ...], drafts: Drafts, tokens: Int[Array, "b"]
) -> tuple[Float[Array, "b d"], Drafts]:
    """Appends a token to every row.

    Args:
        config: shape of the decoder.
        decoder: the `"decoder"` subtree of the parameters.
        layers: its `unstacked_layers`, computed once for many steps.
        drafts: what the rows have seen; with room for one more token.
        tokens: one for each row; a row that has nothing more to say is given any.

    Returns:
        Hidden states of the tokens after the final norm, and what the rows have seen then.
    """
    columns = (drafts.lengths + drafts.said)[:, None]
    context = Context(*rotation(config, columns), None, drafts.lengths)
    x = decoder["embedding"][tokens[:, None]].astype(config.dtype)
    extended = []
    for weights, draft in zip(layers, drafts.layers, strict=True):
        x, present = apply(Block(config), weights, x, draft, context)
        extended.append(
            draft._replace(
                keys=jax.lax.dynamic_update_slice_in_dim(draft.keys, present.keys, drafts.said, axis=2),
                values=jax.lax.dynamic_update_slice_in_dim(draft.values, present.values, drafts.said, axis=2),
                said=drafts.said + 1,
            )
        )
    hidden = apply(RMSNorm(config), decoder["final_norm"], x)[:, 0]
    return hidden, drafts._replace(layers=tuple(extended), said=drafts.said + 1)


def next_logits(config: DecoderConfig, params: Params, hidden: Float[Array, "b d"]) -> Float[Array, "b v"]:
    """Logits of the token after each hidden state, float32, without the transposed copy of a large head."""
    head = params["decoder"]["embedding"] if config.tied_embeddings else params["lm_head"]["kernel"]
    return contract("bd,vd->bv", hidden, head.astype(hidden.dtype))
