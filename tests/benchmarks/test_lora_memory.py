"""The table of memory with adapters."""

import re

import pytest
from lora_memory import MemoryConfig, main


@pytest.mark.slow
def test_adapters_train_a_small_part_beside_a_base_that_bfloat16_halves(capsys):
    main(MemoryConfig(embed=384, layers=2, mlp=1024, vocab_size=8192, row_length=64, rank=4))
    rows = [line.split(":") for line in capsys.readouterr().out.splitlines()]
    found = {name: dict(re.findall(r"(\w+) (\d+)", sizes)) for name, sizes in rows}
    assert list(found) == ["all trained", "adapters, float32 base", "adapters, bfloat16 base"]
    whole, wide, narrow = ({part: int(size) for part, size in sizes.items()} for sizes in found.values())
    assert whole["frozen"] == 0
    assert wide["frozen"] == pytest.approx(2 * narrow["frozen"], abs=1)  # whole MiB
    assert wide["state"] < whole["state"] / 10
    assert wide["total"] < whole["total"]
