"""A damaged header of a GGUF file is named at once, whichever byte it is."""

import struct

import gguf
import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.models import load_pretrained
from agentprm_jax.models.checkpoint import CheckpointFormatError
from agentprm_jax.models.gguf_file import read_gguf
from agentprm_jax.models.gguf_header import check_header
from tests.models.made_gguf import tensors_of, write_gguf
from tests.models.tiny_models import PLAIN, language_model

TENSOR_COUNT, FIELD_COUNT = 8, 16
LISTS = {"general.tags": ["a", "bc"], "general.numbers": [1, 2, 3], "general.name": "tiny"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file whose header has numbers, texts, and lists of both; tests change it."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(path, PLAIN, tensors_of(PLAIN, language_model(PLAIN)), extra=LISTS)
    return path


@pytest.fixture(scope="module")
def content(path):
    return path.read_bytes()


def lengths(path):
    """Where the lengths in the header stand, and how many bytes each has."""
    reader = GGUFReader(path)
    yield from ((TENSOR_COUNT, 8), (FIELD_COUNT, 8))
    for field in [field for field in reader.fields.values() if not field.name.startswith("GGUF.")]:
        kind = field.offset + 8 + len(field.name)
        yield field.offset, 8
        if field.types[0] == GGUFValueType.STRING:
            yield kind + 4, 8
        if field.types[0] == GGUFValueType.ARRAY:
            yield kind + 8, 8
        if field.types[1:] == [GGUFValueType.STRING]:
            yield kind + 16, 8
    for tensor in reader.tensors:
        yield tensor.field.offset, 8
        yield tensor.field.offset + 8 + len(tensor.name), 4


def test_a_length_beyond_the_end_of_the_file_is_named_and_not_believed(path, content):
    found = list(lengths(path))
    assert len(found) > 60
    for place, size in found:
        for byte in {3, size - 1}:
            path.write_bytes(content[: place + byte] + b"\x80" + content[place + byte + 1 :])
            with pytest.raises(CheckpointFormatError, match=r"model\.gguf is damaged or cut off: .*Copy or download"):
                read_gguf(path)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_file_with_any_bit_of_its_header_changed_is_a_model_or_refused_by_name(path, content, data):
    path.write_bytes(content)
    place, bit = data.draw(st.integers(0, GGUFReader(path).data_offset - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
    said = None
    try:
        load_pretrained(path)
    except ValueError as error:
        said = str(error)
    assert said is None or "model.gguf" in said


def test_the_other_order_of_bytes_is_walked_too(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_array("general.tags", ["a", "bc"])
    writer.add_tensor("x", np.zeros((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_header(tmp_path / "model.gguf")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>no model here</html>", b"GGUF\x01\0\0\0" + bytes(40)])
def test_what_is_no_file_of_a_known_version_is_left_to_the_package(tmp_path, content):
    (tmp_path / "model.gguf").write_bytes(content)
    check_header(tmp_path / "model.gguf")
    with pytest.raises(ValueError, match=r"model\.gguf.*(magic|version)"):
        read_gguf(tmp_path / "model.gguf")


def nested(depth):
    """A header whose one field is arrays within arrays, at the bottom of which stands a number."""
    kinds = b"".join(struct.pack("<IQ", 9, 1) for _ in range(depth - 1))
    field = struct.pack("<Q1sI", 1, b"x", 9) + kinds + struct.pack("<IQB", 0, 1, 7)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field


def test_arrays_of_arrays_are_walked_to_some_depth(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(nested(3))
    check_header(path)
    path.write_bytes(nested(3)[:-1])
    with pytest.raises(ValueError, match="1 numbers are announced"):
        check_header(path)
    path.write_bytes(nested(2000))
    with pytest.raises(ValueError, match="nested more than 8 deep"):
        check_header(path)
