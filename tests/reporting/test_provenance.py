"""Where results say that they come from."""

import platform
import subprocess

from agentprm_jax.reporting import provenance
from agentprm_jax.reporting.provenance import (
    Origin,
    describe_machine,
    git_commit,
    join_origins,
    origin_here,
    package_commit,
    package_versions,
)


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_changed_files_show_in_the_commit(tmp_path):
    assert git_commit(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert git_commit(tmp_path) == f"{commit}+changes"


def test_a_package_that_is_installed_below_a_checkout_does_not_take_its_commit(tmp_path, monkeypatch):
    module = tmp_path / "site-packages" / "provenance.py"
    module.parent.mkdir()
    module.write_text("")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "init")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert git_commit(module.parent)
    assert package_commit() is None
    git(tmp_path, "add", "site-packages")
    git(tmp_path, "commit", "-m", "second")
    assert package_commit() == git(tmp_path, "rev-parse", "HEAD")


def test_versions_name_what_is_installed_and_nothing_else():
    versions = package_versions(["numpy", "no-such-package"])
    assert set(versions) == {"python", "numpy"}
    assert versions["python"] == platform.python_version()
    assert " core" in describe_machine()


def test_what_is_made_of_several_things_has_every_different_origin_of_theirs_once():
    here = origin_here()
    other = Origin(commits=("a1",), machines=here.machines, versions=({"jax": "1.0"},))
    joined = Origin(**join_origins([here, Origin(), other, here]))
    assert joined == Origin(
        commits=(*here.commits, "a1"), machines=(describe_machine(),), versions=(package_versions(), {"jax": "1.0"})
    )
