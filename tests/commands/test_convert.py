"""`agentprm convert`."""

import json
import typing

import pytest

from agentprm_jax.commands.convert import NATIVE, FormatName, ReadingChoices, WritingChoices
from agentprm_jax.data import read_trajectories
from agentprm_jax.data.formats import FORMATS
from tests.data.formats.foreign_files import FILLED, ROWS, file_name, put


def flags(name):
    return [word for key, value in FILLED.get(name, {}).items() for word in (f"--{key.replace('_', '-')}", value)]


def test_every_format_and_the_record_can_be_named():
    assert set(typing.get_args(FormatName)) == {NATIVE, *FORMATS}


def test_every_choice_of_a_reader_or_writer_has_a_flag():
    readers = {option for form in FORMATS.values() for option in form.reads_with} | {"split", "ended"}
    assert {field for field in ReadingChoices.__dataclass_fields__} == readers
    assert set(WritingChoices.__dataclass_fields__) == {o for form in FORMATS.values() for o in form.writes_with}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_a_record_and_comes_back(agentprm, tmp_path, name):
    source = put(tmp_path, name, ROWS[name])
    record = tmp_path / "record.jsonl.zst"
    status, said = agentprm("convert", source, record, "--from", name, "--to", "native", *flags(name))
    assert (status, f"{len(ROWS[name])} read as {name}, {len(ROWS[name])} written" in said) == (0, True)
    back = tmp_path / "back" / file_name(name)
    back.parent.mkdir()
    assert agentprm("convert", record, back, "--from", "native", "--to", name)[0] == 0
    again = tmp_path / "again.jsonl"
    assert agentprm("convert", back, again, "--from", name, "--to", "native", *flags(name))[0] == 0
    assert read_trajectories(again) == read_trajectories(record)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_the_ending_of_the_output_decides_how_it_is_compressed(agentprm, file, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    assert agentprm("convert", file, output, "--from", "native", "--to", "native")[0] == 0
    assert read_trajectories(output) == read_trajectories(file)


def test_what_a_file_leaves_open_is_asked_for_and_nothing_is_written(agentprm, tmp_path):
    source, output = put(tmp_path, "trl", ROWS["trl"]), tmp_path / "out.jsonl"
    status, said = agentprm("convert", source, output, "--from", "trl", "--to", "native")
    assert status == 1
    assert "has no outcome, so the reader must be told" in said
    assert list(tmp_path.iterdir()) == [source]


def test_outcomes_may_stand_in_a_file_by_task(agentprm, tmp_path):
    source = put(tmp_path, "agenttraj", ROWS["agenttraj"])
    outcomes = tmp_path / "outcomes.json"
    outcomes.write_text('{"babyai_17": 0.25, "babyai_18": 1}')
    output = tmp_path / "out.jsonl"
    words = ("convert", source, output, "--from", "agenttraj", "--to", "native", "--outcome", outcomes)
    assert agentprm(*words)[0] == 0
    assert [one.outcome for one in read_trajectories(output)] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"babyai_17": 0.25', "expected an object that maps tasks to outcomes in [0, 1], got no JSON: Expecting"),
        ('{"a": 1, "a": 0}', "got no JSON: the key 'a' twice in one object"),
        ("[" * 100_000, "got no JSON: maximum recursion depth"),
        ("[0.5]", "expected an object that maps tasks to outcomes in [0, 1], got [0.5]."),
        ('{"babyai_17": 0.25, "babyai_18": "1"}', """key 'babyai_18': expected a number in [0, 1], got "1"."""),
        ('{"babyai_17": true}', "key 'babyai_17': expected a number in [0, 1], got true."),
        ('{"babyai_17": 1.5}', "key 'babyai_17': expected a number in [0, 1], got 1.5."),
    ],
)
def test_a_file_of_outcomes_that_is_none_is_named_with_the_key(agentprm, tmp_path, text, complaint):
    source = put(tmp_path, "agenttraj", ROWS["agenttraj"])
    outcomes = tmp_path / "outcomes.json"
    outcomes.write_text(text)
    words = ("convert", source, tmp_path / "out.jsonl", "--from", "agenttraj", "--to", "native", "--outcome", outcomes)
    status, said = agentprm(*words)
    assert status == 1
    assert f"{outcomes}" in said
    assert complaint in said


def test_a_bad_line_stops_with_its_place_or_is_skipped_and_counted(agentprm, file, tmp_path):
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], '{"id": 3}', *lines[1:]]) + "\n")
    output = tmp_path / "out.jsonl"
    words = ("convert", file, output, "--from", "native", "--to", "openai-chat")
    status, said = agentprm(*words)
    assert (status, "line 2" in said, output.exists()) == (1, True, False)
    status, said = agentprm(*words, "--refused", "skip")
    assert (status, "10 read as native, 9 written" in said, "1 refused" in said) == (0, True, True)
    assert "refused: " in said


def test_a_row_that_carries_no_scale_to_divide_by_is_named_or_skipped(agentprm, tmp_path):
    bad = {**ROWS["agentgym"][0], "agentprm": '{"reward_scale": 0}'}
    source, output = put(tmp_path, "agentgym", [ROWS["agentgym"][0], bad]), tmp_path / "out.jsonl"
    words = ("convert", source, output, "--from", "agentgym", "--to", "native")
    status, said = agentprm(*words)
    assert (status, "line 2, field `agentprm.reward_scale`" in said) == (1, True)
    status, said = agentprm(*words, "--refused", "skip")
    assert (status, "2 read as agentgym, 1 written" in said) == (0, True)
    said = agentprm(*words, "--reward-scale", "0", "--overwrite")[1]
    assert "takes a finite number above 0 as reward_scale, got 0.0" in said


