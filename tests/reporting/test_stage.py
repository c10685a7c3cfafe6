"""Laws of stage folders: reused when done, continued when interrupted, refused when they differ."""

import dataclasses
import errno
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentprm_jax.reporting.stage import ENCODED, FolderInUse, ForeignFolder, StageFolder, claim_together
from agentprm_jax.training.distributed import OtherProcessFailed
from agentprm_jax.training.record import RunMismatch


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Config:
    output: Path
    steps: int = 3
    inner: Inner = dataclasses.field(default_factory=Inner)


def open_stage(folder, **changes):
    return StageFolder(folder, "stage", Config(folder, **changes), ignore=("output",))


def test_what_a_full_disk_says_is_not_replaced_by_what_it_says_of_the_note(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = open_stage(tmp_path / "run")
    monkeypatch.setattr("agentprm_jax.reporting.stage.write_record", full)
    with pytest.raises(OSError, match="Encoding stopped"), opened.clock():
        raise OSError(errno.ENOSPC, "Encoding stopped. Make room")


def test_a_stage_is_done_only_after_it_is_finished(tmp_path):
    stage = open_stage(tmp_path / "run")
    assert stage.done is None
    stage.finish(tokens_trained=5)
    found = open_stage(tmp_path / "run").done
    assert (found.tokens_trained, found.reused) == (5, True)


def test_another_configuration_is_refused_with_the_field_and_both_values(tmp_path):
    open_stage(tmp_path / "run").finish()
    with pytest.raises(RunMismatch, match=r"inner\.rate was 0\.5 and is now 0\.25"):
        open_stage(tmp_path / "run", inner=Inner(0.25))
    assert open_stage(tmp_path / "run").done


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ForeignFolder, match="not empty"):
        open_stage(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_minutes_add_up_over_interruptions(tmp_path):
    stage = open_stage(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), stage.clock():
        raise KeyboardInterrupt
    first = json.loads((tmp_path / "run" / "minutes.json").read_text())["minutes"]
    with stage.clock():
        finished = stage.finish()
    assert finished.minutes > first > 0.0
    assert stage.done.minutes == finished.minutes


def test_a_stage_that_another_process_has_finished_meanwhile_is_not_made_again(tmp_path):
    late = open_stage(tmp_path / "run")
    with open_stage(tmp_path / "run").clock():
        open_stage(tmp_path / "run").finish()
    with pytest.raises(FolderInUse, match=f"has just finished {tmp_path / 'run'}"), late.clock():
        pass


def test_of_two_processes_that_claim_a_folder_at_once_one_gets_it(tmp_path, monkeypatch):
    other = tmp_path / "run" / "config.json"
    link = os.link

    def link_late(draft, path):
        other.write_text('{"inner": {"rate": 0.25}}')
        link(draft, path)

    monkeypatch.setattr(os, "link", link_late)
    with pytest.raises(RunMismatch, match=r"rate was 0\.25"):
        open_stage(tmp_path / "run", inner=Inner(0.5))
    assert [path.name for path in other.parent.iterdir()] == ["config.json"]


def test_a_claim_works_without_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    assert open_stage(tmp_path / "run").done is None
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def no_links(draft, path):
    raise PermissionError


def test_a_kill_loses_no_more_than_the_time_since_the_last_note(tmp_path):
    def minutes():
        path = tmp_path / "run" / "minutes.json"
        return json.loads(path.read_text())["minutes"] if path.exists() else 0.0

    def wait_for_more_than(known):
        deadline = time.monotonic() + 60
        while minutes() <= known and time.monotonic() < deadline:
            time.sleep(0.01)
        assert minutes() > known

    with open_stage(tmp_path / "run").clock(seconds_between_notes=0.01):
        wait_for_more_than(0.0)
        wait_for_more_than(minutes())
    ended = minutes()
    time.sleep(0.05)
    assert minutes() == ended


def test_a_stage_names_every_commit_machine_and_version_under_which_it_was_worked_on(tmp_path, monkeypatch):
    home = "agentprm_jax.reporting.provenance"
    for commit, cores, jax in (("a1", 1, "1.0"), ("a1", 2, "1.0"), ("b2", 1, "1.1"), (None, 1, "1.1")):
        monkeypatch.setattr(f"{home}.package_commit", lambda commit=commit: commit)
        monkeypatch.setattr(f"{home}.describe_machine", lambda cores=cores: f"{cores} cores")
        monkeypatch.setattr(f"{home}.package_versions", lambda jax=jax: {"jax": jax})
        with open_stage(tmp_path / "run").clock():
            pass
    open_stage(tmp_path / "run").finish()
    monkeypatch.setattr(f"{home}.package_versions", lambda: {"jax": "2.0"})
    found = open_stage(tmp_path / "run").done
    assert found.commits == ("a1", "b2")
    assert found.machines == ("1 cores", "2 cores")
    assert found.versions == ({"jax": "1.0"}, {"jax": "1.1"})


def test_notes_of_sessions_before_commits_or_machines_were_kept_are_continued(tmp_path):
    opened = open_stage(tmp_path / "run")
    for old in ('{"minutes": 2.0}', '{"minutes": 2.0, "commits": []}'):
        (tmp_path / "run" / "minutes.json").write_text(old)
        with opened.clock():
            pass
        assert json.loads((tmp_path / "run" / "minutes.json").read_text())["minutes"] > 2.0
    (tmp_path / "run" / "stage.json").write_text('{"name": "stage", "minutes": 2.0, "commits": ["a1"]}')
    assert opened.done.commits == ("a1",)


def test_what_a_kill_left_of_the_claim_is_no_foreign_file(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.json.tmp", "config.json.123.tmp", "minutes.json.tmp"):
        (tmp_path / "run" / name).write_text('{"st')
    assert open_stage(tmp_path / "run").done is None


def test_a_claim_that_is_given_back_leaves_no_draft(tmp_path):
    stage = open_stage(tmp_path / "run")
    (tmp_path / "run" / "minutes.json.tmp").write_text('{"mi')
    with pytest.raises(OSError, match="full"), stage.clock():
        raise OSError("full")
    assert list((tmp_path / "run").iterdir()) == []


def test_processes_that_do_not_write_read_the_claim_of_the_one_that_does(tmp_path):
    config = Config(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        StageFolder(tmp_path / "run", "stage", config, writer=False)
    first = StageFolder(tmp_path / "run", "stage", config)
    second = StageFolder(tmp_path / "run", "stage", config, writer=False)
    with pytest.raises(RunMismatch, match="steps was 3 and is now 4"):
        StageFolder(tmp_path / "run", "stage", dataclasses.replace(config, steps=4), writer=False)
    with second.clock():
        pass
    second.finish(tokens_trained=1)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    assert first.done is None


def test_one_process_claims_a_folder_together_with_nobody(tmp_path):
    assert claim_together(tmp_path / "run", "stage", Config(tmp_path / "run")).writer


def test_a_folder_is_given_back_by_an_error_until_something_is_made_and_never_by_an_interrupt(tmp_path):
    for made, error in ((False, KeyboardInterrupt), (True, ValueError)):
        folder = tmp_path / error.__name__
        stage = open_stage(folder)
        if made:
            (folder / "trajectories.jsonl").write_text("{}")
        with pytest.raises(error), stage.clock():
            raise error
        with pytest.raises(RunMismatch):
            open_stage(folder, steps=4)
    stage = open_stage(tmp_path / "run")
    (tmp_path / "run" / ENCODED).mkdir()
    with pytest.raises(ValueError, match="path"), stage.clock():
        raise ValueError("no such path")
    assert open_stage(tmp_path / "run", steps=4).done is None
    assert (tmp_path / "run" / ENCODED).exists()


def test_a_folder_that_is_being_filled_is_refused_by_its_name_until_it_is_left(tmp_path):
    first, second = (open_stage(tmp_path / "run") for _ in range(2))
    for inside in (first.clock, first.held):
        with inside(), pytest.raises(FolderInUse, match=rf"at work in {tmp_path / 'run'} \(stage\)"), second.clock():
            raise AssertionError
    with pytest.raises(ValueError, match="no such path"), second.clock():
        raise ValueError("no such path")


def test_a_claim_that_was_given_back_since_it_was_found_does_not_let_a_second_process_in(tmp_path, monkeypatch):
    stage = open_stage(tmp_path / "run")

    def give_back(_):
        (tmp_path / "run" / "config.json").unlink()
        return True

    monkeypatch.setattr("agentprm_jax.reporting.stage.take_lock", give_back)
    with pytest.raises(FolderInUse), stage.held():
        raise AssertionError


def test_where_the_file_system_has_no_locks_work_goes_on(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with open_stage(tmp_path / "run").clock():
        pass
    assert open_stage(tmp_path / "run").finish().minutes > 0


def test_a_run_of_several_processes_holds_its_folder_once_and_stops_in_all_where_another_run_does(tmp_path):
    config = Config(tmp_path / "run")

    @contextmanager
    def failed_elsewhere(what):
        yield
        raise OtherProcessFailed(what)

    first = StageFolder(tmp_path / "run", "stage", config)
    second = StageFolder(tmp_path / "run", "stage", config, writer=False)
    third = StageFolder(tmp_path / "run", "stage", config, writer=False, together=failed_elsewhere)
    with first.clock(), second.clock(), pytest.raises(OtherProcessFailed, match=f"locking {tmp_path}"), third.clock():
        raise AssertionError
