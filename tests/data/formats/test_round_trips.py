"""Through a foreign file and back, trajectories and rows are what they were; what cannot be is refused."""

import json

import pytest
from foreign_files import FILLED, ROWS, file_name, get, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_trajectories import extras, trajectories, trajectory

from agentprm_jax.data.formats import FORMATS, CannotHold, read_format, write_format
from agentprm_jax.data.trajectory import Message, Trajectory

anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
ALL = sorted(FORMATS)
CONVERSATIONS = ("agenttraj", "agentgym", "agentgym-rl", "openai-chat", "cornell-rollout")
LABELLED = sorted(name for name in FORMATS if FORMATS[name].labelled)


def typed(value):
    """A JSON value in which true is not 1, as it is not in JSON."""
    if isinstance(value, dict):
        return {key: typed(part) for key, part in value.items()}
    return list(map(typed, value)) if isinstance(value, list) else (isinstance(value, bool), value)


def through(folder, name, written, **options):
    """What comes back from a file of the format."""
    path = folder / file_name(name)
    if FORMATS[name].container == "folder" and path.exists():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert write_format(name, written, path, **options) == len(written)
    return read_format(name, path, **options)


def through_or_refused(folder, name, written):
    """What comes back of one trajectory, or why it cannot be written."""
    try:
        return through(folder, name, [written])[0]
    except CannotHold as refused:
        return refused


@pytest.mark.parametrize("name", ALL)
def test_a_row_that_is_read_and_written_keeps_every_value(tmp_path, name):
    read = read_format(name, put(tmp_path, name, ROWS[name]), **FILLED.get(name, {}))
    assert len(read) == len(ROWS[name])
    out = tmp_path / "out"
    out.mkdir()
    write_format(name, read, out / file_name(name))
    kept = [{key: value for key, value in row.items() if key != "agentprm"} for row in get(out / file_name(name), name)]
    assert typed(kept) == typed(ROWS[name])


@pytest.mark.parametrize("name", ALL)
def test_what_was_read_from_a_foreign_file_comes_back_the_same_without_being_told_again(tmp_path, name):
    read = read_format(name, put(tmp_path, name, ROWS[name]), split="test", **FILLED.get(name, {}))
    out = tmp_path / "out"
    out.mkdir()
    assert through(out, name, read) == read


@pytest.mark.parametrize("name", ["agentgym", "agentgym-rl"])
@pytest.mark.parametrize("reward", [0, 1, 7, 29, 57, 83, 100])
def test_a_reward_on_a_scale_is_written_on_that_scale_and_comes_back(tmp_path, name, reward):
    """SciWorld pays up to 100, and AgentGym's programs call 100 a success."""
    row = {**ROWS[name][0], "reward": reward, "item_id": {"agentgym": "sciworld_3", "agentgym-rl": 3}[name]}
    options = {"env": "sciworld", "reward_scale": 100}
    read = read_format(name, put(tmp_path, name, [row]), **options)
    assert read[0].outcome == reward / 100
    write_format(name, read, tmp_path / file_name(name))
    (kept,) = get(tmp_path / file_name(name), name)
    assert kept["reward"] == reward
    assert read_format(name, tmp_path / file_name(name)) == read


@pytest.mark.parametrize("kept", [0, -1, True, "100", 10**400])
def test_a_trajectory_that_keeps_something_else_than_a_scale_is_written_on_none(tmp_path, kept):
    written = trajectory(outcome=0.5, extra={"reward_scale": kept})
    assert through(tmp_path, "agentgym", [written]) == [written]
    assert get(tmp_path / "some.jsonl", "agentgym")[0]["reward"] == 0.5


def test_a_writer_may_be_told_the_scale(tmp_path):
    written = trajectory(outcome=0.83)
    assert through(tmp_path, "agentgym", [written], reward_scale=100) == [written]
    assert get(tmp_path / "some.jsonl", "agentgym")[0]["reward"] == 83


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize(
    ("name", "key", "values", "column", "untaught"),
    [
        ("openai-chat", "weight", (0, 1, 0.0, 1.0, None), "messages", 0),
        ("agenttraj", "loss", (True, False, None), "conversations", False),
        ("agentgym", "loss", (True, False, None), "conversations", False),
    ],
)
def test_an_action_is_taught_to_other_readers_as_it_is_marked_now(tmp_path, name, key, values, column, untaught, mark):
    for kept in values:
        messages = [Message("user", "x"), Message("assistant", "y", True, {key: kept})]
        written = trajectory(messages=messages, rewards=[1.0], extra={"action_loss": [mark]})
        assert through(tmp_path, name, [written]) == [written]
        said = get(tmp_path / file_name(name), name)[0][column][1][key]
        assert (said != untaught) == mark
        if (kept != untaught) == mark:
            assert said == kept


@pytest.mark.parametrize("kept", ["0", 0.5, True, [0]])
@pytest.mark.parametrize("mark", [True, False])
def test_a_weight_that_is_none_is_kept_and_other_readers_are_told_the_mark(tmp_path, kept, mark):
    messages = [Message("user", "x"), Message("assistant", "y", True, {"weight": kept})]
    written = trajectory(messages=messages, rewards=[1.0], extra={"action_loss": [mark]})
    assert through(tmp_path, "openai-chat", [written]) == [written]
    assert get(tmp_path / "some.jsonl", "openai-chat")[0]["messages"][1]["weight"] is int(mark)


