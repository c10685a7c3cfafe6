"""GGUF files: the same model as its Hugging Face folder, and nothing guessed."""

import re
from dataclasses import replace

import gguf
import jax
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from agentprm_jax.models import Llama3RopeScaling, load_pretrained
from agentprm_jax.models.checkpoint import CheckpointFormatError
from tests.models.made_gguf import metadata_of, tensors_of, write_gguf
from tests.models.tiny_models import BIASED, NORMED, PLAIN, language_model

PUBLISHED = Llama3RopeScaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)
STRETCHED = replace(PLAIN, rope_theta=500_000.0, rope_scaling=PUBLISHED, tied_embeddings=False)
CONFIGS = {"llama": PLAIN, "qwen2": BIASED, "qwen3": NORMED, "llama3": STRETCHED}


@pytest.fixture
def written(tmp_path):
    """Writes a file of the plain model with changes, and gives its path."""

    def write(change=lambda tensors: tensors, **options):
        path = tmp_path / "model.gguf"
        write_gguf(path, PLAIN, change(tensors_of(PLAIN, language_model(PLAIN))), **options)
        return path

    return write


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_file_in_float32_gives_the_model_that_it_was_made_of(tmp_path, config):
    params = language_model(config)
    write_gguf(tmp_path / "model.gguf", config, tensors_of(config, params))
    loaded_config, loaded = load_pretrained(tmp_path / "model.gguf")
    assert replace(loaded_config, norm_eps=config.norm_eps) == config
    assert loaded_config.norm_eps == np.float32(config.norm_eps)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def blocks(kind, shape, rng):
    """Random bytes of a quantized tensor, with small scales."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (shape[0], shape[1] // block, size)).astype(np.uint8)
    scales = {Kind.Q5_K: (0, 2), Kind.Q6_K: (-2,), Kind.Q4_1: (0, 2)}.get(kind, (0,))
    for start in scales:
        start %= size
        data[..., start : start + 2] = np.array([0.01], np.float16).view(np.uint8)
    return data.reshape(shape[0], -1)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q5_K, Kind.Q6_K, Kind.Q8_0])
def test_quantized_tensors_are_what_the_package_gguf_makes_of_them(tmp_path, kind):
    config = replace(PLAIN, embed=256, vocab_size=5000)  # more rows than are dequantized at a time
    tensors, data = tensors_of(config, language_model(config)), blocks(kind, (5000, 256), np.random.default_rng(0))
    write_gguf(tmp_path / "model.gguf", config, tensors | {"token_embd.weight": (data, kind)})
    embedding = load_pretrained(tmp_path / "model.gguf")[1]["decoder"]["embedding"]
    assert np.abs(embedding).max() > 0
    np.testing.assert_array_equal(embedding, gguf.dequantize(data, kind))


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16])
def test_half_precision_is_widened_without_loss(written, kind):
    rng = np.random.default_rng(0)
    halves = gguf.quantize(rng.standard_normal((40, 16)).astype(np.float32), kind)
    path = written(lambda tensors: tensors | {"token_embd.weight": (halves, kind)})
    embedding = load_pretrained(path)[1]["decoder"]["embedding"]
    assert embedding.dtype == np.float32
    np.testing.assert_array_equal(embedding, gguf.dequantize(halves, kind))


def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named(written):
    name = "blk.1.attn_q.weight"
    with pytest.raises(CheckpointFormatError, match=rf"model\.gguf lacks 1 tensors.*'{re.escape(name)}'"):
        load_pretrained(written(lambda tensors: {key: value for key, value in tensors.items() if key != name}))
    with pytest.raises(CheckpointFormatError, match=r"model\.gguf holds the unknown tensor 'blk\.0\.attn_q\.bias'"):
        load_pretrained(written(lambda tensors: tensors | {"blk.0.attn_q.bias": np.zeros(24, np.float32)}))
    with pytest.raises(CheckpointFormatError, match=r"model\.gguf, tensor.*expected the shape \(24, 16\), got \(16, 2"):
        load_pretrained(written(lambda tensors: tensors | {name: tensors[name].T.copy()}))


def test_a_tensor_that_stands_there_twice_is_named(written):
    path = written()
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight"))
    with pytest.raises(CheckpointFormatError, match=r"model\.gguf.*duplicated tensor.*blk\.0\.ffn_up\.weight"):
        load_pretrained(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expert_count": 8}, "has the key llama.expert_count = 8, which the decoder does not know"),
        ({"attention.sliding_window": 4096}, "llama.attention.sliding_window = 4096"),
        ({"rope.scaling.type": "yarn"}, "field llama.rope.scaling.type: expected 'none', got 'yarn'"),
        ({"rope.scaling.type": "linear"}, "field llama.rope.scaling.type: expected 'none', got 'linear'"),
        ({"rope.dimension_count": 4}, "field llama.rope.dimension_count: expected 6, got 4"),
        (
            {"attention.head_count_kv": [2, 1]},
            "attention.head_count_kv: expected one whole number above 0, got [2, 1]",
        ),
        ({"attention.head_count": 0}, "llama.attention.head_count: expected one whole number above 0, got 0"),
        ({"attention.key_length": "6"}, "llama.attention.key_length: expected one whole number above 0, got '6'"),
        ({"rope.freq_base": "1e4"}, "model.gguf, key llama.rope.freq_base: expected one number, got '1e4'"),
        ({"attention.head_count_kv": 3}, "model.gguf: DecoderConfig.heads: expected a multiple of kv_heads = 3, got 4"),
        ({"block_count": None}, "the key llama.block_count is missing"),
    ],
)
def test_metadata_that_the_decoder_does_not_support_is_refused_by_key_and_value(written, change, message):
    metadata = {key: value for key, value in (metadata_of(PLAIN) | change).items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pretrained(written(metadata=metadata))


def test_another_architecture_is_refused_by_name(written):
    with pytest.raises(ValueError, match=r"field general\.architecture: expected 'llama', .*got 'gemma3'"):
        load_pretrained(written(architecture="gemma3"))


def test_one_of_several_parts_is_refused(written):
    with pytest.raises(CheckpointFormatError, match=r"one of 3 parts: expected a whole file"):
        load_pretrained(written(extra={"split.count": 3}))


@pytest.mark.parametrize("odd", [[1.0, 2.0, 8.0], [0.25, 0.5, 0.5]], ids=str)
def test_frequencies_that_follow_another_rule_than_llama_3_are_refused(written, odd):
    divisors = {"rope_freqs.weight": np.array(odd, np.float32)}
    message = rf"model\.gguf, tensor 'rope_freqs\.weight'.*Llama 3's rule.*got {re.escape(str(odd))}"
    with pytest.raises(CheckpointFormatError, match=message):
        load_pretrained(written(lambda tensors: tensors | divisors))


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "rope_freqs.weight"])
def test_a_number_that_is_not_finite_is_refused_by_its_tensor(written, name):
    spoilt = np.full((24, 16) if name != "rope_freqs.weight" else 3, np.inf, np.float32)
    message = rf"model\.gguf, tensor '{re.escape(name)}': expected finite numbers, got inf at \[0"
    with pytest.raises(CheckpointFormatError, match=message):
        load_pretrained(written(lambda tensors: tensors | {name: spoilt}))


@pytest.mark.parametrize("part", [0.001, 0.02, 0.05, 0.1, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_named(written, part):
    path = written()
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CheckpointFormatError, match=r"model\.gguf is damaged or cut off.*Copy or download"):
        load_pretrained(path)


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(CheckpointFormatError, match=r"model\.gguf is damaged or cut off: GGUF magic invalid"):
        load_pretrained(tmp_path / "model.gguf")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model in .*absent\.gguf"):
        load_pretrained(tmp_path / "absent.gguf")
