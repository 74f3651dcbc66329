"""Token ids of text in the base model's languages, by coqui's own preprocessing and tokenizer."""

from __future__ import annotations

import sys
from pathlib import Path

from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer

from xtts_ka.core.errors import UserError


class OldTextTokenizer:
    """Reads text as the base model was trained to. vocab_file: the base model's, or one with Georgian in it."""

    def __init__(self, vocab_file: Path):
        self._tokenizer = VoiceBpeTokenizer(vocab_file)
        # coqui warns of text that is long for one call of inference; training texts may be longer.
        self._tokenizer.char_limits = dict.fromkeys(self._tokenizer.char_limits, sys.maxsize)

    def __call__(self, text: str, language: str) -> list[int] | None:
        """Ids after the language token; None where coqui itself cannot read the text (it holds 12.5 in Hindi, say).

        UserError where the language needs a package that is not installed.
        """
        try:
            return self._tokenizer.encode(text, language)
        except ImportError as error:
            extra = f"coqui-tts[{language.split('-')[0]}]"
            remedy = f'install it with: pip install -c requirements-lock.txt "{extra}", or take {language} out'
            raise UserError(f"replay_dir: to read {language}, coqui needs a package ({error}): {remedy}") from None
        except (NotImplementedError, ValueError, ArithmeticError, LookupError, TypeError):  # of num2words
            return None
