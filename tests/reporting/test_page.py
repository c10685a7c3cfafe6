"""The page shows the record, needs nothing else, and lets nothing in."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from agentprm_jax.reporting import page, plots
from agentprm_jax.reporting.canvas import figure_svg, save_figure
from agentprm_jax.reporting.formatting import format_count, format_difference, format_estimate
from agentprm_jax.reporting.paths import choose_examples
from agentprm_jax.reporting.tables import stage_cells, total_stage

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Reader(HTMLParser):
    """Collects elements, text and ids, and fails on tags that do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def visible(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def data_of(self, identifier: str) -> str:
        """Raw text of the script element of that id."""
        places = [i for i, text in enumerate(self.texts) if text.lstrip().startswith("{") and '"prms"' in text]
        assert any(attributes.get("id") == identifier for _, attributes in self.elements)
        return self.texts[places[0]]


@pytest.fixture(scope="module")
def report(results, trajectories, hostile, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    png = folder / "beam.png"
    save_figure(plots.beam_bars(results.tables[0]), png)
    curves = figure_svg(plots.best_of_n_curves(results.curves)).encode()
    pictures = [
        page.Picture("Best of N", curves, "Bands: one standard error."),
        page.Picture("Promise", figure_svg(plots.promise_paths(trajectories)).encode()),
        page.Picture("Beam", png),
    ]
    examples = [*choose_examples(trajectories), hostile]
    page.write_page(folder / "report.html", results, pictures, examples, how_chosen="Drawn at random.")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_every_figure_of_the_results_is_on_the_page(report, results):
    shown = Reader(report).visible
    for table in results.tables:
        for row in table.rows:
            for column in table.columns:
                assert format_estimate(row.estimates.get(column.key), column.digits) in shown
            for cost in row.costs.values():
                assert format_count(cost.tokens_scored) in shown
                assert format_count(cost.tokens_kept) in shown
    for comparison in results.comparisons:
        assert format_difference(comparison.difference) in shown
    for stage in (*results.stages, total_stage(results.stages)):
        assert all(cell in shown for cell in stage_cells(stage))
    for check in results.checks:
        assert check.name in shown
        assert check.detail in shown
    for text in (*results.versions.values(), results.git_commit, results.command, results.headline, "prm.lam 0.95"):
        assert text in shown
    for text in ("trunk_steps 2500", "AgentPRM, seed 0 progress gae, lam 0.95, beta 1.0, learning_rate 0.0015"):
        assert text in shown


def test_the_rows_of_the_page_hold_their_own_figures_in_order(report, results):
    table = results.tables[0]
    lines = re.findall(r'<tr><th scope="row">(.*?)</tr>', report, re.DOTALL)
    shown = [[re.sub("<sup>.*", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", line)] for line in lines]
    for row in table.rows:
        assert [format_estimate(row.estimates.get(column.key), column.digits) for column in table.columns] in shown


def test_the_page_asks_for_nothing_from_anywhere(report):
    assert not re.search(r"https?:|//[a-z]+\.", report)
    for tag, attributes in Reader(report).elements:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")


def test_the_policy_allows_no_script_but_the_one_on_the_page(report):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', report)
    (script,) = re.findall(r"<script>(.*?)</script>", report, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy.replace("&#39;", "'")


def test_hostile_text_of_a_trajectory_stays_text(report, hostile):
    assert "alert('x')" not in re.sub(r'<script type="application/json".*?</script>', "", report, flags=re.DOTALL)
    scripts = [attributes for tag, attributes in Reader(report).elements if tag == "script"]
    assert [attributes.get("type") for attributes in scripts] == ["application/json", None]
    data = json.loads(Reader(report).data_of("viewer-data"))
    assert data["trajectories"][-1]["steps"][0]["action"] == hostile.actions[0].content


def test_hostile_names_in_the_results_are_escaped(report):
    assert "&lt;default&gt;" in report
    assert "<default>" not in report


def test_every_inline_picture_keeps_its_own_ids(report):
    elements = Reader(report).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'url\(#([^)]+)\)|(?<=\s)href="#(p\d+-[^"]+)"', report))
    assert references
    assert {a or b for a, b in references} <= set(ids)
    labelled = [attributes["aria-labelledby"] for _, attributes in elements if "aria-labelledby" in attributes]
    assert labelled == ["picture-0", "picture-1", "picture-2"]
    assert set(labelled) <= set(ids)


def test_inline_pictures_follow_the_theme_and_keep_the_method_colours(report):
    svg = report[report.index('aria-labelledby="picture-0"') :].split("</svg>")[0]
    assert "currentColor" in svg
    assert "#1d1f24" not in svg
    assert "#1f7dc4" in svg


def test_the_viewer_cuts_trajectories_into_observation_and_action(trajectories):
    data = page.viewer_data(trajectories[:1])
    (shown,), trajectory = data["trajectories"], trajectories[0]
    assert [step["action"] for step in shown["steps"]] == [message.content for message in trajectory.actions]
    assert shown["steps"][0]["observation"] == trajectory.messages[2].content
    assert shown["steps"][1]["observation"] == trajectory.messages[4].content
    assert [message["content"] for message in shown["opening"]] == ["You are an agent. Reply with one action.", "Ok."]
    assert [step["reward"] for step in shown["steps"]] == list(trajectory.rewards)
    assert shown["scores"]["pvm"]["promise"] == list(trajectory.scores["pvm"].promise)
    assert [prm["label"] for prm in data["prms"]] == ["AgentPRM", "AgentPRM without L_A", "PVM", "ORM"]


def test_a_page_without_pictures_or_trajectories_is_complete(results):
    reader = Reader(page.render_page(results))
    assert not any(tag == "script" for tag, _ in reader.elements)
    assert results.title in reader.visible


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF89a", "must be PNG or SVG"),
        (b"<svg viewBox='0 0 1 1'><script>alert(1)</script></svg>", "active or foreign content: '<script'"),
        (b"<svg viewBox='0 0 1 1' onload='x()'></svg>", "active or foreign content: 'onload='"),
    ],
)
def test_pictures_that_could_act_are_refused(results, content, message):
    with pytest.raises(ValueError, match=message):
        page.render_page(results, [page.Picture("p", content)])


def test_a_missing_picture_is_refused(results, tmp_path):
    with pytest.raises(FileNotFoundError):
        page.render_page(results, [page.Picture("p", tmp_path / "none.svg")])


def test_configuration_is_flattened_to_dotted_names():
    assert page.flatten_config({"a": {"b": 1, "c": {}}, "d": [1]}) == [("a.b", "1"), ("a.c", "{}"), ("d", "[1]")]
