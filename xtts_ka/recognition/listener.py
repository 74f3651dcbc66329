"""What hears speech and writes down letters: the project's own recogniser, or another in its place.

Everything that measures intelligibility asks a `Listener`, which `open_listener` makes of what the user gave to
`--asr`. Whatever it is, what it hears is compared in the same letters: `symbols.spoken_letters` of it, against
`spoken_letters` of the text that should have been said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from xtts_ka.core.errors import UserError

COMMAND_SECONDS = 120.0  # that a command may take for one recording


class Listener(Protocol):
    """Hears speech. `name` says in a report who has heard, such as "the project's recogniser 3fa9c2d1"."""

    name: str

    def hear(self, waves: Sequence[np.ndarray], rate: int) -> list[str]:
        """What is said in each of `waves`, which are mono float32 samples in [-1, 1] at `rate` Hz.

        Letters of the alphabet (GEORGIAN_LETTERS) and single spaces, nothing else; "" where nothing was heard.
        RunError where the listener fails on a wave.
        """
        ...


def open_listener(
    spec: str | None, *, folder: Path | str, device: str = "cpu", seconds: float = COMMAND_SECONDS
) -> Listener:
    """The listener that `spec` (the value of `--asr`) asks for.

    spec: None for the project's own recogniser, which `folder` holds; the path of a `transformers` folder with a CTC or
    seq2seq recogniser; or a command that prints the text of the wav file whose path stands in it as `{wav}`, or is
    appended. device: cpu or cuda[:N], which a command does not use. seconds: a command's limit for one recording.
    UserError for a folder or command that cannot be used.
    """
    if spec is None:
        from xtts_ka.recognition.recogniser import Recogniser

        return Recogniser.load(folder, device)
    if not spec.strip():
        raise UserError("--asr is empty: give the folder of a transformers recogniser, or a command")
    if Path(spec).is_dir():
        from xtts_ka.recognition.transformers_listener import TransformersListener

        return TransformersListener(spec, device)
    from xtts_ka.recognition.command_listener import CommandListener

    return CommandListener(spec, seconds)
