"""Teaches stock coqui-tts the language `ka`, in this process, so that it reads Georgian as training did.

coqui's handling of languages is spread over these functions, which are wrapped. Other languages are left as they are.

    Xtts.inference, inference_stream    the text is normalised before coqui lower-cases it (`ii`, `usb` and `20 mb` are
                                        not read as `II`, `USB` and `20 MB`)
    VoiceBpeTokenizer.preprocess_text   the same, for callers that use the tokenizer directly
    split_sentence                      our sentences, for `enable_text_splitting=True`
    Synthesizer.split_into_sentences    our sentences, for TTS.api and the `tts` command
    load_audio                          wav, flac, ogg and mp3 are read without FFmpeg, in every language
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

from TTS.bin.synthesize import main as coqui_command
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
from TTS.tts.models import xtts
from TTS.tts.models.xtts import Xtts
from TTS.utils.synthesizer import Synthesizer

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.corpus.decoder_warnings import named
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS
from xtts_ka.georgian.reading import Reading
from xtts_ka.georgian.text import split_sentences
from xtts_ka.model.features import load_speech

LANGUAGE = "ka"
TESTED_COQUI = "0.28."
FACTS_FILE = "xtts_v2_ka_config.json"  # beside vocab.json in an exported model's folder
CHARACTER_LIMIT = 200  # of one call of inference, where the model's own (in FACTS_FILE) is not known
_SOUNDFILE_FORMATS = (".wav", ".flac", ".ogg", ".mp3")
Original = Callable[..., Any]


@cache  # a second call changes nothing
def register() -> None:
    """Add `ka` to coqui-tts. It may be called before or after a model is loaded, and again.

    Warns if the installed coqui-tts is of another version than the tested ones: its functions may have moved. A model
    that was loaded before splits Georgian at 200 characters instead of at its own limit.
    """
    if not (found := version("coqui-tts")).startswith(TESTED_COQUI):
        warnings.warn(
            f"xtts_ka was tested with coqui-tts {TESTED_COQUI}x, and {found} is installed: "
            f"if it does not read Georgian, install coqui-tts~={TESTED_COQUI}0",
            stacklevel=3,
        )
    _wrap(VoiceBpeTokenizer, "__init__", _initialise)
    _wrap(VoiceBpeTokenizer, "preprocess_text", _preprocess)
    _wrap(Xtts, "inference", _infer)
    _wrap(Xtts, "inference_stream", _infer)
    _wrap(xtts, "split_sentence", _split_sentence)
    _wrap(xtts, "load_audio", _load_audio)
    _wrap(Synthesizer, "split_into_sentences", _split_into_sentences)


def tts_command(arguments: list[str]) -> None:
    """Run coqui's `tts` command with Georgian in it; it ends in SystemExit."""
    register()
    coqui_command(arguments)


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace a function of coqui's by `wrapper`, which is given it as the first argument."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, wrapped)


def _is_georgian(language: str | None) -> bool:
    return language is not None and language.split("-")[0] == LANGUAGE


def _reading(tokenizer: VoiceBpeTokenizer, text: str) -> str:
    """`text` as training read it. Models that were trained to keep the old letters have them in their vocabulary."""
    keeps = tokenizer.tokenizer.token_to_id(ARCHAIC_LETTERS[0]) is not None
    reading: Reading = getattr(tokenizer, "reading", None) or Reading("keep" if keeps else "respell")
    return reading(text)


def _limit(tokenizer: VoiceBpeTokenizer) -> int:
    return tokenizer.char_limits.setdefault(LANGUAGE, CHARACTER_LIMIT)


def _initialise(original: Original, self: VoiceBpeTokenizer, vocab_file: Path | str | None = None) -> None:
    original(self, vocab_file)
    if vocab_file is not None and (path := Path(vocab_file).with_name(FACTS_FILE)).is_file():
        self.char_limits[LANGUAGE], self.reading = read_facts(path)


def _preprocess(original: Original, self: VoiceBpeTokenizer, txt: str, lang: str) -> str:
    return _reading(self, txt) if _is_georgian(lang) else original(self, txt, lang)


def _infer(original: Original, self: Xtts, text: str, language: str, *args: Any, **kwargs: Any) -> Any:
    if _is_georgian(language):
        _limit(self.tokenizer)  # coqui looks it up when it splits the text
        if not (reading := _reading(self.tokenizer, text)):
            raise UserError(f"{text!r} holds nothing to read aloud: give Georgian text")
        text = reading
    return original(self, text, language, *args, **kwargs)


def _split_sentence(original: Original, text: str, lang: str, text_split_length: int = CHARACTER_LIMIT) -> list[str]:
    return split_sentences(text, text_split_length) if _is_georgian(lang) else original(text, lang, text_split_length)


def _split_into_sentences(original: Original, self: Synthesizer, text: str, language: str | None = None) -> list[str]:
    if not (_is_georgian(language) and isinstance(self.tts_model, Xtts)):
        return original(self, text, language)
    tokenizer = self.tts_model.tokenizer
    return split_sentences(_reading(tokenizer, text), _limit(tokenizer)) or [text]


def _load_audio(original: Original, audiopath: Path | str, sampling_rate: int) -> Any:
    if Path(audiopath).suffix.lower() in _SOUNDFILE_FORMATS:
        return named(partial(load_speech, rate=sampling_rate), audiopath)
    return original(audiopath, sampling_rate)


def read_facts(path: Path) -> tuple[int, Reading]:
    """How a model reads Georgian, from the export's FACTS_FILE: its character limit, and its reading of text."""
    remedy = "finish the full_pretrain stage first"
    facts = read_json(path, "the model's Georgian config", remedy)
    limit = facts.get("character_limit") if isinstance(facts, dict) else None
    reading = Reading.from_facts(facts)
    if type(limit) is not int or limit < 1 or reading is None:
        raise UserError(f"{path} does not say how the model reads Georgian: {remedy}")
    return limit, reading
