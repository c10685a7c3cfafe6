import numpy as np
import pytest

from agentprm_jax.training.record import RunMismatch, check_record, fingerprint, write_record

RECORD = {"seed": 1, "optimizer": {"learning_rate": 1e-3, "b1": 0.9}, "settings": {"sizes": (1, 2)}}


def test_the_same_settings_continue_a_run(tmp_path):
    write_record(tmp_path / "run" / "training.json", RECORD)
    check_record(tmp_path / "run" / "training.json", RECORD)


def test_other_settings_are_refused_by_field_with_both_values(tmp_path):
    write_record(tmp_path / "training.json", RECORD)
    other = RECORD | {"optimizer": {"learning_rate": 3e-4, "b1": 0.9}, "new": True}
    with pytest.raises(RunMismatch) as caught:
        check_record(tmp_path / "training.json", other)
    message = str(caught.value)
    assert f"The run in {tmp_path} was started with other settings" in message
    assert "optimizer.learning_rate was 0.001 and is now 0.0003" in message
    assert "new was None and is now True" in message
    assert "b1" not in message


def test_checkpoints_without_a_record_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training\.json is missing"):
        check_record(tmp_path / "training.json", RECORD)


def test_a_fingerprint_sees_values_names_shapes_and_dtypes_and_nothing_else():
    tree = {"a": np.arange(6.0), "b": np.zeros(0)}
    others = (
        {"a": np.arange(6.0) + 1e-12 * np.eye(1, 6)[0], "b": np.zeros(0)},
        {"c": np.arange(6.0), "b": np.zeros(0)},
        {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(0)},
        {"a": np.arange(6.0).view(np.int64), "b": np.zeros(0)},
    )
    assert fingerprint(tree) == fingerprint({"a": np.arange(12.0)[:6], "b": np.zeros(0)})
    assert len({fingerprint(other) for other in (tree, *others)}) == 5
