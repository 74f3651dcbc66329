"""The layouts of corpora that are read, one small reader each, and the search for the one that a folder has.

To add a layout see CONTRIBUTING.md: one subclass of `Corpus`, one line in `LAYOUTS`, one test.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from xtts_ka.core.console import first_few
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.archives import find_archives, is_archive, stem_of, unpack
from xtts_ka.corpus.census import count_files, what_was_seen
from xtts_ka.corpus.formats.folders import MirroredFolders, PlainFolder
from xtts_ka.corpus.formats.layout import Corpus, Row, Source
from xtts_ka.corpus.formats.listed import Esd, Fleurs, ListedTables, MAiLabs, OpenSlr, Transcripts
from xtts_ka.corpus.formats.manifests import JsonLines, Kaldi, Lhotse
from xtts_ka.corpus.formats.parquet import Parquet
from xtts_ka.corpus.formats.parts import joined, rows_with_splits, sources_joined
from xtts_ka.corpus.formats.tabular import AudioFolder, CommonVoice, HeadedTables
from xtts_ka.corpus.paths import PathProblem, Root

# In the order in which they are tried: the first that takes a table keeps it from the others.
LAYOUTS: dict[str, type[Corpus]] = {
    layout.format: layout
    for layout in (
        CommonVoice, Fleurs, OpenSlr, MAiLabs, Esd, Kaldi, Lhotse, AudioFolder, HeadedTables, ListedTables, JsonLines,
        Parquet, Transcripts, MirroredFolders, PlainFolder,
    )
}  # fmt: skip
FORMATS = ("auto", *LAYOUTS)
LEVELS = 5  # folders below the source in which a corpus is looked for
MAX_FOLDERS = 2_000  # on one level: below them only recordings can be
PROBED_ROWS = 20  # of a corpus, before its archives are unpacked

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "Corpus",
    "NoCorpus",
    "Row",
    "Source",
    "find_corpora",
    "find_corpus",
    "rows_with_splits",
]


class NoCorpus(UserError):
    """A source that holds no corpus."""


def find_corpora(
    sources: Sequence[Path | str], format: str = "auto", workspace: Path | None = None
) -> tuple[list[Corpus], list[Path]]:
    """(the corpora of the sources, those sources that hold recordings alone, which the tables of the others name)."""
    real = [Path(os.path.realpath(source)) for source in sources]
    found, lacking = [], {}
    for source in real:
        try:
            found.append((source, find_corpus(source, format, workspace)))
        except NoCorpus as error:
            lacking[source] = error
    if not lacking:
        return sources_joined(found), []
    alone = [folder for folder in lacking if count_files(folder).recordings]
    others = [source for source in real if source not in alone]
    if not alone or not others:
        raise next(iter(lacking.values()))
    corpora = sources_joined([(source, find_corpus(source, format, workspace, alone)) for source in others])
    for folder in alone:
        if not any(_names_one_in(folder, corpus) for corpus in corpora):
            raise lacking[folder]
    return corpora, alone


def _names_one_in(folder: Path, corpus: Corpus) -> bool:
    found = (corpus.locate(row, bare=True) for row in corpus.rows() if not row.problem)
    return any(each and each.path.startswith(f"{folder}{os.sep}") for each in found)


def find_corpus(
    source: Path | str, format: str = "auto", workspace: Path | None = None, recordings: Sequence[Path] = ()
) -> Corpus:
    """Find the corpus in `source`, a folder or an archive. NoCorpus where there is none, UserError where are several.

    workspace: a folder into which archives may be unpacked, and recordings written that stand in tables. Archives are
    unpacked only where no corpus is found without them, or where none of its first rows finds its recording.
    recordings: folders elsewhere, links resolved, that tables may name files in.
    """
    elsewhere = [Root(each, walked=False) for each in recordings]
    folder = Path(os.path.realpath(source))
    if folder.is_file() and is_archive(folder):
        archives, place = [folder], Source(folder.parent, tuple(elsewhere))
        corpus = None
    elif folder.is_dir():
        place = Source(folder, (Root(folder), *elsewhere))
        corpus = _search(place, format, workspace)
        archives = find_archives(folder)
        if corpus and not (archives and _tables_without_recordings(corpus)[0]):
            if archives:
                packed = first_few([os.path.relpath(each, folder) for each in archives])
                remedy = "if there are other recordings in it, give it with --source too"
                corpus.remarks.append(f"not unpacked, because a corpus lies beside it: {packed}; {remedy}")
            return corpus
    else:
        raise UserError(
            f"the source {source} is neither a folder nor an archive that is known: give one with recordings"
        )
    if archives and workspace is None:
        raise UserError(f"{archives[0]} is still packed: unpack it, or read it with create_metadata_files.py")
    seen = what_was_seen(folder) if folder.is_dir() else ""
    if archives and workspace:
        beside = Counter(each.parent for each in archives)
        unpacked = [
            root for each in archives for root in _roots(unpack(each, workspace), each, folder, beside[each.parent] > 1)
        ]
        corpus = _search(Source(place.folder, (*place.roots, *unpacked)), format, workspace) or corpus
        packed = ", ".join(each.name for each in archives[:3])
        lacking, others = _tables_without_recordings(corpus) if corpus else ([], True)
        if lacking and not others:
            remedy = "if its recordings are still packed elsewhere, put that archive or the files beside the table"
            raise UserError(f"none of the recordings that {lacking[0]} names is in {folder} or in {packed}: {remedy}")
        seen = "; ".join(filter(None, [seen, f"unpacked, {packed}: {what_was_seen(unpacked[0].folder)}"]))
    if corpus:
        return corpus
    where = f"no recordings with transcripts in a known layout were found in {folder}"
    raise NoCorpus(f"{where}: {seen}; looked for {_expected(format)}")


def _expected(format: str) -> str:
    """What would have been recognised; of all layouts the commonest, and the names of the others."""
    if format != "auto":
        return f"{format}: {LAYOUTS[format].expects}"
    common = "; ".join(layout.expects for layout in (HeadedTables, ListedTables, PlainFolder))
    return f"{common}; or one of {', '.join(name for name in LAYOUTS)} (the README shows each)"


def _roots(unpacked: Path, archive: Path, source: Path, several: bool) -> list[Root]:
    """The roots of an unpacked archive: without the folder that only packs the others, and with it for paths.

    Its content stands where the archive does; where there are several, in a folder that is called as the archive is.
    """
    name = stem_of(archive) if several else ""
    inside = os.path.normpath(os.path.join(os.path.relpath(archive.parent, source), name)) if archive != source else ""
    inside = "" if inside == "." else inside
    folder = unpacked
    while len(entries := list(os.scandir(folder))) == 1 and entries[0].is_dir(follow_symlinks=False):
        if not any(entry.is_dir() for entry in os.scandir(entries[0].path)):
            break  # its only folder is the speaker's
        folder = Path(entries[0].path)
    whole = Root(unpacked, inside, folder == unpacked, name)
    return [whole] if whole.walked else [Root(folder, inside, archive=name), whole]


def _wanted(format: str) -> list[type[Corpus]]:
    return [layout for name, layout in LAYOUTS.items() if format in ("auto", name)]


def _search(source: Source, format: str, workspace: Path | None) -> Corpus | None:
    """The corpus of the topmost level that has one."""
    wanted = [layout for layout in _wanted(format) if layout is not PlainFolder]
    plain = PlainFolder(source.folders[0], source)  # an archive's own folder, where the source is one
    for folders in _levels(source):
        found = [corpus for folder in folders for corpus in _in_folder(folder, source, wanted, workspace)]
        own = [corpus.folder for corpus in found]
        found = joined(found, source)
        apart = found and format == "auto" and not any(folder in source.folders for folder in own)
        if apart and plain.has_pairs(but=own):
            found.append(plain)
        if len(found) > 1:
            listed = ", ".join(f"{corpus.format} in {_place(corpus, source)}" for corpus in found[:4])
            by_format = "one with --format, or " * (len({corpus.format for corpus in found}) == len(found))
            remedy = f"name {by_format}the folder or archive with --source (several that belong together may be given)"
            raise UserError(f"{source.folder} holds more than one corpus ({listed}): {remedy}")
        if found:
            return found[0]
    return plain if format in ("auto", PlainFolder.format) and plain.has_pairs() else None


def _place(corpus: Corpus, source: Source) -> Path:
    """Where a corpus stands for the user: the archive's name where it was unpacked elsewhere."""
    inside = next((root.inside for root in source.roots if root.folder == corpus.folder and root.inside), "")
    return source.folder / inside if inside else corpus.folder


