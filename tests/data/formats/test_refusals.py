"""Bad rows are refused by place and field, and trajectories that a format cannot hold by their id and the reason."""

import json

import pytest
from foreign_files import CALL, FILLED, RATED, ROLLOUT, ROWS, SHEPHERD_INPUT, SHEPHERD_LABEL, TRAJ, file_name, put
from made_trajectories import trajectory

from agentprm_jax.data.formats import FORMATS, BadItem, CannotHold, read_format, write_format
from agentprm_jax.data.trajectory import Message

SAYS_SOMETHING = "text, parts, or null beside tool calls, a function call or a refusal"
BOOLEANS = "one of true, false, or numbers throughout"


def changed(row: dict, **columns) -> dict:
    return {**row, **columns}


def turns(**last) -> list[dict]:
    return [*TRAJ["conversations"], last]


def said(**message) -> dict:
    return {"messages": [{"role": "user", "content": "x"}, message]}


def rated(step: dict) -> dict:
    return {"question": {"problem": "?"}, "label": {"steps": [step], "finish_reason": "solution"}}


BAD = [
    ("agenttraj", changed(TRAJ, item_id=3), "item_id", "text", "3"),
    ("agenttraj", changed(TRAJ, item_id="babyai"), "item_id", "<environment>_<number> (or pass env)", "'babyai'"),
    ("agenttraj", {"item_id": "a_1"}, "conversations", "a list of objects", "nothing"),
    ("agenttraj", changed(TRAJ, conversations=["x"]), "conversations[0]", "an object", '"x"'),
    (
        "agenttraj",
        changed(TRAJ, conversations=turns(**{"from": "bot", "value": ""})),
        "conversations[8].from",
        "one of human, gpt, system",
        "'bot'",
    ),
    (
        "agenttraj",
        changed(TRAJ, conversations=turns(**{"from": "gpt", "loss": 1, "value": ""})),
        "conversations[8].loss",
        "true, false or null",
        "1",
    ),
    ("agenteval", TRAJ, "conversations", "null, because AgentEval holds tasks only", None),
    ("agentgym", TRAJ, "reward", "a number", "nothing"),
    ("agentgym", changed(TRAJ, reward=1, success=2), "success", "0 or 1", "2"),
    ("agentgym-rl", changed(TRAJ, reward=1), "item_id", "the number of a task", '"babyai_17"'),
    ("openai-chat", said(role="critic", content="x"), "messages[1].role", None, "'critic'"),
    ("openai-chat", said(role="assistant"), "messages[1].content", None, "nothing"),
    ("openai-chat", said(role="assistant", content=None), "messages[1].content", SAYS_SOMETHING, "null"),
    ("openai-chat", said(role="assistant", content=None, tool_calls=[]), "messages[1].content", None, "null"),
    (
        "openai-chat",
        said(role="user", content=[{"type": "image_url"}]),
        "messages[1].content[0].type",
        '"text" or "refusal"',
        '"image_url"',
    ),
    (
        "openai-chat",
        said(role="assistant", content=None, tool_calls=[{**CALL, "function": {}}]),
        "messages[1].tool_calls[0].function.name",
        "text",
        "nothing",
    ),
    *(
        (
            "openai-chat",
            said(role="assistant", content="x", weight=weight),
            "messages[1].weight",
            "0, 1 or null",
            json.dumps(weight),
        )
        for weight in ("0", 0.5, 2, False, [0])
    ),
    ("trl", {"prompt": "?", "completions": "x", "labels": []}, "completions", "a list of texts", '"x"'),
    ("trl", {"prompt": "?", "completions": ["x"], "labels": []}, "labels", "one label a step, 1", "0 labels"),
    ("trl", {"prompt": "?", "completions": ["x"], "labels": ["good"]}, "labels[0]", "a number", '"good"'),
    ("trl", {"prompt": "?", "completions": ["x"], "labels": [7]}, "labels", None, "7.0"),
    ("openrlhf", {"input": SHEPHERD_INPUT, "value": ["+"]}, "value", "one label a step, 3", "1 labels"),
    ("trl", {"prompt": "?", "completions": ["x", "y"], "labels": [0.5, True]}, "labels[1]", "a number", "true"),
    ("trl", {"prompt": "?", "completions": ["x", "y"], "labels": [True, 1]}, "labels[1]", BOOLEANS, "1"),
    ("trl", {"prompt": "?", "completions": ["x"], "labels": [2**53 + 1]}, "labels[0]", None, "9007199254740993"),
    ("openrlhf", {"input": SHEPHERD_INPUT, "value": ["+", "-", "?"]}, "value[2]", None, '"?"'),
    ("openrlhf", {"input": SHEPHERD_INPUT, "value": ["+", "-", 0.5]}, "value[2]", None, "0.5"),
    ("agentgym", changed(TRAJ, reward=True), "reward", "a number", "true"),
    ("openrlhf", {"input": "Why? ки", "value": [1]}, "input", None, '"Why? "'),
    ("math-shepherd", {"input": "Why?", "label": "Why?"}, "input", "a text with steps that end in ки", '"Why?"'),
    (
        "math-shepherd",
        {"input": SHEPHERD_INPUT, "label": SHEPHERD_LABEL.replace("13. +", "13. *")},
        "label",
        "the text of the input with + or - at the end of step 0",
        None,
    ),
    (
        "math-shepherd",
        {"input": SHEPHERD_INPUT + " more", "label": SHEPHERD_LABEL},
        "input",
        "nothing behind the last ки",
        '" more"',
    ),
    ("math-shepherd", {"input": SHEPHERD_INPUT, "label": SHEPHERD_LABEL + "x"}, "label", None, '"x"'),
    (
        "prm800k",
        rated({"completions": [{"text": "x", "rating": None}], "chosen_completion": 0}),
        "label.steps[0].completions[0].rating",
        "-1, 0 or 1",
        "null",
    ),
    (
        "prm800k",
        rated({"completions": [], "chosen_completion": 0}),
        "label.steps[0].chosen_completion",
        "the index of one of 0 completions",
        "0",
    ),
    ("prm800k", {**RATED, "label": {"steps": []}}, "label.finish_reason", None, "null"),
    ("cornell-rollout", changed(ROLLOUT, trajectory=[]), "trajectory", None, "none"),
    (
        "cornell-rollout",
        changed(ROLLOUT, trajectory=[{"observation": "x", "action": "y", "score": "1"}]),
        "trajectory[0].score",
        "a number",
        '"1"',
    ),
    ("cornell-target", {"state": {}, "reason_action": {}, "qestimate": None}, "qestimate", "a number", "null"),
    ("trl", changed(ROWS["trl"][0], agentprm="{"), "agentprm", "the JSON text of the rest of a trajectory", None),
    ("trl", changed(ROWS["trl"][0], agentprm='{"outcome": 2}'), "agentprm.outcome", "in [0, 1]", "2.0"),
    ("trl", changed(ROWS["trl"][0], agentprm='{"messages": {"9": {}}}'), "agentprm.messages.9", None, "{}"),
    *(
        (
            "agentgym",
            changed(ROWS["agentgym"][0], agentprm=f'{{"reward_scale": {scale}}}'),
            "agentprm.reward_scale",
            "a finite number above 0",
            got,
        )
        for scale, got in [("0", "0.0"), ("-1", "-1.0"), ("1e999", "inf")]
    ),
]


