"""Loads a PRM onto the devices that a command was told of."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from agentprm_jax.scoring.config import TOKENS_PER_BATCH
from agentprm_jax.training.config import MeshConfig

if TYPE_CHECKING:
    from agentprm_jax.scoring import Prm


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
