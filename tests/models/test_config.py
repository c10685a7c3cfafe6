"""What a decoder's configuration refuses."""

import re
from dataclasses import replace

import pytest

from agentprm_jax.models import Llama3RopeScaling
from tests.models.tiny_models import PLAIN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "DecoderConfig.layers: expected a positive number, got 0."),
        ({"rope_theta": -1.0}, "DecoderConfig.rope_theta: expected a positive number, got -1.0."),
        ({"norm_eps": float("nan")}, "DecoderConfig.norm_eps: expected a positive number, got nan."),
        ({"heads": 3}, "DecoderConfig.heads: expected a multiple of kv_heads = 2, got 3."),
        ({"head_dim": 7}, "DecoderConfig.head_dim: expected an even number, got 7."),
        ({"dtype": "int8"}, "DecoderConfig.dtype: expected one of ('float32', 'bfloat16', 'float16'), got 'int8'."),
    ],
)
def test_an_impossible_decoder_is_refused_by_field_and_value(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(PLAIN, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": 0.5}, "factor: expected at least 1, got 0.5"),
        ({"low_freq_factor": 4.0}, "expected 0 < low_freq_factor < high_freq_factor, got 4.0 and 4.0"),
        ({"original_max_positions": 0}, "original_max_positions: expected a positive number, got 0"),
    ],
)
def test_an_impossible_scaling_is_refused_by_field_and_value(change, message):
    fields = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_positions": 16}
    with pytest.raises(ValueError, match=re.escape(message)):
        Llama3RopeScaling(**fields | change)
