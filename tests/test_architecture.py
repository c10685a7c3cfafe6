"""The rooms of the package and what may import what."""

import ast
import dataclasses
import importlib
import os
import pathlib
import subprocess
import sys

import pytest
import tyro

from tests.help_text import COLUMNS, check_help

PACKAGE = pathlib.Path(__file__).parent.parent / "src" / "agentprm_jax"
EXPERIMENTS = PACKAGE.parent.parent / "experiments"
ROOMS = ("numerics", "models", "data", "envs", "actors", "scoring", "search", "training", "reporting", "commands")
HEAVY = ("jax", "flax", "orbax", "transformers", "grain", "matplotlib", "minigrid", "openai", "httpx")
COMMANDS = {
    "quickstart": "QuickstartConfig",
    "sft": "SftConfig",
    "collect": "CollectConfig",
    "train_prm": "TrainPrmConfig",
    "evaluate": "EvaluateConfig",
    "fork_values": "ForkValuesConfig",
    "bench_gae": "BenchGaeConfig",
    "plan": "PlanConfig",
}
SUBCOMMANDS = ("convert", "score", "export", "import", "show")


def imported_rooms(path: pathlib.Path) -> set[str]:
    """Rooms that a module names in any import statement, at the top or inside a function."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}:{node.lineno}: write the absolute import, so that the rooms can be read off")
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "agentprm_jax":
            names = [f"agentprm_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        rooms |= {name.split(".")[1] for name in names if name.startswith("agentprm_jax.")}
    return rooms


def test_the_package_has_these_rooms_and_no_others():
    found = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert found == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_itself_and_rooms_listed_above_it(room):
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    for path in sorted((PACKAGE / room).rglob("*.py")):
        assert imported_rooms(path) <= allowed, f"{path.relative_to(PACKAGE)} imports {imported_rooms(path) - allowed}"


def test_the_package_never_imports_torch():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not any(name.split(".")[0] == "torch" for name in names), f"{path}:{node.lineno} imports torch"


def said_and_loaded(code: str) -> tuple[str, set[str]]:
    """What the code prints, and the libraries that it has imported."""
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    variables = os.environ | {"COLUMNS": COLUMNS}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=variables)
    said, _, modules = result.stdout.rstrip("\n").rpartition("\n")
    return said, set(modules.split())


def test_importing_the_package_loads_no_heavy_library():
    assert not said_and_loaded("import agentprm_jax")[1] & set(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_field_and_loads_no_heavy_library(command, monkeypatch):
    code = (
        f"import runpy, contextlib\nsys.path.insert(0, {str(EXPERIMENTS)!r})\nsys.argv = [{command!r}, '--help']\n"
        f"with contextlib.suppress(SystemExit):\n"
        f"    runpy.run_path({str(EXPERIMENTS / (command + '.py'))!r}, run_name='__main__')"
    )
    said, loaded = said_and_loaded(code)
    assert not loaded & set(HEAVY)
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    check_help(said, getattr(importlib.import_module(command), COMMANDS[command]))


@dataclasses.dataclass(frozen=True)
class Inner:
    told: int = 0
    """Something."""
    silent: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = ""
    """A name."""
    inner: Inner = dataclasses.field(default_factory=Inner)


def test_a_nested_field_without_a_docstring_is_noticed_in_the_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", COLUMNS)
    with pytest.raises(SystemExit):
        tyro.cli(Outer, args=["--help"])
    with pytest.raises(AssertionError, match=r"says nothing about \['--inner\.silent'\]"):
        check_help(capsys.readouterr().out, Outer)


@pytest.mark.parametrize("words", [[], *([name] for name in SUBCOMMANDS)], ids=str)
def test_help_of_the_console_command_loads_no_heavy_library(words):
    code = (
        "import contextlib\nfrom agentprm_jax.commands.main import main\n"
        f"with contextlib.suppress(SystemExit):\n    main([*{words!r}, '--help'])"
    )
    assert not said_and_loaded(code)[1] & set(HEAVY)
