"""How much XLA compiles while something runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
_STAGES = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration", _COMPILED)


class Compiled:
    """How many programs XLA compiled, and how many seconds tracing, lowering and compiling took."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.programs, self.seconds = 0, 0.0

    def add(self, event: str, duration_secs: float, **_: Any) -> None:
        """Counts an event that JAX reports."""
        self.programs += event == _COMPILED
        self.seconds += duration_secs * (event in _STAGES)


@contextmanager
def counting_programs() -> Iterator[Compiled]:
    """Counts what is compiled meanwhile."""
    counted = Compiled()
    jax.monitoring.register_event_duration_secs_listener(counted.add)
    try:
        yield counted
    finally:
        jax.monitoring.unregister_event_duration_listener(counted.add)
