"""A closed vocabulary costs one token a word, and two tokens an action."""

import pytest
from made_trajectories import WORDS
from transformers import AutoTokenizer

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.trajectory import Message
from agentprm_jax.data.vocabulary import word_tokenizer

TALK = [Message("user", "red key a1"), Message("assistant", "go red", True), Message("user", "hold nothing")]


def test_a_conversation_is_its_words_with_a_prompt_and_an_end_for_each_action():
    encoder = ChatEncoder(word_tokenizer(WORDS))
    tokens = encoder.tokenizer.convert_ids_to_tokens(encoder.prompt_tokens(TALK))
    assert tokens == ["red", "key", "a1", ">", "go", "red", "<end>", "hold", "nothing", ">"]


def test_the_ids_are_the_order_of_the_words_after_the_four_reserved_ones():
    tokenizer = word_tokenizer(("b", "a"))
    expected = {"<pad>": 0, "<unk>": 1, "<end>": 2, ">": 3, "b": 4, "a": 5}
    assert tokenizer.get_vocab() == expected
    encoder = ChatEncoder(tokenizer)
    assert (encoder.pad_id, encoder.end_of_turn_id, encoder.vocab_size) == (0, 2, 6)


def test_a_saved_vocabulary_comes_back_with_its_chat_template(tmp_path):
    tokenizer = word_tokenizer(WORDS)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert ChatEncoder(loaded).prompt_tokens(TALK) == ChatEncoder(tokenizer).prompt_tokens(TALK)


def test_any_white_space_separates_words():
    encoder = ChatEncoder(word_tokenizer(WORDS))
    assert encoder.action_tokens(" go\n\tred  ") == encoder.action_tokens("go red")


@pytest.mark.parametrize("text", ["<end>", "go <end>", "<pad>"])
def test_a_word_that_spells_a_special_token_is_refused(text):
    encoder = ChatEncoder(word_tokenizer(WORDS))
    for message in (Message("user", text), Message("assistant", text)):
        with pytest.raises(ValueError, match="cannot tell the text"):
            encoder.message_tokens([Message("user", "go"), message])


@pytest.mark.parametrize("words", [("a", "a"), ("a b",), ("",), ("<end>",), (">",), ("a\n",)])
def test_a_vocabulary_that_is_not_a_set_of_words_is_refused(words):
    with pytest.raises(ValueError, match="word"):
        word_tokenizer(words)
