"""Corpora without tables: a file with the transcript for each recording, beside it or in a folder of its own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from xtts_ka.corpus.delimited import NOT_UTF8, decode
from xtts_ka.corpus.formats.columns import roles_of
from xtts_ka.corpus.formats.layout import Corpus, Row, folder_speaker
from xtts_ka.corpus.paths import AUDIO_SUFFIXES, Found, Root
from xtts_ka.corpus.tables import MAX_LINE_BYTES

# Of several with one stem the first is read. LibriTTS has the first two, forced aligners take .lab, WebDataset .json.
TEXT_SUFFIXES = (".normalized.txt", ".original.txt", ".txt", ".lab", ".json")
_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|changelog|changes|notice|info|lang|requirements|speaker-info|about)\b.*", re.I
)
_LABELS = re.compile(r"(?:\s*\d+(?:\.\d+)?\s+\d+(?:\.\d+)?\s+\S+\s*)+")  # HTK's: begin, end, phone

Folder = tuple[Path, str, dict[str, list[str]], dict[str, list[str]]]  # folder, its name in the source, audio, texts


class PlainFolder(Corpus):
    """Every recording has its transcript beside it, at any depth; the topmost folders name the speakers."""

    format = "folder"
    expects = "audio files with a .txt (or .lab) of the same name beside each"

    def tables(self) -> list[Path]:
        return []

    def has_pairs(self, but: Path | None = None) -> bool:
        """Whether there is one, the folder `but` not counted."""
        return any(audio.keys() & texts.keys() for _, _, audio, texts in self.names(but))

    def rows(self) -> Iterator[Row]:
        for folder, inside, audio, texts in self.names():
            for stem in sorted(audio.keys() | (texts.keys() if audio else ())):
                if stem not in audio and (_ABOUT.fullmatch(stem) or texts[stem][0].endswith(".json")):
                    continue
                first, *others = [os.path.join(inside, name) for name in audio.get(stem, [f"{stem}.wav"])]
                transcript = folder / texts.get(stem, [f"{stem}.txt"])[0]
                where = os.path.join(inside, transcript.name)
                text, speaker, problem = self.transcript(transcript) if stem in texts else ("", "", "")
                yield Row(where, first, text, speaker, problem=problem)
                taken = f"{Path(first).name} has the same name and is used in its place"
                yield from (Row(other, other, text, problem=taken) for other in others)

    def names(self, but: Path | None = None) -> Iterator[Folder]:
        """Yield (folder, its name in the source, recordings by stem, transcripts by stem) of every folder, sorted.

        Hidden folders, and what macOS adds to archives, are left out; links and `but` are not entered.
        """
        for root in (root for root in self.place.roots or (Root(self.folder),) if root.walked):
            top = self.folder if self.folder.is_relative_to(root.folder) else root.folder
            for folder, subfolders, names in os.walk(top):
                subfolders[:] = sorted(
                    n for n in subfolders if n[0] != "." and n != "__MACOSX" and Path(folder, n) != but
                )
                inside = os.path.normpath(os.path.join(root.inside, os.path.relpath(folder, top)))
                yield (
                    Path(folder),
                    "" if inside == "." else inside,
                    stems(names, AUDIO_SUFFIXES),
                    stems(names, TEXT_SUFFIXES),
                )

    def speaker_of(self, row: Row, found: Found) -> str:
        return row.speaker or folder_speaker(self.inside(found), needs_container=False)

    def transcript(self, path: Path) -> tuple[str, str, str]:
        """(text, speaker, problem) of a transcript's file."""
        if not self.may_read(path):
            return "", "", "the transcript is a link that leaves the source, or no file"
        with open(path, "rb") as file:
            data = file.read(MAX_LINE_BYTES)
        try:
            text = decode(data)
        except UnicodeDecodeError:
            return "", "", f"the transcript is {NOT_UTF8}"
        if path.suffix.lower() == ".json":
            return _of_json(text)
        if path.suffix.lower() == ".lab" and _LABELS.fullmatch(text):
            return "", "", "the .lab holds times of phones, not a text"
        return _in_one_line(text), "", ""


