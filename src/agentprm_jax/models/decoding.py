"""Autoregressive decoding: one token per row per call after prompts, with unrolled layers.

A scan over layers copies each layer's weights and each layer's past before it uses them, which costs as much as the
products of a single token. Here every layer has arrays of its own, and as all rows generate their tokens in step, keys
and values are written in place, at the same column of every row. What is written stands apart from the prompts, which
no step changes: their keys lie turned, as products with single queries take them.

Matrices have their outputs first and stand left of the activations, whose rows come last: `[o, i]` times `[i, b]`. Of
a product's two operands XLA's CPU compiler lays out the right one anew in every call; with the weights on the right
that takes longer than the sums of a few rows. Projections of the same input are one matrix: few large products keep
more processors busy than many small ones.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Bool, Float, Int

from agentprm_jax.models.bits import as_bits
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.layers import rms_norm, swiglu
from agentprm_jax.models.lora_config import PROJECTIONS
from agentprm_jax.models.parameters import LORA_A, LORA_B, Params
from agentprm_jax.models.products import contract
from agentprm_jax.models.rope import rotate, rotation


class Matrix(NamedTuple):
    """Linear maps of one input, one below the other."""

    kernel: Array  # [o, i]; adapters are merged into it
    bias: Array | None  # [o]


class Layer(NamedTuple):
    """The weights of one block."""

    attention_norm: Array  # [d]
    heads: Matrix  # queries, keys and values; its outputs are [h + 2k, e]
    query_norm: Array | None  # [e]
    key_norm: Array | None  # [e]
    out: Matrix  # [d, h * e]
    mlp_norm: Array  # [d]
    gate_and_up: Matrix  # [2f, d]
    down: Matrix  # [d, f]


class DecodeWeights(NamedTuple):
    """A language model's weights rearranged for decoding, in the dtype of its activations."""

    embedding: Array  # [v, d]; bits, see `models.bits`
    layers: tuple[Layer, ...]
    final_norm: Array  # [d]
    head: Array  # [v, d]


class LayerCache(NamedTuple):
    """Keys, rotated, and values of a layer: of the prompts, and of what was generated after them."""

    prompt_keys: Array  # [b, k, e, p]
    prompt_values: Array  # [b, k, p, e]
    keys: Array  # [b, k, n, e]
    values: Array  # [b, k, n, e]


class DecodeCache(NamedTuple):
    """What the rows have seen: prompts of different lengths, and as many new tokens of each."""

    layers: tuple[LayerCache, ...]
    turns: tuple[Array, Array]  # float32 [n, b, 1, e / 2]; cosine and sine of the angles of what is generated
    lengths: Array  # int32 [b]; tokens of the prompts
    generated: Array  # int32 []; tokens generated in every row


class _Place(NamedTuple):
    """Where the rows' next tokens stand, and what they see."""

    cos: Array  # [b, 1, e / 2]
    sin: Array  # [b, 1, e / 2]
    column: Array  # int32 []
    visible: Array  # bool [b, 1, 1, p + n]; columns of the prompts, then generated ones with their own


def decode_weights(config: DecoderConfig, params: Params) -> DecodeWeights:
    """The weights rearranged for `decode_step`; once for all calls, a second copy of the blocks."""
    decoder = params["decoder"]
    dtype = jnp.dtype(config.dtype)
    head = decoder["embedding"] if config.tied_embeddings else params["lm_head"]["kernel"]
    return DecodeWeights(
        as_bits(decoder["embedding"].astype(dtype)),
        tuple(_layer_weights(config.dtype, decoder["layers"], layer) for layer in range(config.layers)),
        decoder["final_norm"]["scale"],
        head.astype(dtype),
    )


