"""Tables of results for the terminal (rich) and for documents (markdown), from the same cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agentprm_jax.reporting.formatting import (
    MINUS,
    describe_comparison,
    format_count,
    format_difference,
    format_estimate,
    format_minutes,
    format_number,
    format_sample,
)
from agentprm_jax.reporting.methods import method_label
from agentprm_jax.reporting.results import Check, Column, Comparison, Estimate, Results, Row, Stage, Table

if TYPE_CHECKING:
    import rich.console
    import rich.table
    import rich.text

UNPROVEN = "†"
KIND_TITLES = {"method": "methods", "control": "controls", "bound": "bounds"}
COMPARISON_HEADER = ("metric", "a", "b", f"a {MINUS} b [interval]", "P(a > b)", "sample", "finding")
STAGE_HEADER = ("stage", "time", "tokens trained on", "padding", "tokens sampled", "tokens scored", "environment steps")


class Cell(NamedTuple):
    """One figure as shown: `best` of its column's methods; `unproven` if the mean of a control is as good or better."""

    text: str
    best: bool = False
    unproven: bool = False


def rows_by_kind(table: Table) -> list[tuple[str, list[Row]]]:
    """The table's rows grouped as methods, controls and bounds; empty groups are left out, order within is kept."""
    groups = ((kind, [row for row in table.rows if row.kind == kind]) for kind in KIND_TITLES)
    return [(kind, rows) for kind, rows in groups if rows]


def row_cells(table: Table, row: Row) -> list[Cell]:
    """The row's cells, one per column of the table."""
    return [_cell(table, row, column) for column in table.columns]


def best_control(table: Table, column: Column) -> Row | None:
    """The control with the best figure of a column; None without controls or without a better direction."""
    return _best(table, column, "control")


def footnotes(table: Table) -> list[str]:
    """What the marks and the ± signs of this table mean, where they occur, and the notes of its rows."""
    figures = [figure for row in table.rows for figure in row.estimates.values()]
    notes = []
    if any(figure.stderr_tasks is not None for figure in figures):
        over_seeds = any(figure.stderr_seeds is not None and figure.stderr_tasks is not None for figure in figures)
        notes.append("± standard error over tasks" + (", then over seeds where those vary." if over_seeds else "."))
    if any(cell.unproven for row in table.rows for cell in row_cells(table, row)):
        notes.append(f"{UNPROVEN} its mean is not better than that of the best control in its column.")
    return notes + [f"{method_label(row.method)}: {row.note}" for row in table.rows if row.note]


def terminal_table(table: Table) -> rich.table.Table:
    """The table for a terminal: best method in bold, controls and bounds dimmed below it."""
    import rich.table
    from rich.text import Text

    out = rich.table.Table(title=Text(table.name), title_justify="left", caption_justify="left", show_edge=False)
    out.add_column("", no_wrap=True, min_width=max(len(method_label(row.method)) for row in table.rows))
    for column in table.columns:
        out.add_column(Text(column.title), justify="right", no_wrap=True)
    for kind, rows in rows_by_kind(table):
        style = "" if kind == "method" else "dim"
        for row in rows:
            cells = [Text(_marked(cell), "bold" if cell.best else "") for cell in row_cells(table, row)]
            out.add_row(Text(method_label(row.method)), *cells, style=style)
        out.add_section()
    out.caption = Text("\n".join(line for line in (table.caption, *footnotes(table)) if line))
    return out


def markdown_table(table: Table, *, mark_best: bool = True) -> str:
    """The table for a document: best method in bold unless there is but one, then controls and bounds, footnotes."""
    header = ["", *(column.title for column in table.columns)]
    lines = []
    for _, rows in rows_by_kind(table):
        for row in rows:
            cells = [
                f"**{_marked(cell)}**" if cell.best and mark_best else _marked(cell) for cell in row_cells(table, row)
            ]
            lines.append([method_label(row.method), *cells])
    notes = [line for line in (table.caption, *footnotes(table)) if line]
    return "\n\n".join([_markdown_grid(header, lines), *notes])


def comparison_cells(comparison: Comparison) -> tuple[str, ...]:
    """One line of the comparison table, under COMPARISON_HEADER."""
    difference = comparison.difference
    a, b = method_label(comparison.a), method_label(comparison.b)
    undecided = difference.verdict == "undecided"
    return (
        comparison.metric,
        a,
        b,
        format_difference(difference),
        format_number(difference.probability),
        format_sample(difference),
        f"{a} and {b} cannot be told apart" if undecided else f"{a} {difference.verdict} {b}",
    )


def stage_cells(stage: Stage) -> tuple[str, ...]:
    """One line of the table of stages, under STAGE_HEADER."""
    counts = (stage.tokens_sampled, stage.tokens_scored, stage.environment_steps)
    return (
        stage.name + (" (reused)" if stage.reused else ""),
        format_minutes(stage.minutes),
        format_count(stage.tokens_trained) if stage.tokens_trained else "",
        "" if stage.padding is None else f"{stage.padding:.1%}",
        *(format_count(count) if count else "" for count in counts),
    )


