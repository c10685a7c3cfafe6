"""The rooms of the package and what may import what."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "src" / "agentprm_jax"
EXPERIMENTS = PACKAGE.parent.parent / "experiments"
ROOMS = ("numerics", "models", "data", "envs", "actors", "scoring", "search", "training", "reporting", "commands")
HEAVY = ("jax", "flax", "orbax", "transformers", "grain", "matplotlib", "minigrid", "openai", "httpx")
COMMANDS = ("quickstart", "sft", "collect", "train_prm", "evaluate", "bench_gae", "plan")
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


def loaded_modules(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split("\n")[-2].split())


def test_importing_the_package_loads_no_heavy_library():
    assert not loaded_modules("import agentprm_jax") & set(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_field_and_loads_no_heavy_library(command):
    code = (
        f"import runpy, contextlib\nsys.path.insert(0, {str(EXPERIMENTS)!r})\nsys.argv = [{command!r}, '--help']\n"
        f"with contextlib.suppress(SystemExit):\n"
        f"    runpy.run_path({str(EXPERIMENTS / (command + '.py'))!r}, run_name='__main__')"
    )
    assert not loaded_modules(code) & set(HEAVY)


@pytest.mark.parametrize("words", [[], *([name] for name in SUBCOMMANDS)], ids=str)
def test_help_of_the_console_command_loads_no_heavy_library(words):
    code = (
        "import contextlib\nfrom agentprm_jax.commands.main import main\n"
        f"with contextlib.suppress(SystemExit):\n    main([*{words!r}, '--help'])"
    )
    assert not loaded_modules(code) & set(HEAVY)
