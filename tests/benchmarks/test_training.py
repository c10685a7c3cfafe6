"""Laws of the benchmark of throughput."""

import dataclasses

import numpy as np
import pytest
import workloads
from goals import goals_table
from measuring import Timing
from training_report import OURS, Comparison, comparison_table, goal_of, parts_table
from workloads import LONG_STEPS, WORKLOADS, make_workload

from agentprm_jax.reporting.formatting import MISSING


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    """The quickstart's, smaller."""
    small = dataclasses.replace(
        WORKLOADS["quickstart"],
        trajectories=10,
        together=4,
        long=2,
        model={"embed": 16, "mlp": 32, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 8},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(workloads.WORKLOADS, "small", small)
        yield make_workload("small", tmp_path_factory.mktemp("model"))


def timing(seconds):
    return Timing(3.0, (seconds,) * 5, (seconds,) * 5)


def test_the_long_trajectories_have_all_steps_and_the_others_differ_in_length(workload):
    assert [len(one.readouts) for one in workload.encoded(workload.long)] == [LONG_STEPS] * 2
    assert len({len(one.tokens) for one in workload.encoded(workload.trajectories)}) > 5


def test_the_goal_is_held_against_the_quickest_that_does_not_sort(workload):
    timings = {OURS: timing(1.0), "padded": timing(4.0), "padded, sorted": timing(2.0)}
    comparison = Comparison("training", 1000, timings, {"slower": 8.0}, {OURS: 0.1})
    goal = goal_of(workload, comparison)
    assert (goal.verdict, goal.value) == ("pass", 4.0)
    lines = comparison_table(comparison).splitlines()
    assert "| ours | 1,000 | 1,000 | 10% | 3.0 s | 1 [1, 1] | 1 [1, 1] |" in lines
    assert f"| padded, sorted | 500 | 500 | {MISSING} | 3.0 s | 2 [2, 2] | 2 [2, 2] |" in lines
    assert lines[-1].startswith("| slower | 125 |")


def test_without_torch_the_goal_says_so(workload):
    goal = goal_of(workload, Comparison("prefixes", 1000, {OURS: timing(1.0)}, {}, {}))
    assert goals_table([goal]).endswith("at least 8 times | torch is not installed (dependency group `torch`) |")


def test_the_parts_of_an_update_add_up_to_it():
    parts = {"forward": timing(1.0), "forward and backward": timing(3.0), "update": timing(4.0)}
    line = parts_table({OURS: parts}).splitlines()[-1]
    assert line == "| ours | 4.00 s | 1.00 s (25%) | 2.00 s (50%) | 1.00 s (25%) |"


@pytest.mark.slow
def test_an_epoch_of_ours_holds_the_tokens_of_every_trajectory(workload):
    from compiling import counting_programs
    from throughput_ours import Training

    training = Training(workload)
    batches = [training._batches[index] for index in range(training.rows.updates)]
    real = sum(int(np.sum(batch.segments > 0)) for batch in batches)
    assert real == workload.real_tokens(workload.trajectories)
    assert training.rows.padding == pytest.approx(1 - real / sum(batch.tokens.size for batch in batches))
    with counting_programs() as first:
        training.epoch()
    with counting_programs() as second:
        training.epoch()
    assert first.programs >= 1
    assert first.seconds > 0
    assert second.programs == 0


@pytest.mark.torch
class TestTheirs:
    def test_both_sides_are_the_same_model(self, workload):
        from training import check_agreement

        check_agreement(workload)

    def test_another_model_is_not_compared(self, workload, monkeypatch):
        import throughput_torch
        import torch
        from training import check_agreement

        def shaken(workload, dtype):
            model = load(workload, dtype)
            with torch.no_grad():
                model.score.weight.add_(1.0)
            return model

        load = throughput_torch.load
        monkeypatch.setattr(throughput_torch, "load", shaken)
        with pytest.raises(ValueError, match="must give the same scores in float32, but they differ by"):
            check_agreement(workload)

    def test_sorting_changes_no_score_and_pads_less(self, workload):
        from throughput_torch import Scoring, Training

        theirs = Scoring(workload, "float32")
        plain, sorted_ = (theirs.score(workload.trajectories, by_length=by) for by in (False, True))
        for one, other in zip(plain, sorted_, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        loose, tight = (Training(workload, "float32", 2, by).padding for by in (False, True))
        assert tight < loose

    def test_adding_up_gradients_of_smaller_batches_is_the_same_update(self, workload):
        from throughput_torch import Training

        whole, parts = (Training(workload, "float32", size, False) for size in (4, 2))
        for one in (whole, parts):
            one._differentiate(one._updates[0])
        pairs = zip(whole._model.parameters(), parts._model.parameters(), strict=True)
        for one, other in pairs:
            # float32 sums in another order, which processors round differently
            np.testing.assert_allclose(one.grad.numpy(), other.grad.numpy(), rtol=1e-5, atol=1e-6)
