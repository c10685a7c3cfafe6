"""What a step has to compute whatever computes it: operations of the model, and what its state weighs."""

import math
from dataclasses import dataclass, field
from typing import Literal

from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.lora_config import LoraConfig

PlannedStep = Literal["agentprm", "sft", "score"]
"""One update of the reward model, one update of an actor that imitates, or one forward pass of the scorer."""


@dataclass(frozen=True)
class Workload:
    """One step over full rows, in each of which a token sees all earlier ones."""

    model: DecoderConfig
    """The decoder."""
    step: PlannedStep
    """What is done with it."""
    rows: int
    """Rows of the batch, over all chips."""
    length: int
    """Tokens of a row."""
    microbatches: int = 1
    """Equal parts of the batch that are differentiated one after the other."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """What is trained: low-rank adapters beside a frozen model, or, where the rank is 0, all of it."""

    def __post_init__(self) -> None:
        """Raises ValueError for adapters and microbatches in a step that does not train."""
        if self.lora.rank and not self.trains:
            raise ValueError(
                f"A step that scores has no adapters, which are merged into the model that a run leaves, but lora.rank "
                f"is {self.lora.rank}; expected 0."
            )
        if self.microbatches > 1 and not self.trains:
            raise ValueError(
                f"A step that scores differentiates no parts, but microbatches is {self.microbatches}; expected 1."
            )

    @property
    def trains(self) -> bool:
        """Whether there is a backward pass and an optimizer."""
        return self.step != "score"

    @property
    def tokens(self) -> int:
        """Tokens of the step."""
        return self.rows * self.length

    @property
    def matrices(self) -> int:
        """Parameters that every token is multiplied with, adapters included."""
        adapters = sum(adapter_parameters(self.model, self.lora))
        return matrix_parameters(self.model, head=self.step == "sft") + adapters

    @property
    def trained_matrices(self) -> int:
        """Those of them that have a gradient: all or the adapters, and none where nothing is trained."""
        if not self.trains:
            return 0
        return sum(adapter_parameters(self.model, self.lora)) if self.lora.rank else self.matrices

    @property
    def attention_flops(self) -> float:
        """Operations of attention forwards: two products of the width of a head for every pair of a token and one that
        it sees."""
        pairs = self.rows * self.length * (self.length + 1) // 2
        return 2 * 2.0 * pairs * self.model.layers * self.model.heads * self.model.head_dim

    @property
    def forward_flops(self) -> float:
        """Operations of a forward pass: two for each token and parameter that it is multiplied with, and attention."""
        return 2.0 * self.matrices * self.tokens + self.attention_flops

    @property
    def model_flops(self) -> float:
        """Operations that the step needs: for training, those of the forward pass and about twice as many backwards.

        Backwards each parameter makes two for every token, two more where it is trained itself and not frozen beside
        adapters, and attention makes four products. Nothing that is computed again to save memory counts.
        """
        if not self.trains:
            return self.forward_flops
        backwards = 2.0 * (self.matrices + self.trained_matrices) * self.tokens + 2 * self.attention_flops
        return self.forward_flops + backwards


def matrix_parameters(model: DecoderConfig, *, head: bool) -> int:
    """Parameters that every token is multiplied with: the kernels of all blocks, and the `head` of a language model."""
    attention = 2 * model.embed * (model.heads + model.kv_heads) * model.head_dim
    layers = model.layers * (attention + 3 * model.embed * model.mlp)
    return layers + head * model.vocab_size * model.embed


def all_parameters(model: DecoderConfig, step: PlannedStep) -> int:
    """All parameters, embeddings and read-out included."""
    biases = (model.heads + 2 * model.kv_heads) * model.head_dim if model.qkv_bias else 0
    norms = 2 * model.embed + (2 * model.head_dim if model.qk_norm else 0)
    outside = model.vocab_size * model.embed + model.embed
    if step != "sft":
        outside += model.embed
    elif not model.tied_embeddings:
        outside += model.vocab_size * model.embed
    return matrix_parameters(model, head=False) + model.layers * (biases + norms) + outside


def adapter_parameters(model: DecoderConfig, lora: LoraConfig) -> tuple[int, int]:
    """Parameters of all adapters: of the factors along the residual stream, and of those along the kernels' other ends.

    Those lie over fsdp, these over tensor, as the kernels' axes do; the axis of the rank is not cut.
    """
    if lora.rank == 0:
        return 0, 0
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    ends = {"query": queries, "key": keys, "value": keys, "out": queries}
    ends |= dict.fromkeys(("gate", "up", "down"), model.mlp)
    others = sum(ends[path.rpartition("/")[2]] for path in lora.paths)
    return model.layers * lora.rank * model.embed * len(lora.paths), model.layers * lora.rank * others


def frozen_bytes(workload: Workload) -> float:
    """What parameters weigh that no update changes: beside adapters all but the read-out of a reward model."""
    if workload.trains and not workload.lora.rank:
        return 0.0
    model, dtype = workload.model, workload.lora.base_dtype
    everything = all_parameters(model, workload.step)
    if not workload.trains:
        return float(everything * _size(model.param_dtype))
    return float((everything - _read_out(workload)) * _size(model.param_dtype if dtype == "stored" else dtype))


def trained_parameters(workload: Workload, fsdp: int = 1, tensor: int = 1) -> float:
    """Parameters that an update changes, on each chip of those over which they lie: all, or adapters and a read-out."""
    if not workload.trains:
        return 0.0
    if workload.lora.rank == 0:
        return all_parameters(workload.model, workload.step) / (fsdp * tensor)
    stream, others = adapter_parameters(workload.model, workload.lora)
    return (stream + _read_out(workload)) / fsdp + others / tensor


def trained_bytes(workload: Workload, fsdp: int = 1, tensor: int = 1) -> float:
    """What these, their two moments and gradients weigh, each in their dtype; adapters are float32."""
    size = 4 if workload.lora.rank else _size(workload.model.param_dtype)
    return 4 * size * trained_parameters(workload, fsdp, tensor)


def checkpoint_bytes(workload: Workload) -> float:
    """What a checkpoint weighs: what is trained with its two moments, once, however many copies there are."""
    return trained_bytes(workload) * 3 / 4


def _read_out(workload: Workload) -> int:
    """Parameters of the value head, which a reward model has and an actor has not."""
    return 0 if workload.step == "sft" else workload.model.embed


def _size(dtype: str) -> int:
    return 2 if dtype in ("bfloat16", "float16") else 4


def mesh_shapes(chips: int, model: DecoderConfig, rows: int | None) -> list[tuple[int, int, int]]:
    """All meshes (data, fsdp, tensor) of so many chips over which a model, and the rows of a microbatch, can be cut.

    Heads, features and vocabulary must be divisible by tensor, the width of the residual stream by fsdp, and the rows
    by data x fsdp.
    """
    divisors = [size for size in range(1, chips + 1) if chips % size == 0]
    cut = math.gcd(model.kv_heads, model.mlp, model.vocab_size)
    return [
        (parts // fsdp, fsdp, chips // parts)
        for parts in divisors
        for fsdp in divisors
        if parts % fsdp == 0
        and cut % (chips // parts) == 0
        and model.embed % fsdp == 0
        and (rows is None or rows % parts == 0)
    ]
