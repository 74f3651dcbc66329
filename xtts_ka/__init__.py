"""Adapts XTTS-v2 to Georgian. The scripts of the pipeline stand beside this package; what other programs need is here:

import xtts_ka

model = xtts_ka.load_xtts("models/xtts_v2_ka")  # coqui's Xtts, which now speaks `ka`
xtts_ka.register()  # or only teach coqui-tts the language, for TTS.api and the like
xtts_ka.normalise("2026 წლის 12 მარტს")  # Georgian text as it is read aloud
"""

# This file keeps to syntax that old Pythons can parse, so that they reach the sentence below.
import os
import sys
from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = ["__version__", "load_xtts", "normalise", "register"]

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    _sentence = "xtts_ka needs Python 3.11 or 3.12, and this is Python {}.{}: install one of them and use it".format(
        *sys.version_info[:2]
    )
    _checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.argv[0].endswith(".py") and os.path.dirname(os.path.abspath(sys.argv[0])) == _checkout:
        sys.stderr.write("error: " + _sentence + "\n")  # one of the scripts: no traceback
        sys.exit(2)
    raise RuntimeError(_sentence)


if TYPE_CHECKING:
    from TTS.tts.models.xtts import Xtts

# torch and coqui take seconds to import, so each function imports what it needs.


def register() -> None:
    """Teach coqui-tts the language `ka`, in this process, before or after a model is loaded; once is enough.

    `Xtts.inference`, `inference_stream`, `TTS.api.TTS(...).tts` and the `tts` command's code then read Georgian text as
    training did, capitals, numbers and abbreviations included, and split it into sentences as this project does.
    """
    from xtts_ka.model import coqui_georgian

    coqui_georgian.register()


def load_xtts(folder: "str | os.PathLike[str]", device: str = "auto") -> "Xtts":
    """Load a model folder that this project exported, as coqui's `Xtts` that speaks `ka`.

    device: "auto" (a GPU if there is one), "cpu" or "cuda". Raises `xtts_ka.core.errors.UserError` with one sentence
    for a folder that is incomplete or damaged.
    """
    from xtts_ka.core.torch_settings import choose_device
    from xtts_ka.model import checkpoint

    register()
    return checkpoint.load_xtts(os.fspath(folder), choose_device(device))


def normalise(text: str, archaic: str = "respell", abbreviations: dict[str, str] | None = None) -> str:
    """Georgian text as it is read aloud: numbers, dates, abbreviations, foreign words and marks become words.

    archaic: "respell" the old letters ჱ ჲ ჳ ჴ ჵ, or "keep" them. abbreviations: your own, abbreviation → reading.
    """
    from xtts_ka.georgian.reading import Reading

    return Reading(archaic, abbreviations or {})(text)
