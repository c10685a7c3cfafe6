"""Laws of the arithmetic around a compiled program: work, links, limits, copies, meshes, GPUs."""

import itertools
import math
import pathlib
from dataclasses import replace

import jax
import pytest

from agentprm_jax.models import LoraConfig, init_language_model, init_reward_model, logical_axes
from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.mesh import make_mesh
from agentprm_jax.training.parts import split
from agentprm_jax.training.planning.arithmetic import estimate
from agentprm_jax.training.planning.chips import GIB, GPUS, TPUS, topology_name
from agentprm_jax.training.planning.costs import Collective, Costs
from agentprm_jax.training.planning.plan import Plan, best_first
from agentprm_jax.training.planning.presets import MODELS, named_model
from agentprm_jax.training.planning.programs import Memory
from agentprm_jax.training.planning.roofline import Roofline, links, links_used, tpu_roofline
from agentprm_jax.training.planning.work import (
    Workload,
    adapter_parameters,
    all_parameters,
    checkpoint_bytes,
    frozen_bytes,
    matrix_parameters,
    mesh_shapes,
    trained_bytes,
    trained_parameters,
)

RECORDED = pathlib.Path(__file__).parents[2] / "recorded" / "models"
SEVEN = named_model("qwen2.5-7b", dtype="bfloat16", param_dtype="float32", remat=True)
WORK = Workload(SEVEN, "agentprm", rows=32, length=4096)


def grid(*sizes):
    return list(itertools.product(*map(range, sizes)))


def exchange(group, payload=1e9, times=1):
    return Collective("all-gather", tuple(group), payload, times)


def permute(*ring):
    """Each chip of a ring sends to the next one."""
    return Collective("collective-permute", ring, 1e9, 1, frozenset(zip(ring, ring[1:] + ring[:1], strict=True)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("step", ["agentprm", "sft"])
def test_parameters_are_as_many_as_the_library_makes(name, step):
    init = init_language_model if step == "sft" else init_reward_model
    shapes = jax.eval_shape(lambda key: init(MODELS[name], key), jax.random.key(0))
    assert all_parameters(MODELS[name], step) == sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("name", "billions"), [("qwen2.5-0.5b", 0.49), ("qwen2.5-3b", 3.09), ("qwen2.5-7b", 7.62), ("llama-3.1-8b", 8.03)]
)
def test_presets_have_the_sizes_that_their_makers_give(name, billions):
    assert all_parameters(MODELS[name], "sft") / 1e9 == pytest.approx(billions, abs=0.006)


def test_training_needs_six_operations_for_each_parameter_and_token_and_attention():
    pairs = WORK.rows * 4096 * 4097 / 2
    attention = 3 * 2 * 2 * pairs * SEVEN.layers * SEVEN.heads * SEVEN.head_dim
    assert WORK.model_flops == 6 * matrix_parameters(SEVEN, head=False) * WORK.tokens + attention
    assert replace(WORK, step="score").model_flops * 3 == WORK.model_flops


def test_state_for_training_is_parameters_two_moments_and_gradients():
    scored = replace(WORK, step="score")
    assert trained_bytes(WORK) == 4 * frozen_bytes(scored) == 16 * all_parameters(SEVEN, "agentprm")
    assert frozen_bytes(WORK) == trained_bytes(scored) == 0


ADAPTED = replace(WORK, lora=LoraConfig(rank=16, targets=("*/query", "*/out", "*/key", "*/down")))


@pytest.mark.parametrize("step", ["agentprm", "sft"])
def test_adapters_are_as_many_as_the_library_trains_and_the_rest_is_frozen(step):
    work = replace(ADAPTED, step=step)
    init = init_language_model if step == "sft" else init_reward_model
    parts = split(
        work.lora,
        lambda key: init(SEVEN, key),
        logical_axes(SEVEN, "language_model" if step == "sft" else "reward_model"),
        make_mesh(MeshConfig()),
    )
    trained, frozen = jax.tree.leaves(jax.eval_shape(parts.init, jax.random.key(0))), jax.tree.leaves(parts.frozen)
    assert trained_parameters(work) == sum(math.prod(leaf.shape) for leaf in trained)
    assert trained_bytes(work) == 4 * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in trained)
    assert frozen_bytes(work) == sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in frozen)


