"""Laws of names and colours."""

import itertools

from agentprm_jax.reporting.methods import METHODS, MethodStyle, method_key, method_label, method_styles


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def under_test() -> list[MethodStyle]:
    spare = method_styles([f"unknown {index}" for index in range(6)])
    return [METHODS[name] for name in ("agentprm", "agentprm_delta_q", "agentprm_no_la", "pvm", "orm", "mc")] + list(
        spare.values()
    )


def test_method_colours_are_legible_on_white_and_on_the_dark_page():
    for style in under_test():
        assert contrast(style.colour, "#ffffff") >= 3, style
        assert contrast(style.colour, "#15171b") >= 3, style


def test_no_two_known_methods_share_colour_dash_and_marker():
    known = list(METHODS.items())
    for (a, style_a), (b, style_b) in itertools.combinations(known, 2):
        if style_a.marker or style_b.marker:
            assert style_a[1:] != style_b[1:], (a, b)


def test_a_method_keeps_its_colour_whatever_else_is_drawn():
    assert method_styles(["agentprm"])["agentprm"] == method_styles(["x", "orm", "agentprm"])["agentprm"]
    assert method_styles(["mine"])["mine"] == method_styles(["pvm", "mine"])["mine"]


def test_unknown_methods_of_one_figure_have_different_colours():
    styles = method_styles([f"variant {index}" for index in range(6)])
    assert len({style.colour for style in styles.values()}) == 6


def test_spelling_does_not_change_the_method():
    assert method_key("AgentPRM no-LA") == "agentprm_no_la"
    assert method_styles(["AgentPRM"])["AgentPRM"] == METHODS["agentprm"]
    assert (method_label("orm"), method_label("my own")) == ("ORM", "my own")
