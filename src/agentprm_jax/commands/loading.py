"""Loads models onto the devices that a command was told of."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentprm_jax.scoring.config import TOKENS_PER_BATCH
from agentprm_jax.training.config import MeshConfig

if TYPE_CHECKING:
    import jax

    from agentprm_jax.models import DecoderConfig
    from agentprm_jax.scoring import Prm

ParamDtype = Literal["stored", "float32"]
"""Type of parameters and moments: that in which a model is stored, or widened."""


def load_on_mesh(folder: Path, mesh: MeshConfig, *, tokens_per_batch: int = TOKENS_PER_BATCH) -> Prm:
    """The PRM in a model's folder, cut over the devices of a mesh.

    Args:
        folder: what `Prm.save` wrote.
        mesh: the devices; those of this process.
        tokens_per_batch: tokens of a full forward pass on all devices.

    Raises:
        FileNotFoundError: the folder or a file of it is missing.
        ValueError: there are fewer devices, the model cannot be cut so, or as in `Prm.load`.
    """
    from agentprm_jax.scoring import Prm
    from agentprm_jax.training import make_constrain, make_mesh, parameter_shardings

    devices = make_mesh(mesh)
    return Prm.load(
        folder,
        shardings=functools.partial(parameter_shardings, devices),
        constrain=make_constrain(devices),
        tokens_per_batch=tokens_per_batch,
    )


def load_to_train(
    init: Path, mesh: jax.sharding.Mesh, *, param_dtype: ParamDtype, remat: bool, parts: tuple[str, ...] | None = None
) -> tuple[DecoderConfig, dict[str, Any]]:
    """The model that a training run begins with, cut over the devices of a mesh.

    Args:
        init: a model's folder or a GGUF file.
        mesh: the devices.
        param_dtype: type of its parameters.
        remat: whether the backward pass computes each block again.
        parts: top-level subtrees of the parameters that are wanted, the others being dropped; None for all.

    Returns:
        The decoder's config as the run needs it, and the parameters.

    Raises:
        FileNotFoundError, CheckpointFormatError, ImportError, ValueError: as `load_pretrained` does.
    """
    import jax

    from agentprm_jax.models import load_pretrained
    from agentprm_jax.training import parameter_shardings

    stored, params = load_pretrained(init, functools.partial(parameter_shardings, mesh))
    wanted = params if parts is None else {name: params[name] for name in parts}
    decoder = dataclasses.replace(stored, remat=remat)
    if param_dtype == "stored":
        return decoder, wanted
    widened = jax.tree.map(lambda leaf: leaf.astype(param_dtype), wanted)
    return dataclasses.replace(decoder, param_dtype=param_dtype), widened
