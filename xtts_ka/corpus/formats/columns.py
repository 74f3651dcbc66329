"""Which column of a table holds the recording, the text, the speaker …: by the header's words, or by the cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from xtts_ka.corpus.paths import has_audio_suffix
from xtts_ka.georgian.alphabet import georgian_letters

# The words that headers and JSON keys use, the most particular first.
ROLES: dict[str, tuple[str, ...]] = {
    "audio": (
        *("audio_file", "audio_filepath", "audio_path", "audiofile", "file_name", "filename", "filepath", "file_path"),
        *(
            "wav_filename",
            "wav_file",
            "wav_path",
            "wav_filepath",
            "audio_filename",
            "clip_path",
            "recording_path",
            "path",
        ),
        *(
            "audio",
            "file",
            "wav",
            "wavs",
            "clip",
            "recording",
            "sound",
            "ფაილი",
            "აუდიო",
            "ჩანაწერი",
            "audio_id",
            "utt_id",
        ),
        *("utterance_id", "clip_id", "segment_id", "name", "id", "item_name", "utt", "key"),
    ),
    "text": (
        *(
            "text",
            "sentence",
            "raw_transcription",
            "raw_text",
            "transcription",
            "transcript",
            "transcripts",
            "utterance",
        ),
        *(
            "orthography",
            "caption",
            "label",
            "txt",
            "transcript_text",
            "original_text",
            "ტექსტი",
            "წინადადება",
            "target",
        ),
    ),
    "normalised": (
        *("normalized_text", "normalised_text", "normalized", "normalised", "text_normalized", "normalized_transcript"),
        *("clean_text", "normalized_transcription", "text_clean", "text_norm"),
    ),
    "speaker": (
        *(
            "speaker_name",
            "speaker_id",
            "speaker",
            "client_id",
            "speakers",
            "spk",
            "spk_id",
            "spkid",
            "speakerid",
            "voice",
        ),
        *(
            "voice_name",
            "voice_id",
            "reader",
            "reader_id",
            "narrator",
            "spk_name",
            "user_id",
            "მოსაუბრე",
            "სპიკერი",
            "ხმა",
        ),
    ),
    "language": ("language", "lang", "locale", "language_id", "lang_id", "ენა"),
    "split": ("split", "subset", "partition"),
    "start": ("offset", "start", "start_time", "begin"),
    "end": ("end", "end_time", "stop"),
    "length": ("duration",),
}
SPLIT_WORDS = {"train": "train", "training": "train", "dev": "val", "val": "val", "valid": "val", "validation": "val"}
SPLIT_WORDS |= {"eval": "val", "evaluation": "val", "test": "test", "testing": "test"}
STRICTNESS = {"test": 2, "val": 1, "train": 0, "": -1}  # of several splits that are told, the strictest one's is taken
_LANGUAGE = re.compile(
    r"(ka|en|ru|kat|geo|eng|rus|ja|zh|ko|de|fr|es|tr|hy|az|ab|os|xmf|sva)([-_][a-z]{2})?|georgian", re.I
)
# What columns hold that tell something else of a clip than who speaks: in these, each value stands for many people …
_GENDERS = frozenset(("male", "female", "m", "f", "man", "woman", "other", "კაცი", "ქალი", "მამრობითი", "მდედრობითი"))
# … and these say how somebody speaks.
_MOODS = frozenset((
    *("neutral", "happy", "happiness", "joy", "sad", "sadness", "angry", "anger", "surprise", "surprised", "fear"),
    *("fearful", "disgust", "disgusted", "calm", "excited", "amused", "sleepy", "whisper", "normal", "contempt"),
    *("ნეიტრალური", "ბედნიერი", "ბედნიერება", "სიხარული", "მხიარული", "სევდა", "სევდიანი", "მოწყენილი", "ბრაზი"),
    *("გაბრაზებული", "გაოცება", "გაოცებული", "შიში", "შეშინებული", "ზიზღი", "მშვიდი", "ჩურჩული", "ჩვეულებრივი"),
))  # fmt: skip
_NUMBER = re.compile(r"\d+(\.\d+)?")


def words_of(name: str) -> list[str]:
    """The words of a file's or folder's name, in lower case."""
    return re.split(r"[-_. ]+", name.lower())


def split_in(name: str) -> str:
    """The strictest split of the words of a name: "val" of train_dev; "" where none is one."""
    words = (word.rstrip("0123456789") for word in words_of(name))
    return max((SPLIT_WORDS.get(word, "") for word in words), key=STRICTNESS.__getitem__)


def stated_splits(tables: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    """Path of a recording, and its name without suffix → the split in the name of a table that lists it."""
    stated: dict[str, str] = {}
    for name, recordings in tables:
        if split := split_in(name):
            for key in (key for path in recordings for key in (path, stem_in(path))):
                stated[key] = max(stated.get(key, ""), split, key=STRICTNESS.__getitem__)
    return stated


def stem_in(path: str) -> str:
    """The name of a recording without folders and suffix, as a table writes it."""
    name = path.replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[0] if has_audio_suffix(name) else name


def roles_of(header: Sequence[str]) -> dict[str, int]:
    """Role → column of a header; {} where it does not name a recording and a text."""
    words = [re.sub(r"[\s-]+", "_", cell.strip().strip("\"'#﻿").lower()) for cell in header]
    found: dict[str, int] = {}
    for role, names in ROLES.items():
        column = next((words.index(name) for name in names if name in words), None)
        if column is not None:
            found[role] = column
    if "text" not in found and "normalised" in found:
        found["text"] = found.pop("normalised")
    return found if {"audio", "text"} <= found.keys() else {}


def infer_roles(rows: Sequence[Sequence[str]], exists: Callable[[str], bool]) -> dict[str, int]:
    """Role → column of a table without a header, from its first rows. `exists`: whether a cell leads to a recording.

    A column with one code of a language in each row is the language. One with short values that repeat is the speaker,
    as in id|speaker|text; "unclear" is one that may name speakers or not, "label" one of moods. Of the others that with
    the most Georgian letters is the text, and one behind it with as many words the normalised text, as in LJSpeech.
    """
    width = max(map(len, rows), default=0)
    columns = {i: [row[i] for row in rows if len(row) > i and row[i]] for i in range(width)}
    audio = next((i for i, cells in columns.items() if cells and all(map(has_audio_suffix, cells))), None)
    if audio is None:
        audio = next((i for i, cells in columns.items() if any(map(exists, cells[:20]))), 0)
    roles = {"audio": audio}
    rest = {i: cells for i, cells in columns.items() if i != audio and cells}
    for i, cells in list(rest.items()):
        if len(rest) > 1 and all(map(_LANGUAGE.fullmatch, cells)):
            roles["language"] = i
            del rest[i]
            break
    if not rest:
        return roles
    roles["text"] = text = max(rest, key=lambda i: (_georgian(rest[i]), -i))
    length = fmean(map(len, rest[text]))
    words = fmean(len(cell.split()) for cell in rest[text])
    for i, cells in rest.items():
        if i == text:
            continue
        number = all(map(_NUMBER.fullmatch, cells))
        many = fmean(len(cell.split()) for cell in cells)  # words
        shorter = many <= words / 1.5 and fmean(map(len, cells)) < 0.6 * length
        short = many <= 3 and (shorter or 2 * len(set(cells)) <= len(set(rest[text])))
        if short and (kind := _kind_of(cells, columns[audio])):
            roles.setdefault(kind, i)
        elif i > text and "normalised" not in roles and not short and not number:
            roles["normalised"] = i
    if "speaker" in roles:
        roles.pop("unclear", None)
    # The written text stands before the normalised one, which has more letters where numbers are written out.
    before = [i for i in rest if i < text and i not in roles.values() and not _is_short(rest[i], length)]
    if before and "normalised" not in roles and _georgian(rest[before[0]]) > 0.25 * _georgian(rest[text]):
        roles["text"], roles["normalised"] = before[0], text
    return roles


def _kind_of(cells: Sequence[str], audio: Sequence[str]) -> str:
    """What a column of short cells names: the speaker, a label of another kind; "unclear", or "" for nothing."""
    values = {cell.lower() for cell in cells}
    if values <= _MOODS:
        return "label"
    if values <= _GENDERS:
        return "unclear"
    if all(map(_NUMBER.fullmatch, cells)) and (any("." in cell for cell in cells) or 2 * len(values) > len(cells) > 1):
        return ""  # a duration, a count
    if len(values) <= max(1, len(cells) / 2):
        return "speaker"
    if len(values) < len(cells) and not any(" " in cell for cell in cells):
        return "speaker"  # with one clip or two of each
    return "" if all(cell in recording for cell, recording in zip(cells, audio)) else "unclear"


def _georgian(cells: Sequence[str]) -> int:
    return sum(len(georgian_letters(cell)) for cell in cells)


def _is_short(cells: Sequence[str], length: float) -> bool:
    return fmean(map(len, cells)) < 0.4 * length
