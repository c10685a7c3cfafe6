"""Puts tensors one by one where a parameter shall lie, so that no second copy of the parameter is ever made."""

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, Float, Int


def stack_on_host(wanted: jax.ShapeDtypeStruct, pieces: Iterable[Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."]:
    """Fills a NumPy array.

    Args:
        wanted: its shape and dtype.
        pieces: its entries along the first axis, in order; each is read and dropped before the next.
    """
    stacked = np.empty(wanted.shape, wanted.dtype)
    for index, piece in enumerate(pieces):
        stacked[index] = piece
    return stacked


def stack_on_devices(
    wanted: jax.ShapeDtypeStruct, sharding: Sharding, pieces: Iterable[Float[np.ndarray, "..."]]
) -> Float[Array, "..."]:
    """Fills an array on devices, where every device receives only what it will hold.

    The shard of a device is made there and updated in place (its buffer is donated), piece by piece, and each piece is
    waited for: the host never holds two.

    Args:
        wanted: its shape and dtype.
        sharding: where it shall lie.
        pieces: its entries along the first axis, in order.
    """
    places = cast(dict[Any, tuple[slice, ...]], sharding.addressable_devices_indices_map(wanted.shape))
    part_shape = sharding.shard_shape(wanted.shape)
    shards = {device: jnp.zeros(part_shape, wanted.dtype, device=device) for device in places}
    for index, piece in enumerate(pieces):
        for device, place in places.items():
            first, last, _ = place[0].indices(wanted.shape[0])
            if first <= index < last:
                part = jax.device_put(piece[place[1:]].astype(wanted.dtype, copy=False), device)
                shards[device] = _with_entry(shards[device], part, np.int32(index - first))
        jax.block_until_ready([*shards.values()])
    return jax.make_array_from_single_device_arrays(wanted.shape, sharding, [*shards.values()])


def place_on_devices(
    wanted: jax.ShapeDtypeStruct, sharding: Sharding, value: Float[np.ndarray, "..."]
) -> Float[Array, "..."]:
    """Puts an array on devices, on each the part that it will hold."""
    return jax.make_array_from_callback(
        wanted.shape, sharding, lambda place: value[place].astype(wanted.dtype, copy=False)
    )


@partial(jax.jit, donate_argnums=0)
def _with_entry(
    stacked: Float[Array, "l *n"], entry: Float[Array, "*n"], index: Int[Array, ""]
) -> Float[Array, "l *n"]:
    return jax.lax.dynamic_update_index_in_dim(stacked, entry, index, 0)
