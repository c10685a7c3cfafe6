"""Which pictures a report has."""

import msgspec
from test_findings import findings

from agentprm_jax.reporting.methods import method_label
from agentprm_jax.reporting.pictures import draw_all

RUNS = {"agentprm": [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}]}


def drawn(results, runs=RUNS, **changes):
    found = findings()
    made = msgspec.structs.replace(
        results,
        tables=(found.search_table(), found.value_table()),
        curves=found.curves(),
        comparisons=found.comparisons(),
    )
    return {drawing.name: drawing for drawing in draw_all(found, msgspec.structs.replace(made, **changes), runs)}


def test_the_picture_over_tokens_shows_methods_greedy_and_the_best_control_beside_beam_search(results):
    figure = drawn(results)["best_of_n_tokens"].figure
    (axes,) = figure.axes
    named = {text.get_text() for text in axes.texts}
    best = findings().best_control(["bon_8"])
    assert {"AgentPRM", "ORM", "2x2"} <= named
    assert named & {method_label(name) for name in findings().controls} == {"greedy", method_label(best)}
    assert axes.get_ylabel()


def test_there_is_no_picture_of_training_where_all_prms_come_from_elsewhere(results):
    assert drawn(results).keys() - drawn(results, runs={}).keys() == {"training"}


def test_there_is_no_picture_over_tokens_or_of_comparisons_where_there_is_nothing_to_show(results):
    unknown = tuple(msgspec.structs.replace(curve, tokens_sampled=None) for curve in findings().curves())
    assert not {"best_of_n_tokens", "comparisons"} & drawn(results, curves=unknown, comparisons=()).keys()