@pytest.mark.parametrize(("name", "row", "field", "expected", "got"), BAD)
def test_a_bad_row_is_refused_with_file_place_field_expected_and_got(tmp_path, name, row, field, expected, got):
    path = put(tmp_path, name, [row if name == "cornell-rollout" else ROWS[name][0], row])
    with pytest.raises(BadItem) as error:
        read_format(name, path, **FILLED.get(name, {}))
    unit = {"lines": "line 2", "array": "item 2", "folder": "item 1"}[FORMATS[name].container]
    found = error.value
    assert (found.field, found.expected, found.got) == (field, expected or found.expected, got or found.got)
    assert f", {unit}, field `{field}`: expected {found.expected}, got {found.got}." in str(found)
    assert str(found).startswith(str(path))


def test_collecting_errors_loses_no_good_row(tmp_path):
    path = tmp_path / "some.jsonl"
    good = json.dumps(ROWS["trl"][0])
    path.write_text(f'{good}\n{{"prompt": 1}}\nno json\n[]\n{good}')
    read = read_format("trl", path, outcome=0.0, on_error="collect")
    assert [item.id for item in read] == ["some_1", "some_5"]
    assert [(error.line, error.field) for error in read.errors] == [(2, "prompt"), (3, ""), (4, "")]


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"a": 1, "a": 2}]', "[NaN]", "[" * 100_000])
def test_a_file_that_is_no_json_of_objects_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(BadItem, match=r"some\.json, item 1: expected one JSON object, an array of them"):
        read_format("agenteval", tmp_path / "some.json")


