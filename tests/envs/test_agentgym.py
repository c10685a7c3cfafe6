from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentprm_jax.envs import make_env
from agentprm_jax.envs.agentgym import TWO_ACTIONS_TEXT, opening, parse_action

ROWS = json.loads((Path(__file__).parents[1] / "recorded" / "agentgym" / "client_action_parsing.json").read_text())


@pytest.mark.parametrize("name", ["textcraft", "babyai"])
def test_single_action_clients_send_what_was_recorded(name):
    rows = [row for row in ROWS if row["env"] == "textcraft/babyai"]
    assert len(rows) == 14
    assert [parse_action(name, row["model_text"]) for row in rows] == [row["sent_action"] for row in rows]


def test_model_texts_are_answered_as_recorded():
    env = make_env("textcraft")
    env.reset("textcraft_3")
    env.step("get 4 birch logs")
    for row in ROWS[:14]:
        action = parse_action("textcraft", row["model_text"])
        got = TWO_ACTIONS_TEXT if action is None else env.step(action).text
        # The rows are extracts of a longer conversation, so that what is carried differs.
        expected = row["step_output"][0]
        assert got == expected or (action == "inventory" and expected.startswith("Inventory: [birch logs] ("))


@pytest.mark.parametrize("row", ROWS[14:], ids=lambda row: row["model_text"])
def test_the_webshop_client_sends_what_was_recorded(row):
    name, action_format = row["env"].split()
    if row["action"].startswith("EXC ValueError: "):
        message = row["action"].removeprefix("EXC ValueError: ").rstrip(".")
        with pytest.raises(ValueError, match=message):
            parse_action(name, row["model_text"], action_format=action_format)
    else:
        assert parse_action(name, row["model_text"], action_format=action_format) == row["action"]


def test_without_the_long_cut_a_stop_token_costs_webshop_no_bracket():
    assert parse_action("webshop", "Action:\nclick[< Prev]</s>", long_stop_cut=False) == "click[< Prev]"


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("**Action:** inventory", "inventory"),
        ("Action: inventory</s>", "inventorys"),
        ("Thought: my Action: will be\nAction: inventory", None),
        ("Action: one Action: two", "one Action two"),
        ("Action:", ""),
        ("Action: first\nsecond", "first"),
    ],
)
def test_the_action_is_one_line_of_letters_digits_commas_and_single_blanks(text, action):
    assert parse_action("textcraft", text) == action


@given(st.text(alphabet=st.sampled_from("Action: \n\tab0,_<>é"), max_size=40))
def test_a_sent_action_has_only_the_kept_characters(text):
    action = parse_action("babyai", text)
    if action is not None:
        assert all(letter.isascii() and (letter.isalnum() or letter in ", ") for letter in action)
        assert action == action.strip()
        assert "  " not in action


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"function_name": "search", "arguments": {}}', '{"function_name": ["click"]}']
)
def test_a_text_that_is_no_function_call_is_refused(text):
    with pytest.raises(ValueError, match="Invalid"):
        parse_action("webshop", text, action_format="function_calling")


@pytest.mark.parametrize("text", ["search(", "search('a', 'b')", "print('a')", "click(3)"])
def test_code_without_the_call_of_a_string_is_refused(text):
    with pytest.raises(ValueError, match="Invalid action"):
        parse_action("webshop", text, action_format="code_as_action")


def test_an_unknown_environment_or_format_is_refused_by_name():
    with pytest.raises(ValueError, match="No action parser for environment 'maze'"):
        parse_action("maze", "Action: x")
    with pytest.raises(ValueError, match="'action_format' must be one of 'react'"):
        parse_action("textcraft", "Action: x", action_format="code_as_action")
    with pytest.raises(
        ValueError, match="'environment_name' must be one of 'textcraft', 'babyai', 'webshop', got 'maze'"
    ):
        opening("maze")


@pytest.mark.parametrize("name", ["textcraft", "babyai", "webshop"])
def test_openings_instruct_the_user_side_and_are_acknowledged(name):
    assert [role for role, _ in opening(name)] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        (
            "textcraft",
            ["craft [target object] using [input ingredients]", '"get"', '"inventory"', "Thought:", "Action:"],
        ),
        ("babyai", ["turn left", "move forward", "pick up <obj> <id>", "toggle and go through <door> <id>", "Action:"]),
        ("webshop", ["search[keywords]", "click[value]", "perform nothing", "Action:"]),
    ],
)
def test_openings_name_every_action_and_the_reply_format(name, phrases):
    text = opening(name)[0][1]
    assert all(phrase in text for phrase in phrases)


@pytest.mark.parametrize("name", ["textcraft", "babyai", "webshop"])
def test_only_the_declared_opening_tells_of_finish(name):
    assert "`finish`" not in opening(name)[0][1]
    assert "`finish`" in opening(name, declared=True)[0][1]
