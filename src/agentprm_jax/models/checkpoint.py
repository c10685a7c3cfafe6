"""A model on disk as a list of tensors that are not read yet, and the check that it is what its config promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agentprm_jax.models.config import FLOAT_DTYPES, DecoderConfig
from agentprm_jax.models.weight_names import Weight, tensor_names

_PIECE = 16_384
"""Numbers that are checked at a time, so that what is made of them is small beside a tensor."""


class CheckpointFormatError(ValueError):
    """A model that does not hold what its config promises; the message names file and tensor."""


class StoredTensor(NamedTuple):
    """A tensor in a file.

    Attributes:
        file: the file that holds it.
        shape: its shape.
        dtype: name of the dtype that `read` gives.
        read: reads it from the file, anew with each call.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


class Checkpoint(NamedTuple):
    """A model on disk whose description is read and whose tensors are not.

    Attributes:
        path: folder or file.
        config: the decoder; its `param_dtype` is what the description says, not what the tensors have.
        value_head: whether it is a reward model; a language model otherwise.
        table: the tensors that it should hold, under the names of its format.
        tensors: those that it holds.
    """

    path: Path
    config: DecoderConfig
    value_head: bool
    table: list[Weight]
    tensors: Mapping[str, StoredTensor]


def check_tensors(checkpoint: Checkpoint) -> None:
    """Checks that a checkpoint holds every tensor of its table and no other, each in its shape.

    Raises:
        CheckpointFormatError: a tensor is unknown, missing or misshapen, or is not made of floating-point numbers.
    """
    expected = {name: weight for weight in checkpoint.table for name in tensor_names(checkpoint.config, weight)}
    for name, stored in checkpoint.tensors.items():
        if name not in expected:
            raise CheckpointFormatError(f"{stored.file} holds the unknown tensor {name!r}.")
        _check_one(name, stored, expected[name].shape)
    missing = sorted(expected.keys() - checkpoint.tensors.keys())
    if missing:
        raise CheckpointFormatError(f"{checkpoint.path} lacks {len(missing)} tensors, the first is {missing[0]!r}.")


def read_finite(name: str, stored: StoredTensor) -> np.ndarray:
    """Reads a tensor and checks its numbers.

    Raises:
        CheckpointFormatError: the file is damaged, or one of the numbers is infinite or not a number.
    """
    tensor = stored.read()
    check_finite(stored.file, name, tensor)
    return tensor


def check_finite(file: Path, name: str, tensor: np.ndarray) -> None:
    """Checks that all numbers of a tensor are finite, in no more memory than a small piece of it takes.

    Raises:
        CheckpointFormatError: one is not; names the file, the tensor, the first such number and its place.
    """
    numbers = tensor.reshape(-1)
    for start in range(0, len(numbers), _PIECE):
        finite = np.isfinite(numbers[start : start + _PIECE])
        if not finite.all():
            first = start + int(finite.argmin())
            place = [int(index) for index in np.unravel_index(first, tensor.shape)]
            raise CheckpointFormatError(
                f"{file}, tensor {name!r}: expected finite numbers, got {float(numbers[first])} at {place}. The "
                "training diverged, or the file is damaged."
            )


def _check_one(name: str, stored: StoredTensor, shape: tuple[int, ...]) -> None:
    if stored.shape != shape:
        raise CheckpointFormatError(
            f"{stored.file}, tensor {name!r}: expected the shape {shape}, got {stored.shape}. The weights and the "
            "config are of different models, or one of them was changed."
        )
    if stored.dtype not in FLOAT_DTYPES:
        raise CheckpointFormatError(
            f"{stored.file}, tensor {name!r}: expected a dtype out of {', '.join(FLOAT_DTYPES)}, got {stored.dtype}."
        )
