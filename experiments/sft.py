"""SFT: train an actor to imitate trajectories, from scratch on a closed vocabulary or from a pretrained model.

Command:

    uv run experiments/sft.py --trajectories demos.jsonl --output runs/actor

The actor lies in OUTPUT/model in Hugging Face's layout with its tokenizer, beside checkpoints, metrics.jsonl and
TensorBoard events. Run the same command again to continue an interrupted run; SIGTERM or Ctrl-C saves and ends the
command with exit code 75 ("try again"), a second one ends it at once. In compact BabyAI 400 updates of 4,096
tokens give an actor that solves about half of the tasks greedily. With --init DIR --lora.rank 16 only low-rank adapters
are trained; they lie in OUTPUT/adapter as `peft` loads them, and merged into their base in OUTPUT/model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.loading import ParamDtype, load_to_train
from agentprm_jax.commands.ranges import check, check_counts
from agentprm_jax.envs.config import EnvironmentConfig
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.training.config import DistributedConfig, LoopConfig, MeshConfig, OptimizerConfig


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder that is trained from scratch."""

    embed: int = 128
    """Width of the residual stream."""
    layers: int = 3
    """Number of blocks."""
    heads: int = 4
    """Query heads."""
    kv_heads: int = 2
    """Key-value heads."""
    mlp: int = 256
    """Width of the feed-forward layers."""
    max_positions: int = 512
    """Longest conversation in tokens."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of activations; parameters, norms, softmax and losses stay in float32."""

    def __post_init__(self) -> None:
        """Raises ValueError when a size is below 1 or heads do not divide what they share."""
        check_counts(self, "embed", "layers", "heads", "kv_heads", "mlp", "max_positions")
        check(self, "heads", self.heads % self.kv_heads == 0, f"a multiple of kv_heads={self.kv_heads}")
        even = self.embed % (2 * self.heads) == 0
        check(self, "embed", even, f"a multiple of twice heads={self.heads}: a head has an even width")


@dataclass(frozen=True)
class SftConfig:
    """Settings of one imitation run."""

    trajectories: Path
    """Trajectories to imitate (.jsonl, .jsonl.gz or .jsonl.zst)."""
    output: Path
    """Folder of the run; continued if it holds the same run, refused if it holds another."""
    init: Path | None = None
    """Pretrained model to start from, a folder or a GGUF file; None trains `model` from scratch on compact words."""
    imitate: Literal["actions", "everything"] = "actions"
    """Tokens with a loss: the actor's actions, or every token, observations too (for a trunk that PRMs start from)."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """Whose vocabulary a model from scratch gets."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of a model from scratch."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=3e-3))
    """Optimizer; adapters of a pretrained model want about 1e-3."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=400))
    """Length (400 updates; passes instead by --loop.steps None --loop.epochs N), batches, reports and checkpoints."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Devices."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters to train instead of the pretrained model."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Processes, each with its own devices; all must see OUTPUT as the same folder."""
    param_dtype: ParamDtype = "stored"
    """Type of the parameters and of the optimizer's moments: that of `init`, or widened to float32, which those of a
    model from scratch always are."""
    remat: bool = False
    """Whether the backward pass computes each block again instead of keeping its activations, to save memory."""
    row_length: int = 256
    """Tokens of a packed row."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """A trajectory of more than `row_length` tokens: refuse to train, or leave it out and count it."""
    seed: int = 0
    """Of the initial parameters and of the order of the data."""

    def __post_init__(self) -> None:
        """Raises ValueError when a number is out of range or there is nothing to adapt."""
        check_counts(self, "row_length")
        check(self, "seed", self.seed >= 0, "a whole number of at least 0")
        if self.lora.rank and self.init is None:
            raise ValueError("Adapters need a pretrained model: lora.rank is above 0, but init names no folder.")


def main(config: SftConfig) -> None:
    """Trains the actor unless OUTPUT holds it already."""
    from agentprm_jax.actors import read_stop_tokens
    from agentprm_jax.data.encode import ChatEncoder
    from agentprm_jax.data.tokenizer_files import load_encoder, save_with_tokenizer
    from agentprm_jax.data.vocabulary import word_tokenizer
    from agentprm_jax.envs.tasks import compact_vocabulary
    from agentprm_jax.models import init_language_model, logical_axes
    from agentprm_jax.reporting.encoding import encode_together
    from agentprm_jax.reporting.rows import pack_run
    from agentprm_jax.reporting.stage import ENCODED, claim_together, trained_tokens
    from agentprm_jax.reporting.training_notes import TRAINING, training_notes
    from agentprm_jax.training import (
        PackedBatches,
        all_or_none,
        finished_model,
        initialise_distributed,
        make_constrain,
        make_mesh,
        prepare,
        row_share,
        sft_objective,
        train,
    )
    from agentprm_jax.training.record import write_record

    initialise_distributed(config.distributed)
    title = f"sft {config.output.name}"
    stage = claim_together(config.output, title, config, ignore=("output", "mesh", "distributed", "remat"))
    if stage.done:
        return
    with stage.clock():
        mesh = make_mesh(config.mesh)
        if config.init is None:
            encoder, pretrained = ChatEncoder(word_tokenizer(compact_vocabulary(config.environment))), {}
            decoder = scratch_decoder(config.model, encoder.vocab_size, remat=config.remat)
        else:
            decoder, pretrained = load_to_train(config.init, mesh, param_dtype=config.param_dtype, remat=config.remat)
            encoder = load_encoder(config.init, vocab_size=decoder.vocab_size)
        examples = encode_together(config.output / ENCODED, config.trajectories, encoder, config.imitate)
        rows = pack_run(
            examples,
            config.trajectories,
            row_length=config.row_length,
            max_positions=decoder.max_positions,
            too_long=config.too_long,
            title=title if stage.writer else None,
        )
        program = prepare(
            sft_objective(decoder, make_constrain(mesh)),
            lambda key: init_language_model(decoder, key),
            logical_axes(decoder, "language_model"),
            mesh=mesh,
            optimizer=config.optimizer,
            loop=config.loop,
            total_steps=config.loop.total_steps(len(rows)),
            lora=config.lora,
        )
        trained = train(
            program,
            PackedBatches(rows, rows_per_batch=config.loop.rows_per_batch, seed=config.seed, share=row_share(mesh)),
            config.output,
            seed=config.seed,
            pretrained=pretrained,
            label=stage.name,
        )
        params = finished_model(trained, pretrained, decoder, config.lora, init=config.init, output=config.output)
        model = config.output / "model"
        with all_or_none(f"saving {model}"):
            if stage.writer:
                stops = () if config.init is None else read_stop_tokens(config.init)
                save_with_tokenizer(model, decoder, params, encoder, stops)
                notes = training_notes(config, examples, rows, config.output, Path(__file__).parent)
                write_record(model / TRAINING, notes)
        stage.finish(tokens_trained=trained_tokens(config.output), padding=rows.padding_share)


def scratch_decoder(model: ModelConfig, vocab_size: int, *, remat: bool) -> DecoderConfig:
    """The full decoder config of a model from scratch."""
    return DecoderConfig(
        vocab_size=vocab_size,
        embed=model.embed,
        mlp=model.mlp,
        layers=model.layers,
        heads=model.heads,
        kv_heads=model.kv_heads,
        head_dim=model.embed // model.heads,
        rope_theta=10_000.0,
        norm_eps=1e-6,
        max_positions=model.max_positions,
        dtype=model.dtype,
        remat=remat,
    )


if __name__ == "__main__":
    run_command(main, tyro.cli(SftConfig, description=__doc__))