def test_an_answer_that_is_no_action_is_not_taught_whatever_was_read(tmp_path):
    opening = [Message("user", "x"), Message("assistant", "Ok.", extra={"loss": None})]
    written = trajectory(messages=[*opening, *trajectory().messages])
    assert through(tmp_path, "agenttraj", [written]) == [written]
    assert get(tmp_path / "some.json", "agenttraj")[0]["conversations"][1]["loss"] is False


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_any_conversation_by_turns_comes_back_the_same(tmp_path, name):
    @anywhere
    @given(by_turns())
    def law(written):
        assert through(tmp_path, name, [written]) == [written]

    law()


@pytest.mark.parametrize("name", [name for name in CONVERSATIONS if name != "cornell-rollout"])
def test_any_trajectory_comes_back_the_same(tmp_path, name):
    @anywhere
    @given(st.lists(trajectories(), max_size=2))
    def law(drawn):
        written = [numbered(item) for item in drawn]
        assert through(tmp_path, name, written) == written

    law()


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_steps_come_back_the_same(tmp_path, name):
    @anywhere
    @given(st.lists(solutions(name), min_size=1, max_size=3))
    def law(written):
        assert through(tmp_path, name, written, scorer="prm") == written

    law()


@pytest.mark.parametrize("name", ALL)
def test_any_trajectory_comes_back_the_same_or_is_refused_by_its_id(tmp_path, name):
    @anywhere
    @given(trajectories())
    def law(written):
        back = through_or_refused(tmp_path, name, written)
        if isinstance(back, CannotHold):
            assert back.id == written.id
            assert str(back).startswith(f"Trajectory {written.id} cannot be written as {name}: ")
        else:
            assert back == written

    law()


@pytest.mark.parametrize("name", ["trl", "openrlhf", "cornell-target"])
@given(label=st.floats(allow_nan=False, allow_infinity=False))
@anywhere
def test_a_label_keeps_every_bit(tmp_path, name, label):
    written = solution(["Step 1: so"]).with_scores("prm", [label], [0.0])
    (back,) = through(tmp_path, name, [written])
    assert back.scores["prm"].promise[0].hex() == label.hex()


@pytest.mark.parametrize("name", ["trl", "cornell-target"])
def test_a_scorer_without_a_name_keeps_its_labels(tmp_path, name):
    written = solution(["so"]).with_scores("", [0.5], [0.0])
    assert through(tmp_path, name, [written]) == [written]


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_that_was_edited_in_the_file_counts(tmp_path, name):
    path = put(tmp_path, name, ROWS[name][:1])
    write_format(name, read_format(name, path, **FILLED[name]), path)
    (row,) = get(path, name)
    edited = json.loads(json.dumps(row).replace("0.9512", "0.5").replace('"rating": -1', '"rating": 1'))
    edited.update({key: ["-", "-", "-"] if name == "openrlhf" else [0, 0] for key in ("value", "labels") if key in row})
    if "label" in row and name == "math-shepherd":
        edited["label"] = row["label"].replace("13. +", "13. -")
    (back,) = read_format(name, put(tmp_path, name, [edited]))
    before = read_format(name, put(tmp_path, name, [row]))[0].scores["label"].promise
    assert back.scores["label"].promise != before


def numbered(item: Trajectory) -> Trajectory:
    """The trajectory, with a task that ends in a number."""
    fields = {name: getattr(item, name) for name in item.__struct_fields__}
    return Trajectory(**{**fields, "task": f"{item.task}_7"})


@st.composite
def by_turns(draw: st.DrawFn) -> Trajectory:
    """A conversation in which user and actor take turns; whether its steps say a thought before the action varies."""
    texts = draw(st.lists(st.tuples(said, acted), min_size=1, max_size=4))
    messages = [
        message
        for seen, done in texts
        for message in (Message("user", seen, extra=draw(extras())), Message("assistant", done, True, draw(extras())))
    ]
    rewards = [0.0] * (len(texts) - 1) + [draw(st.floats(0.0, 1.0))]
    return Trajectory(
        id=draw(said), env="e", task="e_3", split="test", messages=messages, rewards=rewards, ended="truncated"
    )


said = st.text(max_size=10)
acted = st.one_of(
    said,
    *(st.builds(form.format, said, said) for form in ("Thought: {}\nAction: {}", "Thought: {}{}", "{}\nAction: {}")),
)


def solution(steps: list[str], question: str = "Why?") -> Trajectory:
    """A question and steps."""
    messages = [Message("user", question), *(Message("assistant", step, True) for step in steps)]
    return trajectory(messages=messages, rewards=[0.0] * len(steps), outcome=0.0)


@st.composite
def solutions(draw: st.DrawFn, name: str) -> Trajectory:
    """A solution that the format can hold, with labels, other scores and an extra."""
    word = st.text("abc <>?é", max_size=8).map(str.strip)
    count = 1 if name == "cornell-target" else draw(st.integers(1, 4))
    steps = [f"Step {number}: {draw(word)}".strip() for number in range(1, count + 1)]
    allowed = {"math-shepherd": st.sampled_from([0.0, 1.0]), "prm800k": st.sampled_from([-1.0, 0.0, 1.0])}
    labels = [draw(allowed.get(name, st.floats(-1e9, 1e9))) for _ in steps]
    made = solution(steps, draw(word)).with_scores("prm", labels, [draw(st.floats(-1.0, 1.0)) for _ in steps])
    fields = {name: getattr(made, name) for name in made.__struct_fields__}
    other = made.with_scores("other", labels, labels).scores if draw(st.booleans()) else made.scores
    return Trajectory(**{**fields, "scores": other, "extra": draw(extras("action_loss", *FORMATS))})
