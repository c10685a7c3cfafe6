"""Laws of several PRMs that score as one."""

import jax
import numpy as np
import pytest

from agentprm_jax.models import init_reward_model
from agentprm_jax.scoring import MeanScorer, Prm, StepScores


@pytest.fixture
def prms(decoder_config, encoder):
    keys = jax.random.split(jax.random.key(3), 3)
    return [
        Prm(decoder_config, init_reward_model(decoder_config, key), encoder, initial_value=0.1 * (place + 1))
        for place, key in enumerate(keys)
    ]


def test_the_mean_of_one_scorer_is_that_scorer(prm, trajectories):
    made = trajectories(4)
    for alone, mean in zip(prm.score(made), MeanScorer([prm]).score(made), strict=True):
        np.testing.assert_allclose(mean, alone, rtol=1e-12)


def test_promises_are_averaged_and_progress_is_that_of_the_mean_promise(prms, trajectories):
    made = trajectories(5)
    found = MeanScorer(prms).score(made)
    singles = [prm.score(made) for prm in prms]
    for place, scores in enumerate(found):
        mean = np.mean([single[place].promise for single in singles], axis=0)
        np.testing.assert_allclose(scores.promise, mean, rtol=1e-12)
        expected = StepScores.from_promise(mean.tolist(), 0.2)
        np.testing.assert_allclose(scores.progress, expected.progress, atol=1e-7)


def test_conversations_are_valued_as_the_last_step_of_trajectories(prms, trajectories):
    made = trajectories(3)
    scorer = MeanScorer(prms)
    last = [scores.promise[-1] for scores in scorer.score(made)]
    np.testing.assert_allclose(scorer.score_conversations([one.messages for one in made]), last, atol=1e-5)


def test_no_scorer_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one scorer"):
        MeanScorer([])
