"""What libtpu makes of the library's own steps, compiled for slices that are not here; skipped where it is absent."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from agentprm_jax.models import DecoderConfig, LoraConfig
from agentprm_jax.models.attention import Context, attend
from agentprm_jax.training import MeshConfig, make_constrain, make_mesh
from agentprm_jax.training.mesh import batch_sharding, row_share
from agentprm_jax.training.planning.arithmetic import GRADIENT_BYTES
from agentprm_jax.training.planning.costs import count_costs
from agentprm_jax.training.planning.hlo import parse_module
from agentprm_jax.training.planning.plan import plan_step
from agentprm_jax.training.planning.programs import compile_step, lower_step, tpu_devices
from agentprm_jax.training.planning.work import (
    Workload,
    adapter_parameters,
    frozen_bytes,
    matrix_parameters,
    trained_bytes,
    trained_parameters,
)

pytest.importorskip("libtpu", reason="libtpu comes with the dependency group tpu")
pytestmark = pytest.mark.slow

MODEL = DecoderConfig(
    vocab_size=1024,
    embed=512,
    mlp=1024,
    layers=5,
    heads=4,
    kv_heads=2,
    head_dim=128,
    rope_theta=1e4,
    norm_eps=1e-6,
    max_positions=4096,
    qkv_bias=True,
    dtype="bfloat16",
    remat=True,
)
WORK = Workload(MODEL, "agentprm", rows=8, length=1024)


@pytest.mark.parametrize(
    ("topology", "mesh", "first"),
    [
        ("v5e:4x8", (2, 16, 1), (0, 1, 8, 9)),
        ("v5e:4x8", (1, 32, 1), (0, 1, 8, 9)),
        ("v5p:2x4x4", (4, 8, 1), (0, 1, 4, 5)),
        ("v5p:2x4x4", (1, 8, 4), (0, 4)),
        ("v5p:8x8x16", (32, 32, 1), (0, 16, 32, 48)),
        ("v5p:8x8x16", (128, 8, 1), (0, 1, 128, 129)),
    ],
)
def test_every_host_of_a_slice_gives_the_rows_of_its_chips_though_they_do_not_follow_each_other(topology, mesh, first):
    placed = make_mesh(MeshConfig(*mesh), tpu_devices(topology))
    assert row_share(placed, 0).parts == first
    held = {}
    for device, (part,) in batch_sharding(placed).devices_indices_map((mesh[0] * mesh[1],)).items():
        held.setdefault(device.process_index, set()).add(part.start or 0)
    assert {process: set(row_share(placed, process).parts) for process in held} == held


def attention_gradient(heads, length, width, dtype, branches=False):
    """The gradient of attention, compiled for one v5p chip."""
    constrain = make_constrain(make_mesh(MeshConfig(), tpu_devices("v5p:2x2x1")))
    array = jax.ShapeDtypeStruct((1, heads, length, width), dtype)
    ids = jax.ShapeDtypeStruct((1, length), jnp.int32)

    def total(queries, keys, values, segments):
        context = Context(None, None, segments, None, segments if branches else None)
        return jnp.sum(attend(queries, keys, values, None, context, constrain).astype(jnp.float32))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)), in_shardings=constrain_whole(constrain))
    return gradient.lower(array, array, array, ids).compile()


def constrain_whole(constrain):
    return jax.NamedSharding(constrain.mesh, jax.P())


@pytest.mark.parametrize(("width", "dtype"), [(128, jnp.bfloat16), (64, jnp.bfloat16), (128, jnp.float32)])
def test_attention_over_32k_tokens_holds_no_square_of_scores(width, dtype):
    heads, length = 8, 32_768
    compiled = attention_gradient(heads, length, width, dtype)
    assert "splash_mha_dkv" in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * heads * length**2 / 50


def test_attention_with_branches_over_32k_tokens_holds_no_square_of_scores_either():
    compiled = attention_gradient(8, 32_768, 128, jnp.bfloat16, branches=True)
    assert "splash" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 8 * 32_768**2 / 10


@pytest.mark.parametrize(("mesh", "rank"), [((1, 8, 1), 0), ((2, 2, 2), 0), ((2, 2, 2), 16)])
def test_operations_of_a_compiled_update_are_those_of_the_model_and_what_is_computed_again(mesh, rank):
    work = replace(WORK, lora=LoraConfig(rank=rank))
    compiled = compile_step(lower_step(work, make_mesh(MeshConfig(*mesh), tpu_devices("v5e:2x4"))))
    costs = count_costs(parse_module(compiled.text))
    parameters, tokens = matrix_parameters(MODEL, head=False), WORK.tokens
    adapters = sum(adapter_parameters(MODEL, work.lora))
    products = (6 if rank else 8) * parameters + 8 * adapters  # a frozen kernel has no gradient
    last_products = MODEL.layers * MODEL.embed * MODEL.mlp  # whose results the backward pass does not need
    pairs = WORK.rows * 512**2 * 3
    attention = (2 + 2 + 3 + 4) * 2 * pairs * MODEL.layers * MODEL.heads * MODEL.head_dim
    expected = (products - 2 * last_products) * tokens + attention
    # The read-out, the gradient of the embedding, and sums over norms are products too, but small.
    assert costs.flops * 8 == pytest.approx(expected, rel=0.03)
    assert costs.collectives


def test_a_compiled_update_exchanges_float32_gradients_with_every_microbatch():
    work = replace(WORK, rows=16, microbatches=2)
    compiled = compile_step(lower_step(work, make_mesh(MeshConfig(2, 4, 1), tpu_devices("v5e:2x4"))))
    exchanges = count_costs(parse_module(compiled.text)).collectives
    cut = sum(one.received for one in exchanges if one.kind == "reduce-scatter")
    copied = sum(one.received for one in exchanges if one.group == (0, 4))
    # Gradients of norms and biases are small, and that of the embedding is cut by an all-to-all of what it sums.
    assert cut == pytest.approx(work.microbatches * GRADIENT_BYTES * work.trained_matrices * 3 / 4, rel=0.01)
    assert copied == pytest.approx(work.microbatches * GRADIENT_BYTES * trained_parameters(work, fsdp=4), rel=0.01)


@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(rank=16)])
def test_a_compiled_update_is_given_the_frozen_model_and_of_what_is_trained_the_moments_too(lora):
    work = replace(WORK, lora=lora)
    compiled = compile_step(lower_step(work, make_mesh(MeshConfig(1, 8, 1), tpu_devices("v5e:2x4"))))
    expected = frozen_bytes(work) / 8 + trained_bytes(work, fsdp=8) * 3 / 4  # gradients are temporary
    assert compiled.memory.arguments == pytest.approx(expected, rel=0.1)  # narrow arrays are padded to whole tiles


def test_a_whole_update_over_32k_tokens_holds_no_square_of_scores():
    length = 32_768
    model = replace(MODEL, layers=2, max_positions=length)
    work = Workload(model, "agentprm", rows=2, length=length)
    compiled = compile_step(lower_step(work, make_mesh(MeshConfig(1, 2, 2), tpu_devices("v5p:2x2x1"))))
    assert "splash_mha_dkv" in compiled.text
    heads = model.heads // 2
    assert compiled.memory.temporaries < 4 * heads * length**2 / 10


def test_a_plan_is_kept_and_read_again(tmp_path):
    work = replace(WORK, step="score")
    first = plan_step("v5e", MeshConfig(1, 8, 1), work, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert plan_step("v5e", MeshConfig(1, 8, 1), work, tmp_path) == first
    assert first.fits
    assert 0 < first.utilisation < 1
    other = plan_step("v6e", MeshConfig(1, 8, 1), work, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # the program of another kind of chip is another one
    assert other.costs != first.costs


def test_what_does_not_fit_says_how_much_it_needs(tmp_path):
    large = replace(MODEL, embed=8192, mlp=65_536, layers=40)
    plan = plan_step("v5e", MeshConfig(8, 1, 1), Workload(large, "score", 8, 1024), tmp_path)
    assert not plan.fits
    assert plan.memory.total > plan.chip.hbm_bytes
