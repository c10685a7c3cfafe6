"""Takes a chat template apart into what it writes before and after the text of each turn."""

from importlib import resources
from typing import Any, NamedTuple, Protocol

from jinja2.exceptions import TemplateError

ROLES = ("system", "user", "assistant")

_TEXT = "alpha beta"
_PROBES = ("", "alpha", " \n alpha\n\n beta \n", "<think>\nalpha\n</think>\n\nbeta")
_STAND_INS = ("qwen3",)
"""Templates that come with this package, for families whose own does not write every turn by itself."""
DATE = "26 Jul 2024"
"""Llama 3 templates write the date of the day unless they are given one as `date_string`."""


class TurnsDepend(ValueError):
    """A chat template writes a turn differently depending on the turns around it."""


class Templated(Protocol):
    """The part of a Hugging Face tokenizer that renders conversations."""

    def apply_chat_template(
        self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool, **options: Any
    ) -> Any:
        """Renders a conversation as text."""


class Turn(NamedTuple):
    """How one kind of turn is written: ``prefix + content + suffix``, the content stripped when ``strips``."""

    prefix: str
    suffix: str
    strips: bool

    def content(self, text: str) -> str:
        """The content as the template writes it."""
        return text.strip() if self.strips else text

    def render(self, text: str) -> str:
        """The whole turn as text."""
        return f"{self.prefix}{self.content(text)}{self.suffix}"


class ChatTemplate(NamedTuple):
    """A message-local chat template: the text of a conversation is that of its turns, one after another.

    Attributes:
        turns: By (is it the first message?, role); turns that the template refuses are absent.
        generation_prompt: What stands before the content of every assistant turn.
    """

    turns: dict[tuple[bool, str], Turn]
    generation_prompt: str

    def turn(self, first: bool, role: str) -> Turn:
        """How a turn of the role is written.

        Raises:
            ValueError: If the template refuses such a turn.
        """
        if (first, role) not in self.turns:
            article = "an" if role == "assistant" else "a"
            place = "as the first message" if first else "after the first message"
            raise ValueError(f"The tokenizer's chat template refuses {article} {role} message {place}.")
        return self.turns[first, role]

    def render(self, messages: list[tuple[str, str]]) -> str:
        """A conversation of (role, content) as text."""
        return "".join(self.turn(i == 0, role).render(content) for i, (role, content) in enumerate(messages))


def render_with_template(
    tokenizer: Templated,
    messages: list[tuple[str, str]],
    generation_prompt: bool = False,
    chat_template: str | None = None,
) -> str:
    """A conversation as the tokenizer's own chat template writes it.

    Args:
        tokenizer: Has a chat template.
        messages: The conversation as (role, content).
        generation_prompt: Whether the opening of the next assistant turn follows.
        chat_template: Takes the place of the tokenizer's own.

    Returns:
        The text.
    """
    conversation = [{"role": role, "content": content} for role, content in messages]
    return tokenizer.apply_chat_template(
        conversation,
        tokenize=False,
        add_generation_prompt=generation_prompt,
        date_string=DATE,
        chat_template=chat_template,
    )


def stand_in(tokenizer: Templated) -> str | None:
    """The template that comes with this package for a tokenizer whose own does not write every turn by itself.

    Args:
        tokenizer: Has a chat template.

    Returns:
        The first that asks for the next action as the tokenizer's own does wherever nobody thought before, or None.
    """
    templates = resources.files("agentprm_jax.data") / "templates"
    texts = ((templates / f"{name}.jinja").read_text(encoding="utf-8") for name in _STAND_INS)
    return next((text for text in texts if _same_prompts(tokenizer, text)), None)


