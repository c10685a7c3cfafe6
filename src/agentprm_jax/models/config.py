"""The decoder's configuration: one set of switches for Qwen2, Qwen3, Llama 3 and SmolLM2."""

from dataclasses import dataclass

FLOAT_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Llama3RopeScaling:
    """Frequency scaling of the rotary embedding as Llama 3.1 and later use it (Llama 3, arXiv 2407.21783).

    Wavelengths longer than `original_max_positions / low_freq_factor` tokens are stretched `factor` times, those
    shorter than `original_max_positions / high_freq_factor` are kept, and those between are interpolated.
    """

    factor: float
    """How many times long wavelengths are stretched (>= 1)."""
    low_freq_factor: float
    """Number of turns within the original context below which a wavelength is stretched fully."""
    high_freq_factor: float
    """Number of turns within the original context above which a wavelength is kept."""
    original_max_positions: int
    """Length of the context of pre-training, in tokens."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: a number is out of its range.
        """
        if self.factor < 1:
            raise ValueError(f"Llama3RopeScaling.factor: expected at least 1, got {self.factor}.")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ValueError(
                "Llama3RopeScaling: expected 0 < low_freq_factor < high_freq_factor, "
                f"got {self.low_freq_factor} and {self.high_freq_factor}."
            )
        _require_positive("Llama3RopeScaling", "original_max_positions", self.original_max_positions)


@dataclass(frozen=True)
class DecoderConfig:
    """Shape and switches of a pre-norm decoder: grouped-query attention, rotary positions, SwiGLU feed-forward."""

    vocab_size: int
    """Number of token ids; rows of the embedding."""
    embed: int
    """Width of the residual stream (axis `d`)."""
    mlp: int
    """Width of the feed-forward layer (axis `f`)."""
    layers: int
    """Number of blocks (axis `l`)."""
    heads: int
    """Number of query heads (axis `h`); a multiple of `kv_heads`."""
    kv_heads: int
    """Number of key-value heads (axis `k`)."""
    head_dim: int
    """Width of one head (axis `e`); even, because rotary positions turn pairs."""
    rope_theta: float
    """Base of the rotary frequencies."""
    norm_eps: float
    """Added to the mean square inside every RMSNorm."""
    max_positions: int
    """Longest sequence the model is meant for, in tokens."""
    qkv_bias: bool = False
    """Whether query, key and value projections add a bias (Qwen2)."""
    qk_norm: bool = False
    """Whether queries and keys pass an RMSNorm per head before rotation (Qwen3)."""
    tied_embeddings: bool = True
    """Whether logits reuse the input embedding instead of a head of their own."""
    rope_scaling: Llama3RopeScaling | None = None
    """Stretching of the rotary frequencies (Llama 3.1 and later); none by default."""
    dtype: str = "float32"
    """Type of activations and matrix products; norms, softmax, logits and values stay in float32."""
    param_dtype: str = "float32"
    """Type in which parameters are stored."""
    remat: bool = False
    """Whether the backward pass recomputes each block instead of keeping its activations."""

    def __post_init__(self) -> None:
        """Check that the numbers fit together.

        Raises:
            ValueError: a size is not positive, heads do not group, a head is odd, or a dtype is unknown.
        """
        for name in ("vocab_size", "embed", "mlp", "layers", "heads", "kv_heads", "head_dim", "max_positions"):
            _require_positive("DecoderConfig", name, getattr(self, name))
        for name in ("rope_theta", "norm_eps"):
            _require_positive("DecoderConfig", name, getattr(self, name))
        if self.heads % self.kv_heads:
            raise ValueError(
                f"DecoderConfig.heads: expected a multiple of kv_heads = {self.kv_heads}, got {self.heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"DecoderConfig.head_dim: expected an even number, got {self.head_dim}.")
        for name in ("dtype", "param_dtype"):
            if getattr(self, name) not in FLOAT_DTYPES:
                raise ValueError(f"DecoderConfig.{name}: expected one of {FLOAT_DTYPES}, got {getattr(self, name)!r}.")


def _require_positive(owner: str, name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{owner}.{name}: expected a positive number, got {value!r}.")
