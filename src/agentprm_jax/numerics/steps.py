"""Where the steps of right-padded trajectories are: masks, the last step, the step before."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Shaped


def require_shape(owner: str, name: str, array: Shaped[Array, "..."], expected: tuple[int, ...]) -> None:
    """Refuses an array that would broadcast silently.

    Args:
        owner: the function whose argument it is, for the message.
        name: the argument's name, for the message.
        array: any array or number.
        expected: the only shape that is accepted.

    Raises:
        ValueError: the shape is another one.
    """
    if jnp.shape(array) != expected:
        raise ValueError(f"{owner}: `{name}` must have shape {expected}, but has shape {jnp.shape(array)}.")


def as_float32(array: float | Shaped[Array, "*s"]) -> Float32[Array, "*s"]:
    """The array or number in float32, the precision of values, targets and losses."""
    return jnp.asarray(array, jnp.float32)


def present(mask: Shaped[Array, "*b u"]) -> Bool[Array, "*b u"]:
    """The mask as booleans, whatever zeros and ones it was written with."""
    return jnp.asarray(mask, jnp.bool_)


def last_step(mask: Bool[Array, "*b u"]) -> Bool[Array, "*b u"]:
    """Marks the last step of each trajectory: the last True of its mask, and nothing where a trajectory has no step."""
    index = jnp.where(mask, jnp.arange(mask.shape[-1]), -1)
    return mask & (index == jnp.max(index, axis=-1, keepdims=True, initial=-1))


def zero_padding(steps: Shaped[Array, "*b u"], mask: Bool[Array, "*b u"]) -> Float32[Array, "*b u"]:
    """The steps in float32, with 0 in place of whatever the padding holds, NaN included."""
    return jnp.where(mask, as_float32(steps), 0.0)


def step_before(first: Shaped[Array, "*b"], steps: Float[Array, "*b u"]) -> Float32[Array, "*b u"]:
    """What stands one step earlier: `first` at step 0, `steps[..., t-1]` at step t."""
    shifted = jnp.concatenate([as_float32(first)[..., None], as_float32(steps)], axis=-1)
    return jax.lax.slice_in_dim(shifted, 0, steps.shape[-1], axis=-1)
