"""Starter speech: espeak-ng speaks sentences into a recordings folder, so that a first run downloads nothing.

The folder is what a user would have (coqui's `metadata.csv` beside `wavs/`) plus `STARTER.json`, which says that no
human spoke it. espeak-ng is under the GPL-3: it is imported when something is spoken, and by this module alone.
"""

from __future__ import annotations

import csv
import ctypes
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xtts_ka.core import files
from xtts_ka.core.config import STARTER_MARK
from xtts_ka.core.console import progress
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.corpus.audio import write_wav
from xtts_ka.model.geometry import SAMPLE_RATE  # espeak-ng speaks at the same rate

RATE_JITTER = 12  # words a minute, either way: people do not speak every sentence at one speed
PITCH_JITTER = 5
MARGIN_S = 0.05  # silence left before and after the speech of a clip
FLOOR = 10 ** (-50 / 20)  # what is quieter than this share of the peak counts as silence: −50 dB

# Constants of espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS, _INITIALIZE_DONT_EXIT = 2, 0x8000
_RATE, _PITCH = 1, 3
_CHARS_UTF8 = 1
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class EspeakVoice(NamedTuple):
    """One speaker: an espeak-ng language with a timbre (`ka+f2`), words a minute, and pitch (0–99)."""

    speaker_id: str
    voice: str
    rate: int
    pitch: int


def voices_for(language: str) -> list[EspeakVoice]:
    """Six starter speakers in an espeak-ng language (`ka`, `de`, `en-us`): ids and timbres are always the same."""
    women = [("f1", "f2", 165, 52), ("f2", "f3", 150, 64), ("f3", "Annie", 182, 40)]
    men = [("m1", "m1", 158, 45), ("m2", "m3", 175, 58), ("m3", "m7", 142, 30)]
    return [EspeakVoice(f"espeak_{who}", f"{language}+{timbre}", *prosody) for who, timbre, *prosody in women + men]


VOICES = voices_for("ka")

# ── espeak-ng through ctypes ─────────────────────────────────────────────────────────────────────────────────────────


