"""The model card: a README.md that says what a model is, how it was trained, how good it is and how to read it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.template import DATE
from agentprm_jax.reporting.methods import method_label
from agentprm_jax.reporting.prm_training import prm_training
from agentprm_jax.reporting.results import Results, Row, Table
from agentprm_jax.reporting.tables import markdown_table
from agentprm_jax.reporting.training_notes import IMPORTED
from agentprm_jax.scoring.prm_files import PrmRecord

ACTOR_ROWS = ("greedy", "random")
"""Rows of an evaluation that say how the actor does by itself."""
_ABOUT = "agentprm-jax, a JAX implementation of [AgentPRM](https://arxiv.org/abs/2511.08325)"


_NUMBERS = {
    "settings.objective.gamma": "gamma",
    "settings.objective.lam": "lambda",
    "settings.objective.beta": "beta",
    "data.trajectories": "trajectories",
    "data.tasks": "tasks",
    "data.steps": "steps",
    "data.mean_outcome": "mean outcome",
    "updates": "updates",
    "tokens": "tokens trained on",
}
_PLACES = {"settings.init": "started from", IMPORTED: "imported from"}
_NO_EVALUATION = "This model has not been evaluated, or its evaluation was not at hand when this card was written."


class Licence(NamedTuple):
    """What a hub wants to know about the right to use a model.

    Attributes:
        name: identifier such as `apache-2.0`; `unknown` if nobody has said.
        base_model: name of the model that training began with, on a hub; None if it has none.
    """

    name: str = "unknown"
    base_model: str | None = None


def prm_card(
    title: str,
    record: PrmRecord,
    notes: dict[str, Any],
    encoder: ChatEncoder,
    max_positions: int,
    results: Results | None,
    licence: Licence,
) -> str:
    """The card of a process reward model.

    Args:
        title: name of the folder.
        record: what prm.json holds.
        notes: what is known about the training.
        encoder: the tokenizer with its chat template.
        max_positions: most tokens of a conversation.
        results: an evaluation that has a row of this PRM; None if there is none.
        licence: for the metadata block.

    Returns:
        Markdown with a YAML block before it.
    """
    about = (
        f"A process reward model for LLM agents: it reads a conversation and gives the **promise** of an action, the "
        f"outcome in [0, 1] to expect after it. {_made(notes)}"
    )
    reading = (
        f"The promise of an action is the model's one label, read at the token `{_end(encoder)}` that ends the action. "
        "`transformers` reads the last token that is no padding, so the text must end with that token: what the chat "
        "template writes after it (a line break, often) is cut off below. The promise is a regression, so it may "
        "leave [0, 1] a little. The progress of an action is its promise less that of the action before it; before "
        f"the first action stands {record.initial_value:.4g}, the mean outcome of the training trajectories. "
        f"Conversations longer than {max_positions:,} tokens are not meant for this model: do not cut them, for then "
        "it reads another conversation."
    )
    parts = [
        _front_matter(licence, "text-classification", ["process-reward-model", "agentprm", "agents"]),
        f"# {title}",
        about,
        f"## How to read it\n\n{reading}\n\n```python\n{_prm_code(title, encoder)}```",
        _training(f"{method_label(record.method)} (`{record.name}`)", notes),
        _evaluation(results, own_rows(results, record) if results else ()),
        _licence(licence),
    ]
    return "\n\n".join(parts) + "\n"


def actor_card(
    title: str,
    notes: dict[str, Any],
    encoder: ChatEncoder,
    max_positions: int,
    results: Results | None,
    licence: Licence,
) -> str:
    """The card of an actor; arguments as for `prm_card`."""
    about = (
        f"A language model that acts in an environment: each turn of the assistant is an action and ends with "
        f"`{_end(encoder)}`. {_made(notes)} A conversation may have {max_positions:,} tokens."
    )
    parts = [
        _front_matter(licence, "text-generation", ["agents", "agentprm"]),
        f"# {title}",
        about,
        f"## How to use it\n\n```python\n{_actor_code(title, encoder)}```",
        _training("imitation of trajectories" if notes and IMPORTED not in notes else "not known", notes),
        _evaluation(results, ACTOR_ROWS),
        _licence(licence),
    ]
    return "\n\n".join(parts) + "\n"


def own_rows(results: Results, record: PrmRecord) -> tuple[str, ...]:
    """The methods of an evaluation that mean this PRM: rows are named by method, a PRM by method and seed."""
    known = {row.method for table in results.tables for row in table.rows if row.kind == "method"}
    return tuple(
        name for name in (record.name, prm_training(record).method, record.name.rsplit("-", 1)[0]) if name in known
    )[:1]


def has_rows(results: Results, methods: tuple[str, ...]) -> bool:
    """Whether a table of an evaluation has a row of one of these methods."""
    return any(_has(table, methods) for table in results.tables)


def _front_matter(licence: Licence, task: str, tags: list[str]) -> str:
    fields: dict[str, Any] = {"license": licence.name, "library_name": "transformers", "pipeline_tag": task}
    if licence.base_model:
        fields["base_model"] = licence.base_model
    fields["tags"] = tags
    return "\n".join(
        ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()), "---"]
    )


def _end(encoder: ChatEncoder) -> str:
    return str(encoder.tokenizer.convert_ids_to_tokens(encoder.end_of_turn_id))


def _template_options(encoder: ChatEncoder) -> str:
    """Llama 3's template writes the date of the day; the model was trained with a fixed one."""
    return f', date_string="{DATE}"' if "date_string" in str(encoder.tokenizer.chat_template) else ""


