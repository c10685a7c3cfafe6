"""What is counted in a small program in the compiler's own writing, where every number is known by hand."""

import math
import pathlib
from dataclasses import replace

import pytest

from agentprm_jax.training.planning.costs import count_costs
from agentprm_jax.training.planning.groups import group_of
from agentprm_jax.training.planning.hlo import Instruction, Shape, parse_module, trip_count

TEXT = (pathlib.Path(__file__).parent / "tiny_module.txt").read_text(encoding="utf-8")
MODULE = parse_module(TEXT)
COSTS = count_costs(MODULE)
LAYERS, TOKENS, INPUTS, OUTPUTS = 24, 4096, 112, 64


def line_of(name, module=MODULE):
    return next(c.instructions[name] for c in module.computations.values() if name in c.instructions)


def received(kind):
    return {(one.group, one.times, one.payload) for one in COSTS.collectives if one.kind == kind}


def test_shapes_say_their_type_size_and_whether_they_lie_in_main_memory():
    start = line_of("collective-permute-start.1")
    assert start.shapes[0] == Shape("bf16", (1, 112, 64), True)
    assert start.shapes[1] == Shape("bf16", (1, 112, 64), False)
    assert start.shapes[0].size == 2 * 112 * 64
    assert start.operands == ("get-tuple-element.2",)
    assert Shape("pred", ()).elements == 1


def test_loops_run_from_their_first_number_to_their_limit_in_their_steps():
    outer, inner = MODULE.entry, MODULE.computations["outer_body"]
    assert trip_count(MODULE, outer, outer.instructions["while.2"]) == LAYERS
    assert trip_count(MODULE, inner, inner.instructions["while.1"]) == math.ceil((7 - 1) / 2)


def test_a_loop_without_a_constant_limit_is_refused_by_name():
    unknown = parse_module(
        TEXT.replace("%constant.7 = s32[]{:T(128)} constant(24)", "%constant.7 = s32[] partition-id()")
    )
    with pytest.raises(ValueError, match=r"while\.2 does not count up to a constant"):
        count_costs(unknown)


def test_products_count_as_often_as_the_loop_around_them_runs():
    pairs = 512**2 * 3  # two blocks on the diagonal and one below it
    attention = 2 * 2 * 14 * 64 * pairs
    assert COSTS.flops == LAYERS * 2 * TOKENS * INPUTS * OUTPUTS + attention


def test_an_unknown_kernel_is_refused_by_name():
    unknown = parse_module(TEXT.replace("splash_mha_fwd_segmented_residuals", "somebodys_kernel"))
    with pytest.raises(ValueError, match=r"kernel somebodys_kernel\.2"):
        count_costs(unknown)


def test_traffic_counts_the_layer_that_is_read_and_written_and_nothing_that_lies_on_the_core():
    weights, result = 2 * INPUTS * OUTPUTS, 4 * TOKENS * OUTPUTS
    product = weights + result  # the tokens lie on the core
    per_layer = product + 2 * weights + 2 * result + 3 * weights  # slice, update, three rounds of the permutation
    kernel = 2 * 14 * 1024 * 64 + 2 * 2 * 2 * 1024 * 64 + 2 * 14 * 1024 * 64 + 4 * 14 * 1024 * 128
    part, whole = 4 * 8 * 64, 4 * 32 * 64
    rest = LAYERS * result + 4  # the zeros at the beginning, made of one number
    exchanges = part + 2 * part + 2 * 2 * part + whole + 4 * 4 * 64  # gather, slice, two reductions, the fusion
    counters = 4 * (1 + 2 + 3 * 3)  # of a layer: one read for the core, one sum here, three in the inner loop
    assert COSTS.memory_bytes == LAYERS * (per_layer + counters) + kernel + rest + exchanges


def test_exchanges_know_their_chips_their_bytes_and_how_often_they_take_place():
    part = 2 * 112 * 64
    assert received("collective-permute") == {((0, 1, 2, 3), LAYERS * 3, part)}
    permute = next(one for one in COSTS.collectives if one.kind == "collective-permute")
    assert {(0, 3), (1, 0), (2, 1), (3, 2)} < permute.pairs
    assert received("all-gather") == {((0, 1, 2, 3), 1, 3 * 4 * 8 * 64)}
    assert received("reduce-scatter") == {(tuple(range(8)), 1, 4 * 32 * 64 * 7 / 8)}


def test_a_collective_written_down_twice_under_one_channel_counts_once():
    assert received("all-reduce") == {((0, 4), 1, 2 * 4 * 8 * 64 / 2)}


@pytest.mark.parametrize(
    ("written", "group"),
    [
        ("replica_groups={{0,2},{1,3}}", (0, 2)),
        ("replica_groups=[4,2]<=[8]", (0, 1)),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", (0, 4)),
        ("replica_groups=mesh['data'=2,'fsdp'=2,'tensor'=2] {'data','tensor'}", (0, 1, 4, 5)),
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(2)2}", (0, 2)),
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(1)2}", (0, 4)),
        ("source_target_pairs={{0,4},{4,0},{1,5},{5,1}}", (0, 4)),
    ],
)
def test_groups_of_chips_are_read_in_every_way_they_are_written(written, group):
    assert (
        group_of(replace(line_of("all-gather.1"), attributes=f", channel_id=1, {written}, dimensions={{0}}")) == group
    )


def test_groups_written_in_a_new_way_are_refused():
    line = Instruction("all-gather.7", (), "all-gather", (), "", ", replica_groups=someday<0..8>")
    with pytest.raises(ValueError, match=r"all-gather\.7: its groups of chips"):
        group_of(line)


def test_a_product_written_as_a_convolution_counts_no_padding():
    def flops(line):
        text = f"""HloModule one

ENTRY %main (x: f32[8,5,16], y: f32[5,16,32]) -> f32[8,5,32] {{
  %x = f32[8,5,16] parameter(0)
  %y = f32[5,16,32] parameter(1)
  ROOT %product = {line}
}}
"""
        return count_costs(parse_module(text)).flops

    plain = flops("f32[8,5,32] convolution(%x, %y), window={size=5 pad=2_2}, dim_labels=b0f_0io->b0f")
    assert plain == 2 * 8 * 16 * 32 * sum(5 - abs(shift) for shift in range(-2, 3))
    assert (
        flops("f32[8,5,5,32] dot(%x, %y), lhs_contracting_dims={2}, rhs_contracting_dims={1}")
        == 2 * 8 * 5 * 5 * 32 * 16
    )