def synthesise(text: str, voice: str, rate: int = 165, pitch: int = 50) -> np.ndarray:
    """Speak `text`; returns float32 mono samples in [-1, 1] at 22,050 Hz. Equal arguments give equal samples.

    voice: a language with an optional timbre (`ka`, `ka+f2`, `de+m3`); rate: words a minute (80–450); pitch: 0–99.
    UserError: no such voice, or nothing to speak. RunError: espeak-ng is missing or fails.
    """
    chunks: list[np.ndarray] = []

    def keep(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # 1 would stop the synthesis

    callback = _SYNTH_CALLBACK(keep)  # kept in a variable, because C holds no reference to it
    with loaded_espeak() as (library, data):
        library.espeak_SetSynthCallback(callback)
        _choose_voice(library, data, voice)
        library.espeak_SetParameter(_RATE, rate, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        spoken = text.encode("utf-8")
        size = ctypes.c_size_t(len(spoken) + 1)  # with the closing zero
        if status := library.espeak_Synth(spoken, size, 0, 0, 0, _CHARS_UTF8, None, None):
            raise RunError(f"espeak-ng could not speak {text!r} as {voice} (its error {status})")
    audio = np.concatenate(chunks).astype(np.float32) / 32768.0 if chunks else np.zeros(0, np.float32)
    if not audio.any():
        raise UserError(f"espeak-ng's voice {voice} finds nothing to speak in {text!r}: give it words")
    return audio


@contextmanager
def loaded_espeak() -> Iterator[tuple[ctypes.CDLL, Path]]:
    """Yield a newly loaded espeak-ng and its data folder, and unload it afterwards.

    The phase of its oscillators, its echo and its noise run on from one utterance to the next and survive
    `espeak_Terminate`, so a clip would depend on the clips before it. Loading anew takes 2 ms and makes
    speech a function of its arguments (unless something else in the process keeps the library loaded).
    """
    import _ctypes  # `ctypes` itself has no public way to close a library

    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except (ImportError, OSError) as error:
        remedy = "pip install --force-reinstall espeakng-loader"
        raise RunError(f"starter speech needs espeak-ng, which does not load ({error}): {remedy}") from None
    data = Path(espeakng_loader.get_data_path())
    with ExitStack() as unload:
        unload.callback(_ctypes.dlclose, library._handle)
        sample_rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, bytes(data), _INITIALIZE_DONT_EXIT)
        if sample_rate != SAMPLE_RATE:  # no data, or too long a path (240 bytes work, 272 do not)
            remedy = "reinstall espeakng-loader, in an environment whose path has at most 200 bytes"
            raise RunError(f"espeak-ng does not start from {data}: {remedy}")
        unload.callback(library.espeak_Terminate)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else the clock seeds its noise
        yield library, data


def _choose_voice(library: ctypes.CDLL, data: Path, voice: str) -> None:
    """Select a voice; a timbre that does not exist is an error, where espeak-ng would ignore it."""
    language, plus, timbre = voice.partition("+")
    if plus and timbre not in {file.name for file in (data / "voices" / "!v").iterdir()}:
        raise UserError(f"espeak-ng has no timbre {timbre!r} (voice {voice!r}): use f1–f5, m1–m8 or none")
    if not language or library.espeak_SetVoiceByName(voice.encode("utf-8")) != 0:
        raise UserError(f"espeak-ng has no language {language!r} (voice {voice!r}): use one like ka or en-us")


# ── a recordings folder ──────────────────────────────────────────────────────────────────────────────────────────────


def read_sentences(path: Path | str) -> list[str]:
    """Read one sentence a line (UTF-8, blank lines are skipped); a missing or empty file is a UserError."""
    sentences = [line.strip() for _, line in files.text_lines(path, "the sentences") if line.strip()]
    if not sentences:
        raise UserError(f"the sentences {path} hold none: give one sentence a line")
    return sentences


def speak_corpus(
    sentences: Sequence[str], directory: Path, voices: Sequence[EspeakVoice] = VOICES, *, seed: int, max_clips: int
) -> dict:
    """Speak `sentences` into a new recordings folder and return what its `STARTER.json` says.

    The folder gets `metadata.csv` (`audio_file|text|speaker_name`, coqui's format), `wavs/*.wav` (mono 16-bit PCM at
    22,050 Hz) and the marker, all at once or not at all. Every sentence is spoken once before any is spoken by a second
    voice, and the voices take turns. All bytes are a function of the arguments. UserError: the folder holds something
    already, or the format cannot hold a sentence.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} already exists: starter speech is written to a new folder only")
    for number, sentence in enumerate(sentences, start=1):
        if "|" in sentence or '"' in sentence:
            raise UserError(f"sentence {number} holds a | or a double quote, which metadata.csv cannot: {sentence!r}")
    clips = list(itertools.islice(_cast(sentences, voices, seed), max_clips))
    with files.atomic_folder(directory) as folder:
        (folder / "wavs").mkdir()
        seconds = 0.0
        with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as table:
            rows = csv.writer(table, delimiter="|", lineterminator="\n")
            rows.writerow(["audio_file", "text", "speaker_name"])
            for name, sentence, voice in progress(clips, what="starter speech", unit="clip"):
                audio = speak_naturally(name, sentence, voice, seed)
                write_wav(folder / "wavs" / f"{name}.wav", audio, SAMPLE_RATE)
                rows.writerow([f"wavs/{name}.wav", sentence, voice.speaker_id])
                seconds += len(audio) / SAMPLE_RATE
        facts = {
            "starter": True,
            "what": "synthetic speech by espeak-ng, a stand-in for recordings: no human spoke it",
            "seed": seed,
            "clips": len(clips),
            "seconds": round(seconds, 3),
            "voices": [voice._asdict() for voice in voices],
        }
        files.write_json(folder / STARTER_MARK, facts)
    return facts


def _cast(sentences: Sequence[str], voices: Sequence[EspeakVoice], seed: int) -> Iterator[tuple[str, str, EspeakVoice]]:
    """(clip's name, sentence, voice) in order: one round over all sentences per voice, the voices taking turns."""
    order = sorted(range(len(sentences)), key=lambda row: _digest(seed, "order", row, sentences[row]))
    for turn in range(len(voices)):
        for place, row in enumerate(order):
            voice = voices[(place + turn) % len(voices)]
            yield f"s{row + 1:05d}_{voice.speaker_id}", sentences[row], voice


def speak_naturally(name: str, sentence: str, voice: EspeakVoice, seed: int) -> np.ndarray:
    """A sentence, a little faster or slower and higher or lower than its voice's average, without long silence."""

    def near(value: int, reach: int, what: str) -> int:
        return value - reach + int.from_bytes(_digest(seed, what, name)[:8], "big") % (2 * reach + 1)

    rate, pitch = near(voice.rate, RATE_JITTER, "rate"), near(voice.pitch, PITCH_JITTER, "pitch")
    return trim_silence(synthesise(sentence, voice.voice, rate, pitch))


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8")).digest()


def trim_silence(audio: np.ndarray) -> np.ndarray:
    """Cut or pad mono audio so that MARGIN_S seconds are left on either side of its speech.

    Speech runs from the first to the last sample louder than FLOOR. Where the audio has less than the margin, zeros are
    added.
    """
    margin = round(MARGIN_S * SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(audio) > np.abs(audio).max() * FLOOR)
    return np.pad(audio, margin)[loud[0] : loud[-1] + 1 + 2 * margin]
