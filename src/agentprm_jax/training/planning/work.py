"""What a step has to compute whatever computes it: operations of the model, and what its state weighs."""

import math
from dataclasses import dataclass
from typing import Literal

from agentprm_jax.models.config import DecoderConfig

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

    @property
    def trains(self) -> bool:
        """Whether there is a backward pass and an optimizer."""
        return self.step != "score"

    @property
    def tokens(self) -> int:
        """Tokens of the step."""
        return self.rows * self.length

    @property
    def model_flops(self) -> float:
        """Operations that the step needs: 2 N for each token forwards and 4 N backwards, and attention.

        N counts the parameters that every token is multiplied with. Attention makes two products of the width of a
        head forwards for every pair of a token and one that it sees, and four backwards. Nothing that is computed
        again to save memory counts.
        """
        model, passes = self.model, 3 if self.trains else 1
        pairs = self.rows * self.length * (self.length + 1) // 2
        attention = 2 * 2.0 * pairs * model.layers * model.heads * model.head_dim
        return passes * (2.0 * matrix_parameters(model, head=self.step == "sft") * self.tokens + attention)


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


def state_bytes(workload: Workload) -> float:
    """Parameters, for training their two moments and gradients too, each in the dtype of the parameters."""
    size = 2 if workload.model.param_dtype in ("bfloat16", "float16") else 4
    return float(all_parameters(workload.model, workload.step) * size * (4 if workload.trains else 1))


def mesh_shapes(chips: int, model: DecoderConfig, rows: int | None) -> list[tuple[int, int, int]]:
    """Meshes (data, fsdp, tensor) of so many chips worth trying for a model, the likeliest first.

    Parameters lie over fsdp alone as far as possible; copies (data) save exchange where there is memory, tensor helps
    where there are more chips than rows. Heads, features and vocabulary must be divisible by tensor, the width of the
    residual stream by fsdp, and the rows, where they are given, by data x fsdp.
    """
    found = []
    for tensor in (1, 2, 4, 8):
        for data in (1, 2, 4, 8, 16, 32):
            fsdp, rest = divmod(chips, data * tensor)
            cut = math.gcd(model.kv_heads, model.mlp, model.vocab_size)
            fits = rest == 0 and fsdp >= 1 and cut % tensor == 0 and model.embed % fsdp == 0
            if fits and (rows is None or rows % (data * fsdp) == 0):
                found.append((data, fsdp, tensor))
    return found
