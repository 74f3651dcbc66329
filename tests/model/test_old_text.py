import logging
import sys

import pytest
import tiny
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer

from xtts_ka.core.errors import UserError
from xtts_ka.model.old_text import OldTextTokenizer
from xtts_ka.model.vocabulary import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(base_folder):
    return OldTextTokenizer(base_folder / "vocab.json")


@pytest.mark.parametrize(
    "language, text",
    [
        ("en", "Dr. Smith paid $20 on the 3rd."),
        ("de", "Frau Dr. Müller hat 12,5 Äpfel & 3 Birnen."),
        ("ru", "Г-н Иванов, 14% заряда."),
        ("ko", "50 명의 병사가 있었다."),
    ],
    ids=["en", "de", "ru", "ko"],
)
def test_text_is_read_as_coqui_reads_it(tokenizer, base_folder, language, text):
    ids = tokenizer(text, language)
    assert ids == VoiceBpeTokenizer(base_folder / "vocab.json").encode(text, language)
    assert ids != tiny.encode(load_tokenizer(base_folder / "vocab.json"), text.lower(), language)  # signs are words


def test_long_text_is_no_reason_to_warn(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        assert tokenizer("word " * 100, "en")
    assert not caplog.records


def test_what_coqui_cannot_read_is_none_and_a_missing_package_a_sentence(tokenizer, monkeypatch):
    assert tokenizer("12.5 लोग", "hi") is None and tokenizer("hej", "sv") is None
    monkeypatch.setitem(sys.modules, "cutlet", None)
    with pytest.raises(
        UserError, match=r'to read ja, coqui needs a package \(.*cutlet.*"coqui-tts\[ja\]", or take ja out'
    ):
        tokenizer("今日は", "ja")
