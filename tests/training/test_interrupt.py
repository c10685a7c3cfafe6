import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest

from agentprm_jax.training.interrupt import TrainingInterrupted, stop_on_signal


def test_nothing_is_asked_before_a_signal_and_its_name_after_it(capfd):
    with stop_on_signal() as stop:
        assert stop() is None
        signal.raise_signal(signal.SIGTERM)
        assert stop() == "SIGTERM"
    assert "second signal stops at once" in capfd.readouterr().err


def test_a_second_interrupt_acts_at_once(capfd):
    with stop_on_signal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_as_before_after_the_block():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_on_signal():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_can_train_without_taking_signals():
    answers = []

    def run():
        with stop_on_signal() as stop:
            answers.append(stop())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert answers == [None]


def test_a_sigterm_that_is_sent_twice_in_a_moment_is_one_and_a_later_one_ends_the_process_at_once():
    code = (
        "import signal, time\nfrom agentprm_jax.training import interrupt\ninterrupt.ECHO_SECONDS = 0.5\n"
        "with interrupt.stop_on_signal():\n    signal.raise_signal(signal.SIGTERM)\n"
        "    signal.raise_signal(signal.SIGTERM)\n    print('saving', flush=True)\n    time.sleep(0.6)\n"
        "    signal.raise_signal(signal.SIGTERM)\n    print('too late')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "saving\n")


def test_a_signal_is_noted_though_nobody_reads_what_is_said_any_more():
    reading, writing = os.pipe()
    kept = os.dup(2)
    os.close(reading)
    os.dup2(writing, 2)
    try:
        with stop_on_signal() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop() == "SIGINT"
    finally:
        os.dup2(kept, 2)
        for descriptor in (kept, writing):
            os.close(descriptor)


def test_a_handler_that_is_not_python_s_is_replaced_by_the_default_one(monkeypatch):
    monkeypatch.setattr(signal, "signal", replacing := Replacing())
    with stop_on_signal((signal.SIGUSR1,)):
        pass
    assert replacing.last == signal.SIG_DFL


class Replacing:
    """`signal.signal` where the handler before was set by a C library."""

    last = None

    def __call__(self, number, handler):
        assert handler is not None
        self.last = handler


def test_an_interruption_exits_with_the_code_that_means_try_again():
    interrupted = TrainingInterrupted("saved")
    assert isinstance(interrupted, SystemExit)
    assert (str(interrupted), interrupted.code) == ("saved", 75)
    assert str(pickle.loads(pickle.dumps(interrupted))) == "saved"
