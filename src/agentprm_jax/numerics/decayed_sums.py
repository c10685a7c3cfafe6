"""Sums that decay with every step: the recursion behind advantages, walked from the end or as a matrix product."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32

LONGEST_WALK = 1024
"""Steps that are taken one after the other; longer rows are cut into blocks."""
BLOCK = 64
"""Steps of a block that is walked."""
PRODUCT = 32
"""Steps of a block that is multiplied: the work of a step grows with it, the number of blocks falls."""


def decayed_sums(
    errors: Float32[Array, " t"], discounts: Float32[Array, " t"], lam: Float32[Array, ""]
) -> Float32[Array, " t"]:
    """A_t = errors_t + discounts_t * lam * A_{t+1}, from the end, behind which A is 0.

    A long row is cut into blocks. What a block hands to the one before it is a sum and a product of decays; the blocks'
    sums obey the same recursion, and then every block is walked with what comes from behind it. So 32,768 steps need
    640 in a row, and rows whose time lies on several devices exchange one number of each kind a block.
    """
    length = errors.shape[0]
    if length <= LONGEST_WALK:
        return _walk(errors, discounts, lam, _start(0, errors[:0] + discounts[:0] * lam))
    padding = (0, -length % BLOCK)
    cut_errors, cut_discounts = (jnp.pad(array, padding).reshape(-1, BLOCK) for array in (errors, discounts))
    sums, products = jax.vmap(_summary, in_axes=(0, 0, None))(cut_errors, cut_discounts, lam)
    behind = jnp.append(decayed_sums(sums, products, jnp.float32(1))[1:], 0.0)
    return jax.vmap(_walk, in_axes=(0, 0, None, 0))(cut_errors, cut_discounts, lam, behind).reshape(-1)[:length]


def token_advantages(
    rewards: Float32[Array, " t"],
    values: Float32[Array, " t"],
    acts: Bool[Array, " t"],
    discounts: Float32[Array, "*t"],
    lam: Float32[Array, ""],
) -> Float32[Array, " t"]:
    """A_t = rewards_t - values_t + discounts_t * H_{t+1} where a token acts, else 0, from the end, behind which H is 0.

    H_t = values_t + lam * A_t is what an acting token hands to those before it; all others pass it on, and what stands
    at them counts nowhere. One discount is that of every token. A long row is cut into blocks, as in `decayed_sums`.
    """
    length = rewards.shape[0]
    given = (rewards, values, acts, discounts)
    like = (rewards[:0] + values[:0]) * (discounts[:0] if discounts.ndim else discounts) * lam + acts[:0]
    if length <= LONGEST_WALK:
        return _walk_tokens(rewards, values, acts, discounts, lam, _start(0, like))
    padding = (0, -length % BLOCK)
    blocks = [jnp.pad(array, padding).reshape(-1, BLOCK) if array.ndim else array for array in given]
    known = (blocks[0], blocks[1], blocks[2], blocks[3], lam)
    axes = tuple(0 if array.ndim else None for array in given)
    start = (_start(0, like), _start(1, like))
    sums, products = jax.vmap(_token_summary, in_axes=(*axes, None, None))(*known, start)
    behind = jnp.append(decayed_sums(sums, products, jnp.float32(1))[1:], 0.0)
    walk = jax.vmap(_walk_tokens, in_axes=(*axes, None, 0))
    return walk(*known, behind).reshape(-1)[:length]


def discounted(numbers: Float32[Array, "..."], discounts: Float32[Array, "..."]) -> Float32[Array, "..."]:
    """discounts * numbers, and 0 where the discount is 0, though the number be infinite or NaN.

    There the gradient for the number is 0, too, whatever cotangent arrives; that for the discount is its true one, the
    number, where it is finite.
    """
    held = jax.lax.stop_gradient(jnp.where(jnp.isfinite(numbers), numbers, 0.0))
    return discounts * jnp.where(discounts == 0, held, numbers)


def geometric_sums(errors: Float32[Array, "n t"], decay: Float32[Array, ""]) -> Float32[Array, "n t"]:
    """A_t = errors_t + decay * A_{t+1} in every row, behind which A is 0, as products with a matrix of powers.

    The errors of a block times [k, t] -> decay^(k-t) for k >= t are its sums. A longer row is cut into blocks: their
    first sums obey the same recursion with decay^PRODUCT, and what comes from behind a block is an addition to its last
    error. Nothing is divided by a power, so a decay of 0 is exact.
    """
    rows, length = errors.shape
    powers = _powers(decay, min(length, PRODUCT))
    if length <= PRODUCT:
        return _product(errors, powers)
    blocks = jnp.pad(errors, ((0, 0), (0, -length % PRODUCT))).reshape(rows, -(-length // PRODUCT), PRODUCT)
    firsts = _product(blocks, powers[:, :1])[..., 0]
    later = geometric_sums(firsts, decay * powers[-1, 0])
    behind = jnp.pad(later[:, 1:], ((0, 0), (0, 1)))
    return _product(blocks.at[:, :, -1].add(decay * behind), powers).reshape(rows, -1)[:, :length]


def _powers(decay: Float32[Array, ""], length: int) -> Float32[Array, "length length"]:
    """[k, t] -> decay^(k-t), the weight of error k in sum t; 0 where the error stands before the sum."""
    powers = jnp.cumprod(jnp.append(jnp.float32(1), jnp.broadcast_to(decay, length)))
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    return jnp.where(distance >= 0, powers[np.maximum(distance, 0)], 0.0)


def _product(left: Float32[Array, "*n k"], right: Float32[Array, "k t"]) -> Float32[Array, "*n t"]:
    """The matrix product in float32, which accelerators would otherwise round."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _walk(
    errors: Float32[Array, " t"],
    discounts: Float32[Array, " t"],
    lam: Float32[Array, ""],
    behind: Float32[Array, ""],
) -> Float32[Array, " t"]:
    """The recursion one step after the other, from `behind`."""

    def backward(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        error, discount = step
        total = error + discounted(later, discount * lam)
        return total, total

    return jax.lax.scan(backward, behind, (errors, discounts), reverse=True)[1]


def _summary(
    errors: Float32[Array, " t"], discounts: Float32[Array, " t"], lam: Float32[Array, ""]
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """The first A of a block with 0 behind it, and what a number behind it is multiplied with on its way there."""

    def backward(later: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        (error, discount), (total, product) = step, later
        decay = discount * lam
        return (error + discounted(total, decay), discounted(product, decay)), None

    decays = discounts[:0] * lam
    start = (_start(0, errors[:0] + decays), _start(1, decays))
    return jax.lax.scan(backward, start, (errors, discounts), reverse=True)[0]


def _walk_tokens(
    rewards: Float32[Array, " t"],
    values: Float32[Array, " t"],
    acts: Bool[Array, " t"],
    discounts: Float32[Array, "*t"],
    lam: Float32[Array, ""],
    behind: Float32[Array, ""],
) -> Float32[Array, " t"]:
    """The advantages one token after the other, from what is handed from `behind`."""

    def backward(later: Array, token: _Token) -> tuple[Array, Array]:
        return _pass_token(later, token, lam)

    return _from_the_end(backward, behind, (rewards, values, acts), discounts)[1]


def _token_summary(
    rewards: Float32[Array, " t"],
    values: Float32[Array, " t"],
    acts: Bool[Array, " t"],
    discounts: Float32[Array, "*t"],
    lam: Float32[Array, ""],
    start: tuple[Float32[Array, ""], Float32[Array, ""]],
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """What a block hands to those before it with 0 behind it, and what a number behind it is multiplied with."""

    def backward(later: tuple[Array, Array], token: _Token) -> tuple[tuple[Array, Array], None]:
        total, product = later
        kept = jnp.where(token.acting, discounted(product, token.discount * lam), product)
        return (_pass_token(total, token, lam)[0], kept), None

    return _from_the_end(backward, start, (rewards, values, acts), discounts)[0]


class _Token(NamedTuple):
    """What stands at one token."""

    reward: Array
    value: Array
    acting: Array
    discount: Array


def _from_the_end(backward: Callable, start: Any, tokens: tuple[Array, Array, Array], discounts: Array) -> Any:
    """Scans the tokens from the last one; a single discount is not read anew at each."""
    if discounts.ndim:
        return jax.lax.scan(backward, start, _Token(*tokens, discounts), reverse=True)
    return jax.lax.scan(lambda later, token: backward(later, _Token(*token, discounts)), start, tokens, reverse=True)


def _pass_token(later: Array, token: _Token, lam: Array) -> tuple[Array, Array]:
    """What is handed to those before a token, and its advantage, from what later ones hand to it."""
    acting = token.acting
    reward, value = jnp.where(acting, token.reward, 0.0), jnp.where(acting, token.value, 0.0)
    advantage = jnp.where(acting, reward - value + discounted(later, token.discount), 0.0)
    return jnp.where(acting, value + discounted(advantage, lam), later), advantage


def _start(number: int, like: Float32[Array, "0"]) -> Float32[Array, ""]:
    """The first carry of a scan, which must vary over the mesh axes of `jax.shard_map` over which `like` does."""
    return jnp.full_like(like, number, shape=())