def _layer_weights(dtype: str, stacked: Params, layer: int) -> Layer:
    def matrix(*paths: str) -> Matrix:
        parts = [path.split("/") for path in paths]
        projections = tuple(stacked[part][name] for part, name in parts)
        (inputs,) = {PROJECTIONS[f"decoder/layers/{path}"] for path in paths}
        return _outputs_first(projections, layer, inputs=inputs, dtype=dtype)

    def scale(part: Params, name: str) -> Array | None:
        return part[name]["scale"][layer] if name in part else None

    attention = stacked["attention"]
    return Layer(
        attention_norm=stacked["attention_norm"]["scale"][layer],
        heads=matrix("attention/query", "attention/key", "attention/value"),
        query_norm=scale(attention, "query_norm"),
        key_norm=scale(attention, "key_norm"),
        out=matrix("attention/out"),
        mlp_norm=stacked["mlp_norm"]["scale"][layer],
        gate_and_up=matrix("mlp/gate", "mlp/up"),
        down=matrix("mlp/down"),
    )


@partial(jax.jit, static_argnames=("inputs", "dtype"))
def _outputs_first(projections: tuple[Params, ...], layer: int, *, inputs: int, dtype: str) -> Matrix:
    """One layer of projections of the same input as one matrix, their adapters merged, outputs first."""

    def kernel(projection: Params) -> Float[Array, "o i"]:
        own = projection["kernel"][layer]
        if LORA_A in projection:
            down, up = (projection[name][layer].astype(jnp.float32) for name in (LORA_A, LORA_B))
            own = own.astype(jnp.float32) + jnp.tensordot(down, up, 1)
        return own.reshape(math.prod(own.shape[:inputs]), -1).T.astype(dtype)

    biases = [projection["bias"][layer].reshape(-1).astype(dtype) for projection in projections if "bias" in projection]
    return Matrix(jnp.concatenate([kernel(one) for one in projections]), jnp.concatenate(biases) if biases else None)


def start_decoding(
    config: DecoderConfig,
    prompts: Iterable[tuple[Float[Array, "b k p e"], Float[Array, "b k p e"]]],
    lengths: Int[Array, "b"],
    room: int,
) -> DecodeCache:
    """A cache of prompts after which nothing is generated yet.

    Args:
        config: shape of the decoder.
        prompts: keys and values of each layer.
        lengths: tokens of the prompts; columns behind them are not looked at.
        room: tokens that may be generated.
    """

    def layer_cache(keys: Float[Array, "b k p e"], values: Float[Array, "b k p e"]) -> LayerCache:
        empty = jnp.zeros((*keys.shape[:2], room, keys.shape[3]), keys.dtype)
        return LayerCache(keys.swapaxes(2, 3), values, empty, empty)

    # Once for all: in a step XLA would compute the angles of every head of every layer.
    turns = rotation(config, lengths + jnp.arange(room)[:, None])
    return DecodeCache(tuple(layer_cache(*pair) for pair in prompts), turns, lengths, jnp.zeros((), jnp.int32))


def decode_step(
    config: DecoderConfig, weights: DecodeWeights, cache: DecodeCache, tokens: Int[Array, "b"]
) -> tuple[Float[Array, "d b"], DecodeCache]:
    """Appends a token to every row.

    Args:
        config: shape of the decoder.
        weights: the model's weights.
        cache: what the rows have seen; with room for one more token.
        tokens: one for each row; a row that has ended is given any.

    Returns:
        Hidden states of the tokens after the final norm, and what the rows have seen then.
    """
    cos, sin = (jax.lax.dynamic_index_in_dim(turn, cache.generated, keepdims=False) for turn in cache.turns)
    prompt = jnp.arange(cache.layers[0].prompt_values.shape[2]) < cache.lengths[:, None]
    generated = jnp.arange(cache.layers[0].values.shape[2]) <= cache.generated
    visible = jnp.hstack([prompt, jnp.broadcast_to(generated, (len(tokens), len(generated)))])
    place = _Place(cos, sin, cache.generated, visible[:, None, None])
    x = as_columns(jax.lax.bitcast_convert_type(weights.embedding[tokens], jnp.dtype(config.dtype)))
    extended = []
    for layer, layer_cache in zip(weights.layers, cache.layers, strict=True):
        x, longer = _block(config, layer, x, layer_cache, place)
        extended.append(longer)
    return _norm(config, x, weights.final_norm), cache._replace(layers=tuple(extended), generated=cache.generated + 1)


