"""Reporting: statistics over tasks and seeds, the results record, tables, plots and the HTML page.

Names are imported on first use, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentprm_jax.reporting.page import Picture, render_page, write_page
    from agentprm_jax.reporting.paths import choose_examples, promise_groups
    from agentprm_jax.reporting.provenance import describe_machine, git_commit, package_versions
    from agentprm_jax.reporting.results import (
        Check,
        Column,
        Comparison,
        Cost,
        Curve,
        Difference,
        Estimate,
        Results,
        ResultsError,
        Row,
        Stage,
        Table,
        read_results,
        write_results,
    )
    from agentprm_jax.reporting.statistics import estimate, paired_bootstrap, pooled_estimate
    from agentprm_jax.reporting.tables import markdown_results, print_results

_HOMES = {
    "page": ("Picture", "render_page", "write_page"),
    "paths": ("choose_examples", "promise_groups"),
    "provenance": ("describe_machine", "git_commit", "package_versions"),
    "results": (
        "Check",
        "Column",
        "Comparison",
        "Cost",
        "Curve",
        "Difference",
        "Estimate",
        "Results",
        "ResultsError",
        "Row",
        "Stage",
        "Table",
        "read_results",
        "write_results",
    ),
    "statistics": ("estimate", "paired_bootstrap", "pooled_estimate"),
    "tables": ("markdown_results", "print_results"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Check",
    "Column",
    "Comparison",
    "Cost",
    "Curve",
    "Difference",
    "Estimate",
    "Picture",
    "Results",
    "ResultsError",
    "Row",
    "Stage",
    "Table",
    "choose_examples",
    "describe_machine",
    "estimate",
    "git_commit",
    "markdown_results",
    "package_versions",
    "paired_bootstrap",
    "pooled_estimate",
    "print_results",
    "promise_groups",
    "read_results",
    "render_page",
    "write_page",
    "write_results",
]


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