def learn_template(tokenizer: Templated) -> ChatTemplate:
    """Finds what the template writes around each turn, and checks on probe conversations that nothing else matters.

    Args:
        tokenizer: Has a chat template.

    Returns:
        The template, taken apart.

    Raises:
        ValueError: If the text of a turn depends on other turns, or an assistant turn does not begin with the
            generation prompt; the message says what to do.
    """
    before: dict[tuple[bool, str], list[tuple[str, str]]] = {(True, role): [] for role in ROLES}
    before[False, "user"] = before[False, "system"] = [("user", _TEXT), ("assistant", _TEXT)]
    before[False, "assistant"] = [("user", _TEXT)]
    turns = {}
    for (first, role), context in before.items():
        try:
            turns[first, role] = _learn_turn(tokenizer, context, role)
        except TemplateError:
            continue
    opening = [("user", _TEXT)]
    prompt = _added(render_with_template(tokenizer, opening), render_with_template(tokenizer, opening, True), opening)
    template = ChatTemplate(turns, prompt)
    _check_assistant(template)
    _check_probes(tokenizer, template)
    return template


def _learn_turn(tokenizer: Templated, context: list[tuple[str, str]], role: str) -> Turn:
    earlier = render_with_template(tokenizer, context) if context else ""

    def piece(content: str) -> str:
        messages = [*context, (role, content)]
        return _added(earlier, render_with_template(tokenizer, messages), messages)

    marked, padded = "\u27eaprobe\u27eb", " \n\u27eaprobe\u27eb\n "
    prefix, found, suffix = piece(marked).partition(marked)
    if not found:
        raise ValueError(
            f"The tokenizer's chat template does not write the content of a {role} message: {piece(marked)!r}."
        )
    exact = Turn(prefix, suffix, strips=False)
    return exact if piece(padded) == exact.render(padded) else exact._replace(strips=True)


def _added(earlier: str, later: str, messages: list[tuple[str, str]]) -> str:
    if not later.startswith(earlier):
        raise _not_local(messages, earlier, later)
    return later[len(earlier) :]


def _check_assistant(template: ChatTemplate) -> None:
    turn = template.turn(False, "assistant")
    if turn.prefix and not template.generation_prompt:
        raise ValueError(
            "The tokenizer's chat template has no generation prompt: it ignores `add_generation_prompt`, so an actor "
            f"would not be asked to speak. Add {{% if add_generation_prompt %}}{turn.prefix}{{% endif %}} to its end."
        )
    if turn.prefix != template.generation_prompt:
        raise ValueError(
            "The tokenizer's chat template opens an assistant turn in two ways, so a sampled turn would not be the "
            f"turn that is trained on: its generation prompt is {template.generation_prompt!r}, an earlier turn begins "
            f"with {turn.prefix!r}. Set `tokenizer.chat_template` to one without the difference."
        )


def _check_probes(tokenizer: Templated, template: ChatTemplate) -> None:
    for messages in _probe_conversations():
        try:
            whole = render_with_template(tokenizer, messages)
        except TemplateError:
            continue
        if whole != template.render(messages):
            raise _not_local(messages, whole, template.render(messages))


def _probe_conversations() -> list[list[tuple[str, str]]]:
    """Short conversations of every shape that environments give, with contents that templates branch on."""
    shapes = ("u", "s", "su", "ua", "uaua", "suaua", "uauau", "uua", "uaa", "usa", "au")
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [[(roles[letter], content) for letter in shape] for shape in shapes for content in _PROBES]


def _same_prompts(tokenizer: Templated, template: str) -> bool:
    """Whether the tokenizer's template and another ask for the next action in the same way, where nobody thought."""
    asked = [
        messages for messages in _probe_conversations() if messages[-1][0] == "user" and "<think>" not in messages[0][1]
    ]
    try:
        return all(
            render_with_template(tokenizer, messages, True)
            == render_with_template(tokenizer, messages, True, chat_template=template)
            for messages in asked
        )
    except TemplateError:
        return False


def _not_local(messages: list[tuple[str, str]], one: str, other: str) -> TurnsDepend:
    return TurnsDepend(
        "The tokenizer's chat template writes a turn differently depending on the turns around it, so that a step "
        "would be scored on other tokens than it was sampled with. "
        f"Conversation {messages!r}: expected {other!r}, got {one!r}. Set `tokenizer.chat_template` to one that writes "
        "every turn by itself, or give a file with one to `agentprm import --chat-template`."
    )
