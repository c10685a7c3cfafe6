"""What a training run can be told: processes, mesh, optimizer, loop and the reward model's objective."""

import dataclasses
import math
from typing import Literal, get_args

Schedule = Literal["cosine", "linear", "constant"]
Rule = Literal["adamw", "muon"]
Method = Literal["agentprm", "agentprm_no_la", "pvm", "orm"]
Progress = Literal["gae", "delta_q"]
Cluster = Literal["auto", "none", "slurm", "ompi", "mpi4py", "k8s"]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or Muon with warm-up, a decaying learning rate and clipping by the global norm."""

    rule: Rule = "adamw"
    """Update of the layers' kernels: AdamW's, or Muon's orthogonalised momentum; all else always gets AdamW's."""
    learning_rate: float = 1e-3
    """Learning rate at the end of the warm-up."""
    schedule: Schedule = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup_fraction: float = 0.05
    """Share of all steps, in [0, 1), over which the learning rate rises linearly from 0."""
    final_fraction: float = 0.1
    """Learning rate at the last step as a share, in [0, 1], of the highest one (not used by "constant")."""
    weight_decay: float = 0.01
    """Decoupled weight decay, multiplied by the learning rate; only matrices and embeddings decay."""
    clip_norm: float = 1.0
    """Gradients with a larger global norm than this are scaled down to it; above 0."""
    b1: float = 0.9
    """Decay of the average of gradients, in [0, 1)."""
    b2: float = 0.99
    """Decay of the average of squared gradients, in [0, 1)."""
    eps: float = 1e-8
    """Added to the root of the average of squared gradients; above 0."""
    muon_momentum: float = 0.95
    """Decay of Muon's average of gradients, in [0, 1)."""

    def __post_init__(self) -> None:
        """Raises ValueError when a field is out of range."""
        _check_choice(self, "rule", get_args(Rule))
        _check_choice(self, "schedule", get_args(Schedule))
        _check(self, "learning_rate", 0 < self.learning_rate < math.inf, "a finite number above 0")
        _check(self, "warmup_fraction", 0 <= self.warmup_fraction < 1, "in [0, 1)")
        _check(self, "final_fraction", 0 <= self.final_fraction <= 1, "in [0, 1]")
        _check(self, "weight_decay", 0 <= self.weight_decay < math.inf, "a finite number of at least 0")
        _check(self, "clip_norm", self.clip_norm > 0, "above 0")
        _check(self, "b1", 0 <= self.b1 < 1, "in [0, 1)")
        _check(self, "b2", 0 <= self.b2 < 1, "in [0, 1)")
        _check(self, "eps", self.eps > 0, "above 0")
        _check(self, "muon_momentum", 0 <= self.muon_momentum < 1, "in [0, 1)")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices lie along each axis of the mesh; their product is the number of devices used."""

    data: int = 1
    """Devices that hold whole copies of the parameters and share the rows of a batch."""
    fsdp: int = 1
    """Devices that share the rows of a batch and the parameters as well."""
    tensor: int = 1
    """Devices that share heads, feed-forward features and the vocabulary."""

    def __post_init__(self) -> None:
        """Raises ValueError when an axis has no device."""
        for name in ("data", "fsdp", "tensor"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes of the axes (data, fsdp, tensor)."""
        return (self.data, self.fsdp, self.tensor)


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
    """How the processes of a run find each other; by default a run is one process unless a cluster says otherwise."""

    coordinator: str | None = None
    """Host and port of process 0, such as 10.0.0.1:1234; given together with `processes` and `process`."""
    processes: int | None = None
    """Number of processes."""
    process: int | None = None
    """Number of this process, from 0."""
    cluster: Cluster = "auto"
    """Who tells what is not given: auto asks the TPU pod, SLURM or Open MPI that has started several processes, none
    keeps each process for itself; k8s needs the package kubernetes, mpi4py the package of that name."""
    heartbeat_seconds: int = 100
    """Seconds without a sign of life after which a process is taken for dead and all the others end."""

    def __post_init__(self) -> None:
        """Raises ValueError when the three fields are not given together or do not fit each other."""
        given = [self.coordinator is not None, self.processes is not None, self.process is not None]
        together = "given together with coordinator, processes and process, or not at all"
        for name, present in zip(("coordinator", "processes", "process"), given, strict=True):
            _check(self, name, present or not any(given), together)
        _check(self, "coordinator", self.coordinator is None or ":" in self.coordinator, "of the form host:port")
        _check(self, "processes", self.processes is None or self.processes >= 1, "a whole number of at least 1")
        fits = self.process is None or 0 <= self.process < (self.processes or 0)
        _check(self, "process", fits, f"in [0, {self.processes})")
        _check(self, "heartbeat_seconds", self.heartbeat_seconds >= 1, "a whole number of at least 1")
        _check_choice(self, "cluster", get_args(Cluster))
        _check(self, "cluster", self.cluster == "auto" or not any(given), "auto where the coordinator is given")


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Length of a training run, size of its batches, and how often it reports and saves."""

    epochs: float = 1.0
    """Passes over the packed rows; fractions are allowed. Not used when `steps` is given."""
    steps: int | None = None
    """Number of updates; None takes it from `epochs`."""
    rows_per_batch: int = 16
    """Packed rows in one update, over all devices."""
    microbatches: int = 1
    """Equal parts a batch is cut into, one after the other, to save memory; the update stays the same."""
    log_every: int = 10
    """Steps between two fetches of the metrics; every step still gets a row of its own."""
    checkpoint_every: int = 200
    """Most steps between two checkpoints; the last step is always saved."""
    checkpoint_minutes: float = 10.0
    """Most minutes between two checkpoints."""
    keep: int = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        """Raises ValueError when a field is out of range or the batch cannot be cut into its parts."""
        _check(self, "epochs", 0 < self.epochs < math.inf, "a finite number above 0")
        _check(self, "steps", self.steps is None or self.steps >= 1, "None or a whole number of at least 1")
        _check(self, "checkpoint_minutes", self.checkpoint_minutes > 0, "above 0")
        for name in ("rows_per_batch", "microbatches", "log_every", "checkpoint_every", "keep"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        divides = self.rows_per_batch % self.microbatches == 0
        _check(self, "microbatches", divides, f"a divisor of rows_per_batch={self.rows_per_batch}")

    def total_steps(self, rows: int) -> int:
        """Number of updates on so many packed rows; an epoch shows each once, and its last batch may be padded.

        Raises:
            ValueError: if there are no rows.
        """
        if rows < 1:
            raise ValueError(f"Training needs at least one packed row, got {rows}.")
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * math.ceil(rows / self.rows_per_batch)))


@dataclasses.dataclass(frozen=True)
class PrmObjectiveConfig:
    """Which labels and which loss the reward model learns from (AgentPRM, eq. 4-14, arXiv 2511.08325)."""

    method: Method = "agentprm"
    """agentprm: promise and progress loss on TD labels; agentprm_no_la: without the progress loss; pvm: every step
    is labelled with the outcome; orm: the last step only, labelled with the outcome."""
    gamma: float = 1.0
    """Discount per step, in [0, 1]."""
    lam: float = 0.95
    """GAE's lambda, in [0, 1]: 1 labels every step with the discounted outcome; 0 labels every step before the last
    with its own discounted promise, so that with gamma 1 only the last step learns."""
    beta: float = 1.0
    """Weight of the progress loss, at least 0."""
    progress: Progress = "gae"
    """Target of the progress loss: gae is the advantage (eq. 6), delta_q the difference of labels (eq. 9)."""

    def __post_init__(self) -> None:
        """Raises ValueError when a field is out of range."""
        _check_choice(self, "method", get_args(Method))
        _check_choice(self, "progress", get_args(Progress))
        _check(self, "gamma", 0 <= self.gamma <= 1, "in [0, 1]")
        _check(self, "lam", 0 <= self.lam <= 1, "in [0, 1]")
        _check(self, "beta", 0 <= self.beta < math.inf, "a finite number of at least 0")


def _check(config: object, field: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{type(config).__name__}.{field} must be {expected}, got {getattr(config, field)!r}.")


def _check_choice(config: object, field: str, choices: tuple[str, ...]) -> None:
    _check(config, field, getattr(config, field) in choices, f"one of {', '.join(choices)}")
