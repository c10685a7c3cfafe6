"""The model card."""

import ast
import json
import re

import pytest

from agentprm_jax.data import ChatEncoder
from agentprm_jax.reporting.model_card import Licence, actor_card, own_rows, prm_card
from agentprm_jax.scoring.prm_files import PrmRecord
from tests.data.made_tokenizers import CHATML, HEADERS, train_byte_pairs, with_template

NOTES = {
    "settings": {
        "init": "actor/model",
        "objective": {"method": "pvm", "gamma": 0.9, "lam": 0.95, "beta": 0.5},
        "x": None,
    },
    "data": {"trajectories": 1200, "tasks": 75, "steps": 9000, "mean_outcome": 0.4567},
    "updates": 300,
    "tokens": 1_000_000,
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
    "note": "a|b\nc",
}


@pytest.fixture(scope="module")
def encoders():
    byte_pairs = train_byte_pairs()
    return [ChatEncoder(with_template(byte_pairs, template)) for template in (CHATML, HEADERS)]


def card(encoder, name="pvm-3", method="pvm", results=None, notes=NOTES, licence=None):
    record = PrmRecord(name=name, method=method, initial_value=0.3125)
    return prm_card("mine", record, notes, encoder, 512, results, licence or Licence())


def test_the_card_says_how_the_model_was_trained(encoders):
    said = card(encoders[0])
    for part in (
        "Method: PVM (`pvm-3`); gamma 0.9; lambda 0.95; beta 0.5; trajectories 1,200; tasks 75; steps 9,000; "
        "mean outcome 0.4567; updates 300; tokens trained on 1,000,000; started from `actor/model`.",
        "| settings.objective.beta | 0.5 |",
        "| note | a\\|b c |",
        "Versions: python 3.11.7, jax 0.10.2.",
        "before the first action stands 0.3125",
        "longer than 512 tokens",
    ):
        assert part in said
    assert "settings.x" not in said


def test_a_card_without_notes_or_evaluation_says_so(encoders):
    said = card(encoders[0], notes={})
    assert "Nothing more is known about the training." in said
    assert "Exported with agentprm-jax" in said
    assert "This model has not been evaluated" in said
    assert "Nobody has stated a licence" in said


def test_notes_of_any_shape_are_told(encoders):
    said = card(encoders[0], notes={"settings": 3, "data": ["x"], "updates": "many"})
    assert "Method: PVM (`pvm-3`)." in said
    assert '| data | ["x"] |' in said


def test_the_metadata_block_names_licence_and_base_model(encoders):
    said = card(encoders[0], licence=Licence("apache-2.0", "some/base"))
    block = dict(line.split(": ", 1) for line in said.split("---\n")[1].strip().split("\n"))
    assert {key: json.loads(value) for key, value in block.items()} == {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "some/base",
        "tags": ["process-reward-model", "agentprm", "agents"],
    }
    assert "base_model" not in card(encoders[0])


def test_the_evaluation_holds_the_models_own_rows_the_controls_and_the_bounds_with_standard_errors(encoders, results):
    said = card(encoders[0], results=results)
    evaluation = said.split("## Evaluation")[1].split("## Licence")[0]
    shown = re.findall(r"^\| ([^|]+?) \| ", evaluation, re.MULTILINE)
    assert [name for name in shown if name not in ("---", "")] == [
        "PVM", "greedy", "one random sample", "random beam, finished first", "expert", "oracle", "PVM",
    ]  # fmt: skip
    own = next(row for row in results.tables[0].rows if row.method == "pvm").estimates["bon8"]
    assert f"{own.value:.3f}".lstrip("0") in evaluation
    assert "±" in evaluation
    assert "means over 5 seeds of this method, of which this model is one" in evaluation


def test_a_prm_is_known_by_its_own_name_then_by_its_method_then_by_its_name_without_the_seed(results):
    def rows(name, method):
        return own_rows(results, PrmRecord(name=name, method=method, initial_value=0.0))

    assert rows("orm-4", "agentprm") == ("agentprm",)
    assert rows("orm-4", "mine") == ("orm",)
    assert rows("mine", "pvm") == ("pvm",)
    assert rows("mine", "mine") == ()


def test_an_actor_is_evaluated_by_how_it_does_alone(encoders, results):
    said = actor_card("mine", NOTES, encoders[0], 512, results, Licence())
    evaluation = said.split("## Evaluation")[1]
    assert "| greedy |" in evaluation
    assert "| PVM |" not in evaluation
    assert "random beam" not in evaluation


def test_the_code_of_a_card_is_python_and_fixes_the_date_where_the_template_writes_one(encoders):
    for encoder, dated in zip(encoders, (False, True), strict=True):
        for said in (card(encoder), actor_card("mine", {}, encoder, 512, None, Licence())):
            (code,) = re.findall(r"```python\n(.*?)```", said, re.DOTALL)
            ast.parse(code)
            assert ("date_string" in code) == dated
