"""Terminal and markdown tables show the record, the whole record, and what it does not show."""

import io
from typing import Literal

import msgspec
from rich.console import Console

from agentprm_jax.reporting import tables
from agentprm_jax.reporting.formatting import describe_comparison, format_estimate
from agentprm_jax.reporting.methods import method_label
from agentprm_jax.reporting.page import render_page
from agentprm_jax.reporting.provenance import Origin
from agentprm_jax.reporting.results import Column, Estimate, Row, RowKind, Stage, Table


def printed(results) -> str:
    out = io.StringIO()
    tables.print_results(results, Console(file=out, width=200))
    return out.getvalue()


def small_table(values: dict[str, float], better: Literal["higher", "lower"] | None = "higher") -> Table:
    kinds: dict[str, RowKind] = {"greedy": "control", "oracle": "bound"}
    rows = [
        Row(method=name, kind=kinds.get(name, "method"), estimates={"x": Estimate(value=value, n_tasks=1)})
        for name, value in values.items()
    ]
    return Table(name="t", columns=(Column(key="x", title="X", better=better),), rows=tuple(rows))


def cells(table: Table) -> dict[str, tables.Cell]:
    return {row.method: tables.row_cells(table, row)[0] for row in table.rows}


def test_terminal_and_markdown_hold_every_figure_of_every_row(results):
    for text in (printed(results).splitlines(), tables.markdown_results(results).splitlines()):
        for table in results.tables:
            for row in table.rows:
                expected = [format_estimate(row.estimates.get(c.key), c.digits) for c in table.columns]
                lines = [line for line in text if line.strip("| ").startswith(method_label(row.method))]
                assert any(all(cell in line for cell in expected) for line in lines), (row.method, expected)


def test_comparisons_bars_stages_and_headline_are_all_printed(results):
    text = printed(results)
    for comparison in results.comparisons:
        assert describe_comparison(comparison) in text
    for check in results.checks:
        assert f"{'passed' if check.passed else 'missed'}  {check.name}: {check.detail}" in text
    for stage in (*results.stages, tables.total_stage(results.stages)):
        assert all(cell in text for cell in tables.stage_cells(stage))
    assert results.headline in text


def test_the_document_says_what_every_stage_took_and_what_all_did(results):
    lines = tables.markdown_results(results).splitlines()
    for stage in (*results.stages, tables.total_stage(results.stages)):
        assert f"| {' | '.join(tables.stage_cells(stage))} |" in lines


def test_the_best_method_is_marked_and_never_a_control_or_a_bound():
    marked = cells(small_table({"agentprm": 0.5, "pvm": 0.6, "greedy": 0.7, "oracle": 0.9}))
    assert [name for name, cell in marked.items() if cell.best] == ["pvm"]


def test_methods_that_do_not_beat_the_best_control_are_marked():
    marked = cells(small_table({"agentprm": 0.8, "pvm": 0.7, "orm": 0.6, "greedy": 0.7}))
    assert [name for name, cell in marked.items() if cell.unproven] == ["pvm", "orm"]


def test_where_lower_is_better_the_lowest_wins():
    marked = cells(small_table({"agentprm": 0.1, "pvm": 0.3, "greedy": 0.2}, better="lower"))
    assert [name for name, cell in marked.items() if cell.best] == ["agentprm"]
    assert [name for name, cell in marked.items() if cell.unproven] == ["pvm"]


def test_without_a_better_direction_nothing_is_marked():
    marked = cells(small_table({"agentprm": 0.1, "pvm": 0.3, "greedy": 0.2}, better=None))
    assert not any(cell.best or cell.unproven for cell in marked.values())


def test_equal_best_methods_are_all_marked():
    assert all(cell.best for cell in cells(small_table({"agentprm": 0.5, "pvm": 0.5})).values())


def test_footnotes_explain_what_occurs_and_nothing_else(results):
    search, values = (tables.footnotes(table) for table in results.tables)
    assert any(note.startswith(tables.UNPROVEN) for note in search)
    assert "oracle: pass@N: the best of the N samples" in search
    assert not any(note.startswith(tables.UNPROVEN) for note in values)
    assert tables.footnotes(small_table({"agentprm": 0.5})) == []


def test_the_mark_says_what_it_compares_and_no_more():
    (note,) = tables.footnotes(small_table({"agentprm": 0.5, "greedy": 0.7}))
    assert note == f"{tables.UNPROVEN} its mean is not better than that of the best control in its column."


def test_stages_of_other_commits_than_the_evaluation_are_named_wherever_stages_are_listed(results):
    stages = tuple(
        Stage(name=name, minutes=1.0, commits=commits, padding=0.125)
        for name, commits in (("same", (results.git_commit,)), ("older", ("a1",)), ("both", ("a1", "b2")), ("none", ()))
    )
    mixed = msgspec.structs.replace(results, stages=stages)
    expected = ["older ran under commit a1.", "both ran under commit a1 and then b2."]
    assert tables.describe_origin(mixed) == expected
    for text in (printed(mixed), tables.markdown_results(mixed), render_page(mixed)):
        assert all(sentence in text for sentence in expected)
        assert "same ran" not in text
        assert "12.5%" in text


def test_where_a_run_is_reported_elsewhere_what_it_was_made_with_is_told_beside_what_the_report_is_from(results):
    same = Origin(machines=(results.machine,), versions=(results.versions,))
    older = results.versions | {"jax": "0.9"}
    other = Origin(machines=("Linux x86_64, 1 core", results.machine), versions=(older, results.versions))
    assert tables.describe_origin(msgspec.structs.replace(results, run=same)) == []
    reported = msgspec.structs.replace(results, run=other)
    expected = [
        "Stages ran on Linux x86_64, 1 core and on Linux x86_64, 2 cores; the report is from Linux x86_64, 2 cores.",
        "Stages ran with jax 0.9; the report is from jax 0.10.2.",
    ]
    assert tables.describe_origin(reported) == expected
    for text in (printed(reported), tables.markdown_results(reported), render_page(reported)):
        assert all(sentence in text for sentence in expected)


def test_names_cannot_break_out_of_a_markdown_cell_or_into_terminal_markup():
    table = small_table({"[red]a|b[/red]": 0.5})
    assert "[red]a\\|b[/red]" in tables.markdown_table(table)
    out = io.StringIO()
    Console(file=out, width=80).print(tables.terminal_table(table))
    assert "[red]a|b[/red]" in out.getvalue()


def test_the_total_is_the_sum_of_the_stages():
    counting = [field for field, kind in Stage.__annotations__.items() if kind == "int"]
    stages = [Stage(name=str(n), minutes=n, **{field: n + k for k, field in enumerate(counting)}) for n in (1, 2, 3)]
    total = tables.total_stage(stages)
    assert total.minutes == 6
    assert [getattr(total, field) for field in counting] == [6 + 3 * k for k in range(len(counting))]
