"""OpenAI's chat format: JSON lines with ``messages``, as chat completion requests and fine-tuning files have them.

Source: the fine-tuning and tool-calling pages of OpenAI and Azure OpenAI, and the published API schema
(``FineTuneChatCompletionRequestAssistantMessage``): ``role``, ``content`` (text, a list of parts, or null beside tool
calls), ``tool_calls`` (once ``function_call``), ``refusal``, ``tool_call_id``, ``name``, ``weight`` 0 or 1 for whether
an answer is trained on; ``tools`` beside the messages.

Every answer of the assistant is an action. The record knows three roles, so a developer's message becomes a system
message and a tool's (or function's) answer a user message; what a call says is appended to the text of the message as
one line of JSON each, and a refusal as its text, because a model that scores the step must see what the actor did. A
message that says nothing at all is refused. Everything that was there stays in the message's ``extra`` and is written
back as it was. ``weight`` 0 is an action that must not be imitated, and another than 0, 1 or null is refused. There is
no outcome: the caller says how to fill it.
"""

import json
from typing import Any

from agentprm_jax.data.formats.options import Options, chosen_outcome
from agentprm_jax.data.formats.rows import Row
from agentprm_jax.data.formats.steps import final_reward, known_columns, question_task
from agentprm_jax.data.formats.values import described
from agentprm_jax.data.record import ACTION_LOSS, BadTrajectory, Message, Trajectory

CHAT = "openai-chat"

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
    "function": "user",
}
_MAY_BE_SILENT = ("function",)
_BESIDE = ("tool_calls", "function_call", "refusal")


def read(row: Row, options: Options) -> Trajectory:
    """A conversation; the task is named by what the user says first."""
    turns = row.parts("messages")
    messages = [_read_message(turn) for turn in turns]
    marks = [_trained_on(turn) for turn in turns if turn.values["role"] == "assistant"]
    env = CHAT if options.env is None else options.env
    task = question_task(env, next((message.content for message in messages if message.role == "user"), ""))
    outcome = chosen_outcome(row, options, "OpenAI's chat format", task)
    columns = row.without("messages")
    extra: dict[str, Any] = {CHAT: columns} if columns else {}
    if not all(marks):
        extra[ACTION_LOSS] = marks
    return Trajectory(
        id=row.name,
        env=env,
        task=task,
        split=options.split,
        messages=tuple(messages),
        rewards=final_reward(len(marks), outcome),
        outcome=outcome,
        ended=options.ended,
        extra=extra,
    )


def write(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of a conversation."""
    marks = iter(trajectory.action_loss)
    messages = []
    for message in trajectory.messages:
        turn = _written(message)
        if message.action:
            imitated, kept = next(marks), turn.get("weight")
            if not _is_weight(kept) or (kept != 0) != imitated:
                turn["weight"] = int(imitated)
        messages.append(turn)
    return {**known_columns(trajectory, CHAT), "messages": messages}


def _read_message(turn: Row) -> Message:
    role = turn.text("role")
    if role not in _ROLES:
        raise BadTrajectory(f"{turn.where}role", f"one of {', '.join(_ROLES)}", repr(role))
    said = turn.values.get("content")
    lines = [_said(turn, said)] if said is not None else []
    lines += _beside(turn)
    if not lines and role not in _MAY_BE_SILENT:
        expected = "text, parts, or null beside tool calls, a function call or a refusal"
        raise BadTrajectory(f"{turn.where}content", expected, "null" if "content" in turn.values else "nothing")
    extra = turn.without("role", "content")
    if _ROLES[role] != role:
        extra["role"] = role
    content = "\n".join(line for line in lines if line)
    if said != content and "content" in turn.values:
        extra["content"] = said
    return Message(_ROLES[role], content, role == "assistant", extra)


def _trained_on(turn: Row) -> bool:
    weight = turn.values.get("weight")
    if not _is_weight(weight):
        raise BadTrajectory(f"{turn.where}weight", "0, 1 or null", described(weight))
    return weight != 0


def _is_weight(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1))


def _said(turn: Row, content: Any) -> str:
    """A message's own text; pictures and sound have no place in a trajectory."""
    if isinstance(content, str):
        return content
    texts = []
    for part in turn.parts("content"):
        kind = part.values.get("type")
        if kind not in ("text", "refusal"):
            raise BadTrajectory(f"{part.where}type", '"text" or "refusal"', described(kind))
        texts.append(part.text(kind))
    return "".join(texts)


def _beside(turn: Row) -> list[str]:
    """What a message says beside its content, a line each."""
    calls = turn.parts("tool_calls") if turn.values.get("tool_calls") else []
    lines = [_call(call.part("function")) for call in calls]
    if turn.values.get("function_call"):
        lines.append(_call(turn.part("function_call")))
    if turn.values.get("refusal"):
        lines.append(turn.text("refusal"))
    return lines


def _call(function: Row) -> str:
    """What a call of a function says, as one line; its arguments stay as the model wrote them if they are text."""
    name, arguments = function.text("name"), function.values.get("arguments", "")
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def _written(message: Message) -> dict[str, Any]:
    """A message as it was read, if it still says the same; else its text alone."""
    plain = {"role": message.role, "content": message.content}
    full = {**plain, **message.extra}
    if any(message.extra.get(key) for key in _BESIDE) and "content" not in message.extra:
        del full["content"]
    try:
        back = _read_message(Row(full))
    except BadTrajectory:
        return plain
    return full if (back.role, back.content) == (message.role, message.content) else plain
