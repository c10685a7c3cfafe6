"""Laws of experiments/plan.py that need no compiler."""

import pytest
from plan import PlanConfig, candidates, compare

from agentprm_jax.models.lora_config import LoraConfig


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
