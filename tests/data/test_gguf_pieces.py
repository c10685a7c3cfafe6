"""SentencePiece's tokenizers in GGUF files, against what the package sentencepiece itself makes of the same texts."""

import json
import pathlib

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.actors.stops import token_bytes
from agentprm_jax.data import Message, load_encoder

GOLDEN = json.loads((pathlib.Path(__file__).parent.parent / "recorded" / "tokenizers" / "pieces.json").read_text())
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}</s>"
    "{% else %}<s>[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
TALK = [Message("user", "go to the red door"), Message("assistant", "pick up", action=True)]


def write(path, **more):
    """A GGUF file that holds the golden tokenizer and no weights; `more` are keys of the tokenizer."""
    names, scores, kinds = zip(*GOLDEN["pieces"], strict=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(names)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for key, value in more.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_array
        add(f"tokenizer.ggml.{key}", value)
    writer.add_chat_template(TEMPLATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_encoder(write(tmp_path_factory.mktemp("gguf") / "model.gguf"), vocab_size=len(GOLDEN["pieces"]))


@pytest.mark.parametrize("text", GOLDEN["texts"])
def test_a_text_has_the_tokens_that_sentencepiece_gives_it(encoder, text):
    assert encoder.action_tokens(text) == [*GOLDEN["texts"][text], encoder.end_of_turn_id]


@settings(deadline=None, max_examples=60)
@given(st.text(st.sampled_from("go the\n ▁<>ä漢🙂1") | st.characters(exclude_categories=["Cs"]), max_size=12))
def test_what_an_actor_says_is_read_again_as_it_was_said(encoder, text):
    assert encoder.decode_action(encoder.action_tokens(text)) == text.replace("▁", " ")


def test_a_conversation_is_its_prompt_and_what_was_sampled(encoder):
    prompt, action = encoder.prompt_tokens(TALK[:1]), encoder.action_tokens("pick up")
    assert encoder.message_tokens(TALK) == [*prompt, *action]
    assert encoder.end_of_turn_id == 2
    assert encoder.tokenizer.decode(prompt) == "<s> [INST] go to the red door [/INST]"


def test_tokens_say_the_bytes_of_their_pieces(encoder):
    first, later = token_bytes(encoder)
    names = [name for name, _, _ in GOLDEN["pieces"]]
    assert first[names.index("<0xE6>")] == later[names.index("<0xE6>")] == b"\xe6"
    assert (first[names.index("▁go")], later[names.index("▁go")]) == (b"go", b" go")
    assert later[names.index("</s>")] == b""


def test_a_file_may_ask_for_no_space_before_a_text(tmp_path):
    path = write(tmp_path / "model.gguf", add_space_prefix=False)
    encoder = load_encoder(path, vocab_size=len(GOLDEN["pieces"]))
    tokens = encoder.action_tokens("go")[:-1]
    assert "".join(encoder.tokenizer.convert_ids_to_tokens(tokens)) == "go"
    assert encoder.decode_action(encoder.action_tokens(" go ")) == " go "


@pytest.mark.parametrize("more", [{"remove_extra_whitespaces": True}, {"precompiled_charsmap": [1, 2]}], ids=str)
def test_a_treatment_of_texts_that_is_not_supported_is_named(tmp_path, more):
    with pytest.raises(ValueError, match=rf"model\.gguf: the tokenizer changes texts.*{next(iter(more))}"):
        load_encoder(write(tmp_path / "model.gguf", **more), vocab_size=400)
