"""The tokenizer of a model folder, and its pad token."""

import json

import pytest
from tokenizers import AddedToken

from agentprm_jax.data import ChatEncoder, word_tokenizer
from agentprm_jax.data.tokenizer_files import choose_pad_token, load_encoder, write_tokenizer
from tests.data.made_tokenizers import CHATML, HEADERS, train_byte_pairs, with_template


@pytest.fixture(scope="module")
def byte_pairs():
    return train_byte_pairs()


def test_a_pad_token_that_is_not_the_end_of_turn_is_kept(byte_pairs):
    assert choose_pad_token(ChatEncoder(with_template(byte_pairs, CHATML))) == "<|endoftext|>"
    assert choose_pad_token(ChatEncoder(word_tokenizer(["a"]))) == "<pad>"


@pytest.mark.parametrize(("template", "end"), [(CHATML, "<|im_end|>"), (HEADERS, "<|eot|>")])
@pytest.mark.parametrize("given", ["end", None])
def test_an_end_of_turn_that_is_the_pad_token_as_well_is_replaced_by_one_that_no_turn_holds(
    byte_pairs, template, end, given
):
    tokenizer = with_template(byte_pairs, template)
    tokenizer.pad_token = end if given == "end" else None
    encoder = ChatEncoder(tokenizer)
    assert encoder.tokenizer.convert_tokens_to_ids(end) == encoder.end_of_turn_id
    assert choose_pad_token(encoder) == "<|endoftext|>"


def test_a_tokenizer_that_has_no_other_special_token_is_refused():
    tokenizer = word_tokenizer(["a"])
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["added_tokens"] = [one for one in backend["added_tokens"] if one["content"] == "<end>"]
    alone = type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(backend)),
        eos_token=AddedToken("<end>", special=True),
        pad_token="<end>",
        chat_template=tokenizer.chat_template,
    )
    with pytest.raises(ValueError, match=r"no special token that could fill unused places: .* got none"):
        choose_pad_token(ChatEncoder(alone))


def test_a_written_tokenizer_comes_back_with_its_pad_token_named_in_the_config(byte_pairs, tmp_path):
    tokenizer = with_template(byte_pairs, CHATML)
    tokenizer.pad_token = "<|im_end|>"
    (tmp_path / "config.json").write_text('{"vocab_size": 7}')
    encoder = ChatEncoder(tokenizer)
    write_tokenizer(tmp_path, encoder)
    pad = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert json.loads((tmp_path / "config.json").read_text()) == {"vocab_size": 7, "pad_token_id": pad}
    again = load_encoder(tmp_path)
    assert (again.pad_id, again.end_of_turn_id) == (pad, encoder.end_of_turn_id)
    assert again.template == encoder.template
    assert tokenizer.pad_token == "<|im_end|>"


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing"):
        load_encoder(tmp_path)
