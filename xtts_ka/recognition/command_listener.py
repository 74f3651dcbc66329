"""A command that prints what it hears in a wav file: any recogniser that can be started from a shell."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xtts_ka.core.errors import RunError, UserError
from xtts_ka.corpus.audio import write_wav
from xtts_ka.recognition.symbols import spoken_letters

PLACE = "{wav}"


class CommandListener:
    """Runs `command` once for each wave; its standard output is the text. seconds: the limit for one run.

    The wav file's path stands where the command says `{wav}`, or behind it. The words are split as a shell does, but no
    shell runs them. UserError for a command that cannot be split.
    """

    def __init__(self, command: str, seconds: float):
        self.name, self.command, self.seconds = f"command {command!r}", command, seconds
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UserError(f"--asr {command!r} cannot be split into words ({error}): correct its quotes") from None
        if PLACE not in command:
            self._words.append(PLACE)

    def hear(self, waves: Sequence[np.ndarray], rate: int) -> list[str]:
        """As `Listener.hear`. RunError naming the command and the wav where it fails, hangs or prints nothing."""
        with tempfile.TemporaryDirectory(prefix="xtts_ka_hear_") as folder:
            return [self._hear(Path(folder) / f"{i:05d}.wav", wave, rate) for i, wave in enumerate(waves)]

    def _hear(self, wav: Path, wave: np.ndarray, rate: int) -> str:
        write_wav(wav, wave, rate)
        text = self._run(wav)
        wav.unlink()
        return spoken_letters(text)

    def _run(self, wav: Path) -> str:
        try:
            code, out, err = _output([word.replace(PLACE, str(wav)) for word in self._words], self.seconds)
        except subprocess.TimeoutExpired:
            raise self._failure(wav, f"took longer than {self.seconds:g} s") from None
        except OSError as error:
            raise UserError(
                f"--asr {self.command!r} is neither a folder nor a command that starts ({error.strerror}): give one"
            ) from None
        if code:
            last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise self._failure(wav, f"ended with exit code {code}" + "".join(f" ({line})" for line in last))
        try:
            text = out.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise self._failure(wav, "printed text that is not UTF-8") from None
        if not text:
            raise self._failure(wav, "printed nothing")
        return text

    def _failure(self, wav: Path, what: str) -> RunError:
        return RunError(
            f"--asr command {self.command!r} {what} for {wav}: run it by hand on a recording and correct it"
        )


def _output(words: list[str], seconds: float) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and error of a command; TimeoutExpired, and OSError where it does not start.

    It runs in a session of its own, so that what it has started ends with it: a process left behind would keep its
    output open, and reading that would never end.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err
