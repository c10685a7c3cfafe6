import pytest

from agentprm_jax.actors.config import SamplerConfig


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"slots": 0, "rows": 0}, "slots must be a whole number of at least 1, got 0"),
        ({"slots": 8, "rows": 9}, "rows must be at most slots=8, got 9"),
        ({"capacity": 32, "max_tokens": 32}, "max_tokens must be below capacity=32, got 32"),
        ({"prefill_lengths": ()}, "prefill_lengths must be rising"),
        ({"prefill_lengths": (8, 8)}, "prefill_lengths must be rising"),
        ({"prefill_lengths": (0, 8)}, "prefill_lengths must be rising"),
        ({"prefill_shares": 0}, "prefill_shares must be a whole number of at least 1, got 0"),
        ({"smallest_rows": 0}, "smallest_rows must be a whole number of at least 1, got 0"),
        ({"smallest_window": 0}, "smallest_window must be a whole number of at least 1, got 0"),
        ({"stop": ("a", "")}, "stop must be texts that are not empty"),
        ({"min_tokens": 33}, r"min_tokens must be in \[0, max_tokens=32\], got 33"),
        ({"top_k": -1}, "top_k must be a whole number of at least 0, got -1"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
    ],
)
def test_a_field_out_of_range_is_named_with_what_was_expected(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        SamplerConfig(**fields)


@pytest.mark.parametrize("size", [1, 16, 17, 64, 100, 256, 1000])
def test_shapes_rise_to_the_largest_and_stay_few(size):
    config = SamplerConfig(slots=size, rows=size, capacity=size + 1, max_tokens=1)
    for sizes, largest in ((config.row_counts, size), (config.windows, size + 1)):
        assert sizes[-1] == largest
        assert list(sizes) == sorted(set(sizes))
        assert len(sizes) <= 6