def test_a_frozen_model_saves_its_gradients_and_adapters_cost_what_parameters_do():
    adapters = sum(adapter_parameters(SEVEN, ADAPTED.lora))
    frozen = 2 * matrix_parameters(SEVEN, head=False) * WORK.tokens
    assert ADAPTED.model_flops == WORK.model_flops - frozen + 6 * adapters * WORK.tokens


def test_a_checkpoint_is_what_is_trained_and_two_moments():
    update = Workload(SEVEN, "agentprm", rows=8, length=4096)
    assert checkpoint_bytes(update) == 12 * all_parameters(SEVEN, "agentprm")
    small = replace(update, lora=LoraConfig(rank=16))
    adapters = sum(adapter_parameters(SEVEN, small.lora)) + SEVEN.embed
    assert checkpoint_bytes(small) == 12 * adapters


def test_scoring_has_no_microbatches():
    with pytest.raises(ValueError, match="microbatches is 8; expected 1"):
        Workload(SEVEN, "score", rows=64, length=4096, microbatches=8)


def test_scoring_has_no_adapters():
    with pytest.raises(ValueError, match=r"lora\.rank is 16; expected 0"):
        replace(ADAPTED, step="score")


def test_a_group_uses_two_links_along_rings_and_one_along_lines():
    chip, whole = TPUS["v5p"], grid(4, 4, 8)
    assert links(chip, exchange(range(128)), whole) == 2 + 2 + 2
    assert links(chip, exchange(range(8)), whole) == 2
    assert links(chip, exchange(range(4)), whole) == 1
    assert links(chip, exchange((0, 32, 64, 96)), whole) == 2
    assert links(TPUS["v5e"], exchange(range(32)), grid(4, 8, 1)) == 1 + 1
    assert links(TPUS["v5e"], exchange(range(128)), grid(8, 16, 1)) == 1 + 2
    assert links(TPUS["v5e"], exchange(range(256)), grid(16, 16, 1)) == 2 + 2


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 2, 4), (2, 4, 4)])
def test_a_slice_of_less_than_a_cube_has_no_rings(shape):
    chips = math.prod(shape)
    assert links(TPUS["v5p"], exchange(range(chips)), grid(*shape)) == 3
    assert links(TPUS["v5p"], exchange(range(shape[-1])), grid(*shape)) == 1


def links_of_permutes(coordinates, *permutes):
    return [links_used(TPUS["v5p"], one, coordinates, Costs(0, 0, permutes)) for one in permutes]


AROUND_A_CUBE = (0, 4, 6, 2, 3, 7, 5, 1)
"""The corners of a cube of eight chips, from neighbour to neighbour."""


@pytest.mark.parametrize(("shape", "ring"), [((4, 4, 4), range(4)), ((2, 2, 2), AROUND_A_CUBE)])
def test_a_permute_uses_one_link_and_two_where_the_program_sends_the_other_way_too(shape, ring):
    ahead, back = permute(*ring), permute(*reversed(ring))
    assert links_of_permutes(grid(*shape), ahead) == [1]
    assert links_of_permutes(grid(*shape), ahead, back) == [2, 2]
    roof = tpu_roofline(TPUS["v5p"], Costs(0, 0, (ahead, back)), grid(*shape))
    assert roof.exchange == pytest.approx(ahead.received / TPUS["v5p"].link_bandwidth)


@pytest.mark.parametrize("chips", [4, 16, 32])
def test_permutes_both_ways_take_turns_where_one_goes_back_along_a_line(chips):
    ring = range(chips)
    assert links_of_permutes(grid(2, 4, 4), permute(*ring), permute(*reversed(ring))) == [1, 1]


def test_two_chips_that_send_to_each_other_have_one_link():
    assert links_of_permutes(grid(2, 2, 2), permute(0, 1)) == [1]


