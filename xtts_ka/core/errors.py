"""The three ways in which a command ends early."""

from __future__ import annotations


class UserError(Exception):
    """What the user gave cannot be used: one sentence that names the thing and the remedy (exit code 2)."""


class RunError(Exception):
    """Something failed while running, not because of the input: one sentence (exit code 1)."""


class Interrupted(BaseException):
    """SIGTERM or SIGINT arrived, and finished work is kept: exit code 128 + `signum`; `advice` says how to continue."""

    def __init__(self, signum: int, advice: str = "run the same command to carry on"):
        super().__init__(signum, advice)
        self.signum, self.advice = signum, advice
