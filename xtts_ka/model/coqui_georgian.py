"""Teaches coqui's tokenizer the language `ka`."""

from __future__ import annotations

from typing import Any

from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer

from xtts_ka.georgian import text


def register_georgian(character_limit: int = 200, archaic: str = "respell") -> None:
    """Teach coqui-tts the language `ka`, in this process: its tokenizer then reads Georgian exactly as training did.

    Call it once before the model is loaded. `character_limit` is what coqui warns (and splits) above, `archaic` how old
    letters are read; the model's own values stand in its `xtts_v2_ka_config.json`. A later call only changes them.
    """
    VoiceBpeTokenizer.georgian_reading = {"limit": character_limit, "archaic": archaic}
    if getattr(VoiceBpeTokenizer, "reads_georgian", False):
        return
    initialise, preprocess = VoiceBpeTokenizer.__init__, VoiceBpeTokenizer.preprocess_text

    def initialise_with_georgian(self, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        self.char_limits["ka"] = VoiceBpeTokenizer.georgian_reading["limit"]

    def preprocess_with_georgian(self, txt: str, lang: str) -> str:
        if lang != "ka":
            return preprocess(self, txt, lang)
        return text.normalise(txt, archaic=VoiceBpeTokenizer.georgian_reading["archaic"])

    VoiceBpeTokenizer.__init__ = initialise_with_georgian
    VoiceBpeTokenizer.preprocess_text = preprocess_with_georgian
    VoiceBpeTokenizer.reads_georgian = True
