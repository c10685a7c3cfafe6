"""Plans as text and as a table."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.reporting.plans import BEGIN, END, describe, with_tables
from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.planning.chips import GIB, TPUS
from agentprm_jax.training.planning.costs import Collective, Costs
from agentprm_jax.training.planning.plan import Plan
from agentprm_jax.training.planning.presets import named_model
from agentprm_jax.training.planning.programs import Memory
from agentprm_jax.training.planning.roofline import Roofline
from agentprm_jax.training.planning.work import Workload

MODEL = named_model("qwen2.5-7b", dtype="bfloat16", param_dtype="float32", remat=True)
COSTS = Costs(2e14, 1e12, (Collective("all-gather", tuple(range(32)), 1e9, 28),))
UNIT = Plan(
    TPUS["v5p"],
    MeshConfig(1, 32, 1),
    Workload(MODEL, "agentprm", 32, 4096),
    Memory(2 * GIB, 0, 6 * GIB, None),
    COSTS,
    Roofline(0.5, 0.4, 0.1),
)
TOO_LARGE = replace(UNIT, memory=Memory(0, 0, 99 * GIB, 95 * GIB), costs=None, roofline=None)
LARGE = replace(UNIT, mesh=MeshConfig(32, 32, 1), workload=replace(UNIT.workload, rows=1024))
SCORED = replace(UNIT, chip=TPUS["v5e"], mesh=MeshConfig(4, 8, 1), workload=replace(UNIT.workload, step="score"))
SCORING = {"qwen2.5-7b": [SCORED]}
PLANS = [replace(UNIT, chip=TPUS["v5e"], roofline=Roofline(1.1, 1.3, 0.6)), UNIT, LARGE]


def text_of(plans):
    console = Console(width=120, file=io.StringIO())
    console.print(describe(plans))
    return console.file.getvalue()


def test_a_plan_shows_memory_time_its_limit_and_what_is_exchanged():
    text = text_of([UNIT])
    for part in ("8.0 of 95.0 GiB", "0.500 s, limited by compute", "all-gather", "28.000", "200.0 T"):
        assert part in text


def test_the_first_of_several_is_suggested_unless_nothing_fits():
    assert "Suggested: mesh 1, 32, 1." in text_of([UNIT, TOO_LARGE])
    text = text_of([TOO_LARGE, TOO_LARGE])
    assert "None of these fits" in text
    assert "99.0 of 95.0 GiB: does not fit" in text


def test_the_table_stands_between_its_marks_and_the_rest_of_the_page_is_kept():
    page = with_tables(f"before\n{BEGIN}\nold\n{END}\nafter\n", {"qwen2.5-7b": PLANS}, SCORING, "qwen2.5-7b")
    assert page.startswith(f"before\n{BEGIN}\n| model |")
    assert page.endswith(f"\n{END}\nafter\n")
    assert "old" not in page
    assert "| 1,024 v5p | 32, 32, 1 |" in page
    assert "| qwen2.5-7b | 32 v5e | 4, 8, 1 |" in page.partition("Scoring, a forward pass")[2]
    assert with_tables(page, {"qwen2.5-7b": PLANS}, SCORING, "qwen2.5-7b") == page


def test_meshes_of_one_slice_stand_together_and_are_set_against_the_best_of_32_chips_hidden_or_not():
    slower = replace(UNIT, mesh=MeshConfig(4, 8, 1), roofline=Roofline(0.6, 0.4, 0.5))
    page = with_tables(f"{BEGIN}\n{END}", {"qwen2.5-7b": [PLANS[0], slower, LARGE, UNIT]}, {}, "qwen2.5-7b")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if " v5p | " in line]
    assert [(row[2], row[3], row[10], row[11]) for row in rows] == [
        ("32 v5p", "1, 32, 1", "1.00", "1.00"),
        ("32 v5p", "4, 8, 1", "1.20", "1.50"),
        ("1,024 v5p", "32, 32, 1", "1.00", "1.00"),
    ]


def test_goals_are_met_or_missed_by_what_was_found():
    page = f"{BEGIN}\n{END}"
    assert with_tables(page, {"qwen2.5-7b": PLANS}, SCORING, "qwen2.5-7b").count("| met |") == 4
    slow = [
        replace(PLANS[0], roofline=Roofline(1.1, 9.0, 0.6)),
        PLANS[1],
        replace(PLANS[2], roofline=Roofline(1, 0, 0)),
    ]
    assert with_tables(page, {"qwen2.5-7b": slow}, {}, "qwen2.5-7b").count("| missed |") == 2
    exposed = [*PLANS[:2], replace(PLANS[2], roofline=Roofline(0.5, 0.4, 0.3))]
    page = with_tables(page, {"qwen2.5-7b": exposed}, {}, "qwen2.5-7b")
    assert page.count("| missed |") == 1
    assert "| the same if nothing is hidden | +20.0 % | missed |" in page


def test_adapters_are_named():
    work = replace(UNIT.workload, lora=LoraConfig(rank=16))
    assert "rank 16, base bfloat16" in text_of([replace(UNIT, workload=work)])
    assert "adapters" not in text_of([UNIT])


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="once each"):
        with_tables("nothing", {}, {}, "qwen2.5-7b")
