"""What reads hidden states: the language-model head and the value head, as Linen modules over plain functions."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.parameters import declare
from agentprm_jax.models.products import product


def logits_from(hidden: Float[Array, "*b d"], kernel: Float[Array, "v d"]) -> Float[Array, "*b v"]:
    """Next-token logits: operands in the dtype of `hidden`, sums and result in float32."""
    logits = product(hidden.reshape(-1, hidden.shape[-1]), kernel.T, jnp.dtype("float32"))
    return logits.reshape(*hidden.shape[:-1], -1)


def gather_tokens(hidden: Float[Array, "b t d"], columns: Int[Array, "b *u"]) -> Float[Array, "b *u d"]:
    """Hidden states at the given columns of each row."""
    flat = columns.reshape(columns.shape[0], -1, 1)
    return jnp.take_along_axis(hidden, flat, axis=1).reshape(*columns.shape, hidden.shape[-1])


def values_from(hidden: Float[Array, "*b d"], kernel: Float[Array, "d"]) -> Float[Array, "*b"]:
    """Bias-free linear read-out in float32."""
    return jnp.sum(hidden.astype(jnp.float32) * kernel.astype(jnp.float32), axis=-1)


class LanguageModelHead(nn.Module):
    """The untied output embedding `[v, d]`."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Next-token logits, float32."""
        c = self.config
        init = nn.initializers.normal(0.02)
        kernel = declare(self, "kernel", init, (c.vocab_size, c.embed), ("vocab", "embed"), c.param_dtype)
        return logits_from(hidden, kernel)


class ValueHead(nn.Module):
    """The promise read-out, float32 whatever the decoder's dtypes.

    Hidden states have a root mean square of about 1, so that untrained promises lie within a few `embed ** -0.5` of
    zero.
    """

    config: DecoderConfig

    @nn.compact
    def __call__(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """One number for each hidden state, float32."""
        embed = self.config.embed
        init = nn.initializers.normal(1.0 / embed)
        return values_from(hidden, declare(self, "kernel", init, (embed,), ("embed",), "float32"))