def test_the_slowest_of_three_sets_the_time_and_gives_its_name():
    chip = TPUS["v5e"]
    costs = Costs(2 * chip.flops, 1 * chip.hbm_bandwidth, (exchange(range(8), chip.link_bandwidth, times=6),))
    roof = tpu_roofline(chip, costs, grid(2, 4, 1))
    assert (roof.compute, roof.memory, roof.exchange) == pytest.approx((2, 1, 3))
    assert roof.seconds == roof.exchange
    assert roof.limit == "exchange"
    assert roof.unhidden == pytest.approx(6)
    assert roof.utilisation(chip.flops, chip.flops) == pytest.approx(1 / 3)


def made_plan(seconds=1.0, memory=8 * GIB, mesh=(1, 32, 1)):
    costs = Costs(1e12, 1e9, ())
    roof = Roofline(seconds, 0.5, 0.1)
    return Plan(TPUS["v5p"], MeshConfig(*mesh), WORK, Memory(memory, 0, 0, None), costs, roof)


def test_what_fits_comes_before_what_does_not_and_the_quick_before_the_slow():
    quick, slow, large = made_plan(1.0), made_plan(2.0), made_plan(0.6, memory=96 * GIB)
    assert not large.fits
    assert best_first([large, slow, quick]) == [quick, slow, large]
    assert large.utilisation == 0


