"""Seeds as a function of names, so that a result does not depend on batching, order or interruption."""

import hashlib


def stable_seed(*parts: int | str) -> int:
    """Returns a 31-bit seed that is a fixed function of `parts`, the same on every machine and in every process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF
