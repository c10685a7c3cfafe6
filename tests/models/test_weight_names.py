"""The table of tensors is total and injective."""

import jax
import pytest

from agentprm_jax.models.weight_names import weight_table
from tests.models.tiny_models import FAMILIES, language_model, reward_model


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_the_weight_table_names_every_parameter_once(config):
    for value_head, model in ((False, language_model), (True, reward_model)):
        table = weight_table(config, value_head=value_head)
        paths = [path for path, _ in jax.tree.leaves_with_path(model(config))]
        assert sorted(weight.path for weight in table) == sorted(tuple(k.key for k in path) for path in paths)
        assert len({weight.name for weight in table}) == len(table)
