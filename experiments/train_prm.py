"""Train a process reward model on trajectories: AgentPRM, AgentPRM without L_A, PVM or ORM.

Command:

    uv run experiments/train_prm.py --trajectories pool.jsonl --init runs/actor/model --output runs/prm \
        --objective.method agentprm

Labels are computed inside the jitted step from the same forward pass that gives the loss (AgentPRM, eq. 12-14 and
algorithm 1, arXiv 2511.08325). The PRM lies in OUTPUT/model in Hugging Face's layout. Run the same command again to
continue an interrupted run; on more devices add --mesh.fsdp N.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from command import run_command

from agentprm_jax.training.config import DistributedConfig, LoopConfig, MeshConfig, OptimizerConfig, PrmObjectiveConfig


@dataclass(frozen=True)
class TrainPrmConfig:
    """Settings of one PRM."""

    trajectories: Path
    """Trajectories with outcomes (.jsonl, .jsonl.gz or .jsonl.zst)."""
    init: Path
    """Model folder whose decoder, tokenizer and chat template the PRM starts from."""
    output: Path
    """Folder of the run; continued if it holds the same run, refused if it holds another."""
    objective: PrmObjectiveConfig = field(default_factory=PrmObjectiveConfig)
    """Labels and loss."""
    initial_values: Literal["leave_one_out", "zero"] = "leave_one_out"
    """V(s_0): the mean outcome of the other trajectories of the task, or 0."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1.5e-3))
    """Optimizer; a pretrained language model wants about 1e-6."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=2.0))
    """Length, batches, reports and checkpoints."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Devices."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Processes, where there are several: see docs/pods.md."""
    param_dtype: Literal["stored", "float32"] = "stored"
    """Type of the decoder's parameters and of the optimizer's moments: that of `init`, or widened to float32."""
    remat: bool = False
    """Whether the backward pass computes each block again instead of keeping its activations, to save memory."""
    row_length: int = 256
    """Tokens of a packed row."""
    seed: int = 0
    """Of the value head and of the order of the data."""


def main(config: TrainPrmConfig) -> None:
    """Trains the PRM unless OUTPUT holds it already."""
    import contextlib
    import dataclasses

    import jax
    from transformers import AutoTokenizer

    from agentprm_jax.data.batch import initial_values, make_examples
    from agentprm_jax.data.encode import ChatEncoder
    from agentprm_jax.data.packing import pack
    from agentprm_jax.data.trajectory import read_trajectories
    from agentprm_jax.models import init_reward_model, load_pretrained, logical_axes
    from agentprm_jax.reporting.stage import StageFolder, trained_tokens
    from agentprm_jax.scoring import Prm
    from agentprm_jax.training import (
        PackedBatches,
        fingerprint,
        first_goes_first,
        is_first,
        join_processes,
        make_constrain,
        make_mesh,
        prepare,
        prm_objective,
        train,
        whole,
    )

    join_processes(config.distributed)
    with first_goes_first("output folder"):
        elsewhere = ("output", "mesh", "distributed", "remat")
        stage = StageFolder(config.output, f"PRM {config.output.name}", config, ignore=elsewhere)
    if stage.done:
        return
    with stage.clock() if is_first() else contextlib.nullcontext():
        trajectories = read_trajectories(config.trajectories)
        encoder = ChatEncoder(AutoTokenizer.from_pretrained(config.init))
        stored, language_model = load_pretrained(config.init)
        decoder = dataclasses.replace(stored, remat=config.remat)
        pretrained = {"decoder": language_model["decoder"]}
        if config.param_dtype == "float32":
            decoder = dataclasses.replace(decoder, param_dtype="float32")
            pretrained = jax.tree.map(lambda x: x.astype("float32"), pretrained)
        values = initial_values(trajectories, config.initial_values)
        examples = make_examples(trajectories, encoder, values)
        rows = pack(
            [example._replace(encoded=example.encoded.up_to_last_action()) for example in examples],
            length=config.row_length,
        )
        mesh = make_mesh(config.mesh)
        program = prepare(
            prm_objective(decoder, config.objective, make_constrain(mesh)),
            lambda key: init_reward_model(decoder, key),
            logical_axes(decoder, "reward_model"),
            mesh=mesh,
            optimizer=config.optimizer,
            loop=config.loop,
            total_steps=config.loop.total_steps(len(rows)),
        )
        params = train(
            program,
            PackedBatches(rows, rows_per_batch=config.loop.rows_per_batch, seed=config.seed),
            config.output,
            seed=config.seed,
            pretrained=pretrained,
            settings={"objective": dataclasses.asdict(config.objective), "pretrained": fingerprint(pretrained)},
            label=stage.name,
        )
        trained = whole(params)
        if is_first():
            mean_outcome = sum(trajectory.outcome for trajectory in trajectories) / len(trajectories)
            name = f"{config.objective.method}-{config.seed}"
            Prm(decoder, trained, encoder, initial_value=mean_outcome, name=name).save(config.output / "model")
    if is_first():
        stage.finish(tokens_trained=trained_tokens(config.output))


if __name__ == "__main__":
    run_command(main, tyro.cli(TrainPrmConfig, description=__doc__))
