"""Training: mesh and sharding rules, optimizer, objectives, the pure step, checkpoints, metrics and the one loop."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentprm_jax.training.batches import BatchSource, PackedBatches
    from agentprm_jax.training.checkpoint import Checkpointer, CheckpointError
    from agentprm_jax.training.config import (
        DistributedConfig,
        LoopConfig,
        MeshConfig,
        OptimizerConfig,
        PrmObjectiveConfig,
    )
    from agentprm_jax.training.distributed import (
        OtherProcessFailed,
        all_or_none,
        first_process_first,
        initialise_distributed,
        whole_on_host,
    )
    from agentprm_jax.training.finish import finished_model
    from agentprm_jax.training.interrupt import NonFiniteUpdate, TrainingInterrupted, stop_on_signal
    from agentprm_jax.training.loop import fit
    from agentprm_jax.training.mesh import make_constrain, make_mesh, parameter_shardings, row_share
    from agentprm_jax.training.metrics import ConsoleProgress, JsonLinesWriter, TensorBoardWriter
    from agentprm_jax.training.objectives import Objective, ObjectiveOutput, prm_objective, sft_objective
    from agentprm_jax.training.optimizer import learning_rate_schedule, make_optimizer
    from agentprm_jax.training.program import Program, prepare, train
    from agentprm_jax.training.record import RunMismatch, fingerprint
    from agentprm_jax.training.state import TrainState
    from agentprm_jax.training.step import make_train_step

_MODULES = {
    "batches": ("BatchSource", "PackedBatches"),
    "checkpoint": ("CheckpointError", "Checkpointer"),
    "config": ("DistributedConfig", "LoopConfig", "MeshConfig", "OptimizerConfig", "PrmObjectiveConfig"),
    "distributed": (
        "OtherProcessFailed",
        "all_or_none",
        "first_process_first",
        "initialise_distributed",
        "whole_on_host",
    ),
    "finish": ("finished_model",),
    "interrupt": ("NonFiniteUpdate", "TrainingInterrupted", "stop_on_signal"),
    "loop": ("fit",),
    "mesh": ("make_constrain", "make_mesh", "parameter_shardings", "row_share"),
    "metrics": ("ConsoleProgress", "JsonLinesWriter", "TensorBoardWriter"),
    "objectives": ("Objective", "ObjectiveOutput", "prm_objective", "sft_objective"),
    "optimizer": ("learning_rate_schedule", "make_optimizer"),
    "program": ("Program", "prepare", "train"),
    "record": ("RunMismatch", "fingerprint"),
    "state": ("TrainState",),
    "step": ("make_train_step",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BatchSource",
    "CheckpointError",
    "Checkpointer",
    "ConsoleProgress",
    "DistributedConfig",
    "JsonLinesWriter",
    "LoopConfig",
    "MeshConfig",
    "NonFiniteUpdate",
    "Objective",
    "ObjectiveOutput",
    "OptimizerConfig",
    "OtherProcessFailed",
    "PackedBatches",
    "PrmObjectiveConfig",
    "Program",
    "RunMismatch",
    "TensorBoardWriter",
    "TrainState",
    "TrainingInterrupted",
    "all_or_none",
    "fingerprint",
    "finished_model",
    "first_process_first",
    "fit",
    "initialise_distributed",
    "learning_rate_schedule",
    "make_constrain",
    "make_mesh",
    "make_optimizer",
    "make_train_step",
    "parameter_shardings",
    "prepare",
    "prm_objective",
    "row_share",
    "sft_objective",
    "stop_on_signal",
    "train",
    "whole_on_host",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for, so that configs cost no import of jax."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
