"""Rows as the originals have them become the messages, actions, labels and outcomes that they mean."""

import gzip
import json
import subprocess
import sys

import pytest
from foreign_files import CALL, FILLED, QUESTION, RATED, ROLLOUT, ROWS, TRAJ, put

from agentprm_jax.data.formats import FORMATS, BadItem, MissingChoice, iterate_format, read_format
from agentprm_jax.data.trajectory import Message


def read(folder, name, rows=None, **options):
    """The trajectories of a file with these rows, or with the samples."""
    return read_format(name, put(folder, name, ROWS[name] if rows is None else rows), **FILLED.get(name, {}) | options)


def test_a_demonstration_acts_after_its_opening_and_is_not_imitated_where_its_loss_is_false(tmp_path):
    first, _ = read(tmp_path, "agenttraj", outcome=1.0, split="train")
    assert (first.id, first.env, first.task, first.split) == ("some_1", "babyai", "babyai_17", "train")
    assert [message.role for message in first.messages] == ["user", "assistant"] * 4
    assert [message.action for message in first.messages if message.role == "assistant"] == [False, True, True, True]
    assert first.action_loss == (True, False, True)
    assert (first.rewards, first.outcome, first.success) == ((0.0, 0.0, 1.0), 1.0, True)
    assert first.extra == {"action_loss": [True, False, True]}


def test_the_outcome_of_a_demonstration_may_be_looked_up_by_its_task(tmp_path):
    both = read(tmp_path, "agenttraj", outcome={"babyai_17": 0.25, "babyai_18": 1.0})
    assert [item.outcome for item in both] == [0.25, 1.0]


def test_a_benchmark_task_is_a_trajectory_in_which_nothing_has_happened(tmp_path):
    first, second = read(tmp_path, "agenteval")
    assert (first.env, first.task, first.messages, first.rewards, first.outcome) == ("movie", "movie_23", (), (), 0.0)
    assert (second.task, second.ended, second.success) == ("movie_5", "truncated", False)


def test_the_result_of_an_evaluation_has_its_reward_and_its_success(tmp_path):
    first, second = read(tmp_path, "agentgym")
    assert (first.outcome, first.rewards, first.success) == (0.55, (0.0, 0.0, 0.55), False)
    assert (second.outcome, second.success) == (1.0, True)


def test_rewards_of_other_ranges_are_divided_only_by_what_the_caller_says(tmp_path):
    with pytest.raises(BadItem, match=r"field `reward`: expected in \[0, 1\] \(reward_scale divides it\), got 83"):
        read(tmp_path, "agentgym", [{**TRAJ, "reward": 83}])
    (scaled,) = read(tmp_path, "agentgym", [{**TRAJ, "reward": 83}], reward_scale=100)
    assert scaled.outcome == 0.83


def test_a_rollout_log_names_its_environment_by_the_caller_and_opens_with_one_answer(tmp_path):
    (log,) = read(tmp_path, "agentgym-rl")
    assert (log.task, log.outcome) == ("textcraft_31", 1.0)
    assert [message.content for message in log.actions] == ["Action: get 1 planks"]
    (other,) = read(tmp_path, "agentgym-rl", opening=0)
    assert len(other.actions) == 2


def test_tool_calls_are_kept_and_said_in_the_text_of_the_step(tmp_path):
    talk, plain, _ = read(tmp_path, "openai-chat")
    assert [message.role for message in talk.messages] == ["system", "user", *["assistant", "user"], *["assistant"] * 3]
    assert talk.messages[1].content == "What is here?"
    called = talk.messages[2]
    assert called.content == '{"name": "look", "arguments": "{\\"at\\": \\"door\\"}"}'
    assert called.extra == {"content": None, "tool_calls": [CALL]}
    assert talk.messages[3].extra == {"role": "tool", "tool_call_id": "c1"}
    assert talk.action_loss == (True, False, True, True)
    assert set(talk.extra["openai-chat"]) == {"tools", "parallel_tool_calls"}
    assert plain.messages == (Message("user", "Hi"), Message("assistant", "Hello", True))


def test_a_function_call_and_a_refusal_are_said_in_the_text_of_the_step(tmp_path):
    _, _, talk = read(tmp_path, "openai-chat")
    call = '{"name": "look", "arguments": "{\\"at\\": \\"door\\"}"}'
    assert [message.content for message in talk.actions] == [call, "I will not open it.", "No.", "Well.", call]


def test_labels_are_promises_and_solutions_of_one_question_share_a_task(tmp_path):
    first, second = read(tmp_path, "trl")
    assert first.scores["label"].promise == (1.0, 0.0)
    assert first.scores["label"].progress == (0.0, -1.0)
    assert (first.outcome, second.outcome) == (0.0, 0.7)
    assert first.task == second.task
    assert second.extra == {"trl": {"source": "x"}}


def test_the_scorer_of_labels_is_named_by_the_caller(tmp_path):
    assert set(read(tmp_path, "trl", scorer="human")[0].scores) == {"human"}


