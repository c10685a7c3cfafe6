"""Their side of the benchmark of throughput: `Qwen2ForTokenClassification` on padded batches, as TRL trains PRMs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from transformers import Qwen2ForTokenClassification
from transformers import logging as transformers_logging
from workloads import Workload

if TYPE_CHECKING:
    from agentprm_jax.data import EncodedTrajectory, Trajectory

PER_DEVICE = 8
"""Sequences of a padded batch: the default of the trainer of `transformers`, so of TRL's."""
_UNLABELLED = float("nan")


class Piece(NamedTuple):
    """A padded batch.

    Attributes:
        tokens: int64 [b, t].
        mask: int64 [b, t]; 1 on tokens, 0 on padding.
        labels: float32 [b, t]; nan where a token has none.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


class Training:
    """Updates on all trajectories by AdamW, clipped at norm 1, mean squared error at the ends of actions."""

    def __init__(self, workload: Workload, dtype: str, per_device: int, by_length: bool) -> None:
        """Pads.

        Args:
            workload: trajectories and model; `config.together` of them make an update, on both sides.
            dtype: float32, or bfloat16 for `torch.autocast` over weights in float32.
            per_device: sequences of a padded batch; gradients of several are added up for an update.
            by_length: whether trajectories of similar length share a batch (`group_by_length`).
        """
        self._model = load(workload, "float32").train()
        fused = torch.optim.AdamW(self._model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
        self._optimizer, self._dtype = fused, dtype
        encoded = workload.encoded(workload.trajectories)
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].tokens)) if by_length else range(len(encoded))
        chosen = [(encoded[i], workload.trajectories[i].outcome) for i in order]
        pad = workload.encoder.pad_id
        self._updates = [
            [padded(part, pad) for part in cut(update, per_device)] for update in cut(chosen, workload.config.together)
        ]
        self.padding = padding([piece for update in self._updates for piece in update])

    def epoch(self) -> None:
        """Every trajectory once."""
        for update in self._updates:
            self._differentiate(update)
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()

    def parts(self) -> dict[str, Callable[[], object]]:
        """The loss, and its gradient, without the update."""
        return {"forward": self._forward, "forward and backward": self._gradients}

    def _forward(self) -> None:
        with torch.no_grad():
            for update in self._updates:
                for piece in update:
                    self._loss(piece)

    def _gradients(self) -> None:
        for update in self._updates:
            self._differentiate(update)
            self._optimizer.zero_grad()

    def _differentiate(self, update: Sequence[Piece]) -> None:
        steps = sum(int((~piece.labels.isnan()).sum()) for piece in update)
        for piece in update:
            (self._loss(piece) / steps).backward()

    def _loss(self, piece: Piece) -> torch.Tensor:
        with computing_in(self._dtype):
            values = self._model(piece.tokens, attention_mask=piece.mask).logits[..., 0]
        labelled = ~piece.labels.isnan()
        return torch.square(values.float()[labelled] - piece.labels[labelled]).sum()


class Scoring:
    """Scores of trajectories in padded batches."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        """Loads the model, its weights in the given type."""
        self.per_device = PER_DEVICE
        self._model = load(workload, dtype).eval()
        self._workload = workload

    def score(self, trajectories: Sequence[Trajectory], *, by_length: bool = False) -> list[np.ndarray]:
        """Promises of every action: one forward pass for all steps of a trajectory."""
        encoded = self._workload.encoded(trajectories)
        values = self._read([one.tokens for one in encoded], self.per_device, by_length)
        return [line[one.readouts] for line, one in zip(values, encoded, strict=True)]

    def score_prefixes(self, trajectories: Sequence[Trajectory], per_device: int) -> list[np.ndarray]:
        """Promises of every action, each from a forward pass over what precedes it alone."""
        encoded = self._workload.encoded(trajectories)
        prefixes = [one.tokens[: end + 1] for one in encoded for end in one.readouts]
        values = iter(self._read(prefixes, per_device, per_device > 1))
        return [np.array([next(values)[-1] for _ in one.readouts]) for one in encoded]

    def _read(self, tokens: Sequence[np.ndarray], per_device: int, by_length: bool) -> list[np.ndarray]:
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i])) if by_length else range(len(tokens))
        values: dict[int, np.ndarray] = {}
        for places in cut(list(order), per_device):
            ids, mask = laid_out([tokens[place] for place in places], self._workload.encoder.pad_id)
            with torch.inference_mode():
                logits = self._model(ids, attention_mask=mask).logits[..., 0].float().numpy()
            values |= {place: line[: len(tokens[place])] for place, line in zip(places, logits, strict=True)}
        return [values[place] for place in range(len(tokens))]


def load(workload: Workload, dtype: str) -> Qwen2ForTokenClassification:
    """The same weights; one label, a bias of zero and no dropout, as ours has neither."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    model = Qwen2ForTokenClassification.from_pretrained(
        workload.folder, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )
    model.config.use_cache = False
    model.dropout.p = 0.0
    torch.nn.init.zeros_(model.score.bias)
    return model


def computing_in(dtype: str) -> AbstractContextManager:
    """Autocast for bfloat16."""
    return torch.autocast("cpu", torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def cut(things: Sequence, size: int) -> list:
    """Parts of at most `size`."""
    return [things[start : start + size] for start in range(0, len(things), size)]


def padded(chosen: Sequence[tuple[EncodedTrajectory, float]], pad: int) -> Piece:
    """A batch with the outcome as the label of every action."""
    tokens, mask = laid_out([one.tokens for one, _ in chosen], pad)
    labels = torch.full(tokens.shape, _UNLABELLED)
    for row, (one, outcome) in enumerate(chosen):
        labels[row, torch.from_numpy(one.readouts).long()] = outcome
    return Piece(tokens, mask, labels)


def laid_out(rows: Sequence[np.ndarray], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the right to the longest, and the mask of what is no padding."""
    width = max(map(len, rows))
    tokens = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.from_numpy(np.array(row)).long()
        mask[place, : len(row)] = 1
    return tokens, mask


def padding(pieces: Sequence[Piece]) -> float:
    """Share of the tokens that is padding."""
    return 1 - sum(int(piece.mask.sum()) for piece in pieces) / sum(piece.mask.numel() for piece in pieces)