def describe_origin(results: Results) -> list[str]:
    """Sentences on what the run was made under where the report was written under something else."""
    said = [
        f"{stage.name} ran under commit {' and then '.join(stage.commits)}."
        for stage in results.stages
        if stage.commits and stage.commits != (results.git_commit,)
    ]
    if results.run.machines and results.run.machines != (results.machine,):
        said.append(f"Stages ran on {' and on '.join(results.run.machines)}; the report is from {results.machine}.")
    for name, version in results.versions.items():
        others = {versions[name] for versions in results.run.versions if versions.get(name, version) != version}
        if others:
            said.append(f"Stages ran with {name} {' and '.join(sorted(others))}; the report is from {name} {version}.")
    return said


def total_stage(stages: Iterable[Stage]) -> Stage:
    """The sum of all stages."""
    stages = tuple(stages)
    return Stage(
        name="all stages",
        minutes=math.fsum(stage.minutes for stage in stages),
        tokens_trained=sum(stage.tokens_trained for stage in stages),
        tokens_read=sum(stage.tokens_read for stage in stages),
        tokens_cached=sum(stage.tokens_cached for stage in stages),
        tokens_sampled=sum(stage.tokens_sampled for stage in stages),
        tokens_wasted=sum(stage.tokens_wasted for stage in stages),
        episodes_outgrown=sum(stage.episodes_outgrown for stage in stages),
        actions_cut=sum(stage.actions_cut for stage in stages),
        tokens_scored=sum(stage.tokens_scored for stage in stages),
        environment_steps=sum(stage.environment_steps for stage in stages),
    )


def markdown_comparisons(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as a list of sentences, each claiming what its interval allows."""
    return "\n".join(f"* {describe_comparison(comparison)}" for comparison in comparisons)


def markdown_results(results: Results) -> str:
    """Headline, tables, comparisons, bars and stages of `results` as markdown, for a README."""
    parts = [results.headline]
    parts += [f"### {table.name}\n\n{markdown_table(table)}" for table in results.tables]
    if results.comparisons:
        parts.append(f"### Comparisons\n\n{markdown_comparisons(results.comparisons)}")
    if results.checks:
        lines = [["passed" if check.passed else "**missed**", check.name, check.detail] for check in results.checks]
        parts.append(f"### Bars\n\n{_markdown_grid(['', 'bar', 'measured'], lines, right=False)}")
    if results.stages:
        lines = [stage_cells(stage) for stage in (*results.stages, total_stage(results.stages))]
        parts.append("\n\n".join([f"### Stages\n\n{_markdown_grid(STAGE_HEADER, lines)}", *describe_origin(results)]))
    if results.command:
        parts.append(f"Command: `{results.command}`")
    return "\n\n".join(part for part in parts if part) + "\n"


def print_results(results: Results, console: rich.console.Console) -> None:
    """Print everything a reader at the terminal wants to know, bars last."""
    from rich.text import Text

    for table in results.tables:
        console.print(terminal_table(table))
        console.print()
    if results.comparisons:
        console.print(Text("Comparisons", "bold"))
    for comparison in results.comparisons:
        console.print(Text(f"  {describe_comparison(comparison)}"))
    if results.stages:
        console.print()
        console.print(_terminal_stages(results.stages))
        for sentence in describe_origin(results):
            console.print(Text(sentence))
    if results.checks:
        console.print(Text("\nBars", "bold"))
    for check in results.checks:
        console.print(terminal_check(check))
    if results.headline:
        console.print(Text(f"\n{results.headline}"))


def terminal_check(check: Check) -> rich.text.Text:
    """`✓ passed  name: detail`, in words as well as in colour."""
    from rich.text import Text

    mark, colour = ("✓ passed", "green") if check.passed else ("✗ missed", "red")
    return Text.assemble("  ", (mark, f"bold {colour}"), f"  {check.name}: {check.detail}")


def _terminal_stages(stages: Sequence[Stage]) -> rich.table.Table:
    import rich.table
    from rich.text import Text

    out = rich.table.Table(show_edge=False)
    for index, title in enumerate(STAGE_HEADER):
        out.add_column(title, justify="right" if index else "left")
    for stage in stages:
        out.add_row(*(Text(cell) for cell in stage_cells(stage)))
    out.add_section()
    out.add_row(*(Text(cell) for cell in stage_cells(total_stage(stages))))
    return out


def _cell(table: Table, row: Row, column: Column) -> Cell:
    figure = row.estimates.get(column.key)
    text = format_estimate(figure, column.digits)
    if figure is None or row.kind != "method" or column.better is None:
        return Cell(text)
    control = best_control(table, column)
    unproven = control is not None and not _is_better(figure, control.estimates[column.key], column)
    best = _best(table, column, "method")
    return Cell(text, best=best is not None and figure.value == best.estimates[column.key].value, unproven=unproven)


def _best(table: Table, column: Column, kind: str) -> Row | None:
    rows = [row for row in table.rows if row.kind == kind and column.key in row.estimates]
    if not rows or column.better is None:
        return None
    choose = max if column.better == "higher" else min
    return choose(rows, key=lambda row: row.estimates[column.key].value)


def _is_better(a: Estimate, b: Estimate, column: Column) -> bool:
    return a.value > b.value if column.better == "higher" else a.value < b.value


def _marked(cell: Cell) -> str:
    return f"{cell.text} {UNPROVEN}" if cell.unproven else cell.text


def _markdown_grid(header: Sequence[str], lines: Sequence[Sequence[str]], *, right: bool = True) -> str:
    rule = ["---", *(["---:" if right else "---"] * (len(header) - 1))]
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (header, rule, *lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)
