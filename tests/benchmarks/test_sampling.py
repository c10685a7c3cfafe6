"""The measurement of sampling runs to its table beside `generate`."""

import json

import pytest
from goals import read_goals
from sampling import SamplingConfig, main


@pytest.mark.torch
def test_a_small_game_is_measured_on_all_sides_to_its_table(tmp_path, capsys):
    main(SamplingConfig(dtypes=("float32",), batches=(1, 2), turns=2, new_tokens=4, rounds=2, output=tmp_path))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| random |")]
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert [row[:3] for row in cells] == [["random", size, "float32"] for size in ("1", "1", "2")]  # grows by a line
    assert all(float(row[place].replace(",", "")) > 0 for row in cells for place in (3, 4, 5))
    assert {row[10] for row in cells} == {"100%"}  # both sides say the same in float32
    (goal,) = read_goals(tmp_path)
    assert goal.name == "random, float32, batch 2, against generate"
    assert goal.value > 0
    assert [case["batch"] for case in json.loads((tmp_path / "numbers.json").read_text())["cases"]] == [1, 2]
