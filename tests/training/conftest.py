"""Makes `tiny_training` importable for tests here, as it is for the scripts that they start."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import pytest


@pytest.fixture(scope="session")
def prm_program():
    """The tiny reward model's program on one device, compiled once for all tests that do not change it."""
    from tiny_training import tiny_program

    return tiny_program("prm")
