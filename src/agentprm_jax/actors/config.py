"""What actors can be told: the shapes in which the sampler works, and how a remote server is asked."""

import dataclasses
import itertools
from typing import Literal


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """How the native sampler samples, and its sizes. Every shape that is compiled comes from the closed sets here."""

    slots: int = 512
    """Conversations whose keys and values are kept between calls; those used longest ago give way. At least as many as
    are in progress at once, or their prompts are computed again on every turn."""
    rows: int = 64
    """Most actions sampled at once; at most `slots`. More are sampled in turns. On a CPU a small model is fastest when
    the activations of a turn fit in the processor's cache; an accelerator wants more rows."""
    capacity: int = 256
    """Most tokens of a conversation, its next action included."""
    max_tokens: int = 32
    """Most tokens that a call may ask for in an action, the end-of-turn token included."""
    prefill_lengths: tuple[int, ...] = (8, 16, 24, 32, 64, 128, 256)
    """Rising numbers of new tokens a conversation that the model is compiled for; longer prompts are read in pieces."""
    prefill_shares: int = 1
    """Shares into which the places of a call that reads prompts are divided; the model is compiled to compute as few of
    them as hold the prompts' tokens, instead of what rows are filled up with too. A large model is faster with 8; 1
    computes all places and saves compilations."""
    smallest_rows: int = 16
    """Fewest actions that the model is compiled for; fewer are filled up. Small ones save a large model's time where
    few conversations are in progress, and cost one more compilation."""
    smallest_window: int = 64
    """Fewest tokens of a conversation that the model is compiled to look at; it looks at twice as many, and again, up
    to `capacity`. Small ones save time where conversations are short, and cost one more compilation."""
    stop: tuple[str, ...] = ()
    """Texts at which an action ends, beside the end of the turn; they are no part of it."""
    min_tokens: int = 0
    """Tokens that an action has before a token may end its turn."""
    top_k: int = 0
    """Only the so many likeliest tokens are sampled; 0 is all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are sampled (nucleus sampling), in (0, 1]."""

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ValueError: a size is not positive, more rows than slots, no room for a prompt, or lengths that do not rise.
        """
        for name in ("slots", "rows", "capacity", "max_tokens"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        _check(self, "rows", self.rows <= self.slots, f"at most slots={self.slots}")
        _check(self, "max_tokens", self.max_tokens < self.capacity, f"below capacity={self.capacity}")
        _check(self, "prefill_shares", self.prefill_shares >= 1, "a whole number of at least 1")
        _check(self, "smallest_rows", self.smallest_rows >= 1, "a whole number of at least 1")
        _check(self, "smallest_window", self.smallest_window >= 1, "a whole number of at least 1")
        _check(self, "stop", "" not in self.stop, "texts that are not empty")
        _check(self, "min_tokens", 0 <= self.min_tokens <= self.max_tokens, f"in [0, max_tokens={self.max_tokens}]")
        _check(self, "top_k", self.top_k >= 0, "a whole number of at least 0")
        _check(self, "top_p", 0.0 < self.top_p <= 1.0, "in (0, 1]")
        rising = bool(self.prefill_lengths) and self.prefill_lengths[0] >= 1
        rising = rising and all(one < next_one for one, next_one in itertools.pairwise(self.prefill_lengths))
        _check(self, "prefill_lengths", rising, "rising whole numbers of at least 1, one or more")

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Numbers of rows that the model is compiled for, rising by factors of four up to `rows`."""
        counts = [self.rows]
        while counts[0] > self.smallest_rows:
            counts.insert(0, max(self.smallest_rows, -(-counts[0] // 4)))
        return tuple(counts)

    @property
    def windows(self) -> tuple[int, ...]:
        """Numbers of cached tokens that the model is compiled for, rising by factors of two up to `capacity`."""
        windows = [self.capacity]
        while windows[0] >= 2 * self.smallest_window:
            windows.insert(0, -(-windows[0] // 2))
        return tuple(windows)


@dataclasses.dataclass(frozen=True)
class RemoteConfig:
    """A model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, `transformers serve`), and how to ask it."""

    model: str = ""
    """Name of the model on the server; also the name recorded in trajectories. Must be given."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """Address of the server up to and including the version, without /chat/completions."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never recorded. A server that asks for no
    key needs no such variable."""
    stop: tuple[str, ...] = ()
    """Texts at which an action ends, beside the end of the turn; they are no part of it. OpenAI takes at most four."""
    logprobs: bool = True
    """Whether log-probabilities are asked for. A server that cannot give them ignores it, and they are nan; one that
    refuses the question needs False."""
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name under which the server takes the most tokens of an action: OpenAI's newest models want the second."""
    concurrency: int = 32
    """Most requests in flight at once, and most episodes in progress."""
    timeout: float = 120.0
    """Seconds until a request counts as failed, counted from its sending to the last byte of the answer."""
    retries: int = 5
    """Times that a failed request is sent again before its conversation counts as unanswered."""
    first_wait: float = 0.5
    """Most seconds before a request is sent again; doubled with every further failure of this request."""
    longest_wait: float = 60.0
    """Most seconds between two sendings, also where the server's Retry-After asks for more."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: an address that is none, a text to stop at that is empty, or a number out of range.
        """
        _check(self, "base_url", self.base_url.startswith(("http://", "https://")), "an http:// or https:// address")
        _check(self, "stop", "" not in self.stop, "texts that are not empty")
        _check(self, "concurrency", self.concurrency >= 1, "a whole number of at least 1")
        _check(self, "timeout", 0.0 < self.timeout < float("inf"), "a finite number of seconds above 0")
        _check(self, "retries", self.retries >= 0, "a whole number of at least 0")
        _check(self, "first_wait", 0.0 <= self.first_wait < float("inf"), "a finite number of seconds, at least 0")
        patient = self.first_wait <= self.longest_wait < float("inf")
        _check(self, "longest_wait", patient, f"a finite number of seconds, at least first_wait={self.first_wait}")


def _check(config: object, field: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{type(config).__name__}.{field} must be {expected}, got {getattr(config, field)!r}.")