def _in_one_line(text: str) -> str:
    """The lines of a text in one, with the tab behind a line's number kept: it tells that the number is not spoken."""
    number = re.match(r"\s*(\d{1,5}[.)]?\t)", text)
    words = " ".join(text[number.end() if number else 0 :].split())
    return f"{number[1]}{words}" if number else words


def _of_json(text: str) -> tuple[str, str, str]:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return "", "", "the transcript is no JSON"
    words = {str(key): value for key, value in entry.items()} if isinstance(entry, dict) else {}
    roles = roles_of([*words, "audio"])
    if "text" not in roles:
        return "", "", "the .json names no text"
    values = list(words.values())
    speaker = values[roles["speaker"]] if roles.get("speaker", len(values)) < len(values) else ""
    return str(values[roles["text"]] or ""), str(speaker or ""), ""


class MirroredFolders(Corpus):
    """VCTK and its like: txt/p225/p225_001.txt, and the recording under the same name in a folder of recordings."""

    format = "vctk"
    expects = (
        "txt/ with a transcript for each recording of wav48_silence_trimmed/, wav48/ or wavs/, in the same folders"
    )
    text_folders: ClassVar = ("txt", "text", "texts", "transcripts", "transcriptions", "transcript", "lab", "labels")
    microphones: ClassVar = ("", "_mic1", "_mic2")  # VCTK 0.92 has two recordings of each sentence

    def tables(self) -> list[Path]:
        """The folder of the transcripts, where a recording mirrors one of the first."""
        names = self.subfolder(*self.text_folders)
        if not names:
            return []
        files = (file for file in sorted((self.folder / names).rglob("*")) if file.suffix.lower() in (".txt", ".lab"))
        for _, file in zip(range(200), files):
            if self._recordings(file.relative_to(self.folder / names).with_suffix("")):
                return [self.folder / names]
        return []

    def _audio_folders(self) -> list[str]:
        with os.scandir(self.folder) as entries:
            found = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
        return [name for name in found if name not in self.text_folders]

    def _recordings(self, stem: Path) -> list[str]:
        """The paths of a transcript's recordings, the first microphone's first."""
        names = [f"{stem}{mic}{suffix}" for mic in self.microphones for suffix in AUDIO_SUFFIXES]
        folders = self._audio_folders()
        return [
            f"{folder}/{name}" for name in names for folder in folders if os.path.isfile(self.folder / folder / name)
        ]

    def rows(self) -> Iterator[Row]:
        reader, second = PlainFolder(self.folder, self.source), 0
        for top in self.tables():
            for file in sorted(path for path in top.rglob("*") if path.suffix.lower() in (".txt", ".lab")):
                stem = file.relative_to(top).with_suffix("")
                audio = self._recordings(stem)
                if not audio and _ABOUT.fullmatch(stem.name):
                    continue
                second += max(0, len(audio) - 1)
                text, _, problem = reader.transcript(file)
                yield Row(
                    str(file.relative_to(self.folder)), audio[0] if audio else f"{stem}.wav", text, problem=problem
                )
        if second:
            self.remarks.append(f"{second} further recordings of the same sentences (a second microphone) are not used")

    def speaker_of(self, row: Row, found: Found) -> str:
        inside = self.inside(found)
        return folder_speaker(inside.partition("/")[2] or inside, needs_container=False)


def stems(names: list[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Name without suffix → names that end in one of `suffixes`, in the order of `suffixes`; no hidden ones."""
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for suffix in suffixes:
        for name in sorted(names):
            if name.lower().endswith(suffix) and not name.startswith(".") and name not in taken:
                taken.add(name)
                found.setdefault(name[: -len(suffix)], []).append(name)
    return found
