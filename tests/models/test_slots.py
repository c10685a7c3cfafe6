import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.models.slots import Prompts, SlotTable

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=6)


def prompts(lists):
    return Prompts.from_keys([np.asarray(tokens, np.int32).tobytes() for tokens in lists])


def common(one, other):
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def table_of(held, slots=8):
    table = SlotTable(slots, 8)
    table.tick()
    nothing = np.zeros(len(held), int)
    table.record(table.claim(nothing, nothing), prompts(held))
    table.tick()
    return table


@given(sequences, sequences)
@settings(deadline=None)
def test_the_match_is_the_longest_common_beginning_short_of_the_last_token(held, asked):
    slots, matched = table_of(held).match(prompts(asked))
    for tokens, slot, length in zip(asked, slots, matched, strict=True):
        best = max(common(tokens, other) for other in [*held, []])
        assert length == min(best, len(tokens) - 1)
        assert length == 0 or common(tokens, held[slot]) >= length


@given(sequences, sequences)
@settings(deadline=None)
def test_claimed_slots_are_all_different_even_when_there_is_one_for_each_prompt(held, asked):
    table = table_of(held, slots=max(len(held), len(asked)))
    claims = table.claim(*table.match(prompts(asked)))
    assert len(set(claims.tolist())) == len(asked)


def test_a_prompt_takes_over_the_slot_that_it_continues():
    table = table_of([[1, 2, 3], [4, 5, 6]])
    asked = prompts([[4, 5, 6, 7], [1, 2, 3, 9]])
    assert table.claim(*table.match(asked)).tolist() == [1, 0]


def test_of_two_prompts_with_one_beginning_one_takes_the_slot_and_the_other_a_free_one():
    table = table_of([[1, 2, 3]])
    asked = prompts([[1, 2, 7], [1, 2, 3, 9]])
    taken = table.claim(*table.match(asked)).tolist()
    assert taken[1] == 0
    assert taken[0] != 0


def test_a_short_common_beginning_does_not_cost_a_conversation_its_slot():
    table = table_of([[1, 2, 3, 4, 5]])
    asked = prompts([[1, 7, 7]])
    assert table.claim(*table.match(asked)).tolist() != [0]


def test_the_slot_used_longest_ago_gives_way():
    table = SlotTable(3, 8)
    for slot, tokens in enumerate([[1], [2], [3]]):
        table.tick()
        assert table.claim(*table.match(prompts([[*tokens, 0]]))).tolist() == [slot]
        table.record(np.asarray([slot]), prompts([[*tokens, 0]]))
    table.tick()
    table.match(prompts([[1, 0, 5]]))
    table.tick()
    assert table.claim(*table.match(prompts([[9, 9]]))).tolist() == [1]


def test_a_forgotten_slot_matches_nothing():
    table = table_of([[1, 2, 3]])
    table.forget(np.asarray([0]))
    assert table.match(prompts([[1, 2, 3]]))[1].tolist() == [0]
