"""Makes the makers of data importable for the tests here."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import pytest


@pytest.fixture(scope="session")
def byte_pair_tokenizer():
    """A small byte-level BPE tokenizer without a chat template, with the special tokens of the templates in use."""
    from made_tokenizers import train_byte_pairs

    return train_byte_pairs()
