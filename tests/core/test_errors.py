"""Errors carry their exit code's facts, and an interruption is no Exception that a handler could swallow."""

import pickle
import signal

from xtts_ka.core.errors import Interrupted, RunError, UserError


def test_an_interruption_keeps_its_signal_and_advice_through_a_pickle():
    stop = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM, "run it again")))  # it crosses process boundaries
    assert (stop.signum, stop.advice) == (signal.SIGTERM, "run it again")
    assert "same command" in Interrupted(signal.SIGINT).advice


def test_only_the_two_failures_are_exceptions():
    assert issubclass(UserError, Exception) and issubclass(RunError, Exception)
    assert not issubclass(UserError, RunError) and not issubclass(Interrupted, Exception)