def test_what_the_other_format_cannot_hold_stops_or_is_skipped_and_counted(agentprm, file, tmp_path, trajectories):
    output = tmp_path / "out.jsonl"
    lines = file.read_text().splitlines()
    single = json.loads(lines[0])
    single["messages"], single["rewards"] = single["messages"][:2], [0.0]
    single["scores"] = {"a": {"promise": [0.5], "progress": [0.5]}}
    file.write_text("\n".join([json.dumps(single), *lines[1:]]) + "\n")
    words = ("convert", file, output, "--from", "native", "--to", "trl")
    status, said = agentprm(*words)
    assert (status, "cannot be written as trl" in said, output.exists()) == (1, True, False)
    status, said = agentprm(*words, "--refused", "skip")
    assert (status, "9 read as native, 1 written" in said) == (0, True)
    assert "and 3 more" in said


def test_a_score_that_a_rollout_cannot_hold_is_skipped_and_counted(agentprm, file, tmp_path):
    lines = file.read_text().splitlines()
    odd = json.loads(lines[0])
    odd["messages"] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y", "action": True, "extra": {"score": True}},
    ] * 2
    odd["rewards"], odd["scores"] = [0.0, 0.0], {}
    good = odd | {"id": "good", "messages": [*odd["messages"][:1], {**odd["messages"][1], "extra": {}}] * 2}
    file.write_text("\n".join([json.dumps(odd), json.dumps(good)]) + "\n")
    words = ("convert", file, tmp_path / "out", "--from", "native", "--to", "cornell-rollout", "--refused", "skip")
    status, said = agentprm(*words)
    assert (status, "2 read as native, 1 written" in said, f"Trajectory {odd['id']} cannot" in said) == (0, True, True)


def test_an_output_that_would_be_empty_is_not_written(agentprm, file, tmp_path):
    output = tmp_path / "out.jsonl"
    status, said = agentprm("convert", file, output, "--from", "native", "--to", "trl", "--refused", "skip")
    assert (status, "holds nothing that can be read as native and written as trl" in said) == (1, True)
    assert list(tmp_path.iterdir()) == [file]


def test_an_output_that_is_there_is_replaced_only_when_told_to(agentprm, file, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    words = ("convert", file, output, "--from", "native", "--to", "native")
    status, said = agentprm(*words)
    assert (status, "exists already" in said, output.read_text()) == (1, True, "mine")
    assert agentprm(*words, "--overwrite")[0] == 0
    assert output.read_bytes() == file.read_bytes()


def rollouts(agentprm, tmp_path, output, *words):
    """Converts the example of a rollout into a folder."""
    source = tmp_path / "source.jsonl"
    if not source.exists():
        original = put(tmp_path, "cornell-rollout", ROWS["cornell-rollout"])
        assert agentprm("convert", original, source, "--from", "cornell-rollout", "--to", "native")[0] == 0
    return agentprm("convert", source, output, "--from", "native", "--to", "cornell-rollout", *words)


def test_a_folder_of_rows_is_replaced_only_when_told_to_and_nothing_else_stays(agentprm, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "0.json").write_text("mine")
    (output / "12.json").write_text("mine")
    status, said = rollouts(agentprm, tmp_path, output)
    assert (status, "replace it with --overwrite" in said, (output / "0.json").read_text()) == (1, True, "mine")
    status, said = rollouts(agentprm, tmp_path, output, "--overwrite")
    assert (status, f"1 written to {output}" in said) == (0, True)
    assert [file.name for file in output.iterdir()] == ["0.json"]
    assert json.loads((output / "0.json").read_text())["gamefile"] == ROWS["cornell-rollout"][0]["gamefile"]
    assert {path.name for path in tmp_path.iterdir()} == {"out", "some", "source.jsonl"}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("strange", ["notes.txt", "00.json", "-1.json", "0.json/a"])
def test_a_folder_that_holds_anything_else_is_refused_without_advice_to_replace_it(
    agentprm, tmp_path, strange, overwrite
):
    output = tmp_path / "out"
    (output / strange).parent.mkdir(parents=True)
    (output / strange).write_text("mine")
    status, said = rollouts(agentprm, tmp_path, output, *overwrite)
    found = f"nothing but files such as 0.json, got {strange.split('/')[0]!r} in it. Choose another name."
    assert (status, found in said, "--overwrite" in said) == (1, True, False)
    assert (output / strange).read_text() == "mine"


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_neither_a_file_is_replaced_by_a_folder_nor_a_folder_by_a_file(agentprm, file, tmp_path, overwrite):
    (tmp_path / "out").write_text("mine")
    (tmp_path / "out.jsonl").mkdir()
    status, said = rollouts(agentprm, tmp_path, tmp_path / "out", *overwrite)
    assert (status, "such as 0.json, got a file. Choose" in said, "--overwrite" in said) == (1, True, False)
    words = ("convert", file, tmp_path / "out.jsonl", "--from", "native", "--to", "native", *overwrite)
    status, said = agentprm(*words)
    assert (status, "expected a file, got a folder. Choose" in said, "--overwrite" in said) == (1, True, False)
    assert ((tmp_path / "out").read_text(), list((tmp_path / "out.jsonl").iterdir())) == ("mine", [])


def test_a_choice_that_a_format_does_not_take_is_refused(agentprm, file, tmp_path):
    words = ("convert", file, tmp_path / "out.jsonl", "--from", "native", "--to", "native")
    assert "The reader of native takes no options, got outcome" in agentprm(*words, "--outcome", 1)[1]
    assert "The writer of native takes no options, got scorer" in agentprm(*words, "--write.scorer", "a")[1]
