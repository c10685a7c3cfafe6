"""Laws of experiments/plan.py that need no compiler."""

import pytest
from plan import PlanConfig, candidates, compare, scoring_configs, table_configs

from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.training.planning.presets import MODELS


def test_adapters_are_part_of_the_planned_step():
    lora = LoraConfig(rank=16)
    assert {one.workload.lora for one in candidates(PlanConfig(lora=lora))} == {lora}


@pytest.mark.parametrize("chips", [1, 11, 24, 1000])
def test_any_number_of_gpus_is_planned_on_meshes_of_so_many(chips):
    plans = compare(PlanConfig(chip="h100", chips=chips))
    assert {plan.chips for plan in plans} == {chips}


def test_adapters_of_a_7b_model_fit_on_fewer_gpus_than_the_model_does():
    whole, adapted = (compare(PlanConfig(chip="h100", chips=1, lora=LoraConfig(rank=rank)))[0] for rank in (0, 16))
    assert not whole.fits
    assert adapted.fits


def test_a_mesh_of_another_number_of_chips_and_rows_that_no_mesh_divides_are_refused():
    with pytest.raises(ValueError, match=r"has 16 chips, but chips is 32"):
        candidates(PlanConfig(mesh=(2, 8, 1)))
    with pytest.raises(ValueError, match="No mesh of 32 chips divides"):
        candidates(PlanConfig(rows=7))
    with pytest.raises(ValueError, match=r"The mesh \(1, 1, 16\) is none that divides qwen2.5-7b: .*the 4 heads"):
        candidates(PlanConfig(chip="h100", chips=16, mesh=(1, 1, 16)))


def test_only_meshes_that_divide_the_rows_of_a_microbatch_are_tried():
    chosen = candidates(PlanConfig(rows=64, microbatches=4))
    assert chosen
    assert all(16 % (one.mesh.data * one.mesh.fsdp) == 0 for one in chosen)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tried": 0}, "tried must be a whole number of at least 1, got 0"),
        ({"rows": 0}, "rows must be a whole number of at least 1, got 0"),
        ({"rows": 6, "microbatches": 4}, "6 rows cannot be cut into 4 equal microbatches"),
    ],
)
def test_numbers_that_make_no_plan_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        PlanConfig(**wrong)


@pytest.mark.parametrize("model", MODELS)
def test_the_tables_have_every_slice_from_8_to_1024_chips_and_each_mesh_divides_the_model(model, tmp_path):
    training, scoring = table_configs(model, tmp_path), scoring_configs(model, tmp_path)
    for kind in ("v5p", "h100"):
        sizes = {config.chips for config in training if config.chip == kind}
        assert sizes == {8, 32, 64, 128, 256, 512, 1024}
    assert {(config.step, config.chips) for config in scoring} == {("score", 8), ("score", 32)}
    for config in (*training, *scoring):
        first, *others = candidates(config)
        assert config.mesh == "auto" or (first.mesh.shape, others) == (config.mesh, [])
