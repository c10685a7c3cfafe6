"""Runs the stages of an experiment as jobs in worker processes, each as soon as what it needs is there."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from agentprm_jax.commands.answer import answer
from agentprm_jax.reporting.provenance import describe_machine
from agentprm_jax.training.interrupt import Requests

_LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""Programs take their arrays anew from Linux in every call; in small pages that costs a tenth of a training step."""

_LISTEN_EVERY = 0.2  # seconds

_stopping: Any = None  # in a worker: the event that the parent sets before it passes on an interrupt


@dataclass(frozen=True)
class Job:
    """One stage: `function` of an experiment's module called with `arguments`.

    Attributes:
        name: unique; the log is called after it.
        module: name of the experiment's module.
        function: name of a function in it.
        arguments: what it is called with; must be picklable.
        needs: names of the jobs that come before.
    """

    name: str
    module: str
    function: str
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()


class JobFailed(RuntimeError):
    """A job ended with an error; the message names the job, the error and the log."""


def run_jobs(jobs: Sequence[Job], workers: int, logs: Path, cache: Path) -> Generator[str, None, None]:
    """Runs all jobs in `workers` processes, in the order given where nothing is missing; yields names as jobs end.

    Each worker keeps to one core where there are enough of them. Its output goes to `logs`/NAME.log, compiled
    programs to `cache`, from where other workers and later runs take them, and its memory comes in large pages unless
    the environment has settings for glibc. Workers end when this process does, however it ends; an interrupt, which
    SIGTERM is too, is passed on to the jobs that are running, so that they save what they have, and to those of workers
    that are only starting. A second one is passed on as well, and stops what is saving.

    Raises:
        ValueError: a job needs one that does not come before it.
        JobFailed: a job failed; jobs that were running are finished first, or interrupted, the others are not begun.
    """
    _check_order(jobs)
    logs.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("GLIBC_TUNABLES", _LARGE_PAGES)
    context = multiprocessing.get_context("spawn")
    numbers, stopping = context.Queue(), context.Event()
    for number in range(workers):
        numbers.put(number)
    started = (numbers, workers, str(cache), stopping)
    running: dict[Future, Job] = {}
    with _asked_to_stop() as asked, ProcessPoolExecutor(workers, context, _start_worker, started) as pool:
        try:
            yield from _drain(pool, jobs, logs, workers, running, asked)
        except (KeyboardInterrupt, GeneratorExit):
            _interrupt_workers(stopping)
            _finish(running, asked, stopping)
            raise
        except JobFailed:
            _finish(running, asked, stopping)
            raise


def _finish(running: dict[Future, Job], asked: threading.Event, stopping: Any) -> None:
    """Waits for the jobs that are running, and passes on what is asked meanwhile."""
    while wait(running, _LISTEN_EVERY).not_done:
        if asked.is_set():
            asked.clear()
            _interrupt_workers(stopping)


def _interrupt_workers(stopping: Any) -> None:
    stopping.set()  # first: a worker that does not hear the signal yet looks here when it does
    for worker in multiprocessing.active_children():
        if worker.pid is not None:
            os.kill(worker.pid, signal.SIGINT)


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set while inside, echoes left out.

    An exception out of their handlers could come while a worker is being started and leave one that nobody ends, and
    where another thread takes the signal it comes only when the main thread has done waiting.
    """
    asked, requests = threading.Event(), Requests()

    def hear(number: int, frame: FrameType | None) -> None:
        if requests.is_new(number):
            asked.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _held_back(*signals: signal.Signals) -> Iterator[None]:
    """Processes that are started inside do not hear these signals until they unblock them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _drain(
    pool: ProcessPoolExecutor,
    jobs: Sequence[Job],
    logs: Path,
    workers: int,
    running: dict[Future, Job],
    asked: threading.Event,
) -> Iterator[str]:
    """Runs all jobs and keeps in `running` what is; raises KeyboardInterrupt where it is asked to stop."""
    waiting, done = list(jobs), set()
    while True:
        if asked.is_set():
            asked.clear()
            raise KeyboardInterrupt
        if not (waiting or running):
            return
        ready = [job for job in waiting if done.issuperset(job.needs)][: workers - len(running)]
        for job in ready:
            waiting.remove(job)
            with _held_back(signal.SIGINT, signal.SIGTERM):  # may start a worker
                running[pool.submit(_run, job, logs / f"{job.name}.log")] = job
        finished, _ = wait(running, _LISTEN_EVERY, FIRST_COMPLETED)
        for future in finished:
            job = running.pop(future)
            _raise_failure(job, future, logs)
            done.add(job.name)
            yield job.name


def _raise_failure(job: Job, future: Future, logs: Path) -> None:
    error = future.exception()
    if error is not None:
        raise JobFailed(
            f"Stage {job.name} stopped: {answer(error)}\nIts log is {logs / (job.name + '.log')}. "
            "Finished stages are kept: run the same command again to go on."
        ) from error


def _run(job: Job, log: Path) -> None:
    """In the worker: calls the job's function with its output in the log.

    Some send SIGTERM to all processes at once. The parent passes it on as an interrupt, and a job that heard both would
    stop without saving: here SIGTERM waits for the end of the job.
    """
    _output_to(log)
    with _held_back(signal.SIGTERM):
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if _stopping is not None and _stopping.is_set():
                raise KeyboardInterrupt
            getattr(importlib.import_module(job.module), job.function)(*job.arguments)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _output_to(log: Path) -> None:
    """Sends what is written to standard output and error, by any library and at any time from now on, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _start_worker(numbers: Any, workers: int, cache: str, stopping: Any) -> None:
    """In the worker: takes a core, watches the parent, and shares compiled programs.

    A terminal's interrupt goes to the parent alone, which passes it on to workers that have something to save.
    """
    global _stopping
    _stopping = stopping
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    number = numbers.get()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if 1 < workers <= len(cores):
            describe_machine()  # which a stage is said to have run on: all of it
            os.sched_setaffinity(0, {cores[number]})
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # last: in this thread and no other


def _check_order(jobs: Sequence[Job]) -> None:
    known: set[str] = set()
    for job in jobs:
        missing = set(job.needs) - known
        if missing or job.name in known:
            problem = f"needs {sorted(missing)}, which do not come before it" if missing else "stands there twice"
            raise ValueError(f"Job {job.name} {problem}.")
        known.add(job.name)