@pytest.mark.parametrize("depth", [101, 600, 900])
@pytest.mark.parametrize("name", FORMATS)
def test_a_row_nested_too_deep_is_refused_by_its_place_and_the_others_are_read(tmp_path, name, depth):
    deep = json.loads("[" * depth + "]" * depth)
    path = put(tmp_path, name, [{**ROWS[name][0], "more": deep}, ROWS[name][0]])
    place = {"lines": "line 1", "array": "item 1", "folder": r"0\.json, item 1"}[FORMATS[name].container]
    with pytest.raises(BadItem, match=f"{place}.*: expected .*, got "):
        read_format(name, path, **FILLED.get(name, {}))
    read = read_format(name, path, on_error="collect", **FILLED.get(name, {}))
    assert (len(read), len(read.errors)) == (1, 1)


def scored(*labels: float, steps: list[str] | None = None, question: str = "Why?"):
    texts = steps or [f"Step {number}: so" for number in range(1, len(labels) + 1)]
    messages = [Message("user", question), *(Message("assistant", text, True) for text in texts)]
    item = trajectory(messages=messages, rewards=[0.0] * len(texts), outcome=0.0)
    return item.with_scores("prm", labels, [0.0] * len(labels))


NOTHING = trajectory(messages=[], rewards=[], outcome=0.0)
STEPWISE = ("trl", "openrlhf", "math-shepherd", "prm800k")
UNHOLDABLE = [
    *((name, trajectory(), "no observations between them, but message 2 is no step") for name in STEPWISE),
    *((name, NOTHING, "but nothing comes first") for name in STEPWISE),
    ("trl", trajectory(messages=[Message("user", "?")], rewards=[], outcome=0.0), "needs a label, and it has none"),
    ("trl", scored(0.5).with_scores("b", [0.1], [0.0]), "it has scores of b, prm: name one"),
    ("math-shepherd", scored(1.0, 0.7), "knows + (1) and - (0) only, and the label of step 1 is 0.7"),
    ("prm800k", scored(0.5), "knows the ratings -1 (-1) and 0 (0) and 1 (1) only, and the label of step 0 is 0.5"),
    ("math-shepherd", scored(1.0, steps=["so"]), "does not begin with 'Step 1:'"),
    ("openrlhf", scored(1.0, steps=["Step 1: ки so"]), "the tag ки stands inside its step 0"),
    ("openrlhf", scored(1.0, question="Why? "), "blanks at the ends of its question would be lost"),
    ("openrlhf", scored(1.0, question="Is Step 1: in?"), "'Step 1:' stands inside its question"),
    ("agenteval", trajectory(), "it holds tasks only, and there are 4 messages"),
    ("agentgym", trajectory(outcome=7 / 997, extra={"reward_scale": 100}), "no number divided by the reward_scale 100"),
    ("agentgym-rl", trajectory(task="babyai"), "it holds the number of the task, and 'babyai' ends in none"),
    ("cornell-rollout", trajectory(messages=[Message("system", "?")], rewards=[], outcome=0.0), "is of the system"),
    ("cornell-rollout", NOTHING, "there is no step"),
    *(
        (
            "cornell-rollout",
            trajectory(
                messages=[
                    Message("user", "x"),
                    Message("assistant", "y", True, {"score": score}),
                    *trajectory(1).messages,
                ]
            ),
            f"the score of step 0 should be a number{expected}, got {got}",
        )
        for score, expected, got in [
            (True, "", "true"),
            (2**53 + 1, " that a float can hold (the nearest is 9007199254740992.0)", "9007199254740993"),
        ]
    ),
    (
        "cornell-rollout",
        trajectory(messages=[*trajectory().messages, Message("user", "End.")]),
        "no place for what is observed after the last action",
    ),
    ("cornell-target", trajectory(), "it values one step, the last, and there are 2 actions"),
]