@pytest.mark.parametrize("chips", [8, 24, 32, 128, 1024])
def test_every_mesh_to_try_uses_all_chips_and_divides_the_model(chips):
    shapes = mesh_shapes(chips, SEVEN, rows=None)
    assert len(set(shapes)) == len(shapes) >= 3
    for data, fsdp, tensor in shapes:
        assert data * fsdp * tensor == chips
        assert SEVEN.kv_heads % tensor == SEVEN.embed % fsdp == 0
    assert {(chips // fsdp, fsdp, 1) for fsdp in (1, 2, 4, 8)} <= {*shapes}
    assert all(8 % (data * fsdp) == 0 for data, fsdp, _ in mesh_shapes(chips, SEVEN, rows=8))


@pytest.mark.parametrize("chips", [1, 7, 11, 20, 1000])
def test_any_number_of_gpus_has_a_mesh(chips):
    assert (chips, 1, 1) in mesh_shapes(chips, SEVEN, rows=None)


def test_a_slice_that_is_not_sold_is_refused():
    assert topology_name(TPUS["v5e"], 32) == "v5e:4x8"
    for tpu in TPUS.values():
        assert all(math.prod(map(int, name.split("x"))) == chips for chips, name in tpu.slices.items())
    with pytest.raises(ValueError, match="no slice of 512 v5e chips"):
        topology_name(TPUS["v5e"], 512)


def test_an_unknown_model_is_refused_and_a_config_json_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"should be one of qwen2\.5-0\.5b"):
        named_model("gpt-5", dtype="bfloat16", param_dtype="float32", remat=True)
    path = tmp_path / "config.json"
    path.write_bytes((RECORDED / "llama" / "config.json").read_bytes())
    assert named_model(str(path), dtype="bfloat16", param_dtype="float32", remat=False).dtype == "bfloat16"


def test_gpus_share_state_and_take_longer_over_the_network_than_inside_a_host():
    chip = GPUS["h100"]
    one, host, hosts = (estimate(chip, replace(WORK, rows=n), MeshConfig(1, n, 1)) for n in (1, 8, 16))
    assert one.state == 8 * host.state == 16 * hosts.state == trained_bytes(WORK)
    assert one.roofline.exchange == 0 < host.roofline.exchange < hosts.roofline.exchange
    assert one.roofline.compute == pytest.approx(hosts.roofline.compute)
    kept = estimate(chip, replace(WORK, model=replace(SEVEN, remat=False)), MeshConfig(1, 32, 1))
    again = estimate(chip, WORK, MeshConfig(1, 32, 1))
    assert kept.activations > again.activations
    assert kept.roofline.compute < again.roofline.compute


def test_where_kernels_are_cut_two_blocks_are_collected_and_the_gradients_of_one_are_whole():
    chip, layers = GPUS["h100"], SEVEN.layers

    def collected(work, mesh):
        rows = mesh.data * mesh.fsdp
        whole = estimate(chip, replace(work, rows=rows), MeshConfig(rows, 1, mesh.tensor))
        return estimate(chip, replace(work, rows=rows), mesh).activations - whole.activations

    block = matrix_parameters(SEVEN, head=False) / layers
    assert collected(WORK, MeshConfig(1, 8, 1)) == pytest.approx((2 * 2 + 4) * block)
    assert collected(WORK, MeshConfig(1, 8, 2)) == pytest.approx((2 * 2 + 4) * block / 2)
    assert collected(replace(WORK, step="score"), MeshConfig(4, 2, 1)) == pytest.approx(2 * 2 * block)
    assert collected(ADAPTED, MeshConfig(1, 8, 1)) == pytest.approx(
        (2 * 2 * ADAPTED.matrices + 4 * ADAPTED.trained_matrices) / layers
    )


@pytest.mark.parametrize("chip", GPUS.values())
def test_of_a_card_of_80_gb_no_more_is_planned_than_its_programs_can_have(chip):
    assert 0.7 * 80e9 < chip.hbm_bytes < 78 * GIB


def test_an_actor_holds_logits_of_every_token_and_their_gradient():
    chip, mesh, imitates = GPUS["h100"], MeshConfig(8, 1, 1), replace(WORK, step="sft", rows=8)
    with_head, without = (estimate(chip, work, mesh) for work in (imitates, replace(imitates, step="agentprm")))
    assert with_head.activations - without.activations == 2 * 4 * 4096 * SEVEN.vocab_size
    halves = estimate(chip, replace(imitates, microbatches=2), mesh)
    assert halves.activations == pytest.approx(with_head.activations / 2)


def test_adapters_need_less_memory_and_exchange_than_the_model_on_gpus():
    chip, mesh = GPUS["h100"], MeshConfig(1, 32, 1)
    whole, adapted = estimate(chip, WORK, mesh), estimate(chip, ADAPTED, mesh)
    assert adapted.state == pytest.approx(frozen_bytes(ADAPTED) / 32 + trained_bytes(ADAPTED, 32, 1))
    assert adapted.state < whole.state / 4
    assert adapted.roofline.exchange < 0.7 * whole.roofline.exchange
    assert adapted.roofline.compute < whole.roofline.compute


@pytest.mark.parametrize("work", [WORK, ADAPTED])
def test_copies_exchange_float32_gradients_with_every_microbatch(work):
    chip, mesh, rows = GPUS["h100"], MeshConfig(8, 1, 1), replace(work, rows=64)
    once, often = (estimate(chip, replace(rows, microbatches=n), mesh).roofline.exchange for n in (1, 8))
    assert once == pytest.approx(2 * 4 * trained_parameters(work) * 7 / 8 / chip.host_bandwidth)
    assert often == pytest.approx(8 * once)


def test_kernels_come_in_bfloat16_twice_and_leave_as_float32_gradients_once():
    chip, work = GPUS["h100"], replace(WORK, rows=8)
    exchange = estimate(chip, work, MeshConfig(1, 8, 1)).roofline.exchange
    assert exchange == pytest.approx((2 * 2 + 4) * work.matrices * 7 / 8 / chip.host_bandwidth)


def test_copies_of_gpus_collect_kernels_inside_a_host_and_groups_share_its_network():
    chip, work = GPUS["h100"], replace(WORK, step="score", rows=512)
    spread, copies = (estimate(chip, work, MeshConfig(*shape)).roofline for shape in ((1, 64, 1), (8, 8, 1)))
    assert copies.exchange < spread.exchange
    assert chip.bandwidth_among(8, groups=8) == chip.host_bandwidth
    assert chip.bandwidth_among(64, groups=8) == chip.bandwidth_among(64, groups=16) == chip.network_bandwidth
