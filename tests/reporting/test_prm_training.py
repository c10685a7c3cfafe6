"""PRMs are named by what their record says, and can be told apart or are refused."""

from pathlib import Path

import pytest

from agentprm_jax.reporting.evaluation import measurement_names
from agentprm_jax.reporting.prm_training import check_apart, describe_form, describe_training, prm_training
from agentprm_jax.scoring.prm_files import PrmRecord


def record(name="agentprm-3", method="agentprm", seed=3, progress="gae", lam=0.95, extra_blocks=0):
    settings = {
        "extra_blocks": extra_blocks,
        "objective": {"method": method, "gamma": 1.0, "lam": lam, "beta": 0.5, "progress": progress},
        "loop": {"epochs": 2.0, "steps": None},
        "optimizer": {"learning_rate": 1e-3},
        "seed": seed,
    }
    return PrmRecord(name=name, method=method, initial_value=0.5, training={"settings": settings})


def test_a_row_is_called_after_method_and_form_of_the_record_and_never_after_the_prms_name():
    assert prm_training(record(name="mine-9")).method == "agentprm"
    assert prm_training(record(progress="delta_q")).method == "agentprm_delta_q"
    assert prm_training(record(method="pvm", progress="delta_q")).method == "pvm"
    assert prm_training(record(name="mine-9", seed=3)).seed == 3


def test_records_of_any_shape_are_read_as_far_as_they_go():
    for training in ({}, {"settings": 3}, {"settings": {"objective": [], "seed": "x", "loop": {"epochs": True}}}):
        found = prm_training(PrmRecord(name="mine-7", method="mine", initial_value=0.0, training=training))
        assert (found.method, found.seed, found.progress, found.epochs) == ("mine", 7, None, None)
        assert describe_training(found) == "not known"
    assert prm_training(PrmRecord(name="prm", method="mine", initial_value=0.0)).seed == 0


def test_the_form_of_the_progress_loss_is_said_with_lambda_and_beta_where_there_is_one():
    assert describe_form(prm_training(record(progress="delta_q"))) == (
        "L_A in its delta_q form, whose target is the difference of labels (eq. 9), lambda 0.95, beta 0.5"
    )
    assert describe_form(prm_training(record(method="agentprm_no_la"))) == ""
    assert "learning_rate 0.001" in describe_training(prm_training(record()))


def test_prms_that_differ_in_method_form_or_seed_stand_in_one_table():
    kinds = ({}, {"progress": "delta_q"}, {"method": "pvm"})
    records = [record(**kind, seed=seed) for kind in kinds for seed in (3, 4)]
    check_apart({Path(str(number)): prm_training(one) for number, one in enumerate(records)})


@pytest.mark.parametrize("seeds", [(3,), (3, 5), (3, 4, 5)])
def test_methods_with_other_seeds_are_refused_before_they_are_compared_seed_by_seed(seeds):
    records = [*(record(seed=seed) for seed in (3, 4)), *(record(method="pvm", seed=seed) for seed in seeds)]
    with pytest.raises(ValueError, match=f"AgentPRM: 3, 4; PVM: {', '.join(map(str, seeds))}"):
        check_apart({Path(str(number)): prm_training(one) for number, one in enumerate(records)})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (record(), r"runs/a and runs/b are both AgentPRM with seed 3"),
        (
            record(seed=4, lam=0.5),
            r"runs/a and runs/b are both AgentPRM but were trained differently \(lam 0\.95 and 0\.5",
        ),
        (record(seed=4, extra_blocks=2), r"were trained differently \(extra_blocks None and 2\)"),
    ],
)
def test_prms_that_would_share_a_row_without_being_seeds_of_one_method_are_refused_by_folder(other, message):
    with pytest.raises(ValueError, match=message):
        check_apart({Path("runs/a"): prm_training(record()), Path("runs/b"): prm_training(other)})


def test_measurements_are_called_after_the_shortest_ends_of_paths_that_all_differ_and_mean_nothing_else():
    apart = [Path("runs/prm-orm-0"), Path("runs/prm-pvm-0")]
    assert measurement_names(apart, ["random-0"]) == {"prm-orm-0": apart[0], "prm-pvm-0": apart[1]}
    alike = [Path("/x/a/prm"), Path("/x/b/prm")]
    assert measurement_names(alike, ["random-0"]) == {"a+prm": alike[0], "b+prm": alike[1]}
    assert measurement_names([Path("runs/random-0")], ["random-0"]) == {"runs+random-0": Path("runs/random-0")}
    assert measurement_names([], ["random-0"]) == {}


def test_a_folder_that_is_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"folder of its own, got runs/a, runs/b, runs/a"):
        measurement_names([Path("runs/a"), Path("runs/b"), Path("runs/a")], [])
