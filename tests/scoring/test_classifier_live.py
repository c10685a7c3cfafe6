"""An exported PRM in `transformers` on torch, read with the code of its own model card."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from agentprm_jax.commands.main import main
from agentprm_jax.data import ChatEncoder
from agentprm_jax.data.template import DATE
from agentprm_jax.data.tokenizer_files import save_with_tokenizer
from agentprm_jax.models import init_language_model, init_reward_model, lm_logits
from agentprm_jax.scoring import Prm
from tests.data.made_tokenizers import CHATML, HEADERS, train_byte_pairs, with_template
from tests.data.made_trajectories import trajectory

pytestmark = pytest.mark.torch
TALKS = [trajectory(steps, name=f"t{steps}") for steps in (1, 3, 2, 6)]


def code_of_card(folder):
    """What the code of the card defines."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    named = f'folder = "{folder.name}"'
    assert named in code
    defined = {}
    exec(code.replace(named, f"folder = {str(folder)!r}"), defined)
    return defined


@pytest.fixture(scope="module", params=["words", "chatml", "pad is end of turn", "no pad", "dated"])
def chat_encoder(request, encoder):
    """Tokenizers of several kinds; of the third and fourth the pad token is not one to read a score with."""
    if request.param == "words":
        from agentprm_jax.data import word_tokenizer
        from tests.data.made_trajectories import WORDS

        return ChatEncoder(word_tokenizer(sorted(set(WORDS))))
    tokenizer = with_template(train_byte_pairs(), HEADERS if request.param == "dated" else CHATML)
    if request.param == "pad is end of turn":
        tokenizer.pad_token = "<|im_end|>"
    if request.param == "no pad":
        tokenizer.pad_token = None
    return ChatEncoder(tokenizer)


@pytest.fixture(scope="module")
def made_prm(decoder_config, chat_encoder):
    config = dataclasses.replace(decoder_config, vocab_size=chat_encoder.vocab_size + 5, max_positions=2048)
    params = init_reward_model(config, jax.random.key(3))
    loud = jax.tree.map(lambda x: x * 3, params["value_head"])  # so that promises differ by about 1
    return Prm(config, {**params, "value_head": loud}, chat_encoder, initial_value=0.5, name="made")


# bfloat16 has 8 bits: two layers of it differ by about 1e-2 of the largest value.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_the_card_s_code_gives_the_promise_of_the_last_action(made_prm, tmp_path, dtype, tolerance):
    made_prm.save(tmp_path / "prm")
    main(["export", str(tmp_path / "prm"), str(tmp_path / "out"), "--dtype", dtype])
    ours = [scores.promise[-1] for scores in Prm.load(tmp_path / "out").score(TALKS)]
    read = code_of_card(tmp_path / "out")
    talks = [[{"role": m.role, "content": m.content} for m in one.messages] for one in TALKS]
    assert np.ptp(ours) > 10 * tolerance
    np.testing.assert_allclose(read["promises"](talks), ours, atol=tolerance)
    alone = [promise for talk in talks for promise in read["promises"]([talk])]
    np.testing.assert_allclose(alone, ours, atol=tolerance)
    assert read["model"].config.problem_type == "regression"
    assert read["model"].config.pad_token_id == read["tokenizer"].pad_token_id


def test_what_the_template_writes_after_the_end_of_turn_has_to_be_cut_off_and_is(made_prm, tmp_path):
    import torch

    made_prm.save(tmp_path / "prm")
    main(["export", str(tmp_path / "prm"), str(tmp_path / "out")])
    read = code_of_card(tmp_path / "out")
    talk = [{"role": m.role, "content": m.content} for m in TALKS[1].messages]
    whole = read["tokenizer"].apply_chat_template(talk, tokenize=False, date_string=DATE)
    tokens = read["tokenizer"](whole, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        uncut = read["model"](tokens).logits.item()
    (ours,) = made_prm.score_conversations([TALKS[1].messages])
    follows = tokens[0, -1] != made_prm.encoder.end_of_turn_id
    assert follows == (made_prm.encoder.template.turn(False, "assistant").suffix == "<|im_end|>\n")
    assert (abs(uncut - ours) > 1e-2) == follows
    np.testing.assert_allclose(read["promises"]([talk]), [ours], atol=1e-4)


def test_a_conversation_that_does_not_end_with_an_action_is_refused_by_the_card_s_code(made_prm, tmp_path):
    made_prm.save(tmp_path / "prm")
    main(["export", str(tmp_path / "prm"), str(tmp_path / "out")])
    with pytest.raises(ValueError, match="should end with a message of the assistant"):
        code_of_card(tmp_path / "out")["promises"]([[{"role": "user", "content": "red"}]])


def test_the_card_s_code_of_an_actor_says_what_the_actor_says_and_stops_at_its_end_of_turn(
    decoder_config, chat_encoder, tmp_path
):
    config = dataclasses.replace(decoder_config, vocab_size=chat_encoder.vocab_size, max_positions=2048)
    params = init_language_model(config, jax.random.key(5))
    save_with_tokenizer(tmp_path / "actor", config, params, chat_encoder)
    main(["export", str(tmp_path / "actor"), str(tmp_path / "out")])
    act = code_of_card(tmp_path / "out")["act"]
    messages = list(TALKS[1].messages[:-1])
    tokens = chat_encoder.prompt_tokens(messages)
    said = []
    for _ in range(8):
        said.append(int(np.argmax(lm_logits(config, params, np.asarray([tokens + said]))[0, -1])))
        if said[-1] == chat_encoder.end_of_turn_id:
            break
    talk = [{"role": message.role, "content": message.content} for message in messages]
    assert act(talk, max_new_tokens=8) == chat_encoder.tokenizer.decode(said, skip_special_tokens=True)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == chat_encoder.end_of_turn_id
