"""A reward model and batches of a few kilobytes, shared by the tests of training and the scripts they start."""

import dataclasses
import functools

import jax
import numpy as np

from agentprm_jax.data.batch import Batch
from agentprm_jax.models import DecoderConfig, LoraConfig, init_language_model, init_reward_model, logical_axes
from agentprm_jax.training import (
    LoopConfig,
    MeshConfig,
    OptimizerConfig,
    PrmObjectiveConfig,
    make_constrain,
    make_mesh,
    prepare,
    prm_objective,
    sft_objective,
)

MODEL = DecoderConfig(
    vocab_size=24,
    embed=16,
    mlp=32,
    layers=2,
    heads=8,
    kv_heads=4,
    head_dim=8,
    rope_theta=10_000.0,
    norm_eps=1e-6,
    max_positions=64,
)
TRAIN_ALL = LoraConfig()
LORA = LoraConfig(rank=2, alpha=8.0, base_dtype="float32")
ROWS, LENGTH, SEGMENTS, STEPS = 8, 24, 2, 3


class RandomBatches:
    """Batches that are a function of (seed, index): two trajectories a row, of one to three steps."""

    def __init__(self, seed=0, rows=ROWS):
        self.seed = seed
        self.rows = rows
        self.seen = []
        self.digest = f"random-{seed}"

    def __getitem__(self, index):
        self.seen.append(index)
        rng = np.random.default_rng((self.seed, index))
        half = LENGTH // SEGMENTS
        lengths = rng.integers(6, half + 1, (self.rows, SEGMENTS))
        column = np.tile(np.arange(half), (self.rows, SEGMENTS, 1))
        real = column < lengths[..., None]
        steps = rng.integers(1, STEPS + 1, (self.rows, SEGMENTS))
        step_mask = np.arange(STEPS) < steps[..., None]
        readouts = np.arange(SEGMENTS)[None, :, None] * half + 1 + 2 * np.arange(STEPS)
        segments = np.where(real, 1 + np.arange(SEGMENTS)[None, :, None], 0)
        return Batch(
            tokens=np.where(real, rng.integers(1, MODEL.vocab_size, real.shape), 0)
            .reshape(self.rows, -1)
            .astype(np.int32),
            segments=segments.reshape(self.rows, -1).astype(np.int32),
            positions=np.where(real, column, 0).reshape(self.rows, -1).astype(np.int32),
            loss_mask=(real & (rng.random(real.shape) < 0.5)).reshape(self.rows, -1).astype(np.float32),
            readouts=np.where(step_mask, readouts, 0).astype(np.int32),
            step_mask=step_mask,
            outcomes=rng.random((self.rows, SEGMENTS)).astype(np.float32),
            initial_values=rng.random((self.rows, SEGMENTS)).astype(np.float32),
        )

    def names(self, index):
        return [f"batch{index}_row{row}" for row in range(self.rows)]


def tiny_program(
    kind="prm",
    *,
    mesh=(1, 1, 1),
    steps=6,
    method="agentprm",
    wrap=lambda objective: objective,
    rule="adamw",
    learning_rate=1e-2,
    dtype="float32",
    lora=TRAIN_ALL,
    extra_blocks=0,
    eps=1e-3,  # so that Adam does not blow rounding up where a gradient is almost zero
    **loop,
):
    decoder = dataclasses.replace(MODEL, dtype=dtype, layers=MODEL.layers + extra_blocks)
    device_mesh = make_mesh(MeshConfig(*mesh))
    constrain = make_constrain(device_mesh)
    if kind == "prm":
        objective, init, model = (
            prm_objective(decoder, PrmObjectiveConfig(method), constrain),
            init_reward_model,
            "reward_model",
        )
    else:
        objective, init, model = sft_objective(decoder, constrain), init_language_model, "language_model"
    return prepare(
        wrap(objective),
        functools.partial(init, decoder),
        logical_axes(decoder, model),
        mesh=device_mesh,
        optimizer=OptimizerConfig(rule=rule, learning_rate=learning_rate, warmup_fraction=0.2, eps=eps),
        loop=LoopConfig(**{"rows_per_batch": ROWS, "checkpoint_every": 3, "log_every": 2} | loop),
        total_steps=steps,
        lora=lora,
        extra_blocks=extra_blocks,
    )


def pretrained_base():
    """What adapters are trained beside, as a file would give it; embeddings are tied, so that it is all."""
    init = jax.jit(functools.partial(init_language_model, MODEL))
    return jax.tree.map(np.asarray, init(jax.random.key(7)))
