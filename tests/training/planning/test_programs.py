"""Laws of the cache of compiled programs that need no compiler."""

import gzip
from types import SimpleNamespace

import numpy as np
import pytest

from agentprm_jax.training.planning import programs
from agentprm_jax.training.planning.programs import FLAGS, Compiled, Memory, compiled_before, digest_of

PROGRAM = Compiled(Memory(1.0, 2.0, 3.0, None), "HloModule one")


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled, in order."""
    done = []
    monkeypatch.setattr(programs, "compile_step", lambda lowered: done.append(lowered) or PROGRAM)
    return done


def test_a_program_is_compiled_once_and_kept_in_one_file(tmp_path, compiled):
    path = tmp_path / "plans" / "one.json.gz"
    assert compiled_before(path, "lowered") == compiled_before(path, "lowered") == PROGRAM
    assert compiled == ["lowered"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "torn", [lambda whole: b"", lambda whole: whole[:-9], lambda whole: whole[9:], lambda whole: gzip.compress(b"{")]
)
def test_a_file_that_cannot_be_read_is_made_anew(tmp_path, compiled, torn):
    path = tmp_path / "one.json.gz"
    compiled_before(path, "first")
    path.write_bytes(torn(path.read_bytes()))
    assert compiled_before(path, "second") == compiled_before(path, "third") == PROGRAM
    assert compiled == ["first", "second"]


def test_a_killed_run_leaves_no_program_or_a_whole_one(tmp_path, compiled, monkeypatch):
    path = tmp_path / "one.json.gz"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(programs.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            compiled_before(path, "first")
    assert not path.exists()
    assert compiled_before(path, "second") == PROGRAM


@pytest.mark.parametrize("name", FLAGS)
def test_flags_of_the_compiler_make_another_program(monkeypatch, name):
    monkeypatch.setattr(programs.importlib.metadata, "version", lambda _: "1")
    monkeypatch.delenv(name, raising=False)
    lowered = SimpleNamespace(as_text=lambda: "module")
    mesh = SimpleNamespace(devices=np.array([SimpleNamespace(coords=(0, 0, 0))]))
    before = digest_of(lowered, "v5e:2x4", mesh)
    monkeypatch.setenv(name, "--xla_tpu_scoped_vmem_limit_kib=65536")
    assert digest_of(lowered, "v5e:2x4", mesh) != before