@pytest.mark.parametrize("name", ["math-shepherd", "openrlhf"])
def test_tagged_text_is_parted_into_question_and_steps(tmp_path, name):
    first = read(tmp_path, name)[0]
    assert [message.content for message in first.messages] == [
        QUESTION,
        "Step 1: 5+8 = 13.",
        "Step 2: 78*5/13 = 30.",
        "Step 3: The answer is: 30",
    ]
    assert first.scores["label"].promise == (1.0, 0.0, 0.0)
    assert first.extra[name]["task"] == "GSM8K"


def test_soft_labels_of_openrlhf_stay_floats(tmp_path):
    assert read(tmp_path, "openrlhf")[1].scores["label"].promise == (0.9, 0.25, 0.0)


def test_openrlhf_may_use_other_columns_and_another_tag(tmp_path):
    rows = [{"text": "Why? Thought: so <s>\nAction: go <s>", "soft": [0.5, 0.75]}]
    path = put(tmp_path, "openrlhf", rows)
    columns = {"text_key": "text", "labels_key": "soft", "tag": "<s>", "first_step": "Thought:"}
    (item,) = read_format("openrlhf", path, outcome=1, **columns)
    assert [message.content for message in item.messages] == ["Why?", "Thought: so", "Action: go"]


def test_a_rated_solution_is_its_chosen_path_up_to_the_first_error(tmp_path):
    (item,) = read(tmp_path, "prm800k")
    assert [message.content for message in item.actions] == ["I factor both.", "So 2^9.", "So 2^5."]
    assert item.scores["label"].promise == (0.0, 1.0, -1.0)
    assert item.outcome == 0.0
    assert item.extra["prm800k"] == RATED


def test_what_a_neutral_step_is_worth_is_the_callers_choice(tmp_path):
    (item,) = read(tmp_path, "prm800k", neutral=0.5)
    assert item.scores["label"].promise == (0.5, 1.0, 0.0)


def test_a_rollout_says_its_reason_before_its_action(tmp_path):
    (item,) = read(tmp_path, "cornell-rollout")
    assert [message.content for message in item.actions] == [
        "Thought: The desk may hold it.\nAction: go to desk 1",
        "take pen",
    ]
    assert (item.env, item.task, item.outcome) == ("alfworld", ROLLOUT["gamefile"], 1.0)
    assert item.messages[0].extra == {"candidate_actions": ["look", "go to desk 1"]}


def test_a_target_values_its_last_step_alone(tmp_path):
    (item,) = read(tmp_path, "cornell-target")
    assert [message.action for message in item.messages] == [False, False, False, True]
    assert item.scores["label"].promise == (0.9512,)


@pytest.mark.parametrize("name", ["agenttraj", "openai-chat", "trl", "openrlhf", "math-shepherd", "prm800k"])
def test_a_file_without_outcomes_asks_how_to_fill_them(tmp_path, name):
    with pytest.raises(MissingChoice, match=r"outcome should be .*a number in \[0, 1\].*mapping.*got None"):
        read_format(name, put(tmp_path, name, ROWS[name]), on_error="collect")


def test_a_choice_that_the_format_does_not_know_is_asked_again(tmp_path):
    with pytest.raises(MissingChoice, match="got 'last'"):
        read_format("agenttraj", put(tmp_path, "agenttraj", ROWS["agenttraj"]), outcome="last")
    with pytest.raises(MissingChoice, match="got 2"):
        read_format("agenttraj", tmp_path / "some.json", outcome=2)
    with pytest.raises(MissingChoice, match="env should be"):
        read_format("agentgym-rl", put(tmp_path, "agentgym-rl", ROWS["agentgym-rl"]))


def test_an_unknown_format_or_option_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=f"one of {', '.join(FORMATS)}, got 'csv'"):
        read_format("csv", tmp_path / "x")
    with pytest.raises(ValueError, match="The reader of agenteval takes split, ended, env, got tag"):
        iterate_format("agenteval", tmp_path / "x", tag="x")


def test_json_is_read_as_one_object_an_array_lines_or_compressed_lines_whatever_the_name(tmp_path):
    row = {"item_id": "wordle_1", "conversations": []}
    line = f"{json.dumps(row)}\n"
    texts = {"one.json": json.dumps(row, indent=4), "many.json": json.dumps([row, row]), "lines.json": line * 2}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "more.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    assert [len(read_format("agenteval", path)) for path in sorted(tmp_path.iterdir())] == [2, 2, 1, 1]


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    path = put(tmp_path, "cornell-rollout", [{**ROLLOUT, "gamefile": str(number)} for number in range(12)])
    assert [item.task for item in read_format("cornell-rollout", path)] == [str(number) for number in range(12)]


def test_reading_foreign_files_needs_no_tokenizer_loader_or_accelerator_library():
    code = "import sys, agentprm_jax.data.formats; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for library in ("jax", "grain", "transformers", "tokenizers", "numpy"):
        assert f"'{library}'" not in loaded
