import jax
import numpy as np
import pytest

from agentprm_jax.data import ChatEncoder, Message, word_tokenizer
from agentprm_jax.models import init_language_model, init_reward_model
from agentprm_jax.scoring import Prm, StepScores
from agentprm_jax.scoring.readout import read_rows


def promises_of(scores):
    return [score.promise for score in scores]


def close(some, others, tolerance=1e-5):
    assert [len(one) for one in some] == [len(other) for other in others]
    np.testing.assert_allclose(np.concatenate(some), np.concatenate(others), atol=tolerance)


def test_scores_do_not_depend_on_the_company_that_a_trajectory_is_scored_in(prm, trajectories):
    made = trajectories(9)
    together = prm.score(made)
    close(promises_of(together), [prm.score([one])[0].promise for one in made])


def test_scores_come_in_the_order_of_the_trajectories(prm, trajectories):
    made = [*trajectories(12), *trajectories(2, seed=5, steps=25)]
    order = np.random.default_rng(2).permutation(len(made)).tolist()
    straight = promises_of(prm.score(made))
    close(promises_of(prm.score([made[place] for place in order])), [straight[place] for place in order])


def test_the_promise_of_a_step_does_not_depend_on_later_messages(prm, trajectories):
    (whole,) = trajectories(1, steps=6)
    full = prm.score([whole])[0].promise
    begun = [whole.messages[: 2 * (step + 1)] for step in range(6)]
    np.testing.assert_allclose(prm.score_conversations(begun), full, atol=1e-5)


def test_what_follows_the_last_action_of_a_conversation_has_no_influence(prm, trajectories):
    (one,) = trajectories(1)
    short, long = prm.score_conversations([one.messages, [*one.messages, Message("user", "a b c")]])
    assert short == pytest.approx(long, abs=1e-6)


def candidates_of(trajectory, texts):
    begun = list(trajectory.messages[:-1])
    return [[*begun, Message("assistant", text, action=True)] for text in texts]


def test_candidates_of_one_conversation_score_as_each_does_alone(prm, trajectories):
    texts = ["a", "b c", "a b c d e f g h", "", "l"]
    conversations = [one for made in trajectories(5) for one in candidates_of(made, texts)]
    order = np.random.default_rng(0).permutation(len(conversations)).tolist()
    together = prm.score_conversations([conversations[place] for place in order])
    alone = [prm.score_conversations([conversations[place]])[0] for place in order]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_what_candidates_share_is_computed_once(decoder_config, encoder, trajectories):
    fresh = Prm(decoder_config, init_reward_model(decoder_config, jax.random.key(1)), encoder, initial_value=0.0)
    (made,) = trajectories(1, steps=4)
    conversations = candidates_of(made, ["a", "b c", "d e f"])
    fresh.score_conversations(conversations)
    assert fresh.tokens_scored == len(encoder.prompt_tokens(made.messages[:-1])) + (1 + 1) + (2 + 1) + (3 + 1)


def test_more_candidates_than_one_row_should_hold_are_shared_out(prm, trajectories):
    (made,) = trajectories(1, steps=2)
    texts = [" ".join(np.random.default_rng(k).choice(list("abcdef"), 20)) for k in range(40)]
    conversations = candidates_of(made, texts)
    apart = [prm.score_conversations([one])[0] for one in conversations[::13]]
    np.testing.assert_allclose(prm.score_conversations(conversations)[::13], apart, atol=1e-5)


def test_an_assistant_message_that_is_no_action_is_not_read(prm):
    opening = [Message("user", "a b"), Message("assistant", "c"), Message("user", "d")]
    with pytest.raises(ValueError, match=r"Conversation 0 should have an action .* got user, assistant, user"):
        prm.score_conversations([opening])


def test_progress_is_the_difference_of_promises_from_the_initial_value_on(prm, trajectories):
    for scores in prm.score(trajectories(5)):
        before = [0.375, *scores.promise[:-1]]
        np.testing.assert_allclose(scores.progress, np.subtract(scores.promise, before), atol=1e-7)


def test_progress_adds_up_to_the_last_promise_less_the_initial_value():
    scores = StepScores.from_promise([0.25, 0.75, 0.5], 0.125)
    assert scores == StepScores((0.25, 0.75, 0.5), (0.125, 0.5, -0.25))
    assert StepScores.from_promise([], 0.5) == StepScores((), ())


def test_nothing_is_scored_as_nothing(prm):
    assert prm.score([]) == []
    assert prm.score_conversations([]) == []


def test_tokens_scored_counts_tokens_and_no_padding(decoder_config, encoder, trajectories):
    params = init_reward_model(decoder_config, jax.random.key(1))
    fresh = Prm(decoder_config, params, encoder, initial_value=0.0)
    made = trajectories(7)
    fresh.score(made)
    assert fresh.tokens_scored == sum(len(encoder.encode(one).up_to_last_action().tokens) for one in made)


def test_few_shapes_are_compiled_whatever_the_number_of_trajectories(decoder_config, encoder, trajectories):
    params = init_reward_model(decoder_config, jax.random.key(1))
    prm = Prm(decoder_config, params, encoder, initial_value=0.0, tokens_per_batch=1024)
    before = read_rows._cache_size()
    for count in (1, 2, 3, 5, 8, 13, 21, 34):
        prm.score(trajectories(count, seed=count, steps=3))
    assert read_rows._cache_size() - before <= 2 * 5  # a full batch or a single row; 3 to 48 read-outs in powers of two


def test_a_trajectory_longer_than_the_model_is_meant_for_is_refused_by_its_id(prm, trajectories):
    made = [*trajectories(2), *trajectories(1, steps=60)]
    with pytest.raises(ValueError, match=r"t0 has \d+ tokens, but PRM tiny is meant for at most 400"):
        prm.score(made)


def test_a_language_model_is_refused(decoder_config, encoder):
    params = init_language_model(decoder_config, jax.random.key(0))
    with pytest.raises(ValueError, match="value head, got a language model"):
        Prm(decoder_config, params, encoder, initial_value=0.5)


def test_a_tokenizer_larger_than_the_model_is_refused(decoder_config, prm):
    larger = ChatEncoder(word_tokenizer([*"abcdefghijkl", "more"]))
    with pytest.raises(ValueError, match="highest token id is 16, but the model embeds 16 tokens"):
        Prm(decoder_config, prm._params, larger, initial_value=0.5)


def test_training_notes_that_are_no_json_are_refused(decoder_config, prm, encoder):
    with pytest.raises(ValueError, match="should be JSON"):
        Prm(decoder_config, prm._params, encoder, initial_value=0.5, training={"rate": float("nan")})
