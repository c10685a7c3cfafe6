"""Saying one token a row at a time after prompts that are only read; every layer has arrays of its own.

A scan over layers copies each layer's weights and each layer's past before it uses them, which costs as much as the
products of a single token. Here the layers are unrolled, the past of the prompts is never written to, and as all rows
say their tokens in step, what they have said is written in place, at the same column of every row.

Matrices have their outputs first and stand left of the activations, whose rows come last: `[o, i]` times `[i, b]`. Of
a product's two operands XLA's CPU compiler lays out the right one anew in every call; with the weights on the right
that takes longer than the sums of a few rows.
"""

import operator
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.layers import rms_norm, swiglu
from agentprm_jax.models.lora_config import PROJECTIONS
from agentprm_jax.models.parameters import LORA_A, LORA_B, Params
from agentprm_jax.models.products import contract
from agentprm_jax.models.rope import rotate, rotation


class Speaker(NamedTuple):
    """A language model laid out for saying tokens, in the dtype of its activations."""

    embedding: Array  # [v, d]
    layers: tuple[Params, ...]  # of each block; kernels [*outputs, *inputs], adapters are merged into them
    final_norm: Array  # [d]
    head: Array  # [v, d]


class Draft(NamedTuple):
    """What a layer remembers of prompts and of what was said after them, all rows having said as many tokens."""

    prompt_keys: Array  # [b, k, s, e], rotated
    prompt_values: Array  # [b, k, s, e]
    keys: Array  # [b, k, r, e], rotated; of the tokens said
    values: Array  # [b, k, r, e]


class Drafts(NamedTuple):
    """What the rows have seen: prompts of different lengths, and behind each as many tokens said."""

    layers: tuple[Draft, ...]
    lengths: Array  # int32 [b]; tokens of the prompts
    said: Array  # int32 []; tokens said by every row


class _Place(NamedTuple):
    """Where a row's next token stands."""

    cos: Array  # [1, e / 2]
    sin: Array  # [1, e / 2]
    length: Array  # int32 []; tokens of the prompt


def lay_out(config: DecoderConfig, params: Params) -> Speaker:
    """The model's weights as `say` wants them; once for all calls, a second copy of the blocks."""
    decoder = params["decoder"]
    dtype = jnp.dtype(config.dtype)
    head = decoder["embedding"] if config.tied_embeddings else params["lm_head"]["kernel"]
    return Speaker(
        decoder["embedding"].astype(dtype),
        tuple(_laid_out(config, decoder["layers"], layer) for layer in range(config.layers)),
        decoder["final_norm"]["scale"],
        head.astype(dtype),
    )


