"""Loading a checkpoint holds to its goal of memory, in small."""

import pytest
from goals import read_goals
from loading import LoadingConfig, main


@pytest.mark.slow
def test_loading_takes_at_most_the_largest_tensor_and_15_percent_of_the_checkpoint_beside_the_parameters(
    tmp_path, capsys
):
    main(LoadingConfig(layers=8, mlp=5504, vocab_size=64_000, max_shard_gb=0.3, output=tmp_path))
    (goal,) = read_goals(tmp_path)
    printed = capsys.readouterr().out
    assert "checkpoint 0.95 GB, largest tensor 0.26 GB, onto the device" in printed
    assert goal.words in printed
    assert goal.limit == pytest.approx(0.26 + 0.15 * 0.95, abs=0.01)  # printed with two places
    assert goal.verdict == "pass"
