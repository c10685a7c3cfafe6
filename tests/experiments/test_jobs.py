"""Laws of the job runner."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
from jobs import Job, JobFailed, run_jobs


def write(name, folder, needs=()):
    return Job(name, "made_jobs", "write", (str(folder / name), name), needs)


def test_a_job_runs_after_what_it_needs_and_its_output_is_in_its_log(tmp_path):
    copy = Job("copy", "made_jobs", "copy", (str(tmp_path / "first"), str(tmp_path / "second")), ("first",))
    ended = list(
        run_jobs(
            [write("first", tmp_path), copy, write("third", tmp_path)], 2, tmp_path / "logs", tmp_path / "compiled"
        )
    )
    assert sorted(ended) == ["copy", "first", "third"]
    assert ended.index("first") < ended.index("copy")
    assert (tmp_path / "second").read_text() == "first"
    assert "writing first" in (tmp_path / "logs" / "first.log").read_text()


def test_a_job_takes_its_memory_in_large_pages_unless_told_otherwise(tmp_path, monkeypatch):
    jobs = [Job("memory", "made_jobs", "write_variable", (str(tmp_path / "memory"), "GLIBC_TUNABLES"))]
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    for given in ("glibc.malloc.hugetlb=1", "glibc.malloc.perturb=1"):
        list(run_jobs(jobs, 1, tmp_path / "logs", tmp_path / "compiled"))
        assert (tmp_path / "memory").read_text() == given
        monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=1")


def test_a_failed_job_is_named_with_its_error_and_log_and_stops_what_is_waiting(tmp_path):
    jobs = [Job("bad", "made_jobs", "fail", ()), write("later", tmp_path, ("bad",))]
    with pytest.raises(JobFailed, match=r"Stage bad stopped: ValueError: no such luck[\s\S]*bad\.log"):
        list(run_jobs(jobs, 1, tmp_path / "logs", tmp_path / "compiled"))
    assert not (tmp_path / "later").exists()
    assert "no such luck" in (tmp_path / "logs" / "bad.log").read_text()


def test_a_job_on_a_full_disk_is_answered_with_what_to_do(tmp_path):
    with pytest.raises(JobFailed, match=r"Stage full stopped: OSError: .*No space left on device.*Make room"):
        list(run_jobs([Job("full", "made_jobs", "fill", ())], 1, tmp_path / "logs", tmp_path / "compiled"))


def test_a_job_that_needs_a_later_one_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="do not come before"):
        list(
            run_jobs([write("a", tmp_path, ("b",)), write("b", tmp_path)], 1, tmp_path / "logs", tmp_path / "compiled")
        )
    assert not (tmp_path / "a").exists()


def wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.exists()


def test_an_interrupt_reaches_the_jobs_that_are_running_and_ends_the_workers(tmp_path):
    wait = Job("wait", "made_jobs", "wait", (str(tmp_path / "started"), str(tmp_path / "stopped")))
    names = run_jobs([write("first", tmp_path), wait], 1, tmp_path / "logs", tmp_path / "compiled")
    assert next(names) == "first"

    def interrupt():
        wait_for(tmp_path / "started")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        next(names)
    assert (tmp_path / "stopped").read_text() == "interrupted"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_worker_starts_ends_its_job_before_it_begins(sent, tmp_path):
    wait = Job("wait", "made_jobs", "wait", (str(tmp_path / "started"), str(tmp_path / "stopped")))
    others = {child.pid for child in multiprocessing.active_children()}

    def interrupt():
        while {child.pid for child in multiprocessing.active_children()} <= others:
            time.sleep(0.001)
        os.kill(os.getpid(), sent)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(run_jobs([wait], 1, tmp_path / "logs", tmp_path / "compiled"))
    assert not (tmp_path / "started").exists()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_another_thread_takes_while_the_main_thread_waits_is_heard(sent, tmp_path):
    wait = Job("wait", "made_jobs", "wait", (str(tmp_path / "started"), str(tmp_path / "stopped")))

    def interrupt():
        wait_for(tmp_path / "started")
        os.kill(os.getpid(), sent)

    threading.Thread(target=interrupt).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {sent})  # in the main thread: the other one takes it
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_jobs([wait], 1, tmp_path / "logs", tmp_path / "compiled"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (tmp_path / "stopped").read_text() == "interrupted"
    assert not multiprocessing.active_children()


def test_a_second_interrupt_stops_what_is_saving(tmp_path):
    marks = [tmp_path / name for name in ("started", "saving", "stopped")]
    job = Job("save", "made_jobs", "save_slowly", tuple(map(str, marks)))

    def interrupt():
        for mark in marks[:2]:
            wait_for(mark)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(run_jobs([job], 1, tmp_path / "logs", tmp_path / "compiled"))
    wait_for(marks[-1])


def test_an_echo_of_sigterm_does_not_stop_what_is_saving(tmp_path):
    started, interrupted, saved = (tmp_path / name for name in ("started", "interrupted", "saved"))
    job = Job("save", "made_jobs", "save_for_a_second", (str(started), str(interrupted), str(saved)))

    def terminate():
        for mark in (started, interrupted):
            wait_for(mark)
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    with pytest.raises(KeyboardInterrupt):
        list(run_jobs([job], 1, tmp_path / "logs", tmp_path / "compiled"))
    assert saved.exists()


def test_while_jobs_are_finished_after_one_has_failed_they_can_be_interrupted(tmp_path):
    marks = [str(tmp_path / name) for name in ("started", "stopped")]
    jobs = [Job("wait", "made_jobs", "wait", tuple(marks)), Job("fail", "made_jobs", "fail", ())]

    def interrupt():
        log = tmp_path / "logs" / "fail.log"
        while not (log.exists() and "no such luck" in log.read_text()):
            time.sleep(0.05)
        wait_for(tmp_path / "started")
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises((JobFailed, KeyboardInterrupt)):
        list(run_jobs(jobs, 2, tmp_path / "logs", tmp_path / "compiled"))
    assert (tmp_path / "stopped").read_text() == "interrupted"
    assert not multiprocessing.active_children()


def test_sigterm_to_all_processes_interrupts_a_job_once(tmp_path):
    job = Job("wait", "made_jobs", "wait", (str(tmp_path / "started"), str(tmp_path / "stopped")))

    def terminate():
        wait_for(tmp_path / "started")
        for process in [*(worker.pid for worker in multiprocessing.active_children()), os.getpid()]:
            os.kill(process, signal.SIGTERM)
            time.sleep(0.2)

    threading.Thread(target=terminate).start()
    with pytest.raises(KeyboardInterrupt):
        list(run_jobs([job], 1, tmp_path / "logs", tmp_path / "compiled"))
    assert (tmp_path / "stopped").read_text() == "interrupted"
    assert not multiprocessing.active_children()


def test_what_a_terminal_sends_to_a_worker_that_starts_does_not_end_it(tmp_path, monkeypatch, capfd):
    (tmp_path / "sitecustomize.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert list(run_jobs([write("first", tmp_path)], 1, tmp_path / "logs", tmp_path / "compiled")) == ["first"]
    assert "Traceback" not in capfd.readouterr().err
