"""Small hand-written rows of every foreign format, as their originals lay them out, and how to read and write them."""

import json
import pathlib
from typing import Any

from agentprm_jax.data.formats import FORMATS

QUESTION = "Buzz has 78 slices and shares 5:8. How many does the waiter get?"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "door"}'}}

TRAJ = {
    "item_id": "babyai_17",
    "conversations": [
        {"from": "human", "loss": None, "value": "You are an exploration master."},
        {"from": "gpt", "loss": False, "value": "OK. I'll follow."},
        {"from": "human", "loss": None, "value": "Your goal: go to the red ball"},
        {"from": "gpt", "loss": True, "value": "Thought:\nLeft.\n\nAction:\nturn left"},
        {"from": "human", "loss": None, "value": "A ball."},
        {"from": "gpt", "loss": False, "value": "Action:\nwait"},
        {"from": "human", "loss": None, "value": "A ball."},
        {"from": "gpt", "loss": True, "value": "Action:\ngo to red ball 1"},
    ],
}
SPOKEN = [
    {"role": "user", "content": "You craft."},
    {"role": "assistant", "content": "Ok."},
    {"role": "user", "content": "Goal: craft sticks."},
    {"role": "assistant", "content": "Action: get 1 planks"},
    {"role": "user", "content": "Got 1 planks"},
]
SHEPHERD_INPUT = f"{QUESTION} Step 1: 5+8 = 13. ки\nStep 2: 78*5/13 = 30. ки\nStep 3: The answer is: 30 ки"
SHEPHERD_LABEL = f"{QUESTION} Step 1: 5+8 = 13. +\nStep 2: 78*5/13 = 30. -\nStep 3: The answer is: 30 -"
RATED = {
    "labeler": "340d",
    "timestamp": "2023-01-22T04:34:27",
    "generation": 9,
    "is_quality_control_question": False,
    "question": {"problem": "GCF of 20! and 200000?", "ground_truth_answer": "40,\\!000"},
    "label": {
        "steps": [
            {
                "completions": [{"text": "I factor both.", "rating": 0, "flagged": None}],
                "human_completion": None,
                "chosen_completion": 0,
            },
            {
                "completions": [{"text": "So 7.", "rating": -1, "flagged": False}],
                "human_completion": {"text": "So 2^9.", "rating": None, "flagged": False},
                "chosen_completion": None,
            },
            {
                "completions": [
                    {"text": "So 2^5.", "rating": -1, "flagged": None},
                    {"text": "I use a tree.", "rating": 1, "flagged": None},
                ],
                "human_completion": None,
                "chosen_completion": None,
            },
            {"completions": None, "human_completion": None, "chosen_completion": None},
        ],
        "total_time": 278270,
        "finish_reason": "found_error",
    },
}
ROLLOUT = {
    "gamefile": "pick_and_place/trial_T2019",
    "trajectory": [
        {
            "observation": "You are in a room.",
            "candidate_actions": ["look", "go to desk 1"],
            "reason": "The desk may hold it.",
            "action": "go to desk 1",
            "score": 0,
            "agent_log": [],
        },
        {
            "observation": "On the desk: a pen.",
            "candidate_actions": ["take pen"],
            "reason": "",
            "action": "take pen",
            "score": 1,
            "agent_log": ["x"],
        },
    ],
    "task": "put a pen in shelf.",
}
TARGET = {
    "state": {
        "observation": "On the desk: a pen.",
        "candidate_actions": ["take pen"],
        "history": [
            {"observation": "You are in a room.", "reason": "It may be there.", "action": "go to desk 1", "score": 0}
        ],
        "task": "put a pen in shelf.",
        "gamefile": "pick_and_place/trial_T2019",
    },
    "reason_action": {"reason": "It is there.", "action": "take pen"},
    "qestimate": 0.9512,
    "task": "alfworld",
}

ROWS: dict[str, list[dict[str, Any]]] = {
    "agenttraj": [TRAJ, {**TRAJ, "item_id": "babyai_18"}],
    "agenteval": [{"item_id": "movie_23", "conversations": None}, {"item_id": "movie_5"}],
    "agentgym": [{**TRAJ, "reward": 0.55, "success": 0}, {**TRAJ, "reward": 1, "success": True}],
    "agentgym-rl": [{"item_id": 31, "conversations": SPOKEN, "reward": 1}],
    "openai-chat": [
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "here?"}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "A door."},
                {"role": "assistant", "content": "A wall.", "weight": 0},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "assistant", "content": "A door.", "name": "guide"},
            ],
            "tools": TOOLS,
            "parallel_tool_calls": False,
        },
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": None, "function_call": CALL["function"]},
                {"role": "function", "name": "look", "content": None},
                {"role": "assistant", "content": None, "refusal": "I will not open it."},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                {"role": "assistant", "content": "Well.", "refusal": None, "tool_calls": []},
                {"role": "assistant", "function_call": CALL["function"]},
            ],
        },
    ],
    "trl": [
        {"prompt": "Is 9.8 > 9.11?", "completions": ["0.8 > 0.11.", "So no."], "labels": [True, False]},
        {"prompt": "Is 9.8 > 9.11?", "completions": ["Yes."], "labels": [0.7], "source": "x"},
    ],
    "openrlhf": [
        {"input": SHEPHERD_INPUT, "value": ["+", "-", "-"], "task": "GSM8K"},
        {"input": SHEPHERD_INPUT, "value": [0.9, 0.25, 0]},
        {"input": "Why?\nStep 1: So. ки", "value": ["+"]},
    ],
    "math-shepherd": [
        {"input": SHEPHERD_INPUT, "label": SHEPHERD_LABEL, "task": "GSM8K"},
        {"input": "Why?\n\nStep 1:  So. ки ", "label": "Why?\n\nStep 1:  So. + ", "task": "MATH"},
    ],
    "prm800k": [RATED],
    "cornell-rollout": [ROLLOUT],
    "cornell-target": [TARGET],
}
FILLED: dict[str, dict[str, Any]] = {
    "agenttraj": {"outcome": 1.0},
    "agentgym-rl": {"env": "textcraft"},
    "openai-chat": {"outcome": 0.5},
    "trl": {"outcome": "last"},
    "openrlhf": {"outcome": "last"},
    "math-shepherd": {"outcome": "last"},
    "prm800k": {"outcome": "finish"},
    "cornell-target": {"outcome": "last"},
}


def file_name(name: str) -> str:
    """A name for a file of the format."""
    return {"array": "some.json", "lines": "some.jsonl", "folder": "some"}[FORMATS[name].container]


def put(folder: pathlib.Path, name: str, rows: list[dict[str, Any]]) -> pathlib.Path:
    """A file of the format with the rows, written by plain `json`."""
    path = folder / file_name(name)
    match FORMATS[name].container:
        case "array":
            path.write_text(json.dumps(rows, indent=2))
        case "lines":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "folder":
            path.mkdir()
            for number, row in enumerate(rows):
                (path / f"{number}.json").write_text(json.dumps(row, indent=4))
    return path


def get(path: pathlib.Path, name: str) -> list[dict[str, Any]]:
    """The rows of a file, read by plain `json`."""
    match FORMATS[name].container:
        case "array":
            return json.loads(path.read_text())
        case "lines":
            return [json.loads(line) for line in path.read_text().split("\n") if line]
        case _:
            return [json.loads(file.read_text()) for file in sorted(path.iterdir(), key=lambda file: int(file.stem))]
