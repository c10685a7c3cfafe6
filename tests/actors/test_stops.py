"""Texts to stop at are found in bytes across tokens, exactly when they are complete."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.actors.stops import START, cut_at_stop, ending_tokens, read_stop_tokens, stop_table, token_bytes
from agentprm_jax.data import ChatEncoder, word_tokenizer
from tests.actors.byte_pairs import byte_pair_encoder

ENCODER = byte_pair_encoder()
SAID = token_bytes(ENCODER)[1]
WORDS = ChatEncoder(word_tokenizer(tuple("abcdef")))
stops = st.lists(st.text("ab\nö€", min_size=1, max_size=4), min_size=1, max_size=3)


def walk(table, tokens):
    """States after each token."""
    states = [START]
    for token in tokens:
        states.append(int(table[states[-1], token]))
    return states[1:]


@settings(deadline=None, max_examples=40)
@given(stops, st.text("ab\nö€ ", max_size=16))
def test_a_text_is_found_at_the_token_that_completes_it_whatever_the_tokens(wanted, text):
    table = stop_table(ENCODER, wanted, ENCODER.vocab_size)
    tokens = ENCODER.action_tokens(text)[:-1]
    said = b""
    for token, state in zip(tokens, walk(table, tokens), strict=True):
        said += SAID[token]
        assert (state == len(table) - 1) == any(stop.encode() in said for stop in wanted)


@settings(deadline=None, max_examples=40)
@given(stops, st.binary(max_size=12))
def test_single_bytes_are_followed_through_halves_of_characters(wanted, noise):
    table = stop_table(ENCODER, wanted, ENCODER.vocab_size)
    byte_token = {said: token for token, said in enumerate(SAID) if len(said) == 1}
    whole = noise + wanted[-1].encode()
    assert walk(table, [byte_token[bytes([byte])] for byte in whole])[-1] == len(table) - 1


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=12))
def test_the_bytes_of_tokens_are_those_of_the_text(text):
    assert b"".join(SAID[token] for token in ENCODER.action_tokens(text)[:-1]) == text.encode()


def test_words_of_a_closed_vocabulary_are_apart_by_a_space():
    table = stop_table(WORDS, ["b c"], WORDS.vocab_size)
    *_, hit = walk(table, WORDS.action_tokens("a b c")[:-1])
    assert hit == len(table) - 1
    assert walk(table, WORDS.action_tokens("b b a c")[:-1])[-1] != len(table) - 1


def test_a_first_word_has_no_space_before_it():
    table = stop_table(WORDS, [" b"], WORDS.vocab_size)
    assert [state == len(table) - 1 for state in walk(table, WORDS.action_tokens("b b")[:-1])] == [False, True]


def test_without_texts_to_stop_at_nothing_is_ever_complete():
    table = stop_table(ENCODER, [], ENCODER.vocab_size)
    assert not (table[:-1] == len(table) - 1).any()


@pytest.mark.parametrize(
    ("text", "stops", "cut"),
    [
        ("go\nObservation: x", ["\nObservation:"], "go"),
        ("abcd", ["cd", "bc"], "a"),
        ("abcd", ["x"], "abcd"),
        ("stop", ["stop"], ""),
    ],
)
def test_a_text_is_cut_where_the_first_text_to_stop_at_begins(text, stops, cut):
    assert cut_at_stop(text, stops) == cut


def test_the_end_of_turn_the_end_of_text_and_what_the_model_names_end_an_action(tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    assert read_stop_tokens(tmp_path) == (5, 7)
    ends = ending_tokens(ENCODER, ENCODER.vocab_size + 8, read_stop_tokens(tmp_path))
    tokens = ENCODER.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert np.flatnonzero(ends).tolist() == sorted({5, 7, *tokens})


@pytest.mark.parametrize(("named", "tokens"), [({}, ()), ({"eos_token_id": None}, ()), ({"eos_token_id": 3}, (3,))])
def test_a_model_may_name_one_token_or_none(tmp_path, named, tokens):
    assert read_stop_tokens(tmp_path) == ()
    (tmp_path / "generation_config.json").write_text(json.dumps(named))
    assert read_stop_tokens(tmp_path) == tokens


def test_what_is_no_token_is_refused(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": "<|im_end|>"}')
    with pytest.raises(ValueError, match=r"eos_token_id: expected a token id or a list of them, got '<\|im_end\|>'"):
        read_stop_tokens(tmp_path)
    with pytest.raises(ValueError, match=r"in \[0, 16\), the model's vocabulary, got 16"):
        ending_tokens(WORDS, 16, [16])


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"{", " is not JSON"), (b"\xff", " is not JSON"), (b"[2]", ": expected a JSON object, got list")],
)
def test_a_damaged_generation_config_is_named(tmp_path, content, fault):
    (tmp_path / "generation_config.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"generation_config\.json{fault}"):
        read_stop_tokens(tmp_path)
