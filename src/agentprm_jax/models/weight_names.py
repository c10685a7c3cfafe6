"""Hugging Face's tensor names as data: where each tensor of a checkpoint lies in the parameters, in which layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from agentprm_jax.models.config import DecoderConfig

Layout = Callable[[np.ndarray], np.ndarray]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Weight(NamedTuple):
    """One kind of tensor.

    Attributes:
        name: the checkpoint's name; `{layer}` stands for the number of the block.
        path: keys of the parameter; blocks are stacked along its first axis.
        shape: shape in the checkpoint.
        read: from the checkpoint's layout to the parameter's, for one block.
        write: the inverse.
    """

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...]
    read: Layout
    write: Layout

    @property
    def per_layer(self) -> bool:
        """Whether every block has one."""
        return "{layer}" in self.name


def weight_table(config: DecoderConfig, *, value_head: bool) -> list[Weight]:
    """All tensors of a checkpoint of this decoder, as a causal language model or with a value head."""
    c = config
    block, attention, mlp = "model.layers.{layer}.", ("decoder", "layers", "attention"), ("decoder", "layers", "mlp")
    weights = [_plain(EMBEDDING, ("decoder", "embedding"), (c.vocab_size, c.embed))]
    for ours, theirs, heads in (("query", "q", c.heads), ("key", "k", c.kv_heads), ("value", "v", c.kv_heads)):
        name = f"{block}self_attn.{theirs}_proj"
        weights.append(_linear(f"{name}.weight", (*attention, ours, "kernel"), (c.embed,), (heads, c.head_dim)))
        if c.qkv_bias:
            weights.append(_bias(f"{name}.bias", (*attention, ours, "bias"), (heads, c.head_dim)))
    weights.append(
        _linear(f"{block}self_attn.o_proj.weight", (*attention, "out", "kernel"), (c.heads, c.head_dim), (c.embed,))
    )
    if c.qk_norm:
        weights += [
            _plain(f"{block}self_attn.{theirs}_norm.weight", (*attention, f"{ours}_norm", "scale"), (c.head_dim,))
            for ours, theirs in (("query", "q"), ("key", "k"))
        ]
    for ours, inputs, outputs in (("gate", c.embed, c.mlp), ("up", c.embed, c.mlp), ("down", c.mlp, c.embed)):
        weights.append(_linear(f"{block}mlp.{ours}_proj.weight", (*mlp, ours, "kernel"), (inputs,), (outputs,)))
    weights += [
        _plain(f"{block}input_layernorm.weight", ("decoder", "layers", "attention_norm", "scale"), (c.embed,)),
        _plain(f"{block}post_attention_layernorm.weight", ("decoder", "layers", "mlp_norm", "scale"), (c.embed,)),
        _plain("model.norm.weight", ("decoder", "final_norm", "scale"), (c.embed,)),
    ]
    if value_head:
        weights.append(
            Weight(
                "score.weight",
                ("value_head", "kernel"),
                (1, c.embed),
                lambda x: x[0],
                lambda x: x[None],
            )
        )
    elif not c.tied_embeddings:
        weights.append(_plain(HEAD, ("lm_head", "kernel"), (c.vocab_size, c.embed)))
    return weights


def tensor_names(config: DecoderConfig, weight: Weight) -> list[str]:
    """The names of a kind of tensor in a checkpoint, block by block."""
    return [weight.name.format(layer=layer) for layer in range(config.layers)] if weight.per_layer else [weight.name]


def parameter_shape(config: DecoderConfig, weight: Weight) -> tuple[int, ...]:
    """The shape of the parameter that a kind of tensor becomes."""
    one = weight.read(np.broadcast_to(np.float32(0), weight.shape)).shape  # takes no memory
    return (config.layers, *one) if weight.per_layer else one


def _plain(name: str, path: tuple[str, ...], shape: tuple[int, ...]) -> Weight:
    return Weight(name, path, shape, lambda x: x, lambda x: x)


def _bias(name: str, path: tuple[str, ...], outputs: tuple[int, ...]) -> Weight:
    return Weight(name, path, (int(np.prod(outputs)),), lambda x: x.reshape(outputs), lambda x: x.reshape(-1))


def _linear(name: str, path: tuple[str, ...], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Weight:
    """Checkpoints hold `[outputs, inputs]`, parameters `[*inputs, *outputs]`."""
    rows, columns = int(np.prod(inputs)), int(np.prod(outputs))
    return Weight(
        name,
        path,
        (columns, rows),
        lambda x: x.T.reshape(*inputs, *outputs),
        lambda x: x.reshape(rows, columns).T,
    )
