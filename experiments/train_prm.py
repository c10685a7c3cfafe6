"""Train a process reward model on trajectories: AgentPRM, AgentPRM without L_A, PVM or ORM.

Command:

    uv run experiments/train_prm.py --trajectories pool.jsonl --init runs/actor/model --output runs/prm \
        --objective.method agentprm

Labels are computed inside the jitted step from the same forward pass that gives the loss (AgentPRM, eq. 12-14 and
algorithm 1, arXiv 2511.08325). The PRM lies in OUTPUT/model in Hugging Face's layout. Run the same command again to
continue an interrupted run; on more devices add --mesh.fsdp N. SIGTERM or Ctrl-C saves and ends the command with exit
code 75 ("try again"); a second one ends it at once. With --lora.rank 16 only low-rank adapters and the value head are
trained; they lie in OUTPUT/adapter as `peft` loads them, and merged into their base in OUTPUT/model. With
--extra-blocks 2 a small model gets two more blocks, which can read what those below expected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.loading import ParamDtype, load_to_train
from agentprm_jax.commands.ranges import check, check_counts
from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.training.config import DistributedConfig, LoopConfig, MeshConfig, OptimizerConfig, PrmObjectiveConfig


@dataclass(frozen=True)
class TrainPrmConfig:
    """Settings of one PRM."""

    trajectories: Path
    """Trajectories with outcomes (.jsonl, .jsonl.gz or .jsonl.zst)."""
    init: Path
    """Model, a folder or a GGUF file, whose decoder, tokenizer and chat template the PRM starts from."""
    output: Path
    """Folder of the run; continued if it holds the same run, refused if it holds another."""
    objective: PrmObjectiveConfig = field(default_factory=PrmObjectiveConfig)
    """Labels and loss."""
    initial_values: Literal["leave_one_out", "zero"] = "leave_one_out"
    """V(s_0): the mean outcome of the other trajectories of the task, or 0."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1.5e-3))
    """Optimizer; a pretrained language model wants about 1e-6, its adapters about 5e-4."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=2.0))
    """Length, batches, reports and checkpoints."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Devices."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters to train instead of the pretrained model."""
    extra_blocks: int = 0
    """Blocks put on top of those of `init`, the identity at first; not with adapters. A small model expects a word at
    the word before it, and mostly in its last block: blocks above see, where an action ends, what was expected."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Processes, each with its own devices; all must see OUTPUT as the same folder."""
    param_dtype: ParamDtype = "stored"
    """Type of the decoder's parameters and of the optimizer's moments: that of `init`, or widened to float32."""
    remat: bool = False
    """Whether the backward pass computes each block again instead of keeping its activations, to save memory."""
    row_length: int = 256
    """Tokens of a packed row."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """A trajectory of more than `row_length` tokens: refuse to train, or leave it out and count it."""
    seed: int = 0
    """Of the value head, of extra blocks and of the order of the data."""

    def __post_init__(self) -> None:
        """Raises ValueError when a number is out of range."""
        check_counts(self, "row_length")
        check(self, "extra_blocks", self.extra_blocks >= 0, "a whole number of at least 0")
        check(
            self, "extra_blocks", not (self.extra_blocks and self.lora.rank), "0 where adapters are trained (lora.rank)"
        )
        check(self, "seed", self.seed >= 0, "a whole number of at least 0")


def main(config: TrainPrmConfig) -> None:
    """Trains the PRM unless OUTPUT holds it already."""
    import dataclasses

    from agentprm_jax.data.batch import initial_values
    from agentprm_jax.data.tokenizer_files import load_encoder
    from agentprm_jax.models import init_reward_model, logical_axes
    from agentprm_jax.reporting.encoding import encode_together
    from agentprm_jax.reporting.rows import pack_run
    from agentprm_jax.reporting.stage import ENCODED, claim_together, trained_tokens
    from agentprm_jax.reporting.training_notes import training_notes
    from agentprm_jax.scoring import Prm
    from agentprm_jax.training import (
        PackedBatches,
        all_or_none,
        finished_model,
        initialise_distributed,
        make_constrain,
        make_mesh,
        prepare,
        prm_objective,
        row_share,
        train,
    )

    initialise_distributed(config.distributed)
    title = f"PRM {config.output.name}"
    stage = claim_together(config.output, title, config, ignore=("output", "mesh", "distributed", "remat"))
    if stage.done:
        return
    with stage.clock():
        mesh = make_mesh(config.mesh)
        decoder, pretrained = load_to_train(
            config.init, mesh, param_dtype=config.param_dtype, remat=config.remat, parts=("decoder",)
        )
        decoder = dataclasses.replace(decoder, layers=decoder.layers + config.extra_blocks)
        encoder = load_encoder(config.init, vocab_size=decoder.vocab_size)
        examples = encode_together(config.output / ENCODED, config.trajectories, encoder, "steps")
        values = initial_values(examples.outcomes, examples.groups, config.initial_values)
        rows = pack_run(
            examples.with_initial_values(values),
            config.trajectories,
            row_length=config.row_length,
            max_positions=decoder.max_positions,
            too_long=config.too_long,
            title=title if stage.writer else None,
        )
        program = prepare(
            prm_objective(decoder, config.objective, make_constrain(mesh)),
            lambda key: init_reward_model(decoder, key),
            logical_axes(decoder, "reward_model"),
            mesh=mesh,
            optimizer=config.optimizer,
            loop=config.loop,
            total_steps=config.loop.total_steps(len(rows)),
            lora=config.lora,
            extra_blocks=config.extra_blocks,
        )
        trained = train(
            program,
            PackedBatches(rows, rows_per_batch=config.loop.rows_per_batch, seed=config.seed, share=row_share(mesh)),
            config.output,
            seed=config.seed,
            pretrained=pretrained,
            settings={"objective": dataclasses.asdict(config.objective)},
            label=stage.name,
        )
        params = finished_model(trained, pretrained, decoder, config.lora, init=config.init, output=config.output)
        model = config.output / "model"
        with all_or_none(f"saving {model}"):
            if stage.writer:
                Prm(
                    decoder,
                    params,
                    encoder,
                    initial_value=float(examples.outcomes.mean()),
                    name=f"{config.objective.method}-{config.seed}",
                    method=config.objective.method,
                    training=training_notes(config, examples, rows, config.output, Path(__file__).parent),
                ).save(model)
        stage.finish(tokens_trained=trained_tokens(config.output), padding=rows.padding_share)


if __name__ == "__main__":
    run_command(main, tyro.cli(TrainPrmConfig, description=__doc__))
