"""Values out of range are refused when a config is made: with class, field, what was expected and what was got."""

import dataclasses
from pathlib import Path

import pytest
from collect import CollectConfig
from evaluate import EvaluateConfig
from presets import PRESETS
from sft import ModelConfig, SftConfig
from train_prm import TrainPrmConfig

from agentprm_jax.models.lora_config import LoraConfig

HERE = Path("x")
MADE = {
    "QuickstartConfig": PRESETS["smoke"],
    "CollectConfig": CollectConfig(actor="expert", output=HERE),
    "ModelConfig": ModelConfig(),
    "SftConfig": SftConfig(trajectories=HERE, output=HERE),
    "TrainPrmConfig": TrainPrmConfig(trajectories=HERE, init=HERE, output=HERE),
    "EvaluateConfig": EvaluateConfig(
        pool=HERE, greedy=HERE, expert=HERE, actor="a", prms=(), training_trajectories=HERE, output=HERE
    ),
}
SIZES = [(), (4,), (0, 1), (2, 1), (1, 1)]
BEAMS = [(), ("2",), ("2x",), ("0x2",), ("2x2", "2x2"), ("2X2",), ("-1x2",)]
WRONG = {
    "QuickstartConfig": {
        "workers": [0],
        "demonstrations": [0],
        "demonstration_samples": [0],
        "trunk_demonstrations": [-1],
        "actor_steps": [0],
        "trunk_steps": [0],
        "demonstration_tokens": [0],
        "batch_tokens": [511],
        "train_tasks": [0],
        "train_samples": [0],
        "methods": [(), ("agentprm", "agentprm"), ("dpo",)],
        "prm_seeds": [0],
        "prm_epochs": [0.0, float("inf")],
        "prm_extra_blocks": [-1],
        "prm_learning_rate": [0.0],
        "lam": [-0.1, 1.1],
        "test_tasks": [0],
        "pool_samples": [0],
        "sizes": [*SIZES, (1, 16)],
        "beams": BEAMS,
        "search_concurrency": [0],
        "seed": [-1],
    },
    "CollectConfig": {
        "samples": [0],
        "temperature": [-0.1, float("inf"), float("nan")],
        "max_tokens": [0],
        "disturbed": [-0.1, 1.1],
        "disturbance": [-0.1, 1.1],
        "attempts": [0],
        "seed": [-1],
    },
    "ModelConfig": {
        "embed": [0, 130, 4],
        "layers": [0],
        "heads": [0, 3],
        "kv_heads": [0],
        "mlp": [0],
        "max_positions": [0],
    },
    "SftConfig": {"row_length": [0], "seed": [-1]},
    "TrainPrmConfig": {"row_length": [0], "extra_blocks": [-1], "seed": [-1]},
    "EvaluateConfig": {
        "sizes": SIZES,
        "beams": BEAMS,
        "temperature": [-1.0],
        "max_tokens": [0],
        "concurrency": [0],
        "attempts": [0],
        "tokens_per_batch": [0],
        "seed": [-1],
    },
}


@pytest.mark.parametrize(
    ("owner", "field", "value"),
    [(owner, field, value) for owner, fields in WRONG.items() for field in fields for value in fields[field]],
)
def test_a_value_out_of_range_is_refused_at_once_with_its_field(owner, field, value):
    with pytest.raises(ValueError, match=rf"{owner}\.\w+ must be .+, got ") as caught:
        dataclasses.replace(MADE[owner], **{field: value})
    assert f"{owner}.{field} must be" in str(caught.value)
    assert str(caught.value).endswith(f"got {value!r}.")


def test_blocks_are_not_added_where_only_adapters_are_trained():
    with pytest.raises(ValueError, match=r"TrainPrmConfig.extra_blocks must be 0 where adapters are trained"):
        dataclasses.replace(MADE["TrainPrmConfig"], extra_blocks=1, lora=LoraConfig(rank=4))
    with pytest.raises(ValueError, match=r"QuickstartConfig.prm_extra_blocks must be 0 where adapters are trained"):
        dataclasses.replace(PRESETS["smollm2"], prm_extra_blocks=1)


def test_a_trunk_of_its_own_is_refused_where_prms_start_from_a_pretrained_actor():
    with pytest.raises(ValueError, match=r"trunk_demonstrations must be 0 with a pretrained model"):
        dataclasses.replace(PRESETS["smollm2"], trunk_demonstrations=100)


def test_every_number_of_a_config_has_a_value_that_is_refused():
    for owner, config in MADE.items():
        numbers = {
            field.name
            for field in dataclasses.fields(config)
            if isinstance(getattr(config, field.name), int | float) and field.type != "bool"
        }
        assert numbers <= WRONG[owner].keys(), owner
