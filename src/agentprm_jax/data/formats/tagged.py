"""Solutions as one text in which a tag ends every step: Math-Shepherd's files and OpenRLHF's process reward data.

Sources: the data card of peiyi9979/Math-Shepherd (``input``, ``label``, ``task``; the tag is ``ки``, and in ``label``
a ``+`` or ``-`` stands in its place), huggingface/trl ``examples/datasets/math_shepherd.py`` for how real rows look
(question and first step are one piece, parted by "Step 1:"), OpenRLHF/OpenRLHF
``openrlhf/datasets/process_reward_dataset.py`` (the column of labels is a list of texts out of ``--reward_tokens``, or
of numbers) and ``examples/scripts/train_prm_mistral.sh`` (columns ``input`` and ``value``, placeholder ``ки``, tokens
``+`` and ``-``). Rows of Math-Shepherd whose annotators put a tag into the question, or that never say "Step 1:", are
refused.

Math-Shepherd knows + and - only, so other labels than 1 and 0 are refused; OpenRLHF takes any number. Texts are
written as ``question Step 1: … ки`` with a line for each step. A row that was laid out otherwise keeps its own text in
``extra`` and is written back with it. How a step's label relates to the record: see ``steps``.
"""

from typing import Any

from agentprm_jax.data.formats.options import CannotHold, Options, chosen_outcome
from agentprm_jax.data.formats.rows import Row
from agentprm_jax.data.formats.steps import (
    known_columns,
    named_scorer,
    question_and_steps,
    question_task,
    read_labels,
    solved_by_steps,
    written_labels,
)
from agentprm_jax.data.formats.values import described
from agentprm_jax.data.record import BadTrajectory, Trajectory

SHEPHERD, OPENRLHF = "math-shepherd", "openrlhf"
WORDS = {"+": 1.0, "-": 0.0}

_SIGNS = {value: sign for sign, value in WORDS.items()}
_LAYOUT, _AS_WORDS = "layout", "labels_are_words"


def read_shepherd(row: Row, options: Options) -> Trajectory:
    """A row of Math-Shepherd."""
    text = row.text("input")
    question, steps = _split(text, "input", options)
    labels = _signs(row.text("label"), text.split(options.tag), "label")
    return _solved(row, options, SHEPHERD, (question, steps, labels), row.without("input", "label"), text)


def write_shepherd(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of Math-Shepherd."""
    text, labels = _text_and_labels(trajectory, SHEPHERD, options)
    for index, label in enumerate(labels):
        if label not in _SIGNS:
            reason = f"it knows + (1) and - (0) only, and the label of step {index} is {label!r}"
            raise CannotHold(trajectory, SHEPHERD, reason)
    pieces = text.split(options.tag)
    signed = "".join(piece + _SIGNS[label] for piece, label in zip(pieces, labels, strict=False)) + pieces[-1]
    return {**_columns(trajectory, SHEPHERD), "input": text, "label": signed}


def read_openrlhf(row: Row, options: Options) -> Trajectory:
    """A row of OpenRLHF's process reward data; labels may be + and -, or numbers."""
    text = row.text(options.text_key)
    question, steps = _split(text, options.text_key, options)
    labels, in_words = read_labels(row, options.labels_key, len(steps), WORDS)
    extra = row.without(options.text_key, options.labels_key)
    if in_words:
        extra[_AS_WORDS] = True
    return _solved(row, options, OPENRLHF, (question, steps, labels), extra, text)


def write_openrlhf(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of OpenRLHF; labels are numbers unless they were read as + and - and still are."""
    text, labels = _text_and_labels(trajectory, OPENRLHF, options)
    in_words = known_columns(trajectory, OPENRLHF).get(_AS_WORDS)
    return {
        **_columns(trajectory, OPENRLHF),
        options.text_key: text,
        options.labels_key: written_labels(labels, WORDS, in_words=in_words),
    }


def _solved(
    row: Row,
    options: Options,
    form: str,
    solution: tuple[str, list[str], list[float]],
    extra: dict[str, Any],
    text: str,
) -> Trajectory:
    question, steps, labels = solution
    task = question_task(form if options.env is None else options.env, question)
    if _joined(question, steps, options.tag) != text:
        extra = {**extra, _LAYOUT: text}
    return solved_by_steps(
        question,
        steps,
        labels,
        name=row.name,
        form=form,
        options=options,
        outcome=chosen_outcome(row, options, f"The format {form}", task, labels),
        extra=extra,
    )


def _split(text: str, field: str, options: Options) -> tuple[str, list[str]]:
    """The question and the steps of a text, without the blanks around them."""
    opening, *middle = text.split(options.tag)
    if not middle:
        raise BadTrajectory(field, f"a text with steps that end in {options.tag}", described(text))
    *pieces, end = [opening, *middle]
    if end.strip():
        raise BadTrajectory(field, f"nothing behind the last {options.tag}", described(end))
    question, marker, first = pieces[0].partition(options.first_step)
    if not marker:
        expected = f"{options.first_step!r}, where the first step begins, before the first {options.tag}"
        raise BadTrajectory(field, expected, described(pieces[0]))
    return question.strip(), [step.strip() for step in (marker + first, *pieces[1:])]


def _joined(question: str, steps: list[str], tag: str) -> str:
    return f"{question} " + "\n".join(f"{step} {tag}" for step in steps)


def _signs(text: str, pieces: list[str], field: str) -> list[float]:
    """The label at each tag of the input; everything else in the two texts must be the same."""
    labels, place = [], 0
    for number, piece in enumerate(pieces[:-1]):
        end = place + len(piece)
        if text[place:end] != piece or text[end : end + 1] not in WORDS:
            got = described(text[place : end + 1])
            raise BadTrajectory(field, f"the text of the input with + or - at the end of step {number}", got)
        labels.append(WORDS[text[end]])
        place = end + 1
    if text[place:] != pieces[-1]:
        raise BadTrajectory(field, "the end of the input behind the last step", described(text[place:]))
    return labels


def _text_and_labels(trajectory: Trajectory, form: str, options: Options) -> tuple[str, list[float]]:
    """The tagged text and one label for each of its tags."""
    question, steps = question_and_steps(trajectory, form)
    labels = list(trajectory.scores[named_scorer(trajectory, form, options.scorer)].promise)
    kept = known_columns(trajectory, form).get(_LAYOUT)
    for text in (kept, _joined(question, steps, options.tag)):
        try:
            if isinstance(text, str) and _split(text, form, options) == (question, steps):
                return text, labels
        except BadTrajectory:
            continue
    raise CannotHold(trajectory, form, _unholdable(question, steps, options))


def _unholdable(question: str, steps: list[str], options: Options) -> str:
    """Why a text made of these would not be read as these."""
    if not steps:
        return "it has no steps"
    for name, text in (("question", question), *((f"step {index}", step) for index, step in enumerate(steps))):
        if options.tag in text:
            return f"the tag {options.tag} stands inside its {name}"
        if text != text.strip():
            return f"blanks at the ends of its {name} would be lost"
    if not steps[0].startswith(options.first_step):
        return f"its first step does not begin with {options.first_step!r}, by which the question's end is found"
    return f"{options.first_step!r} stands inside its question, or a tag arises where two texts meet"


def _columns(trajectory: Trajectory, form: str) -> dict[str, Any]:
    kept = known_columns(trajectory, form)
    return {key: value for key, value in kept.items() if key not in (_LAYOUT, _AS_WORDS)}
