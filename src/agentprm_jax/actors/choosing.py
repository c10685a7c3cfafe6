"""Which token each row says: sampled by temperature, top-k and top-p, with random numbers of its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

_COLDEST = 1e-3  # temperature below which top-p looks at a distribution that is as good as certain


def row_keys(entropy: UInt32[Array, "b n"]) -> Array:
    """One random key for each row, a function of the row's own numbers only."""

    def row_key(numbers: UInt32[Array, "n"]) -> Array:
        key = jax.random.key(0)
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key

    return jax.vmap(row_key)(entropy)


def choose_tokens(
    keys: Array,
    step: Int[Array, ""],
    logits: Float[Array, "b v"],
    sayable: Bool[Array, "v"],
    temperature: Float[Array, ""],
    top_k: int,
    top_p: float,
) -> tuple[Int[Array, "b"], Float[Array, "b"]]:
    """A token for each row from `softmax(logits / temperature)` over likely sayable tokens, and its log-probability.

    The log-probability is that at temperature 1 among all sayable tokens. Adding Gumbel noise times the temperature and
    taking the largest samples from that distribution, and is the argmax at temperature 0. The noise of a row depends on
    its key and on `step`, not on its place.
    """
    known = jnp.where(sayable, logits, -jnp.inf)
    likely = likeliest(known, temperature, top_k, top_p)

    def noisy(scores: Float[Array, "b v"]) -> Float[Array, "b v"]:
        noise = jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, step), (logits.shape[1],)))(keys)
        return scores + temperature * noise

    scores = jax.lax.cond(temperature > 0, noisy, lambda scores: scores, likely)
    tokens = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(known, tokens[:, None], axis=-1)[:, 0]
    return tokens, chosen - jax.nn.logsumexp(known, axis=-1)


def likeliest(
    logits: Float[Array, "b v"], temperature: Float[Array, ""], top_k: int, top_p: float
) -> Float[Array, "b v"]:
    """The logits, -inf but for those of the `top_k` likeliest tokens and, of these, of the nucleus of `top_p`.

    The nucleus (arXiv 1904.09751) is the smallest set of likeliest tokens whose probability at the given temperature is
    at least `top_p`. Tokens as likely as the last one in stay in. As in `transformers`, temperature comes first, then
    `top_k` (0: all), then `top_p`.
    """
    kept = logits
    if top_k:
        kept = _at_least(kept, jnp.ones_like(kept), top_k)
    if top_p < 1.0:
        kept = _at_least(kept, jax.nn.softmax(kept / jnp.maximum(temperature, _COLDEST), axis=-1), top_p)
    return kept


def _at_least(values: Float[Array, "b v"], weights: Float[Array, "b v"], target: float) -> Float[Array, "b v"]:
    """Values, -inf below the largest value such that all from it on have together at least the target weight.

    Found bit by bit in the order-preserving integers of the values: 32 sums instead of a sort of the vocabulary.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    ordered = jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))

    def with_bit(place: Int[Array, ""], low: UInt32[Array, "b 1"]) -> UInt32[Array, "b 1"]:
        higher = low | (jnp.uint32(1) << (31 - place).astype(jnp.uint32))
        enough = jnp.sum(jnp.where(ordered >= higher, weights, 0.0), axis=-1, keepdims=True) >= target
        return jnp.where(enough, higher, low)

    least = jax.lax.fori_loop(0, 32, with_bit, jnp.zeros((values.shape[0], 1), jnp.uint32))
    return jnp.where(ordered >= least, values, -jnp.inf)
