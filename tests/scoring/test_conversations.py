"""Laws of kept conversations: they change no score, and what was read is not read again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.data import Message, Trajectory
from agentprm_jax.scoring import Prm
from agentprm_jax.scoring.conversations import ConversationReader, Sizes, read_pieces

texts = st.lists(st.sampled_from("abcdefgh"), max_size=6).map(" ".join)
nodes = st.tuples(st.integers(0, 30), texts, st.lists(texts, min_size=1, max_size=3))
ROOT = [Message("user", "a b c"), Message("user", "d")]


def observed(messages, action, text):
    return [*messages, Message("assistant", action, action=True), Message("user", text)]


def candidates(messages, actions):
    return [[*messages, Message("assistant", action, action=True)] for action in actions]


def encoded_whole(prm, conversations):
    """Scores of conversations that are each read from their first token."""
    made = [
        Trajectory(
            id=str(number),
            env="made",
            task="made_0",
            split="test",
            messages=tuple(messages),
            rewards=(0.0,) * sum(message.action for message in messages),
            ended="truncated",
        )
        for number, messages in enumerate(conversations)
    ]
    return [scores.promise[-1] for scores in prm.score(made)]


@pytest.fixture(scope="module")
def make_prm(prm, decoder_config, encoder):
    """Makes a PRM of the fixture's weights that reads a row at a time."""

    def make(slots=64, **changes):
        config = replace(decoder_config, **changes)
        return Prm(config, prm._params, encoder, initial_value=0.0, tokens_per_batch=16, kept_tokens=256 * slots)

    return make


@pytest.fixture(scope="module")
def narrow(make_prm):
    """A PRM with room for two conversations, used by many searches one after the other."""
    return make_prm(slots=2)


def in_rounds(grown):
    """Calls of three nodes: children of any node so far, first ones and forks, with actions to score after each."""
    found, calls = [ROOT], []
    for number, (parent, text, actions) in enumerate(grown):
        if number % 3 == 0:
            calls.append([])
        calls[-1] += candidates(found[parent % len(found)], actions)
        found.append(observed(found[parent % len(found)], actions[0], text))
    return calls


@settings(max_examples=25, deadline=None)
@given(st.lists(nodes, min_size=1, max_size=9))
def test_scores_of_any_tree_of_conversations_are_those_of_reading_each_whole(narrow, prm, grown):
    for conversations in in_rounds(grown):
        kept = narrow.score_conversations(conversations)
        np.testing.assert_allclose(kept, encoded_whole(prm, conversations), atol=1e-5)


def stem_length(prm, messages):
    return len(prm.encoder.prompt_tokens(messages))


def test_the_next_step_of_a_search_reads_what_is_new_and_the_candidates(make_prm):
    prm = make_prm()
    prm.score_conversations(candidates(ROOT, ["a", "b c"]))
    child = observed(ROOT, "b c", "e f g")
    scored, kept = prm.tokens_scored, prm.tokens_kept
    prm.score_conversations(candidates(child, ["a", "b c"]))
    assert prm.tokens_scored - scored == stem_length(prm, child) - stem_length(prm, ROOT) + 2 + 3
    assert prm.tokens_kept - kept == stem_length(prm, ROOT)


def test_a_fork_copies_what_its_branches_share_and_reads_only_what_is_new(make_prm):
    prm = make_prm()
    prm.score_conversations(candidates(ROOT, ["a", "b", "c"]))
    forks = [observed(ROOT, action, "e f") for action in ("a", "b", "c")]
    conversations = [one for fork in forks for one in candidates(fork, ["d", "e"])]
    before = prm.tokens_scored
    scores = prm.score_conversations(conversations)
    new = sum(stem_length(prm, fork) - stem_length(prm, ROOT) for fork in forks)
    assert prm.tokens_scored - before == new + 6 * 2
    np.testing.assert_allclose(scores, encoded_whole(prm, conversations), atol=1e-5)


