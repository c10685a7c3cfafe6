"""The parts of a decoder block as Linen modules; each declares parameters and calls functions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from agentprm_jax.models.attention import Context, Past, attend
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.parameters import LORA_A, LORA_B, declare, given
from agentprm_jax.models.placement import Constrain, unconstrained
from agentprm_jax.models.products import product
from agentprm_jax.models.rope import rotate

SAVED = ("query", "key", "value", "mixed", "log_sum", "mid", "gate", "up")
"""Names of the activations worth keeping for the backward pass: results of products. Norms, rotations and gates are
cheaper to compute again than to write and read."""


def rms_norm(x: Float[Array, "*n"], scale: Float[Array, "*#n"], eps: float, axis: int = -1) -> Float[Array, "*n"]:
    """Divide by the root mean square over an axis and scale (arXiv 1910.07467), in float32; keeps the dtype."""
    wide = x.astype(jnp.float32)
    normed = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=axis, keepdims=True) + eps)
    return (normed * scale.astype(jnp.float32)).astype(x.dtype)


def swiglu(gate: Float[Array, "*n f"], up: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
    """Gated linear unit with a SiLU gate (arXiv 2002.05202)."""
    return jax.nn.silu(gate) * up


def low_rank(x: Float[Array, "n i"], down: Float[Array, "i r"], up: Float[Array, "r o"]) -> Float[Array, "n o"]:
    """`x @ down @ up` without the matrix `down @ up`; keeps the dtype of `x`."""
    return product(product(x, down, x.dtype), up, x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learnt scale over one named axis."""

    config: DecoderConfig
    axis: str = "embed"

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Normalise the last axis of `x`."""
        ones = nn.initializers.ones_init()
        scale = declare(self, "scale", ones, (x.shape[-1],), (self.axis,), self.config.param_dtype)
        return rms_norm(x, scale, self.config.norm_eps)


class Projection(nn.Module):
    """A linear map from `inputs` to `outputs` axes, with a bias where the model family has one.

    Where the parameters hold an adapter `lora_a [*inputs, r]`, `lora_b [r, *outputs]` beside the kernel, its product is
    added (LoRA, arXiv 2106.09685).

    Tokens come flattened: with two-dimensional operands the gradient for the kernel is a plain matrix product too,
    which is several times faster on CPU than a contraction over batch and length.
    """

    config: DecoderConfig
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    axes: tuple[str, ...]
    bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n i"]) -> Float[Array, "n *o"]:
        """Map the last axis of `x`, which holds the `inputs` axes flattened."""
        rank = len(self.inputs)
        fan_in = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", tuple(range(rank)), tuple(range(rank, len(self.axes)))
        )
        dtype = self.config.param_dtype
        kernel = declare(self, "kernel", fan_in, self.inputs + self.outputs, self.axes, dtype)
        y = product(x, kernel.reshape(x.shape[1], -1), x.dtype)
        down, up = given(self, LORA_A), given(self, LORA_B)
        if down is not None and up is not None:
            y = y + low_rank(x, down.reshape(x.shape[1], -1), up.reshape(up.shape[0], -1))
        y = y.reshape(-1, *self.outputs)
        if not self.bias:
            return y
        bias = declare(self, "bias", nn.initializers.zeros_init(), self.outputs, self.axes[rank:], dtype)
        return y + bias.astype(y.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions."""

    config: DecoderConfig
    constrain: Constrain = unconstrained

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], past: Past | None, context: Context
    ) -> tuple[Float[Array, "b t d"], Past]:
        """Attend; returns the layer's output and the keys and values of the call's own tokens."""
        c = self.config
        batch, flat = x.shape[:2], x.reshape(-1, x.shape[-1])
        queries = self._heads("query", c.heads, "heads", flat, batch)
        keys = self._heads("key", c.kv_heads, "kv_heads", flat, batch)
        values = self._heads("value", c.kv_heads, "kv_heads", flat, batch)
        if c.qk_norm:
            queries = RMSNorm(c, "head_dim", name="query_norm")(queries)
            keys = RMSNorm(c, "head_dim", name="key_norm")(keys)
        present = Past(_heads_first(rotate(keys, context.cos, context.sin)), _heads_first(values))
        rotated = _heads_first(rotate(queries, context.cos, context.sin))
        mixed = attend(rotated, *present, past, context, self.constrain)
        out = Projection(c, (c.heads, c.head_dim), (c.embed,), ("heads", "head_dim", "embed"), name="out")
        return out(_heads_first(mixed).reshape(len(flat), -1)).reshape(x.shape), present

    def _heads(
        self, name: str, heads: int, axis: str, flat: Float[Array, "n d"], batch: tuple[int, ...]
    ) -> Float[Array, "b t h e"]:
        c = self.config
        axes = ("embed", axis, "head_dim")
        projected = Projection(c, (c.embed,), (heads, c.head_dim), axes, bias=c.qkv_bias, name=name)(flat)
        split = projected.reshape(*batch, heads, c.head_dim)
        return checkpoint_name(self.constrain(split, ("batch", None, axis, None)), name)


def _heads_first(x: Float[Array, "b t h e"]) -> Float[Array, "b h t e"]:
    return x.swapaxes(1, 2)


class FeedForward(nn.Module):
    """SwiGLU feed-forward layer."""

    config: DecoderConfig
    constrain: Constrain = unconstrained

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Map each token by itself."""
        c = self.config
        flat = x.reshape(-1, x.shape[-1])
        gate, up = (
            checkpoint_name(Projection(c, (c.embed,), (c.mlp,), ("embed", "mlp"), name=name)(flat), name)
            for name in ("gate", "up")
        )
        hidden = self.constrain(swiglu(gate, up).reshape(*x.shape[:2], c.mlp), ("batch", None, "mlp"))
        down = Projection(c, (c.mlp,), (c.embed,), ("mlp", "embed"), name="down")
        return down(hidden.reshape(len(flat), -1)).reshape(x.shape)


class Block(nn.Module):
    """One pre-norm decoder block: attention, then feed-forward, each added to the residual stream."""

    config: DecoderConfig
    constrain: Constrain = unconstrained

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], past: Past | None, context: Context
    ) -> tuple[Float[Array, "b t d"], Past]:
        """Apply the block; returns the residual stream and the keys and values of the call's own tokens."""
        c = self.config
        mixed, present = Attention(c, self.constrain, name="attention")(
            RMSNorm(c, name="attention_norm")(x), past, context
        )
        x_mid = checkpoint_name(self.constrain(x + mixed, ("batch", None, None)), "mid")
        fed = FeedForward(c, self.constrain, name="mlp")(RMSNorm(c, name="mlp_norm")(x_mid))
        return self.constrain(x_mid + fed, ("batch", None, None)), present
