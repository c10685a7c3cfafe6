"""One self-contained HTML file: findings, figures, and a viewer that walks trajectories step by step."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentprm_jax.reporting import formatting, tables
from agentprm_jax.reporting.methods import INK, MUTED, RULE, method_label, method_styles
from agentprm_jax.reporting.prm_training import describe_training
from agentprm_jax.reporting.results import Column, Cost, Results, Row, Table

if TYPE_CHECKING:
    from agentprm_jax.data.trajectory import Message, Trajectory

_TEMPLATES = resources.files("agentprm_jax.reporting") / "templates"
# In the page ink, grey and grid lines follow the reader's light or dark theme.
_THEME_COLOURS = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}
_ACTIVE_CONTENT = re.compile(r"<\s*(script|foreignObject|iframe|image|a)\b|\son\w+\s*=|javascript:", re.IGNORECASE)


class Picture(NamedTuple):
    """A figure for the page.

    Attributes:
        title: heading.
        content: SVG or PNG, as bytes or as the path of a file.
        caption: what is shown and what the bands are.
    """

    title: str
    content: bytes | str | os.PathLike[str]
    caption: str = ""


class TableLine(NamedTuple):
    """A line of a table on the page."""

    label: str
    note: str
    cells: list[tables.Cell]


def render_page(
    results: Results,
    pictures: Sequence[Picture] = (),
    trajectories: Sequence[Trajectory] = (),
    *,
    how_chosen: str = "",
) -> str:
    """The report as the text of one HTML file that needs no network and no other file.

    Everything written into it is escaped, and its content-security policy allows no script but the page's own.

    Args:
        results: the findings.
        pictures: figures in the order in which they appear.
        trajectories: examples for the viewer, best with `scores`; see `paths.choose_examples`.
        how_chosen: a sentence that says how the examples were chosen, such as `Drawn at random.`

    Raises:
        ValueError: if a picture is neither PNG nor SVG, or is an SVG with active content.
        FileNotFoundError: if the file of a picture is missing.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("agentprm_jax", "reporting/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        results=results,
        style=_trusted((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=_trusted(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        pictures=[(p.title, p.caption, _embedded(p, i)) for i, p in enumerate(pictures)],
        viewer=viewer_data(trajectories),
        how_chosen=how_chosen,
        lines=_table_lines,
        costs=_cost_lines,
        configs=_configs(results),
        method_label=method_label,
        describe_training=describe_training,
        total=tables.total_stage(results.stages),
        tables=tables,
        formatting=formatting,
    )


def write_page(
    path: str | os.PathLike[str],
    results: Results,
    pictures: Sequence[Picture] = (),
    trajectories: Sequence[Trajectory] = (),
    *,
    how_chosen: str = "",
) -> None:
    """Write `render_page` to a file, whole or not at all.

    Args:
        path: for instance `report.html`; its folder must exist.
        results: as in `render_page`.
        pictures: as in `render_page`.
        trajectories: as in `render_page`.
        how_chosen: as in `render_page`.
    """
    text = render_page(results, pictures, trajectories, how_chosen=how_chosen)
    target = Path(path)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)


def viewer_data(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """What the viewer shows, as plain JSON values: PRMs with label and colour, trajectories cut into steps."""
    prms = list(dict.fromkeys(name for trajectory in trajectories for name in trajectory.scores))
    styles = method_styles(prms)
    return {
        "prms": [{"name": name, "label": styles[name].label, "colour": styles[name].colour} for name in prms],
        "trajectories": [_viewer_trajectory(trajectory) for trajectory in trajectories],
    }


def flatten_config(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested configuration as lines of dotted name and value."""
    lines = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            lines += flatten_config(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", str(value)))
    return lines


def _configs(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title and lines of each configuration that there is."""
    found = {"Configuration of the pipeline": results.pipeline, "Configuration": results.config}
    return [(title, flatten_config(config)) for title, config in found.items() if config]


def _viewer_trajectory(trajectory: Trajectory) -> dict[str, Any]:
    actor = trajectory.actor
    steps, opening = _steps(trajectory)
    return {
        "id": trajectory.id,
        "task": trajectory.task,
        "outcome": formatting.format_number(trajectory.outcome),
        "success": trajectory.success,
        "ended": trajectory.ended,
        "actor": actor.name if actor else "",
        "opening": [{"role": message.role, "content": message.content} for message in opening],
        "steps": steps,
        "scores": {
            name: {"promise": list(scores.promise), "progress": list(scores.progress)}
            for name, scores in trajectory.scores.items()
        },
    }


def _steps(trajectory: Trajectory) -> tuple[list[dict[str, Any]], list[Message]]:
    """Each action with the observation before it, and the messages that open the conversation.

    The last message before the first action is its observation; earlier ones are the opening. What follows the last
    action is kept with it as `closing`.
    """
    steps: list[dict[str, Any]] = []
    opening: list[Message] = []
    waiting: list[Message] = []
    for message in trajectory.messages:
        if not message.action:
            waiting.append(message)
            continue
        if not steps:
            opening, waiting = waiting[:-1], waiting[-1:]
        steps.append(
            {"observation": _joined(waiting), "action": message.content, "reward": trajectory.rewards[len(steps)]}
        )
        waiting = []
    if steps:
        steps[-1]["closing"] = _joined(waiting)
    return steps, opening


def _joined(messages: Sequence[Message]) -> str:
    return "\n\n".join(message.content for message in messages)


def _table_lines(table: Table) -> list[tuple[str, list[TableLine]]]:
    """Lines of a table by group: methods, controls, bounds."""
    return [
        (tables.KIND_TITLES[kind], [_table_line(table, row) for row in rows])
        for kind, rows in tables.rows_by_kind(table)
    ]


def _table_line(table: Table, row: Row) -> TableLine:
    return TableLine(method_label(row.method), row.note, tables.row_cells(table, row))


def _cost_lines(table: Table) -> list[tuple[str, str, Cost]]:
    """Label, column title and cost of every cell that has one."""
    return [
        (method_label(row.method), column.title, row.costs[column.key])
        for row in table.rows
        for column in _columns_with_cost(table, row)
    ]


def _columns_with_cost(table: Table, row: Row) -> list[Column]:
    return [column for column in table.columns if column.key in row.costs]


def _embedded(picture: Picture, index: int) -> Any:
    """The picture as HTML, named for screen readers by the heading `picture-<index>` above it."""
    content = picture.content if isinstance(picture.content, bytes) else Path(picture.content).read_bytes()
    label = f'role="img" aria-labelledby="picture-{index}"'
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _trusted(f'<img {label} src="data:image/png;base64,{base64.b64encode(content).decode()}">')
    text = content.decode("utf-8", errors="replace")
    if "<svg" not in text[:2_000]:
        raise ValueError(f"Picture {picture.title!r} must be PNG or SVG, got bytes that start with {content[:12]!r}.")
    found = _ACTIVE_CONTENT.search(text)
    if found:
        raise ValueError(
            f"Picture {picture.title!r} is an SVG with active or foreign content: {found.group().strip()!r}."
        )
    return _trusted(inline_svg(text, prefix=f"p{index}-", attributes=label))


def inline_svg(text: str, *, prefix: str, attributes: str = "") -> str:
    """An SVG file as an element inside HTML: no prologue, no namespaces, ids of its own, neutral colours by theme.

    Args:
        text: the SVG file, with a viewBox.
        prefix: put before every id, so that several pictures can share a page.
        attributes: further attributes of the element.
    """
    text = re.sub(r"<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'\bhref="#', f'href="#{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}")
    for colour, themed in _THEME_COLOURS.items():
        text = text.replace(colour, themed)
    return re.sub(r'<svg\b[^>]*?(viewBox="[^"]*")[^>]*>', rf"<svg {attributes} \1>", text, count=1)


def _trusted(text: str) -> Any:
    """Marks text that this module made or checked as HTML."""
    import markupsafe

    return markupsafe.Markup(text)
