"""Which token each row says: sampled by temperature, top-k and top-p, with random numbers of its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

_COLDEST = 1e-3  # temperature below which top-p looks at a distribution that is as good as certain
_GROUP = 256  # tokens of a group, about the square root of a usual vocabulary


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
    logits: Float[Array, "v b"],
    allowed: Bool[Array, "v"],
    temperature: Float[Array, ""],
    top_k: int,
    top_p: float,
) -> tuple[Int[Array, "b"], Float[Array, "b"]]:
    """A token for each row from `softmax(logits / temperature)` over likely allowed tokens, and its log-probability.

    The log-probability is that at temperature 1 among all allowed tokens. The noise of a row depends on its key and on
    `step`, not on its place.
    """
    known = jnp.where(allowed[:, None], logits, -jnp.inf)
    peak = known.max(axis=0)
    likely = likeliest(known, temperature, top_k, top_p)
    tokens = jax.lax.cond(temperature > 0, _sampled, _largest, _grouped(likely), peak, keys, step, temperature)
    chosen = jnp.take_along_axis(known, tokens[None], axis=0)[0]
    return tokens, chosen - peak - jnp.log(jnp.exp(known - peak).sum(axis=0))


def _grouped(scores: Float[Array, "v b"]) -> Float[Array, "c w b"]:
    """The vocabulary in groups of neighbours, the last one filled up with what is never chosen."""
    missing = -len(scores) % _GROUP
    filled = jnp.pad(scores, ((0, missing), (0, 0)), constant_values=-jnp.inf) if missing else scores
    return filled.reshape(-1, _GROUP, scores.shape[1])


def _largest(
    scores: Float[Array, "c w b"],
    peak: Float[Array, "b"],
    keys: Array,
    step: Int[Array, ""],
    temperature: Float[Array, ""],
) -> Int[Array, "b"]:
    del peak, keys, step, temperature
    group = jnp.argmax(scores.max(axis=1), axis=0)
    return _in_group(group, jnp.argmax(_members(scores, group), axis=-1))


def _sampled(
    scores: Float[Array, "c w b"],
    peak: Float[Array, "b"],
    keys: Array,
    step: Int[Array, ""],
    temperature: Float[Array, ""],
) -> Int[Array, "b"]:
    """A token from the softmax of the scores over the temperature: first its group, then which of the group.

    Both by adding Gumbel noise to log-probabilities and taking the largest. The vocabulary as one group would need a
    random number for every token, and those cost as much as the model's products.
    """
    rows = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, step)))(keys)
    masses = jnp.exp((scores - peak) / temperature).sum(axis=1).T
    group = jnp.argmax(jnp.log(masses) + _gumbel(rows[:, 0], masses.shape[1]), axis=-1)
    members = _members(scores, group)
    return _in_group(group, jnp.argmax(members / temperature + _gumbel(rows[:, 1], members.shape[1]), axis=-1))


def _members(scores: Float[Array, "c w b"], group: Int[Array, "b"]) -> Float[Array, "b w"]:
    return scores[group, :, jnp.arange(scores.shape[2])]


def _in_group(group: Int[Array, "b"], member: Int[Array, "b"]) -> Int[Array, "b"]:
    return (group * _GROUP + member).astype(jnp.int32)


def _gumbel(keys: Array, count: int) -> Float[Array, "b {count}"]:
    return jax.vmap(lambda key: jax.random.gumbel(key, (count,)))(keys)


def likeliest(
    logits: Float[Array, "v b"], temperature: Float[Array, ""], top_k: int, top_p: float
) -> Float[Array, "v b"]:
    """The logits, -inf but for those of the `top_k` likeliest tokens and, of these, of the nucleus of `top_p`.

    The nucleus (arXiv 1904.09751) is the smallest set of likeliest tokens whose probability at the given temperature is
    at least `top_p`. Tokens as likely as the last one in stay in. As in `transformers`, temperature comes first, then
    `top_k` (0: all), then `top_p`.
    """
    kept = logits
    if top_k:
        kept = _at_least(kept, jnp.ones_like(kept), top_k)
    if top_p < 1.0:
        kept = _at_least(kept, jax.nn.softmax(kept / jnp.maximum(temperature, _COLDEST), axis=0), top_p)
    return kept


def _at_least(values: Float[Array, "v b"], weights: Float[Array, "v b"], target: float) -> Float[Array, "v b"]:
    """Values, -inf below the largest value such that all from it on have together at least the target weight.

    Found bit by bit in the order-preserving integers of the values: 32 sums instead of a sort of the vocabulary.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    ordered = jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))

    def with_bit(place: Int[Array, ""], low: UInt32[Array, "b"]) -> UInt32[Array, "b"]:
        higher = low | (jnp.uint32(1) << (31 - place).astype(jnp.uint32))
        enough = jnp.sum(jnp.where(ordered >= higher, weights, 0.0), axis=0) >= target
        return jnp.where(enough, higher, low)

    least = jax.lax.fori_loop(0, 32, with_bit, jnp.zeros(values.shape[1], jnp.uint32))
    return jnp.where(ordered >= least, values, -jnp.inf)