def _in_folder(
    folder: Path, source: Source, wanted: Sequence[type[Corpus]], workspace: Path | None
) -> Iterator[Corpus]:
    """The corpora whose tables stand in a folder; a table belongs to the first layout that takes it."""
    taken: set[Path] = set()
    for layout in wanted:
        corpus = layout(folder, source, workspace)
        tables = corpus.tables()
        if tables and taken.isdisjoint(tables):
            taken |= {*tables, *corpus.family()}
            yield corpus


def _tables_without_recordings(corpus: Corpus) -> tuple[list[str], bool]:
    """(the tables none of whose first rows finds its recording, whether there are others)."""
    tried: Counter[str] = Counter()  # table → rows that found nothing so far; negative once one has found something
    for row in corpus.rows():
        table = row.where.partition(",")[0] if ", line" in row.where else ""
        if not row.problem and 0 <= tried[table] < PROBED_ROWS:
            try:
                corpus.find(row)
                tried[table] = -1
            except PathProblem:
                tried[table] += 1
    lacking = [table or "a transcript" for table, count in tried.items() if count > 0]
    return lacking, len(lacking) < len(tried)


def _levels(source: Source) -> Iterator[list[Path]]:
    """The source's folders, the folders in them, and so on; no hidden ones, and links only into a hub's cache."""
    folders = source.folders
    for _ in range(LEVELS):
        yield folders
        if len(folders) > MAX_FOLDERS:
            return
        inside = [entry for folder in folders for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)]
        folders = [
            Path(e.path) for e in inside if e.is_dir(follow_symlinks=False) and not e.name.startswith((".", "__"))
        ]