def _laid_out(config: DecoderConfig, stacked: Params, layer: int) -> Params:
    """The parameters of one block."""
    laid = {
        part: {name: jax.tree.map(operator.itemgetter(layer), inner) for name, inner in stacked[part].items()}
        for part in stacked
    }
    for path, inputs in PROJECTIONS.items():
        *_, part, name = path.split("/")
        laid[part][name] = _outputs_first(stacked[part][name], layer, inputs=inputs, dtype=config.dtype)
    grouped = (config.kv_heads, config.heads // config.kv_heads, config.head_dim)
    attention = laid["attention"]
    query, out = attention["query"], attention["out"]
    attention["query"] = {field: array.reshape(*grouped, *array.shape[2:]) for field, array in query.items()}
    attention["out"] = {"kernel": out["kernel"].reshape(-1, *grouped)}
    return laid


@partial(jax.jit, static_argnames=("inputs", "dtype"))
def _outputs_first(projection: Params, layer: int, *, inputs: int, dtype: str) -> Params:
    """One layer of a projection, its adapter merged, the axes of its outputs first."""
    own = {name: array[layer] for name, array in projection.items()}
    kernel = own.pop("kernel")
    if LORA_A in own:
        change = jnp.tensordot(own.pop(LORA_A).astype(jnp.float32), own.pop(LORA_B).astype(jnp.float32), 1)
        kernel = kernel.astype(jnp.float32) + change
    outputs = tuple(range(inputs, kernel.ndim))
    return {"kernel": kernel.transpose(*outputs, *range(inputs)).astype(dtype)} | own


def say(
    config: DecoderConfig, speaker: Speaker, drafts: Drafts, tokens: Int[Array, "b"]
) -> tuple[Float[Array, "d b"], Drafts]:
    """Appends a token to every row.

    Args:
        config: shape of the decoder.
        speaker: the model's weights.
        drafts: what the rows have seen; with room for one more token.
        tokens: one for each row; a row that has nothing more to say is given any.

    Returns:
        Hidden states of the tokens after the final norm, and what the rows have seen then.
    """
    cos, sin = (turn[:, 0] for turn in rotation(config, (drafts.lengths + drafts.said)[:, None]))
    place = _Place(cos, sin, drafts.lengths)
    x = speaker.embedding[tokens].T
    extended = []
    for weights, draft in zip(speaker.layers, drafts.layers, strict=True):
        block = jax.vmap(partial(_block, config, weights), in_axes=(1, 0, 0, None), out_axes=(1, 0, 0))
        x, keys, values = block(x, draft, place, drafts.said)
        extended.append(
            draft._replace(
                keys=jax.lax.dynamic_update_slice_in_dim(draft.keys, keys[:, :, None], drafts.said, axis=2),
                values=jax.lax.dynamic_update_slice_in_dim(draft.values, values[:, :, None], drafts.said, axis=2),
            )
        )
    final = jax.vmap(partial(rms_norm, scale=speaker.final_norm, eps=config.norm_eps), in_axes=1, out_axes=1)
    return final(x), drafts._replace(layers=tuple(extended), said=drafts.said + 1)


def next_logits(speaker: Speaker, hidden: Float[Array, "d b"]) -> Float[Array, "v b"]:
    """Logits of the token after each hidden state, float32."""
    return contract("vd,db->vb", speaker.head, hidden)


def _block(
    config: DecoderConfig, weights: Params, x: Float[Array, "d"], draft: Draft, place: _Place, said: Int[Array, ""]
) -> tuple[Float[Array, "d"], Float[Array, "k e"], Float[Array, "k e"]]:
    """One block on the token of one row: the residual stream, and the token's rotated key and value."""
    attention, mlp = weights["attention"], weights["mlp"]
    normed = rms_norm(x, weights["attention_norm"]["scale"], config.norm_eps)
    queries = _projected("kged,d->kge", attention["query"], normed)
    keys, values = (_projected("ked,d->ke", attention[name], normed) for name in ("key", "value"))
    if config.qk_norm:
        queries = rms_norm(queries, attention["query_norm"]["scale"], config.norm_eps)
        keys = rms_norm(keys, attention["key_norm"]["scale"], config.norm_eps)
    queries, keys = (rotate(heads, place.cos, place.sin) for heads in (queries, keys))
    mixed = _draft_attention(queries, keys, values, draft, place.length, said)
    middle = x + _projected("dkge,kge->d", attention["out"], mixed)
    normed = rms_norm(middle, weights["mlp_norm"]["scale"], config.norm_eps)
    inner = swiglu(*(_projected("fd,d->f", mlp[name], normed) for name in ("gate", "up")))
    return middle + _projected("df,f->d", mlp["down"], inner), keys, values


def _projected(equation: str, projection: Params, x: Float[Array, "..."]) -> Float[Array, "..."]:
    y = cast(Array, contract(equation, projection["kernel"], x).astype(x.dtype))
    return y + projection["bias"].astype(x.dtype) if "bias" in projection else y


def _draft_attention(
    queries: Float[Array, "k g e"],
    keys: Float[Array, "k e"],
    values: Float[Array, "k e"],
    draft: Draft,
    length: Int[Array, ""],
    said: Int[Array, ""],
) -> Float[Array, "k g e"]:
    """Attention of a row's token over its prompt, over what was said after it, and over itself."""
    scaled = (queries.astype(jnp.float32) * queries.shape[-1] ** -0.5).astype(queries.dtype)
    masked = jnp.finfo(jnp.float32).min
    visible, real = jnp.arange(draft.prompt_keys.shape[1]) < length, jnp.arange(draft.keys.shape[1]) < said
    prompt = jnp.where(visible[:, None], contract("kse,kge->ksg", draft.prompt_keys, scaled), masked)
    later = jnp.where(real[:, None], contract("kre,kge->krg", draft.keys, scaled), masked)
    own = contract("kge,ke->kg", scaled, keys)[:, None]
    peak = jnp.maximum(jnp.maximum(prompt.max(1, keepdims=True), later.max(1, keepdims=True)), own)
    weights = [jnp.exp(scores - peak) for scores in (prompt, later, own)]
    total = sum((part.sum(1) for part in weights[1:]), weights[0].sum(1))[..., None]
    narrow = [part.astype(values.dtype) for part in weights]
    mixed = contract("ksg,kse->kge", narrow[0], draft.prompt_values)
    mixed += contract("krg,kre->kge", narrow[1], draft.values)
    mixed += narrow[2].swapaxes(1, 2).astype(jnp.float32) * values[:, None].astype(jnp.float32)
    return (mixed / total).astype(values.dtype)
