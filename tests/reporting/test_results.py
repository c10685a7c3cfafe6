"""Laws of the results record and its file."""

import json
import math

import msgspec
import pytest

from agentprm_jax.reporting import results as r


def written(results, tmp_path):
    path = tmp_path / "results.json"
    r.write_results(path, results)
    return path


def edited(path, change):
    """The file with its JSON changed by `change`."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read_back_equal_to_the_last_bit(results, tmp_path):
    assert r.read_results(written(results, tmp_path)) == results


def test_every_figure_in_the_file_has_its_errors_and_numbers(results, tmp_path):
    content = json.loads(written(results, tmp_path).read_text())
    figures = [figure for table in content["tables"] for row in table["rows"] for figure in row["estimates"].values()]
    figures += [figure for curve in content["curves"] for figure in curve["estimates"]]
    assert len(figures) > 80
    for figure in figures:
        assert set(figure) == {"value", "stderr_tasks", "stderr_seeds", "n_tasks", "n_seeds"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(surprise=1), "unknown field `surprise`"),
        (lambda c: c.pop("versions"), "missing required field `versions`"),
        (lambda c: c.update(schema="agentprm.results/9"), r"agentprm.results/9.*\$.schema"),
        (lambda c: c["checks"][1].update(passed="yes"), r"Expected `bool`, got `str` - at `\$.checks\[1\].passed`"),
        (
            lambda c: c["tables"][0]["rows"][0]["estimates"]["bon8"].update(n_tasks=0),
            "n_tasks must be at least 1, got 0",
        ),
        (lambda c: c["tables"][0]["rows"][0].update(method="pvm"), r"\['pvm'\] stand twice"),
        (lambda c: c.update(created="2025-03-04T05:06:00"), r"\$.created"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_field(results, tmp_path, change, message):
    path = edited(written(results, tmp_path), change)
    with pytest.raises(r.ResultsError, match=message) as caught:
        r.read_results(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused_and_a_missing_one_says_so(results, tmp_path):
    path = written(results, tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(r.ResultsError, match="truncated"):
        r.read_results(path)
    with pytest.raises(FileNotFoundError):
        r.read_results(tmp_path / "none.json")


def test_numbers_that_json_lacks_are_refused_in_figures_and_in_config(results, tmp_path):
    with pytest.raises(ValueError, match=r"Estimate\.value must be a finite number, got nan"):
        r.Estimate(value=math.nan, n_tasks=3)
    endless = msgspec.structs.replace(results, config={"loop": {"limits": [1, math.inf]}})
    with pytest.raises(r.ResultsError, match=r"pipeline\.x must be a finite number for JSON, got nan"):
        r.write_results(tmp_path / "results.json", msgspec.structs.replace(results, pipeline={"x": math.nan}))
    with pytest.raises(r.ResultsError, match=r"config\.loop\.limits\[1\] must be a finite number for JSON, got inf"):
        r.write_results(tmp_path / "results.json", endless)


def test_results_from_before_pipelines_trainings_and_commits_were_kept_are_still_read(results, tmp_path):
    def older(content):
        del content["pipeline"], content["prms"]
        for stage in content["stages"]:
            del stage["padding"], stage["commits"]

    read = r.read_results(edited(written(results, tmp_path), older))
    assert read.tables == results.tables
    assert (read.pipeline, read.prms, read.stages[0].commits) == ({}, (), ())


def test_a_failed_write_leaves_the_previous_file_as_it_was(results, tmp_path):
    path = written(results, tmp_path)
    before = path.read_bytes()
    (tmp_path / "results.json.partial").mkdir()  # stands for any reason why the new text cannot be written
    with pytest.raises(OSError, match=r"results\.json\.partial"):
        r.write_results(path, results)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: r.Estimate(value=1, stderr_seeds=0.1, n_tasks=5), "stderr_seeds must be None"),
        (lambda: r.Estimate(value=1, stderr_tasks=-0.1, n_tasks=5), "must not be negative"),
        (lambda: r.Cost(tokens_sampled=-1), "tokens_sampled must not be negative"),
        (lambda: r.Table(name="t", columns=(), rows=(row("a"),)), "'x' is not a column"),
        (lambda: r.Table(name="t", columns=(r.Column(key="x", title=""),) * 2, rows=()), r"\['x'\] stand twice"),
        (lambda: r.Curve(method="a", kind="method", sizes=(), estimates=()), "at least one"),
        (lambda: curve(sizes=(2, 1)), r"increase, got \[2, 1\]"),
        (lambda: curve(tokens_sampled=(1.0,)), r"one token count per size \(2\), got 1"),
        (lambda: difference(low=1.0), "low must not exceed"),
        (lambda: difference(confidence=95), "strictly between 0 and 1, got 95"),
        (lambda: difference(probability=2), r"must lie in \[0, 1\], got 2"),
    ],
)
def test_impossible_records_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "above"), (-0.2, -0.1, "below"), (-0.1, 0.2, "undecided"), (0.0, 0.2, "undecided")],
)
def test_the_verdict_needs_the_whole_interval_on_one_side(low, high, verdict):
    assert difference(low=low, high=high).verdict == verdict


def test_a_missing_table_is_answered_with_those_that_exist(results):
    assert results.table("Value metrics").name == "Value metrics"
    with pytest.raises(KeyError, match="Search on 120 test tasks"):
        results.table("values")


def row(method):
    return r.Row(method=method, kind="method", estimates={"x": r.Estimate(value=1, n_tasks=1)})


def curve(**changes):
    two = (r.Estimate(value=1, n_tasks=1),) * 2
    return r.Curve(**{"method": "a", "kind": "method", "sizes": (1, 2), "estimates": two, **changes})


def difference(**changes):
    fields = {
        "value": 0.0,
        "stderr": 0.1,
        "low": -0.5,
        "high": 0.5,
        "confidence": 0.95,
        "probability": 0.5,
        "n_tasks": 9,
    }
    return r.Difference(**{"n_tasks": 9, **fields, **changes})
