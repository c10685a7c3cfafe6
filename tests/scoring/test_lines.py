"""Scoring the lines of a file."""

import json

import pytest

from agentprm_jax.data import write_trajectories
from agentprm_jax.data.reading import BadLine, numbered_lines
from agentprm_jax.data.writing import encode_line
from agentprm_jax.scoring.config import ScoringConfig
from agentprm_jax.scoring.lines import LineScorer, TooLong


@pytest.fixture
def score(prm, tmp_path):
    """Scores lines: `score(lines, done, **config)` gives the scored lines and the scorer."""

    def score(lines, done=(), name="tiny", **config):
        path = tmp_path / "some.jsonl"
        path.write_bytes(b"".join(lines))
        scorer = LineScorer(prm, path, ScoringConfig(**config), name)
        errors = scorer.refused if config.get("bad_lines") == "skip" else None
        return [line for chunk in scorer.chunks(numbered_lines(path, errors), done) for line in chunk], scorer

    return score


def lines_of(trajectories):
    return [encode_line(trajectory) for trajectory in trajectories]


def test_a_scored_line_holds_the_prms_scores_and_is_otherwise_the_line_that_was_read(prm, score, trajectories):
    made = trajectories(5)
    strange = [{"note": [1, 1.5, None], **json.loads(line), "zzz": {"é": True}} for line in lines_of(made)]
    scored, _ = score([json.dumps(one).encode() + b"\n" for one in strange])
    for line, one, scores in zip(scored, strange, prm.score(made), strict=True):
        record = json.loads(line)
        assert record["scores"]["tiny"]["promise"] == pytest.approx(scores.promise, abs=1e-5)
        assert record["scores"]["tiny"]["progress"] == pytest.approx(scores.progress, abs=1e-5)
        assert [key for key in record if key != "scores"] == list(one)
        assert {key: value for key, value in record.items() if key != "scores"} == one


def test_scores_of_other_prms_stay(score, trajectories):
    first, _ = score(lines_of(trajectories(2)), name="a")
    both, _ = score(first, name="b")
    for before, after in zip(map(json.loads, first), map(json.loads, both), strict=True):
        assert list(after["scores"]) == ["a", "b"]
        assert after["scores"]["a"] == before["scores"]["a"]


def test_no_more_lines_are_held_than_are_scored_together(prm, tmp_path, trajectories):
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"".join(lines_of(trajectories(10))))
    read = []

    def reading():
        for number, line in numbered_lines(path, None):
            read.append(number)
            yield number, line

    scorer = LineScorer(prm, path, ScoringConfig(together=3), "tiny")
    sizes = [(len(chunk), len(read)) for chunk in scorer.chunks(reading())]
    assert sizes == [(3, 3), (3, 6), (3, 9), (1, 10)]


def test_a_trajectory_without_actions_gets_empty_scores(score, trajectories):
    record = json.loads(lines_of(trajectories(1))[0]) | {"messages": [], "rewards": [], "outcome": 0.0}
    scored, scorer = score([json.dumps(record).encode() + b"\n"])
    assert json.loads(scored[0])["scores"] == {"tiny": {"promise": [], "progress": []}}
    assert (scorer.scored, scorer.steps) == (1, 0)


def test_scores_of_the_same_name_are_replaced_only_when_told_to(score, trajectories):
    scored, _ = score(lines_of(trajectories(1)))
    edited = scored[0].replace(b'"promise":[', b'"promise":[7,').replace(b'"progress":[', b'"progress":[7,')
    with pytest.raises(ValueError, match=r"line 1, field `scores\.tiny\.promise`"):
        score([edited])
    with pytest.raises(ValueError, match=r"line 1: the trajectory t0 has scores of tiny already"):
        score(scored)
    assert score(scored, existing="replace")[0] == scored


def test_a_trajectory_longer_than_the_model_stops_or_is_dropped_and_counted_but_never_cut(score, trajectories):
    lines = [*lines_of(trajectories(1)), *lines_of(trajectories(1, steps=60)), *lines_of(trajectories(1, seed=3))]
    with pytest.raises(
        TooLong, match=r"line 2: trajectory t0 has [\d,]+ tokens, but PRM tiny is meant for at most 400"
    ):
        score(lines)
    scored, scorer = score(lines, too_long="drop")
    assert len(scored) == scorer.scored == 2
    assert "line 2" in str(scorer.dropped[0])
    assert len(scorer.dropped) == 1


@pytest.mark.parametrize("bad", [b'{"id": 3}\n', b"no json\n"])
def test_a_bad_line_stops_or_is_skipped_and_counted(score, trajectories, bad):
    lines = [*lines_of(trajectories(2)), bad, b"\n", *lines_of(trajectories(1))]
    with pytest.raises(BadLine, match="line 3"):
        score(lines)
    scored, scorer = score(lines, bad_lines="skip")
    assert len(scored) == 3
    assert [error.line for error in scorer.refused] == [3]


def test_words_that_the_tokenizer_does_not_know_are_an_error_of_their_line(score, trajectories):
    (line,) = lines_of(trajectories(1))
    unknown = json.dumps({**json.loads(line), "messages": [{"role": "user", "content": "z"}], "rewards": []}).encode()
    with pytest.raises(BadLine, match=r"line 2, field `messages`: .* does not know 'z'"):
        score([line, unknown])


def test_what_an_earlier_run_has_scored_is_not_scored_again_and_the_rest_is_as_in_one_run(score, trajectories):
    lines = lines_of(trajectories(6))
    lines.insert(2, b"bad\n")
    whole, _ = score(lines, bad_lines="skip")
    rest, scorer = score(lines, done=whole[:4], bad_lines="skip")
    assert (scorer.kept, scorer.scored) == (4, 2)
    assert [json.loads(line)["id"] for line in rest] == ["t4", "t5"]


def test_an_unfinished_output_of_another_file_is_refused(score, trajectories):
    lines = lines_of(trajectories(3))
    whole, _ = score(lines)
    with pytest.raises(ValueError, match="another trajectory in the place of line 1"):
        score(lines, done=whole[1:])
    with pytest.raises(ValueError, match="has more lines"):
        score(lines[:2], done=whole)


def test_compressed_files_are_scored_alike(prm, tmp_path, trajectories):
    made = trajectories(3)
    write_trajectories(tmp_path / "a.jsonl.gz", made)
    path = tmp_path / "a.jsonl.gz"
    scorer = LineScorer(prm, path, ScoringConfig(), "tiny")
    (chunk,) = scorer.chunks(numbered_lines(path, None))
    assert [json.loads(line)["id"] for line in chunk] == [one.id for one in made]