def test_interleaved_searches_do_not_make_each_other_read_again(make_prm):
    prm = make_prm()
    paths = {name: [Message("user", f"{name} {name}")] for name in "abcd"}
    for step in range(3):
        for name, path in paths.items():
            before, length = prm.tokens_kept, stem_length(prm, path)
            (score,) = prm.score_conversations(candidates(path, ["g"]))
            assert score == pytest.approx(encoded_whole(prm, candidates(path, ["g"]))[0], abs=1e-5)
            if step:
                assert prm.tokens_kept - before == length - 5  # action, its end, two words, the next mark
            paths[name] = observed(path, "g", "h h")


def test_more_conversations_than_slots_are_as_right_and_the_rest_still_saves_work(make_prm, trajectories):
    prm = make_prm(slots=3)
    made = [list(one.messages[:-1]) for one in trajectories(7, seed=4, steps=3)]
    for _ in range(2):
        conversations = [one for messages in made for one in candidates(messages, ["a", "b"])]
        np.testing.assert_allclose(prm.score_conversations(conversations), encoded_whole(prm, conversations), atol=1e-5)
        made = [observed(messages, "a", "c d") for messages in made]
    assert prm.tokens_kept > 0


def test_a_conversation_that_outgrows_its_slot_gets_a_larger_one(make_prm, trajectories):
    prm = make_prm(slots=2)
    (long,) = trajectories(1, seed=3, steps=22)
    begun = [long.messages[: 2 * (step + 1)] for step in range(0, 22, 3)]
    scores = [prm.score_conversations([conversation])[0] for conversation in begun]
    assert stem_length(prm, begun[0]) < 256 < stem_length(prm, begun[-1])
    np.testing.assert_allclose(scores, encoded_whole(prm, begun), atol=1e-5)


def test_an_action_may_be_longer_than_what_is_read_at_once(make_prm):
    prm = make_prm()
    said = candidates(ROOT, ["a " * 300 + "b", "c"])
    np.testing.assert_allclose(prm.score_conversations(said), encoded_whole(prm, said), atol=1e-5)


def test_what_is_forgotten_is_read_again(make_prm):
    prm = make_prm()
    prm.score_conversations(candidates(ROOT, ["a"]))
    first = prm.tokens_scored
    prm.forget_conversations()
    prm.score_conversations(candidates(ROOT, ["a"]))
    assert (prm.tokens_scored, prm.tokens_kept) == (2 * first, 0)


def test_an_interrupted_call_leaves_nothing_wrong_behind(make_prm, monkeypatch):
    prm = make_prm()
    prm.score_conversations(candidates(ROOT, ["a"]))
    child = candidates(observed(ROOT, "a", "e f"), ["g", "h"])
    with monkeypatch.context() as patched:
        patched.setattr(ConversationReader, "_read_wave", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prm.score_conversations(child)
    np.testing.assert_allclose(prm.score_conversations(child), encoded_whole(prm, child), atol=1e-5)


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_bfloat16_scores_stay_near_those_of_reading_whole(make_prm):
    prm = make_prm(dtype="bfloat16")
    path = ROOT
    for action in "abcd":
        said = candidates(path, [action, "e f"])
        # Eight bits of precision, and values of size 1.
        np.testing.assert_allclose(prm.score_conversations(said), encoded_whole(prm, said), atol=0.05)
        path = observed(path, action, "g h")


def test_shapes_come_from_closed_sets_that_grow_with_the_logarithm_of_the_sizes():
    sizes = Sizes.for_conversations_of(300, kept_tokens=1 << 14, tokens_per_batch=2048)
    assert (sizes.slots, sizes.capacity) == (16, 1024)
    assert sizes.windows == (0, 1024)
    assert sizes.row_counts(64, 256) == (4, 32)
    assert sizes.row_counts(4096, 256) == (1,)
    assert sizes.copy_counts == (16,)


def test_few_shapes_are_compiled_whatever_the_number_of_conversations(decoder_config, prm, encoder, trajectories):
    fresh = Prm(replace(decoder_config, norm_eps=2e-6), prm._params, encoder, initial_value=0.0, tokens_per_batch=256)
    before = read_pieces._cache_size()
    for count in (1, 2, 3, 5, 8, 13):
        made = [one.messages for one in trajectories(count, seed=count, steps=3)]
        fresh.score_conversations(made)
        fresh.forget_conversations()
    assert read_pieces._cache_size() - before <= 4 * 2  # rows of 16 to 128 tokens, two numbers of each
