"""Parameters and forward passes of the two models, a language model and a reward model, as functions of plain dicts."""

from typing import Any, Literal, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from agentprm_jax.models.attention import Context
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.decoder import Decoder
from agentprm_jax.models.heads import LanguageModelHead, ValueHead, gather_tokens, logits_from
from agentprm_jax.models.parameters import Params, apply, init_boxed
from agentprm_jax.models.placement import Constrain, unconstrained
from agentprm_jax.models.rope import rotation

Kind = Literal["language_model", "reward_model"]


@runtime_checkable
class ReadoutBatch(Protocol):
    """The fields of a batch that a reward model reads."""

    @property
    def tokens(self) -> Any:
        """`[b, t]` token ids."""
        ...

    @property
    def positions(self) -> Any:
        """`[b, t]` positions, restarting at 0 in each segment."""
        ...

    @property
    def segments(self) -> Any:
        """`[b, t]` segment ids; 0 is padding."""
        ...

    @property
    def readouts(self) -> Any:
        """`[b, m, u]` columns at which promises are read."""
        ...


def init_language_model(config: DecoderConfig, key: PRNGKeyArray) -> Params:
    """Random parameters of a language model: `{"decoder": …}`, and `"lm_head"` unless embeddings are tied."""
    return nn.unbox(_boxed_language_model(config, key))


def init_reward_model(config: DecoderConfig, key: PRNGKeyArray, decoder: Params | None = None) -> Params:
    """Parameters of a reward model: `{"decoder": …, "value_head": {"kernel": [embed]}}`.

    Args:
        config: shape of the decoder.
        key: source of randomness.
        decoder: the decoder of a trained language model to start from; random when None.
    """
    return nn.unbox(_boxed_reward_model(config, key, decoder))


def logical_axes(config: DecoderConfig, kind: Kind) -> Params:
    """The tree of parameters with, in the place of each array, the tuple of the logical names of its axes."""
    boxed_init = {"language_model": _boxed_language_model, "reward_model": _boxed_reward_model}[kind]
    boxed = jax.eval_shape(lambda key: boxed_init(config, key), jax.random.key(0))
    return jax.tree.map(lambda box: box.names, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))


def hidden_states(
    config: DecoderConfig,
    decoder: Params,
    tokens: Int[Array, "b t"],
    positions: Int[Array, "b t"] | None = None,
    segments: Int[Array, "b t"] | None = None,
    constrain: Constrain = unconstrained,
) -> Float[Array, "b t d"]:
    """Hidden states after the final norm, in the config's dtype.

    Args:
        config: shape of the decoder.
        decoder: the `"decoder"` subtree of the parameters.
        tokens: token ids.
        positions: position of each token in its segment, below the config's `max_positions`; the column by default.
        segments: segment ids, 0 for padding: a token sees itself and earlier columns of its own segment. By default
            each row is one segment.
        constrain: pins activations to a mesh.

    Raises:
        ValueError: without positions, a row is longer than `max_positions`.
    """
    if positions is None and tokens.shape[1] > config.max_positions:
        raise ValueError(
            f"tokens: expected rows of at most max_positions={config.max_positions} tokens, which the model is meant "
            f"for, got {tokens.shape[1]}. Give the positions of packed rows."
        )
    columns = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    cos, sin = rotation(config, columns if positions is None else positions)
    return apply(Decoder(config, constrain), decoder, tokens, None, Context(cos, sin, segments, None))[0]


def lm_logits(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "b t"],
    *,
    positions: Int[Array, "b t"] | None = None,
    segments: Int[Array, "b t"] | None = None,
    constrain: Constrain = unconstrained,
) -> Float[Array, "b t v"]:
    """Logits of the token after each column, float32; arguments and errors as in `hidden_states`."""
    hidden = hidden_states(config, params["decoder"], tokens, positions, segments, constrain)
    return constrain(logits_of(config, params, hidden), ("batch", None, "vocab"))


def logits_of(config: DecoderConfig, params: Params, hidden: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
    """Logits of the token after each hidden state, float32, through the tied embedding or the head of its own."""
    if config.tied_embeddings:
        return logits_from(hidden, params["decoder"]["embedding"])
    return apply(LanguageModelHead(config), params["lm_head"], hidden)


def promises(
    config: DecoderConfig, params: Params, batch: ReadoutBatch, constrain: Constrain = unconstrained
) -> Float[Array, "b m u"]:
    """Promise (expected outcome) of every step of every trajectory in a batch, float32, in one forward pass.

    The value head is applied at `batch.readouts` only; entries of masked steps are the value at column 0.
    """
    hidden = hidden_states(config, params["decoder"], batch.tokens, batch.positions, batch.segments, constrain)
    return values_of(config, params, gather_tokens(hidden, batch.readouts))


def values_of(config: DecoderConfig, params: Params, hidden: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """Promise read from each hidden state, float32."""
    return apply(ValueHead(config), params["value_head"], hidden)


def _boxed_language_model(config: DecoderConfig, key: PRNGKeyArray) -> Params:
    decoder_key, head_key = jax.random.split(key)
    decoder = {"decoder": _boxed_decoder(config, decoder_key)}
    if config.tied_embeddings:
        return decoder
    return decoder | {"lm_head": init_boxed(LanguageModelHead(config), head_key, _probe(config))}


def _boxed_reward_model(config: DecoderConfig, key: PRNGKeyArray, decoder: Params | None = None) -> Params:
    decoder_key, head_key = jax.random.split(key)
    return {
        "decoder": _boxed_decoder(config, decoder_key) if decoder is None else decoder,
        "value_head": init_boxed(ValueHead(config), head_key, _probe(config)),
    }


def _boxed_decoder(config: DecoderConfig, key: PRNGKeyArray) -> Params:
    token = jnp.zeros((1, 1), jnp.int32)
    return init_boxed(Decoder(config), key, token, None, Context(*rotation(config, token), None, None))


def _probe(config: DecoderConfig) -> Float[Array, "1 d"]:
    return jnp.zeros((1, config.embed), config.dtype)
