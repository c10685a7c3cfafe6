import subprocess
import sys

import pytest

from agentprm_jax.training.config import DistributedConfig, LoopConfig, MeshConfig, OptimizerConfig, PrmObjectiveConfig


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (OptimizerConfig, "learning_rate", 0.0),
        (OptimizerConfig, "learning_rate", float("nan")),
        (OptimizerConfig, "schedule", "step"),
        (OptimizerConfig, "warmup_fraction", 1.0),
        (OptimizerConfig, "final_fraction", -0.1),
        (OptimizerConfig, "weight_decay", -1.0),
        (OptimizerConfig, "clip_norm", 0.0),
        (OptimizerConfig, "b2", 1.0),
        (MeshConfig, "fsdp", 0),
        (LoopConfig, "epochs", 0.0),
        (LoopConfig, "steps", 0),
        (LoopConfig, "microbatches", 3),
        (LoopConfig, "keep", 0),
        (LoopConfig, "checkpoint_minutes", 0.0),
        (DistributedConfig, "cluster", "pbs"),
        (DistributedConfig, "heartbeat_seconds", 0),
        (PrmObjectiveConfig, "method", "mc"),
        (PrmObjectiveConfig, "lam", 1.5),
        (PrmObjectiveConfig, "beta", -1.0),
        (PrmObjectiveConfig, "progress", "delta"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(config, field, value):
    with pytest.raises(ValueError, match=rf"{config.__name__}\.{field} must be .*got"):
        config(**{field: value})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"coordinator": "host:1", "processes": 2}, "process"),
        ({"process": 0}, "coordinator"),
        ({"coordinator": "host", "processes": 2, "process": 0}, "coordinator"),
        ({"coordinator": "host:1", "processes": 2, "process": 2}, "process"),
        ({"coordinator": "host:1", "processes": 2, "process": 1, "cluster": "slurm"}, "cluster"),
    ],
)
def test_processes_that_cannot_find_each_other_are_refused_by_the_name_of_the_field(given, field):
    with pytest.raises(ValueError, match=rf"DistributedConfig\.{field} must be .*got"):
        DistributedConfig(**given)


def test_an_epoch_has_one_step_for_each_batch_even_if_the_last_is_not_full():
    loop = LoopConfig(epochs=2, rows_per_batch=16)
    assert [loop.total_steps(rows) for rows in (1, 16, 17, 32)] == [2, 2, 4, 4]


def test_a_fraction_of_an_epoch_is_at_least_one_step():
    assert LoopConfig(epochs=0.01, rows_per_batch=16).total_steps(16) == 1


def test_given_steps_go_before_epochs():
    assert LoopConfig(epochs=3, steps=7).total_steps(1000) == 7


def test_training_on_no_rows_is_refused():
    with pytest.raises(ValueError, match="at least one packed row, got 0"):
        LoopConfig().total_steps(0)


def test_configs_are_read_without_importing_jax():
    code = "import sys; from agentprm_jax.training import LoopConfig; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
