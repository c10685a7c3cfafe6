"""Causal attention within segments on TPU: jax's own splash attention, fitted to rows, heads and lengths of any size.

The kernel keeps blocks of scores in the chip's vector memory (as FlashAttention does, arXiv 2205.14135), so that
memory grows with the length and not with its square, forwards and backwards.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Float, Int

from agentprm_jax.models.placement import Constrain

LANES = 128
"""Columns of a vector register, of which blocks are multiples."""
LARGEST_BLOCK = 512
PADDING = -1
"""Segment of the columns that fill up the last block; it is nobody else's."""


def splash_attention(
    queries: Float[Array, "b h t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
    constrain: Constrain,
    *,
    interpret: bool = False,
) -> Float[Array, "b h t e"]:
    """Scaled dot-product attention of each token over itself and earlier columns of the same segment of its row.

    Query head `h` sees key-value head `h // (heads / kv_heads)`. Scores, softmax and sums are float32; operands of
    products have the dtype of `queries`, float32 or bfloat16. Queries are scaled before they meet keys, which rounds
    bfloat16 once more than `blockwise_attention` does. Reverse mode only.

    Args:
        queries: rotated queries.
        keys: rotated keys.
        values: values.
        segments: segment ids, at least 0.
        constrain: says how rows and heads lie on the mesh; every device attends for its own.
        interpret: runs the kernel step by step on any platform, for tests.
    """
    local = partial(_attend_locally, interpret=interpret)
    if constrain.mesh is None:
        return local(queries, keys, values, segments)
    by_head, by_key_head = (constrain.spec(("batch", axis, None, None)) for axis in ("heads", "kv_heads"))
    return jax.shard_map(
        local,
        mesh=constrain.mesh,
        in_specs=(by_head, by_key_head, by_key_head, constrain.spec(("batch", None))),
        out_specs=by_head,
        check_vma=False,  # the kernel's outputs do not say over which mesh axes they vary
    )(queries, keys, values, segments)


def _attend_locally(
    queries: Float[Array, "b h t e"],
    keys: Float[Array, "b k t e"],
    values: Float[Array, "b k t e"],
    segments: Int[Array, "b t"],
    interpret: bool,
) -> Float[Array, "b h t e"]:
    heads, length, width = queries.shape[1:]
    block = min(LARGEST_BLOCK, -(-length // LANES) * LANES)
    padding = -length % block
    kernel = _kernel(heads, length + padding, block, interpret)
    scaled = (queries.astype(jnp.float32) * width**-0.5).astype(queries.dtype)
    columns = ((0, 0), (0, 0), (0, padding), (0, 0))
    padded = (jnp.pad(x, columns) for x in (scaled, keys, values))
    ids = jnp.pad(segments, ((0, 0), (0, padding)), constant_values=PADDING)
    return jax.vmap(kernel)(*padded, splash.SegmentIds(ids, ids))[:, :, :length]


def _kernel(heads: int, length: int, block: int, interpret: bool) -> Callable[..., Array]:
    """The kernel of one row. What it keeps for the backward pass is called "mixed", as the models' policies know it."""
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([splash.CausalMask((length, length)) for _ in range(heads)]),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name="mixed",
        interpret=interpret,
    )
    return cast(Callable[..., Array], kernel)