def _prm_code(title: str, encoder: ChatEncoder) -> str:
    end = json.dumps(_end(encoder), ensure_ascii=False)
    return f'''\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = {json.dumps(title, ensure_ascii=False)}
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
END_OF_TURN = {end}


def promises(conversations):
    """The promise of the action that ends each conversation."""
    if not all(messages[-1]["role"] == "assistant" for messages in conversations):
        raise ValueError("Each conversation should end with a message of the assistant.")
    texts = [tokenizer.apply_chat_template(each, tokenize=False{_template_options(encoder)}) for each in conversations]
    cut = [text[: text.rindex(END_OF_TURN) + len(END_OF_TURN)] for text in texts]
    inputs = tokenizer(cut, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits[:, 0].tolist()
'''


def _actor_code(title: str, encoder: ChatEncoder) -> str:
    return f'''\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {json.dumps(title, ensure_ascii=False)}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder).eval()


def act(messages, max_new_tokens=64):
    """The action that the actor takes greedily after a conversation."""
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True{_template_options(encoder)}
    )
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
    return tokenizer.decode(tokens[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
'''


def _made(notes: dict[str, Any]) -> str:
    """What we did with a model, as far as its notes tell."""
    did = "Trained elsewhere and exported" if IMPORTED in notes else "Trained" if notes else "Exported"
    return f"{did} with {_ABOUT}."


def _training(method: str, notes: dict[str, Any]) -> str:
    versions = notes.get("versions", {})
    facts = [
        f"| {name} | {_cell(value)} |" for name, value in _flat({k: v for k, v in notes.items() if k != "versions"})
    ]
    said = "\n".join(["|  |  |", "| --- | --- |", *facts]) if facts else "Nothing more is known about the training."
    made = f"\n\nVersions: {', '.join(f'{name} {version}' for name, version in versions.items())}." if versions else ""
    return f"## How it was trained\n\nMethod: {method}{_in_short(notes)}.\n\n{said}{made}"


def _in_short(notes: dict[str, Any]) -> str:
    """The notes that every reader asks for; notes are any JSON, so each is told only where it is there."""
    known = dict(_flat(notes))
    said = [
        f"; {words} {known[place]:,}" for place, words in _NUMBERS.items() if isinstance(known.get(place), int | float)
    ]
    said += [f"; {words} `{known[place]}`" for place, words in _PLACES.items() if place in known]
    return "".join(said)


def _evaluation(results: Results | None, own: tuple[str, ...]) -> str:
    if results is None:
        return f"## Evaluation\n\n{_NO_EVALUATION}"
    tables = [_own_table(table, own) for table in results.tables]
    shown = [f"### {table.name}\n\n{markdown_table(table, mark_best=False)}" for table in tables if _has(table, own)]
    seeds = max(
        (
            figure.n_seeds
            for table in tables
            for row in table.rows
            if row.method in own
            for figure in row.estimates.values()
        ),
        default=1,
    )
    several = f" Figures are means over {seeds} seeds of this method, of which this model is one." if seeds > 1 else ""
    source = f"{results.title}, {results.created:%d %B %Y}.{several}"
    command = f"\n\nCommand: `{results.command}`" if results.command else ""
    return "\n\n".join([f"## Evaluation\n\n{source}", *shown]) + command


def _own_table(table: Table, own: tuple[str, ...]) -> Table:
    """The rows of one model beside what it has to be compared with."""
    actor = own == ACTOR_ROWS
    rows: list[Row] = [
        row for row in table.rows if row.method in own or row.kind == "bound" or (row.kind == "control" and not actor)
    ]
    return Table(name=table.name, columns=table.columns, rows=tuple(rows), caption=table.caption)


def _has(table: Table, own: tuple[str, ...]) -> bool:
    return any(row.method in own for row in table.rows)


def _licence(licence: Licence) -> str:
    if licence.name == "unknown":
        said = (
            "Nobody has stated a licence for this model. Ask whoever gave it to you, and mind those of its base model "
            "and its data."
        )
    else:
        said = f"{licence.name}, as stated by whoever exported the model."
    return f"## Licence\n\n{said}"


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Nested notes as (dotted name, value)."""
    if not isinstance(value, dict):
        return [] if value is None else [(name, value)]
    return [found for key, item in value.items() for found in _flat(item, f"{name}.{key}" if name else str(key))]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")
