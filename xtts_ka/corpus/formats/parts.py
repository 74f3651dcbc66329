"""One corpus whose parts stand in folders of their own: train/ and test/, or ka_ge_female/ and ka_ge_male/."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xtts_ka.corpus.formats.columns import SPLIT_WORDS
from xtts_ka.corpus.formats.layout import CONTAINERS, Corpus, Row, Source
from xtts_ka.corpus.paths import Found

_GENDERS = frozenset(("female", "male"))
_PARTS = _GENDERS.union(SPLIT_WORDS)


@dataclass(frozen=True)
class InParts(Corpus):
    """Corpora of one layout that are read as one; a part that is called as a split is the corpus' official one."""

    parts: tuple[Corpus, ...] = ()

    @property
    def format(self) -> str:  # type: ignore[override]
        return self.parts[0].format

    @property
    def speakers_everywhere(self) -> bool:  # type: ignore[override]
        return self.parts[0].speakers_everywhere

    @property
    def many_voices(self) -> bool:  # type: ignore[override]
        return self.parts[0].many_voices

    def tables(self) -> list[Path]:
        return [table for part in self.parts for table in part.tables()]

    def rows(self) -> Iterator[Row]:
        for part in self.parts:
            name = _name(part)
            split = next((SPLIT_WORDS[word] for word in _words(name) if word in SPLIT_WORDS), "")
            for row in part.rows():
                where, beside = f"{name}/{row.where}", row.beside or part.folder
                yield replace(row, where=where, split=row.split or split, beside=beside)
            self.remarks.extend(f"{name}: {remark}" for remark in part.remarks)

    def _of(self, row: Row) -> Corpus:
        return next(part for part in self.parts if row.beside and row.beside.is_relative_to(part.folder))

    def find(self, row: Row) -> Found:
        return self._of(row).find(row)

    def starts(self, row: Row) -> list[Path]:
        return self._of(row).starts(row)

    def folders_of(self, row: Row) -> Sequence[str]:
        return self._of(row).folders_of(row)

    def speaker_of(self, row: Row, found: Found) -> str:
        return self._of(row).speaker_of(row, found)

    def scope(self, row: Row) -> str:
        """One name in two splits is one person; a woman and a man are two."""
        return os.path.join(self.folder, *sorted(_GENDERS.intersection(_words(_name(self._of(row))))))

    def speaker_label(self, name: str) -> str:
        return self.parts[0].speaker_label(name)


def joined(found: Sequence[Corpus], source: Source) -> list[Corpus]:
    """The corpora as one where they have one layout and names that differ only in a split or a gender."""
    words = [_words(_name(corpus)) for corpus in found]
    rest = {tuple(word for word in each if word not in _PARTS) for each in words}
    named = all(_PARTS.intersection(each) for each in words) and len(set(map(tuple, words))) == len(found)
    if len(found) < 2 or not named or len(rest) > 1 or len({corpus.format for corpus in found}) > 1:
        return list(found)
    folder = Path(os.path.commonpath([corpus.folder for corpus in found]))
    while folder not in source.folders and folder.name.lower() in (*CONTAINERS, "default"):
        folder = folder.parent
    if not any(folder.is_relative_to(top) for top in source.folders):
        folder = source.folder  # each part has its archive
    parts = tuple(replace(corpus, source=_without(source, corpus, found), remarks=[]) for corpus in found)
    return [InParts(folder, source, found[0].workspace, parts=parts)]


def _without(source: Source, corpus: Corpus, found: Sequence[Corpus]) -> Source:
    """The source without the archives of other parts, whose recordings may have the same names."""
    others = [
        root
        for root in source.roots
        if not corpus.folder.is_relative_to(root.folder)
        and any(each.folder.is_relative_to(root.folder) for each in found)
    ]
    return Source(source.folder, tuple(r for r in source.roots if r not in others)) if others else source


def _name(corpus: Corpus) -> str:
    """The name of a corpus' folder, or of the archive that it was unpacked from."""
    archive = next((root.archive for root in corpus.place.roots if root.archive and root.folder == corpus.folder), "")
    return archive or corpus.folder.name


def _words(name: str) -> list[str]:
    return re.split(r"[-_. ]+", name.lower())
