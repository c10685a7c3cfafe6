"""What AgentGym's clients do around an environment: read the model's text, and open the conversation."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from agentprm_jax.envs.base import check_choice

TWO_ACTIONS_TEXT = "Error: Only one 'Action' is allowed per response. Please adjust your response."
"""What the model reads, at the price of a round, when its text has several actions and nothing is sent."""

ACTION_FORMATS = ("react", "function_calling", "code_as_action")

_ACTION_LINE = re.compile(r"Action:\s*([^\n]*)")
_REMOVED = re.compile(r"[^A-Za-z0-9, ]")
_FENCE = re.compile(r"```(?:json|python)?\n?(.*?)```", re.DOTALL)
_WEBSHOP_CALLS = {"search": "keywords", "click": "item"}


def parse_action(
    environment_name: str, model_text: str, *, action_format: str = "react", long_stop_cut: bool = True
) -> str | None:
    """Returns the action that AgentGym's client would send for a model's text.

    Args:
        environment_name: `textcraft`, `babyai` or `webshop`.
        model_text: All that the model wrote in one turn.
        action_format: One of `ACTION_FORMATS`; TextCraft and BabyAI know `react` only.
        long_stop_cut: AgentGym's WebShop client cuts five characters for a trailing `</s>`, one too many. False cuts
            four.

    Returns:
        The action; empty when there is none. None when the text has several actions, which TextCraft's and BabyAI's
        clients refuse without sending anything: the observation is then `TWO_ACTIONS_TEXT`.

    Raises:
        ValueError: The environment or the action format is unknown, or the text is no call in a format of calls.
    """
    check_choice("action_format", action_format, ACTION_FORMATS)
    if environment_name in ("textcraft", "babyai"):
        check_choice("action_format", action_format, ("react",))
        return _single_action_line(model_text)
    if environment_name == "webshop":
        if action_format == "react":
            return _webshop_react(model_text, 5 if long_stop_cut else 4)
        return _webshop_function(model_text) if action_format == "function_calling" else _webshop_code(model_text)
    raise ValueError(f"No action parser for environment {environment_name!r}; there are textcraft, babyai and webshop.")


def _single_action_line(text: str) -> str | None:
    """Takes the line after `Action:` and keeps its letters, digits, commas and single blanks."""
    found = _ACTION_LINE.findall(text)
    if len(found) > 1:
        return None
    return re.sub(" +", " ", _REMOVED.sub("", "".join(found))).strip()


def _webshop_react(text: str, cut: int) -> str:
    """Takes all that follows the last `Action:`, or the whole text when it holds a bare action."""
    if text.endswith("</s>"):
        text = text[:-cut]
    _, marker, action = text.rpartition("Action:")
    if marker:
        return action.strip()
    return text if "search[" in text or "click[" in text else ""


def _webshop_function(text: str) -> str:
    """Reads a JSON object with `function_name` and `arguments`."""
    try:
        call = json.loads(_unfenced(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"Invalid action: expected a JSON function call, got {text!r}.") from error
    name = call.get("function_name") if isinstance(call, dict) else None
    if not isinstance(name, str) or name not in _WEBSHOP_CALLS:
        raise ValueError(f"Invalid function name: expected one of {', '.join(_WEBSHOP_CALLS)}, got {name!r}.")
    arguments: Any = call.get("arguments")
    key = _WEBSHOP_CALLS[name]
    if not isinstance(arguments, dict) or key not in arguments:
        raise ValueError(f"Invalid arguments: function {name!r} takes {key!r}, got {arguments!r}.")
    return f"{name}[{arguments[key]}]"


def _webshop_code(text: str) -> str:
    """Reads the one call `search("…")` or `click("…")` of a Python block, without running it."""
    try:
        nodes = list(ast.walk(ast.parse(_unfenced(text))))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"Invalid action: expected Python code, got {text!r}.") from error
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(value))]) if name in _WEBSHOP_CALLS:
                return f"{name}[{value}]"
    raise ValueError(f"Invalid action: expected a call of {' or '.join(_WEBSHOP_CALLS)}, got {text!r}.")


def _unfenced(text: str) -> str:
    match = _FENCE.search(text)
    return (match[1] if match else text).strip()


_REPLY_FORMAT = (
    "In each round first think about your situation and your plan, then give one action. Write your reply as\n\n"
    "Thought:\nyour thoughts\n\nAction:\nyour next action"
)

_FINISH = (
    "Nobody tells you when the goal is reached. When you are sure that it is, end the episode with the action "
    "`finish`: only what holds at that moment counts."
)

_TEXTCRAFT = """\
You are given some crafting commands and the name of an item, and your goal is to craft that item. A crafting command \
has the form "craft [target object] using [input ingredients]". You can craft whatever the commands allow, fetch \
objects with "get" (what no command makes is there to be fetched), look at what you carry with "inventory", and craft \
with "craft".

{reply_format}

Remember:
1. Always state quantities, as in "get 3 cobblestone" and "craft 4 stick using 2 birch planks".
2. Do not say where an object comes from: write "get 2 sugar cane", not "get 2 sugar cane from river".
3. Use the given commands only. Where a command asks for a general kind of object, such as "planks", you may use any \
special kind of it, such as "birch planks"."""

_BABYAI = """\
You are a master of exploration in a world of rooms, doors and objects, and you carry out the instruction that is your \
goal. Each round you may take one of these actions:
- turn right: turn to your right
- turn left: turn to your left
- move forward: take one step ahead
- go to <obj> <id>: walk up to the object, such as "go to red ball 1"
- pick up <obj> <id>: walk up to the object and pick it up
- go through <door> <id>: walk through a door that is open
- toggle and go through <door> <id>: open a door and walk through it; it is closed, or it is locked and you hold the \
key of its color
- toggle: open or close the door right ahead of you

{reply_format}"""

_WEBSHOP = """\
You are shopping in a web store and follow an instruction. Each round you see the page and the actions that it has. \
There are two kinds of action: search[keywords] and click[value]. If the action is not valid, perform nothing. The \
value of a click must be one of the page's clickables; the keywords of a search are up to you.

{reply_format}"""

_OPENINGS = {
    "textcraft": (_TEXTCRAFT, "OK. I'll follow your instructions and craft the item."),
    "babyai": (_BABYAI, "OK. I'll follow your instructions and reach the goal."),
    "webshop": (_WEBSHOP, "Ok."),
}


def opening(environment_name: str, *, declared: bool = False) -> tuple[tuple[str, str], ...]:
    """Returns the messages `(role, content)` before the first observation: instructions, and that they were read.

    They say what AgentGym's instructions say, in other words.

    Args:
        environment_name: `textcraft`, `babyai` or `webshop`.
        declared: Whether the actor has to end the episode with `finish`.

    Raises:
        ValueError: The environment is unknown.
    """
    check_choice("environment_name", environment_name, tuple(_OPENINGS))
    instructions, reply = _OPENINGS[environment_name]
    text = instructions.format(reply_format=_REPLY_FORMAT)
    return ("user", f"{text}\n\n{_FINISH}" if declared else text), ("assistant", reply)
