"""A closed vocabulary of whole words as a Hugging Face tokenizer, for actors that are trained from scratch."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END_OF_TURN, PROMPT = "<pad>", "<unk>", "<end>", ">"

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}> {{ message['content'] }} <end> "
    "{% else %}{{ message['content'] }} {% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}> {% endif %}"
)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word, and a chat template that adds as few tokens as possible.

    A system or user turn is the words of its content; an assistant turn is ``>``, the words of its content and
    ``<end>``; the generation prompt is ``>``. Texts are split at white space only. Words outside the vocabulary become
    ``<unk>``, which ``ChatEncoder`` refuses.

    Args:
        words: The vocabulary, without ``<pad>``, ``<unk>``, ``<end>`` and ``>``, which get the ids 0 to 3; the words
            follow in the given order.

    Returns:
        The tokenizer. ``save_pretrained`` and ``AutoTokenizer.from_pretrained`` keep all of it.

    Raises:
        ValueError: If a word is empty, contains white space, stands there twice or is one of the four.
    """
    reserved = (PAD, UNKNOWN, END_OF_TURN, PROMPT)
    vocabulary = {word: index for index, word in enumerate(reserved)}
    for word in words:
        if word.split() != [word]:
            raise ValueError(f"A word of the vocabulary should be non-empty and without white space, got {word!r}.")
        if word in vocabulary:
            reason = "is reserved for the chat template" if word in reserved else "stands in the vocabulary twice"
            raise ValueError(f"Every word should stand in the vocabulary once, but {word!r} {reason}.")
        vocabulary[word] = len(vocabulary)
    backend = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in reserved[:3]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END_OF_TURN,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer
