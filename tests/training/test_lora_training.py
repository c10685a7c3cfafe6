"""Training adapters beside a frozen base: what moves, what is kept, and what is refused."""

import io
import json
import re
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console
from test_program import Signalling
from tiny_training import LORA, RandomBatches, pretrained_base, tiny_program

from agentprm_jax.models.lora_config import PROJECTIONS
from agentprm_jax.training import RunMismatch, TrainingInterrupted, train
from agentprm_jax.training.loop import place_batch
from agentprm_jax.training.mesh import path_name
from agentprm_jax.training.state import place_frozen

HEAD = "value_head/kernel"
FACTORS = {f"{path}/{factor}" for path in PROJECTIONS for factor in ("lora_a", "lora_b")}


@pytest.fixture(scope="module")
def program():
    return tiny_program("prm", lora=LORA)


@pytest.fixture(scope="module")
def base():
    return pretrained_base()


def run(program, output, base, batches=None):
    console = Console(file=io.StringIO())
    return train(program, batches or RandomBatches(), output, seed=0, pretrained=base, console=console)


def advance(program, base, steps, fixed=None):
    """The state after some updates, and all losses."""
    frozen, state, losses = place_frozen(base, program.frozen), program.init(jax.random.key(0), {}), []
    for index in range(steps):
        batch = place_batch(program.mesh, RandomBatches()[index] if fixed is None else fixed)
        state, metrics = program.train_step(frozen, state, batch, np.int32(index))
        losses.append(float(metrics["loss"]))
    return state, losses, frozen


def assert_equal(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


def paths(tree):
    return {path_name(path) for path, _ in jax.tree.leaves_with_path(tree)}


@pytest.fixture(scope="module")
def uninterrupted(program, base, tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted")
    return output, run(program, output, base)


def test_only_adapters_and_the_value_head_are_in_the_state_and_have_moments(program):
    assert paths(program.abstract.params) == FACTORS | {HEAD}
    adam = program.abstract.opt_state[1]
    assert paths(adam.mu) == paths(adam.nu) == FACTORS | {HEAD}
    trained, frozen = (sum(leaf.size for leaf in jax.tree.leaves(t)) for t in (program.abstract.params, program.frozen))
    state = sum(leaf.size for leaf in jax.tree.leaves(program.abstract))
    assert state <= 3 * trained + 3  # the parameters, two moments of each, three counters
    assert trained < frozen


def test_every_trained_parameter_moves_and_no_bit_of_the_base_does(program, base):
    before = jax.tree.map(np.array, program.init(jax.random.key(0), {}).params)
    state, _, frozen = advance(program, base, 3)
    assert_equal(frozen, base)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (np.asarray(a) != b).any(), state.params, before)))


def test_a_value_head_begins_as_in_full_training(program, prm_program):
    ours, full = (p.init(jax.random.key(5), {}).params["value_head"] for p in (program, prm_program))
    assert_equal(ours, full)


@pytest.mark.slow
def test_microbatches_make_the_update_of_the_whole_batch(program, base):
    whole, _, _ = advance(program, base, 2)
    parts, _, _ = advance(tiny_program("prm", lora=LORA, microbatches=4), base, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, parts)


@pytest.mark.slow
def test_the_compiled_step_computes_nothing_of_the_shape_of_a_frozen_kernel(program, prm_program):
    kernel = "f32[{},{},{}]".format(*program.frozen["decoder"]["layers"]["mlp"]["up"]["kernel"].shape)
    computed = re.compile(rf" = {re.escape(kernel)}\S* (?!parameter|get-tuple-element)")
    for made, expected in ((program, False), (prm_program, True)):
        step = made.train_step.lower(made.frozen, made.abstract, RandomBatches()[0], np.int32(0)).compile()
        assert kernel in step.as_text()
        assert bool(computed.search(step.as_text())) == expected


def test_an_interrupted_run_continues_to_the_same_bits_from_a_small_checkpoint(program, base, uninterrupted, tmp_path):
    output, params = uninterrupted
    with pytest.raises(TrainingInterrupted):
        run(program, tmp_path, base, Signalling(3, signal.SIGTERM))
    assert_equal(run(program, tmp_path, base), params)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (output / "metrics.jsonl").read_bytes()
    tensors = json.loads((tmp_path / "checkpoints" / "6" / "default" / "_METADATA").read_text())["tree_metadata"]
    assert any("lora_a" in name for name in tensors)
    assert not [name for name in tensors if "embedding" in name or "scale" in name or "'up', 'kernel'" in name]


def test_a_checkpoint_is_not_continued_over_another_base_or_at_another_scale(program, base, uninterrupted):
    output, _ = uninterrupted
    other = jax.tree.map(np.copy, base)
    other["decoder"]["embedding"][0, 0] += 1e-3
    with pytest.raises(RunMismatch, match="pretrained was"):
        run(program, output, other)
    with pytest.raises(RunMismatch, match=r"lora\.alpha was 8\.0 and is now 4\.0"):
        run(replace(program, lora=replace(LORA, alpha=4.0)), output, base)


def test_a_base_that_is_missing_or_does_not_fit_is_refused_by_name(program, base, tmp_path):
    with pytest.raises(ValueError, match=r"The subtree 'decoder' of the parameters stays frozen, .* got \[\]"):
        run(program, tmp_path / "missing", {})
    embedding = base["decoder"]["embedding"][1:]
    with pytest.raises(ValueError, match=r"decoder/embedding: expected the shape \[24, 16\], got the shape \[23, 16\]"):
        run(program, tmp_path / "other", {"decoder": base["decoder"] | {"embedding": embedding}})
    assert not (tmp_path / "other" / "training.json").exists()


def test_the_base_lies_on_the_device_in_the_type_that_is_asked_for(base):
    for dtype, expected in (("bfloat16", "bfloat16"), ("stored", "float32")):
        program = tiny_program("sft", lora=replace(LORA, base_dtype=dtype))
        frozen = place_frozen(base, program.frozen)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(frozen)} == {expected}
        assert {leaf.dtype.name for leaf in jax.tree.leaves(program.abstract.params)} == {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["adamw", "muon"])
@pytest.mark.parametrize("kind", ["prm", "sft"])
def test_adapters_learn_a_fixed_batch(base, kind, rule):
    program = tiny_program(kind, steps=40, lora=replace(LORA, rank=8), rule=rule, learning_rate=3e-2)
    decoder = base["decoder"] | {"embedding": 20 * base["decoder"]["embedding"]}  # a random one gives even logits
    _, losses, _ = advance(program, {"decoder": decoder}, 40, fixed=RandomBatches()[0])
    assert losses[-1] < 0.7 * losses[0]