def as_columns(rows: Float[Array, "b d"]) -> Float[Array, "d b"]:
    """The transpose, laid out as such: XLA's CPU compiler widens to float32 what is only read the other way round."""
    return with_layout_constraint(rows.T, Layout((0, 1)))


def next_logits(weights: DecodeWeights, hidden: Float[Array, "d b"]) -> Float[Array, "v b"]:
    """Logits of the token after each hidden state, float32."""
    return contract("vd,db->vb", weights.head, hidden)


def _block(
    config: DecoderConfig, layer: Layer, x: Float[Array, "d b"], layer_cache: LayerCache, place: _Place
) -> tuple[Float[Array, "d b"], LayerCache]:
    """One block on the next token of every row."""
    heads = _product(layer.heads, _norm(config, x, layer.attention_norm))
    heads = heads.reshape(-1, config.head_dim, x.shape[1]).transpose(2, 0, 1)
    queries, keys, values = jnp.split(heads, (config.heads, config.heads + config.kv_heads), axis=1)
    if layer.query_norm is not None and layer.key_norm is not None:
        queries = rms_norm(queries, layer.query_norm, config.norm_eps)
        keys = rms_norm(keys, layer.key_norm, config.norm_eps)
    queries, keys = (rotate(turned, place.cos, place.sin) for turned in (queries, keys))
    longer = layer_cache._replace(
        keys=_written(layer_cache.keys, keys, place.column), values=_written(layer_cache.values, values, place.column)
    )
    middle = x + _product(layer.out, _attended(config, queries, longer, place.visible))
    gate, up = jnp.split(_product(layer.gate_and_up, _norm(config, middle, layer.mlp_norm)), 2)
    return middle + _product(layer.down, swiglu(gate, up)), longer


def _attended(
    config: DecoderConfig, queries: Float[Array, "b h e"], layer_cache: LayerCache, visible: Bool[Array, "b 1 1 s"]
) -> Float[Array, "he b"]:
    """Attention of every row's token over what the row has seen."""
    scaled = (queries.astype(jnp.float32) * config.head_dim**-0.5).astype(queries.dtype)
    grouped = scaled.reshape(len(queries), config.kv_heads, -1, config.head_dim)
    old = contract("bkge,bkep->bkgp", grouped, layer_cache.prompt_keys)
    new = contract("bkge,bkne->bkgn", grouped, layer_cache.keys)
    scores = jnp.where(visible, jnp.concatenate([old, new], axis=-1), jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    of_old, of_new = jnp.split(weights.astype(queries.dtype), [old.shape[-1]], axis=-1)
    mixed = contract("bkgp,bkpe->bkge", of_old, layer_cache.prompt_values)
    mixed += contract("bkgn,bkne->bkge", of_new, layer_cache.values)
    mixed = (mixed / weights.sum(-1, keepdims=True)).astype(queries.dtype)
    return mixed.transpose(1, 2, 3, 0).reshape(-1, len(queries))


def _written(
    kept: Float[Array, "b k n e"], new: Float[Array, "b k e"], column: Int[Array, ""]
) -> Float[Array, "b k n e"]:
    """The array with one column written, in place."""
    written = jax.lax.dynamic_update_slice_in_dim(as_bits(kept), as_bits(new)[:, :, None], column, axis=2)
    return jax.lax.bitcast_convert_type(written, kept.dtype)


def _norm(config: DecoderConfig, x: Float[Array, "d b"], scale: Float[Array, "d"]) -> Float[Array, "d b"]:
    return rms_norm(x, scale[:, None], config.norm_eps, axis=0)


def _product(matrix: Matrix, x: Float[Array, "i b"]) -> Float[Array, "o b"]:
    y = cast(Array, contract("oi,ib->ob", matrix.kernel, x).astype(x.dtype))
    return y if matrix.bias is None else y + matrix.bias[:, None]
