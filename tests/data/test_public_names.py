"""The room's names are found where users look for them, at the price of what they use."""

import subprocess
import sys

import pytest

from agentprm_jax import data


def test_every_public_name_can_be_imported():
    assert sorted(data.__all__) == sorted(data._HOME)
    for name in data.__all__:
        assert getattr(data, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = data.nonsense


def test_reading_trajectories_needs_no_tokenizer_loader_or_accelerator_library():
    code = "import sys, agentprm_jax.data.trajectory; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for library in ("jax", "grain", "transformers", "tokenizers", "numpy"):
        assert f"'{library}'" not in loaded
