"""Tokenizers of folders and GGUF files: the same tokens, and what cannot be used is named with its file."""

import json

import gguf
import pytest
from made_tokenizers import CHATML, CORPUS, SPECIAL, with_template
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from agentprm_jax.data import ChatEncoder, Message, load_encoder
from agentprm_jax.models.checkpoint import CheckpointFormatError
from tests.models.made_gguf import add_tokenizer

TALK = [
    Message("system", "You act."),
    Message("user", "go to the red door 12"),
    Message("assistant", "go", action=True),
]
NO_PROMPT = CHATML.partition("{% if add_generation_prompt %}")[0]


@pytest.fixture
def tokenizer(byte_pair_tokenizer):
    """With the splitting of Qwen2."""
    backend = Tokenizer.from_str(byte_pair_tokenizer.backend_tokenizer.to_str())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=SPECIAL[0], eos_token="<|im_end|>")
    made.chat_template = CHATML
    return made


@pytest.fixture
def gguf_file(tmp_path, tokenizer):
    """Writes a GGUF file that holds the tokenizer and no weights."""

    def write(*, model="gpt2", pre="qwen2", template=CHATML, double=False, eos=None, more=()):
        tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        if double:
            tokens[5] = tokens[4]
        writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen2")
        add_tokenizer(writer, tokenizer, model=model, pre=pre, template=template, tokens=tokens, eos=eos, more=more)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / "model.gguf"

    return write


def test_folder_and_gguf_file_give_the_tokens_of_the_tokenizer_they_were_made_of(tmp_path, tokenizer, gguf_file):
    expected = ChatEncoder(tokenizer)
    expected.save_tokenizer(tmp_path / "folder")
    for path in (tmp_path / "folder", gguf_file()):
        encoder = load_encoder(path, vocab_size=len(tokenizer))
        assert encoder.prompt_tokens(TALK) == expected.prompt_tokens(TALK)
        for text in (*CORPUS, "e\u0301 naïve 漢字 🙂\t<|im_end|> it's\n\n 3", " 12  34 "):
            assert encoder.action_tokens(text) == expected.action_tokens(text)
        assert (encoder.pad_id, encoder.end_of_turn_id, encoder.vocab_size) == (
            expected.pad_id,
            expected.end_of_turn_id,
            expected.vocab_size,
        )


def test_unused_tokens_of_a_gguf_file_are_no_tokens_of_a_text_nor_of_the_folder_it_becomes(
    tmp_path, tokenizer, gguf_file
):
    expected, hole, last, end = ChatEncoder(tokenizer), len(tokenizer), len(tokenizer) + 1, len(tokenizer) + 2
    encoder = load_encoder(gguf_file(more=[("[PAD7]", 5), ("<|last|>", 3), ("[PAD9]", 5)]), vocab_size=end + 1)
    encoder.save_tokenizer(tmp_path / "folder")
    for one in (encoder, load_encoder(tmp_path / "folder", vocab_size=end + 1)):
        assert one.vocab_size == end
        assert one.tokenizer.convert_ids_to_tokens([hole, last]) == [None, "<|last|>"]
        assert one.action_tokens("[PAD7] [PAD9]") == expected.action_tokens("[PAD7] [PAD9]")


def test_an_unused_token_that_a_gguf_file_gives_a_meaning_is_kept(tokenizer, gguf_file):
    end = len(tokenizer)
    encoder = load_encoder(gguf_file(more=[("[PAD7]", 5)], eos=end), vocab_size=end + 1)
    assert (encoder.tokenizer.eos_token, encoder.tokenizer.eos_token_id) == ("[PAD7]", end)


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_numbers(tmp_path, tokenizer, gguf_file):
    ChatEncoder(tokenizer).save_tokenizer(tmp_path / "folder")
    size = len(tokenizer)
    for path in (tmp_path / "folder", gguf_file()):
        with pytest.raises(
            ValueError, match=rf"{path}: the tokenizer's highest token id is {size - 1}, .* embeds {size - 1} tokens"
        ):
            load_encoder(path, vocab_size=size - 1)


