"""One corpus whose parts stand in folders of their own: train/ and test/, or ka_ge_female/ and ka_ge_male/."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xtts_ka.corpus.archives import is_archive, stem_of
from xtts_ka.corpus.formats.columns import SPLIT_WORDS, STRICTNESS, split_in, words_of
from xtts_ka.corpus.formats.layout import CONTAINERS, Corpus, Row, Source
from xtts_ka.corpus.paths import Found

_GENDERS = frozenset(("female", "male"))
_PARTS = _GENDERS.union(SPLIT_WORDS)


def rows_with_splits(corpus: Corpus) -> list[Row]:
    """The rows, with the splits that the names of tables and folders tell, where these name training and another.

    So do Kaldi's data/test, NeMo's test_manifest.json and LibriTTS' test-clean. The rows of the stricter split come
    first then: of two that name one recording the first is kept.
    """
    rows = list(corpus.rows())
    named = [row.split or _split_of(row) for row in rows]
    splits = set(named) - {""}
    if not {"train"} < splits or named == [row.split for row in rows]:
        return rows
    told = f"its tables or folders are named by splits ({', '.join(sorted(splits))}), which are taken as official"
    corpus.remarks.append(f"{told}: --official_splits pool takes none")
    rows = [replace(row, split=split) for row, split in zip(rows, named)]
    return sorted(rows, key=lambda row: -STRICTNESS[row.split])


def _split_of(row: Row) -> str:
    """The split that the table's name or folders tell, or the transcript's, or the recording's."""
    table, comma, _ = row.where.rpartition(", ")
    of_table = split_in(os.path.basename(table))
    return of_table or _split_of_folders(table if comma else row.where) or _split_of_folders(row.audio)


def _split_of_folders(path: str) -> str:
    """The split that the name of a folder begins with, of the last that does."""
    folders = path.replace("\\", "/").split("/")[:-1]
    return next((split_in(folder) for folder in reversed(folders) if split_in(words_of(folder)[0])), "")


@dataclass(frozen=True)
class InParts(Corpus):
    """Corpora of one layout that are read as one; a part that is called as a split is the corpus' official one."""

    parts: tuple[Corpus, ...] = ()
    names: tuple[str, ...] = ()  # of the parts

    @property
    def format(self) -> str:  # type: ignore[override]
        return self.parts[0].format

    @property
    def speakers_everywhere(self) -> bool:  # type: ignore[override]
        return self.parts[0].speakers_everywhere

    @property
    def many_voices(self) -> bool:  # type: ignore[override]
        return self.parts[0].many_voices

    @property
    def by_folders(self) -> bool:  # type: ignore[override]
        return self.parts[0].by_folders

    def tables(self) -> list[Path]:
        return [table for part in self.parts for table in part.tables()]

    def rows(self) -> Iterator[Row]:
        for part, name in zip(self.parts, self.names):
            split = split_in(name)
            for row in part.rows():
                where, beside = f"{name}/{row.where}", row.beside or part.folder
                yield replace(row, where=where, split=row.split or split, beside=beside)
            self.remarks.extend(f"{name}: {remark}" for remark in part.remarks)

    def _of(self, row: Row) -> Corpus:
        assert row.beside
        for part in self.parts:
            if row.beside.is_relative_to(part.folder):
                return part
        return next(part for part in self.parts if any(map(row.beside.is_relative_to, part.place.folders)))

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
        return os.path.join(
            self.folder, *sorted(_GENDERS.intersection(words_of(self.names[self.parts.index(self._of(row))])))
        )

    def speaker_label(self, name: str) -> str:
        return self.parts[0].speaker_label(name)


def joined(found: Sequence[Corpus], source: Source) -> list[Corpus]:
    """The corpora as one where they have one layout and names that differ only in a split or a gender."""
    names = tuple(map(_name, found))
    if not _are_parts(names) or len({corpus.format for corpus in found}) > 1:
        return list(found)
    folder = Path(os.path.commonpath([corpus.folder for corpus in found]))
    while folder not in source.folders and folder.name.lower() in (*CONTAINERS, "default"):
        folder = folder.parent
    if not any(folder.is_relative_to(top) for top in source.folders):
        folder = source.folder  # each part has its archive
    parts = tuple(replace(corpus, source=_without(source, corpus, found), remarks=[]) for corpus in found)
    return [InParts(folder, source, found[0].workspace, parts=parts, names=names)]


def sources_joined(found: Sequence[tuple[Path, Corpus]]) -> list[Corpus]:
    """The corpora of several sources; those of sources side by side that are named by splits as one."""
    beside: dict[Path, list[tuple[Path, Corpus]]] = {}
    for source, corpus in found:
        beside.setdefault(source.parent, []).append((source, corpus))
    corpora: list[Corpus] = []
    for folder, group in beside.items():
        names = tuple(stem_of(source) if is_archive(source) else source.name for source, _ in group)
        parts = tuple(corpus for _, corpus in group)
        if _are_parts(names) and len(set(map(split_in, names))) > 1 and len({corpus.format for corpus in parts}) == 1:
            roots = tuple(dict.fromkeys(root for corpus in parts for root in corpus.place.finder.roots))
            corpora.append(InParts(folder, Source(folder, roots), parts[0].workspace, parts=parts, names=names))
        else:
            corpora += parts
    return corpora


def _are_parts(names: Sequence[str]) -> bool:
    """Whether names differ only in a split or a gender, or begin with a split as LibriTTS' train-clean-100."""
    words = [words_of(name) for name in names]
    rest = {tuple(word for word in each if word not in _PARTS) for each in words}
    named = all(_PARTS.intersection(each) for each in words) and len(set(map(tuple, words))) == len(names) > 1
    return named and (len(rest) == 1 or all(each[0] in SPLIT_WORDS for each in words))


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
