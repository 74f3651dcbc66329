"""Chooses clips of the languages that the base model speaks already, to measure what training does to them.

The language of a clip stands in its table (Common Voice's column `locale`, or a column `language` in a table with a
header), or is the name of the topmost folder that it is in: `en/`, `de/`, `zh-cn/`, FLEURS' `pt_br/`.
"""

from __future__ import annotations

import math
import os
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from xtts_ka.core.digests import hash_listing, hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.formats import Corpus, find_corpus
from xtts_ka.corpus.tables import Clip

OWN = "ka"  # what training teaches; its clips are left out here
MOST = 50  # clips measured in a language
_PER_SPEAKER = 2  # taken together, so that each can be heard in the other's voice
_ALIASES = {"cmn": "zh-cn", "zh": "zh-cn"}


def language_code(name: str, languages: Sequence[str]) -> str:
    """Which of `languages`, or OWN, a column or a folder calls `name`; empty where it is none of them.

    Regions that XTTS does not tell apart are dropped: `en-US`, `pt_br`.
    """
    code = name.strip().lower().replace("_", "-")
    known, main = (*languages, OWN), code.split("-")[0]
    return next((found for found in (code, main, _ALIASES.get(main)) if found in known), "")


def choose_clips(folder: Path | str, languages: Sequence[str]) -> dict[str, list[Clip]]:
    """Language → its clips in the order in which to take them, at least MOST where the folder has as many.

    languages: the base model's. Two clips of every speaker come first, speakers with a single clip after the others,
    in an order set by hash. The audio is not looked at. UserError where a clip's language is missing or unknown, and
    where nothing but Georgian is left.
    """
    folder, root = Path(folder), os.path.realpath(folder)
    found: dict[str, _Choice] = defaultdict(_Choice)
    strange: Counter[str] = Counter()
    code_of = cache(partial(language_code, languages=languages))
    for named, corpus in _corpora(folder, languages):
        home = str(corpus.folder)
        for row in corpus.rows():
            name = row.language or named
            code, file = code_of(name), corpus.as_written(row)
            if row.problem or not row.text.strip() or not file.startswith(f"{root}{os.sep}"):
                continue
            if not code:
                strange[name] += 1
                continue
            file_id, speaker = file[len(root) + 1 :], f"{home}/{row.speaker}"[len(root) :]
            found[code].add(Clip(file_id, row.text, speaker, math.nan, Path(file), None, row.speaker_known))
    _refuse_strange(folder, strange, languages)
    if not found.keys() - {OWN}:
        what = "clips in Georgian only" if found else "no clip with a transcript"
        raise UserError(f"replay_dir {folder} holds {what}: {_remedy(languages)}")
    return {code: choice.ordered() for code, choice in sorted(found.items()) if code != OWN}


class _Choice:
    """Keeps of one language's clips as many as can be among the first MOST: a table may have millions of rows."""

    def __init__(self) -> None:
        self._by_speaker: dict[str, list[Clip]] = {}

    def add(self, clip: Clip) -> None:
        clips = self._by_speaker.setdefault(clip.speaker_id, [])
        if all(clip.file_id != other.file_id for other in clips):
            insort(clips, clip, key=_order)
        del clips[MOST if len(self._by_speaker) < MOST else _PER_SPEAKER :]

    def ordered(self) -> list[Clip]:
        ranked = [
            ((turn // _PER_SPEAKER, len(clips) == 1, hash_to_unit(speaker), turn), clip)
            for speaker, clips in self._by_speaker.items()
            for turn, clip in enumerate(clips)
        ]
        return [clip for _, clip in sorted(ranked, key=lambda pair: pair[0])]


def _order(clip: Clip) -> tuple[float, str]:
    return hash_to_unit(clip.file_id), clip.file_id


def listing_digest(folder: Path | str, languages: Sequence[str]) -> str:
    """Changes when a table in `folder`, or a file of a corpus without tables, is another; the audio is not read."""
    files: set[Path] = set()
    for _, corpus in _corpora(Path(folder), languages):
        files.update(corpus.tables() or (file for file in corpus.folder.rglob("*") if file.is_file()))
    return hash_listing(files, Path(folder))


def _corpora(folder: Path, languages: Sequence[str]) -> Iterator[tuple[str, Corpus]]:
    """(the language that the folder's name says, or nothing; the corpus) of every corpus in replay_dir."""
    if not folder.is_dir():
        raise UserError(f"replay_dir {folder} is not a folder: {_remedy(languages)}")
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    by_language = any(language_code(entry.name, languages) for entry in inside)
    if by_language:
        strange = Counter(entry.name for entry in inside if not language_code(entry.name, languages))
        _refuse_strange(folder, strange, languages)
    for source in inside if by_language else [folder]:
        try:
            yield source.name if by_language else "", find_corpus(source)
        except UserError as error:
            raise UserError(f"replay_dir: {error}") from None


def _refuse_strange(folder: Path, strange: Counter[str], languages: Sequence[str]) -> None:
    if clips := strange.pop("", 0):
        raise UserError(f"replay_dir {folder}: the language of {clips} clips is not said: {_remedy(languages)}")
    if strange:
        named = ", ".join(sorted(strange)[:10]) + (f" and {len(strange) - 10} more" if len(strange) > 10 else "")
        remedy = f"remove or rename them; it speaks {', '.join(languages)}"
        raise UserError(f"replay_dir {folder} has languages that the base model does not speak ({named}): {remedy}")


def _remedy(languages: Sequence[str]) -> str:
    return (
        "give a folder with recordings in languages that the base model speaks, each language in a subfolder with its "
        f"code as the name or with a column `language` ({', '.join(languages)}), or take replay_dir out of the config"
    )