def test_an_id_beyond_the_embedding_is_found_where_ids_are_left_out_below_it(tmp_path, tokenizer):
    ChatEncoder(tokenizer).save_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary, size = content["model"]["vocab"], len(tokenizer)
    last = max(vocabulary, key=vocabulary.get)
    vocabulary[last] = size
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"highest token id is {size}, but the model embeds {size} tokens"):
        load_encoder(tmp_path, vocab_size=size)
    encoder = load_encoder(tmp_path, vocab_size=size + 1)
    assert encoder.vocab_size == size + 1 > len(encoder.tokenizer)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("field", "named", "fits"),
    [
        ("eos_token_id", "<|im_end|>", True),
        ("eos_token_id", ["<|im_end|>", "<|endoftext|>"], True),
        ("eos_token_id", ["<|im_end|>", "a"], True),
        ("bos_token_id", "<|begin|>", True),
        ("bos_token_id", None, True),
        ("pad_token_id", 151_643, True),
        ("eos_token_id", 151_645, False),
        ("eos_token_id", [151_645, 151_643], False),
        ("eos_token_id", "a", False),
        ("bos_token_id", 151_643, False),
    ],
)
def test_a_tokenizer_that_has_other_special_tokens_than_the_model_is_refused(
    tmp_path, tokenizer, file, field, named, fits
):
    """As SmolLM2's, with 49,152 tokens, beside the weights of a Qwen2.5, whose turns end at the token 151,645."""
    ChatEncoder(tokenizer).save_tokenizer(tmp_path)

    def id_of(one):
        return tokenizer.convert_tokens_to_ids(one) if isinstance(one, str) else one

    ids = [id_of(one) for one in named] if isinstance(named, list) else id_of(named)
    (tmp_path / file).write_text(json.dumps({field: ids}))
    if fits:
        load_encoder(tmp_path, vocab_size=151_936)
    else:
        with pytest.raises(
            ValueError, match=rf"{file}, field {field}: expected a special token of the tokenizer.*, got \d"
        ):
            load_encoder(tmp_path, vocab_size=151_936)


def test_a_template_without_a_generation_prompt_is_refused_with_what_to_add(tmp_path, tokenizer, gguf_file):
    with_template(tokenizer, NO_PROMPT).save_pretrained(tmp_path / "folder")
    for path in (tmp_path / "folder", gguf_file(template=NO_PROMPT)):
        with pytest.raises(ValueError, match=rf"{path} cannot be used: .*no generation prompt.*Add \{{% if add_gen"):
            load_encoder(path, vocab_size=1000)


def test_a_missing_template_is_named(gguf_file):
    with pytest.raises(ValueError, match=r"model\.gguf cannot be used: The tokenizer has no chat template"):
        load_encoder(gguf_file(template=None), vocab_size=1000)


def test_a_missing_and_a_damaged_tokenizer_are_named(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing"):
        load_encoder(tmp_path, vocab_size=1000)
    ChatEncoder(tokenizer).save_tokenizer(tmp_path)
    content = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged: .*Copy or download"):
        load_encoder(tmp_path, vocab_size=1000)


@pytest.mark.parametrize(("model", "pre"), [("bert", "default"), ("gpt2", "unheard-of")])
def test_a_tokenizer_of_another_kind_is_refused_by_name(gguf_file, model, pre):
    with pytest.raises(ValueError, match=rf"model\.gguf: expected a tokenizer.*got '{model}' with '{pre}'"):
        load_encoder(gguf_file(model=model, pre=pre), vocab_size=1000)


def test_a_token_that_a_gguf_file_holds_twice_is_named(gguf_file):
    with pytest.raises(ValueError, match=r"model\.gguf: the tokenizer has the token .* twice"):
        load_encoder(gguf_file(double=True), vocab_size=1000)


def test_an_id_that_is_none_of_the_tokens_is_named(gguf_file):
    with pytest.raises(ValueError, match=r"model\.gguf, key .*eos_token_id: expected the id of one of .*, got 70000"):
        load_encoder(gguf_file(eos=70_000), vocab_size=1000)


def test_a_gguf_file_that_was_cut_off_is_named(gguf_file):
    path = gguf_file()
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CheckpointFormatError, match=r"model\.gguf is damaged or cut off"):
        load_encoder(path, vocab_size=1000)


def test_what_closes_a_turn_never_pads(tmp_path, tokenizer):
    tokenizer.pad_token = "<|im_end|>"
    encoder = ChatEncoder(tokenizer)
    assert encoder.pad_id != encoder.end_of_turn_id
    encoder.save_tokenizer(tmp_path)
    assert load_encoder(tmp_path, vocab_size=1000).tokenizer.pad_token_id == encoder.pad_id
    assert tokenizer.pad_token == "<|im_end|>"
