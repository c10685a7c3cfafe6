import signal
import threading

import pytest

from agentprm_jax.training.interrupt import TrainingInterrupted, stop_on_signal


def test_nothing_is_asked_before_a_signal_and_its_name_after_it(capsys):
    with stop_on_signal() as stop:
        assert stop() is None
        signal.raise_signal(signal.SIGTERM)
        assert stop() == "SIGTERM"
    assert "second signal stops at once" in capsys.readouterr().err


def test_a_second_interrupt_acts_at_once(capsys):
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


def test_an_interruption_exits_with_its_message():
    assert isinstance(TrainingInterrupted("saved"), SystemExit)
    assert TrainingInterrupted("saved").code == "saved"