@pytest.mark.parametrize(("name", "item", "reason"), UNHOLDABLE)
def test_what_a_format_cannot_hold_is_refused_with_the_trajectory_and_the_reason(tmp_path, name, item, reason):
    with pytest.raises(CannotHold) as error:
        write_format(name, [item], tmp_path / file_name(name))
    assert error.value.id == "one"
    assert str(error.value).startswith(f"Trajectory one cannot be written as {name}: ")
    assert reason in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_name_that_does_not_fit_the_container_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"should end in one of \.json, got"):
        write_format("agenttraj", [], tmp_path / "some.jsonl")
    with pytest.raises(ValueError, match=r"\.jsonl, \.jsonl\.gz, \.jsonl\.zst, \.parquet, got"):
        write_format("trl", [], tmp_path / "some.json")
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="should not be there yet"):
        write_format("cornell-rollout", [], tmp_path / "there")
    with pytest.raises(ValueError, match="The writer of agenttraj takes no options, got outcome"):
        write_format("agenttraj", [], tmp_path / "some.json", outcome=1.0)


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), 10**400])
@pytest.mark.parametrize("name", ["agentgym", "agentgym-rl"])
def test_a_scale_by_which_nothing_can_be_divided_is_refused_by_reader_and_writer(tmp_path, name, scale):
    path = put(tmp_path, name, ROWS[name][:1])
    expected = f"of {name} takes a finite number above 0 as reward_scale, got {scale}"
    with pytest.raises(ValueError, match=f"The reader {expected}"):
        read_format(name, path, env="e", reward_scale=scale)
    with pytest.raises(ValueError, match=f"The writer {expected}"):
        write_format(name, [trajectory()], tmp_path / f"new_{file_name(name)}", reward_scale=scale)


def test_labels_that_contradict_the_rest_of_their_trajectory_are_refused(tmp_path):
    item = scored(1.0, 0.0).with_scores("other", [0.5, 0.5], [0.0, 0.0])
    write_format("trl", [item], tmp_path / "some.jsonl", scorer="prm")
    row = json.loads((tmp_path / "some.jsonl").read_text())
    path = put(tmp_path, "trl", [{**row, "labels": [0.0, 0.0]}])
    with pytest.raises(BadItem, match="remove the column if you edited the labels") as error:
        read_format("trl", path)
    assert error.value.field == "agentprm.scores"


CONTRADICTIONS = [
    ("trl", {"outcome": 0.25}, {"outcome": 1.0}, "outcome", "1.0", "0.25"),
    ("trl", {"outcome": 0.25}, {"outcome": "last"}, "outcome", "0.0", "0.25"),
    ("trl", {"outcome": 0.25, "env": "a"}, {"env": "b"}, "env", '"b"', '"a"'),
    ("trl", {"outcome": 0.25, "split": "train"}, {"split": "test"}, "split", '"test"', '"train"'),
    ("trl", {"outcome": 0.25, "ended": "truncated"}, {"ended": "terminated"}, "ended", '"terminated"', '"truncated"'),
    ("trl", {"outcome": 0.25}, {"scorer": "human"}, "scorer", '"human"', '"label"'),
    ("agentgym-rl", {"env": "textcraft"}, {"opening": 0}, "opening", None, "[false, false, false, true, false]"),
    ("agentgym-rl", {"env": "textcraft"}, {"reward_scale": 2}, "reward_scale", "0.5", "1.0"),
]


@pytest.mark.parametrize(("name", "first", "again", "field", "asked", "carried"), CONTRADICTIONS)
def test_a_choice_against_what_a_row_carries_is_refused(tmp_path, name, first, again, field, asked, carried):
    path = put(tmp_path, name, ROWS[name][:1])
    write_format(name, read_format(name, path, **first), path)
    assert len(read_format(name, path, **first)) == 1
    with pytest.raises(BadItem, match=f"leave {field} out to read what the row carries, or remove the column") as error:
        read_format(name, path, **again)
    assert (error.value.field, error.value.got) == (f"agentprm.{field}", carried)
    assert asked is None or error.value.expected.startswith(f"{asked}, as the caller's {field} says")


def test_outcomes_by_task_hold_against_a_row_that_names_its_task(tmp_path):
    item = scored(1.0, 0.0)
    path = tmp_path / "some.jsonl"
    write_format("trl", [item], path)
    assert read_format("trl", path, outcome={item.task: item.outcome, "other": 1.0}) == [item]
    with pytest.raises(BadItem, match=r"field `agentprm\.outcome`: expected 0\.5"):
        read_format("trl", path, outcome={item.task: 0.5})
