"""Laws of reading new tokens after what slots hold."""

import jax
import numpy as np
import pytest

from agentprm_jax.models.slot_store import Prefill, init_store, prefill_slots
from tests.models.tiny_models import BIASED, NORMED, language_model, quick_jit, random_tokens

SLOTS, CAPACITY = 5, 16
read = quick_jit(prefill_slots, static_argnums=(0, 4), static_argnames="packed")


def of_rows(slots, begin, counts, columns):
    """Tokens for some slots; a last row of padding reads nothing and belongs to no slot."""
    return Prefill(
        slots=np.array([*slots, SLOTS], np.int32),
        begin=np.array([*begin, 0], np.int32),
        tokens=random_tokens(len(slots) + 1, columns),
        counts=np.array([*counts, 0], np.int32),
    )


@pytest.mark.parametrize("config", [BIASED, NORMED], ids=["biased", "normed"])
@pytest.mark.parametrize("packed", [11, 14], ids=["full", "with room"])
def test_packed_tokens_are_read_as_in_whole_rows(config, packed):
    decoder = language_model(config)["decoder"]
    stores = [read(config, decoder, init_store(config, SLOTS, CAPACITY), of_rows([3, 0], [0, 0], [4, 6], 6), 0)[1]] * 2
    later = of_rows([0, 3, 1], [6, 4, 0], [2, 8, 1], 8)
    rows, stores[0] = read(config, decoder, stores[0], later, 8)
    found, stores[1] = read(config, decoder, stores[1], later, 8, packed=packed)
    for row, count in enumerate(later.counts.tolist()):
        np.testing.assert_allclose(found[row, :count], rows[row, :count], rtol=1e-5, atol=1e-5)
    for kept, other in zip(*stores, strict=True):
        floats = (jax.lax.bitcast_convert_type(bits, np.float32) for bits in (other, kept))
        np.testing.assert_allclose(*floats, rtol=1e-5, atol=1e-5)


def test_packed_tokens_are_read_after_nothing_as_in_whole_rows():
    decoder, first = language_model(BIASED)["decoder"], of_rows([2, 4], [0, 0], [3, 1], 4)
    rows, _ = read(BIASED, decoder, init_store(BIASED, SLOTS, CAPACITY), first, 0)
    found, _ = read(BIASED, decoder, init_store(BIASED, SLOTS, CAPACITY), first, 0, packed=4)
    np.testing.assert_allclose(found[0, :3], rows[0, :3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1, :1], rows[1, :1], rtol=1e-5, atol=1e-5)
