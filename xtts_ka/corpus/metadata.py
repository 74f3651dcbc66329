"""Turns recordings and transcripts into checked split tables and a drop report.

The steps: find the corpora (formats.py), check each row's line, path and text (`_Screen`), decode and measure its
recording (`_measured`), choose the splits (splits.py), write (tables.py).
"""

from __future__ import annotations

import filecmp
import hashlib
import math
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from xtts_ka.core.console import heading, progress, say, style
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import TEMPORARY_SUFFIX, atomic_path, sweep_partials
from xtts_ka.corpus import splits as splitting
from xtts_ka.corpus import tables
from xtts_ka.corpus.drop_reasons import Drop
from xtts_ka.corpus.formats import AUDIO_FOLDERS, Corpus, Row, find_corpus
from xtts_ka.corpus.splits import SplitPlan, sentence_of
from xtts_ka.corpus.tables import EMBEDDING_SUFFIXES, Clip, split_csv
from xtts_ka.georgian.alphabet import georgian_fraction
from xtts_ka.georgian.text import normalise

SILENCE_PEAK = 1e-3  # of full scale, -60 dB: a clip that is nowhere louder is silence
MAX_TEXT = 2_000  # characters; a clip of 28 s, the longest that XTTS can speak, has some 400
MIN_VAL_CLIPS = 2  # training compares checkpoints by the validation loss, for which one clip is not enough
BATCH = 256  # rows checked together: small, so that Ctrl-C does not wait long for the threads
_UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and bytes that are no Unicode


def _option(default: float, help: str, at_most: float = math.inf) -> Any:
    return field(default=default, metadata={"help": help, "at_most": at_most})


@dataclass(frozen=True)
class MetadataOptions:
    """What counts as a usable clip, and how clips are split. An impossible value is a UserError."""

    min_seconds: float = _option(0.5, "shortest clip kept")
    max_seconds: float = _option(28.0, "longest clip kept; the model holds 28 s of speech", at_most=600)
    max_clipped_fraction: float = _option(0.01, "largest share of full-scale samples in a clip", at_most=1)
    min_georgian_fraction: float = _option(0.5, "smallest share of Georgian letters in a text kept", at_most=1)
    max_drop_fraction: float = _option(0.5, "no table is written where more would be dropped", at_most=1)
    val_fraction: float = _option(0.05, "share of the sentences kept for validation", at_most=0.9)
    test_fraction: float = _option(0.05, "share of the sentences kept for the final test", at_most=0.9)
    eval_clips: float = _option(1000, "validation and test take no more sentences than give about so many clips")
    archaic: str = "respell"  # of the letters ჱ ჲ ჳ ჴ ჵ: respell or keep
    copy: bool = False  # copy the clips that are kept into audio/ beside each table

    def __post_init__(self) -> None:
        for spec in fields(self):
            value, at_most = getattr(self, spec.name), spec.metadata.get("at_most", math.inf)
            if spec.metadata and not 0 <= value <= at_most:  # a NaN fails too
                raise UserError(f"{spec.name} is {value}: it must lie between 0 and {at_most:g}")
        if self.archaic not in ("respell", "keep"):
            raise UserError(f"archaic is {self.archaic!r}: it must be respell or keep")
        if self.min_seconds >= self.max_seconds:
            raise UserError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError("val_fraction and test_fraction leave nothing to train on: keep the sum below 1")


@dataclass(frozen=True)
class MetadataReport:
    """What `create_metadata` found and wrote."""

    corpora: tuple[Corpus, ...]
    rows: int
    kept: int
    dropped: dict[str, int]  # reason → rows
    splits: dict[str, tuple[int, float]]  # split → (clips, seconds)
    speakers: int  # known ones
    unknown: int  # clips whose speaker is not known
    held_out: int  # speakers kept from training
    embeddings: int  # clips with an embedding file
    drop_report: Path


class _Dropped(Exception):
    """A row that is left out; file_id is "" where it got none."""

    def __init__(self, reason: Drop, detail: str, file_id: str = ""):
        self.reason, self.detail, self.file_id = reason, detail, file_id


def create_metadata(
    source: Path | str | Sequence[Path | str],
    output_dir: Path | str,
    *,
    format: str = "auto",
    embeddings_dir: Path | str | None = None,
    options: MetadataOptions = MetadataOptions(),
    enough_validation: bool = False,
) -> MetadataReport:
    """Check every recording in `source` (a folder, or several) and write the split tables under `output_dir`.

    `embeddings_dir` holds voice embeddings named after the clips (default `<output_dir>/embeddings/embeddings`).
    `enough_validation` raises the share of validation as far as it needs; the splits of few clips then depend on how
    many there are.
    UserError where no corpus is found, where more than `options.max_drop_fraction` of the rows would be dropped, or
    where fewer than two clips would be left for validation. Then no table is changed, but the drop report is written as
    soon as every row has been checked.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    output_dir = Path(output_dir)
    corpora = tuple(find_corpus(folder, format) for folder in sources)
    embeddings = [Path(embeddings_dir)] if embeddings_dir else []
    folders = [corpus.folder for corpus in corpora]
    _check_folders([*sources, *folders, *embeddings], output_dir)
    if embeddings_dir and not os.path.isdir(embeddings_dir):
        raise UserError(f"the embeddings folder {embeddings_dir} does not exist: omit --embeddings_dir")
    for corpus in corpora:
        say(f"found {style(corpus.format, 'bold')} in {corpus.folder}")

    for folder in {file.parent for file in (output_dir / "split").rglob(f".*{TEMPORARY_SUFFIX}")}:
        sweep_partials(folder)  # left by a killed run; two runs into one folder at once are not supported
    kept, drops = _check_rows(corpora, options)
    asked = splitting.Asked(options.val_fraction, options.test_fraction, options.eval_clips)
    plan = splitting.find_plan(output_dir, kept, asked)
    if enough_validation:
        plan = _with_enough_validation(kept, plan)
    with_embeddings = list(_with_embeddings(kept, Path(embeddings_dir or output_dir / tables.EMBEDDINGS_FOLDER)))
    splits, left_out = plan.assign(with_embeddings)
    for clip in left_out:
        why = (Drop.HELD_OUT_SENTENCE, f"{clip.speaker_id} is kept from training, where someone says the same sentence")
        drops.append((clip.file_id, "dropped", *why, str(clip.audio_path), clip.text))
    drop_report = tables.write_drop_report(output_dir, drops)
    dropped = dict(Counter(reason for _, _, reason, *_ in drops).most_common())
    kept = [clip for clips in splits.values() for clip in clips]
    rows = len(kept) + len(drops)
    _check_drops(rows, dropped, options, drop_report)
    _check_splits(splits, kept, plan)
    if options.copy:
        splits = {split: _copied(clips, split_csv(output_dir, split).parent) for split, clips in splits.items()}
    tables.write_splits(output_dir, splits, embeddings if options.copy else folders + embeddings, asdict(plan))
    return MetadataReport(
        corpora=corpora,
        rows=rows,
        kept=len(kept),
        dropped=dropped,
        splits={split: (len(clips), math.fsum(clip.duration for clip in clips)) for split, clips in splits.items()},
        speakers=len({clip.speaker_id for clip in kept if clip.speaker_known}),
        unknown=sum(not clip.speaker_known for clip in kept),
        held_out=len({clip.speaker_id for clip in kept if plan.holds_out(clip)}),
        embeddings=sum(clip.embedding_path is not None for clips in splits.values() for clip in clips),
        drop_report=drop_report,
    )


def _check_folders(sources: Sequence[Path | str], output_dir: Path) -> None:
    real = os.path.realpath(output_dir)
    for source in map(os.path.realpath, sources):
        if os.path.commonpath([source, real]) == source:
            inside = f"the output folder {output_dir} lies in the source {source}, which is read only"
            raise UserError(f"{inside}: choose another --output_dir")
        if _UNWRITABLE.search(source):
            raise UserError(f"the name of the folder {source!r} holds characters that no table can hold: rename it")
    if os.path.exists(real) and not os.path.isdir(real):
        raise UserError(f"the output folder {output_dir} is a file: choose another --output_dir")


def _check_drops(rows: int, dropped: dict[str, int], options: MetadataOptions, drop_report: Path) -> None:
    if rows == 0:
        raise UserError("the source has no rows: give a folder whose table or .txt files name a recording")
    gone = sum(dropped.values())
    if gone > options.max_drop_fraction * rows or gone == rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
        limit = f"--max_drop_fraction allows {options.max_drop_fraction:g}"
        remedy = f"see {drop_report}, correct them or raise the limit"
        raise UserError(f"{gone} of {rows} rows cannot be used ({reasons}), and {limit}: {remedy}")


def _with_enough_validation(kept: Sequence[Clip], plan: SplitPlan) -> SplitPlan:
    """`plan` with a val_fraction that gives validation MIN_VAL_CLIPS, where that leaves clips for training."""
    wanted = max(plan.val_fraction, _enough_for_validation(kept))
    raised = replace(plan, val_fraction=wanted) if wanted + plan.test_fraction < 0.9 else plan
    return raised if raised.assign(kept)[0]["train"] else plan


def _enough_for_validation(kept: Sequence[Clip]) -> float:
    """The smallest val_fraction, in hundredths, that keeps MIN_VAL_CLIPS clips for validation."""
    places = sorted(hash_to_unit(sentence_of(clip.text)) for clip in kept) or [0.0]
    return math.floor(places[min(MIN_VAL_CLIPS, len(places)) - 1] * 100 + 1) / 100


def _check_splits(splits: dict[str, list[Clip]], kept: Sequence[Clip], plan: SplitPlan) -> None:
    """UserError where validation or training would have too little."""
    if len(splits["val"]) < MIN_VAL_CLIPS:
        wanted = _enough_for_validation(kept)
        enough = len(kept) > 4 * MIN_VAL_CLIPS and wanted + plan.test_fraction < 0.5
        remedy = f"run again with --val_fraction {wanted:g}" if enough else "add recordings of more sentences"
        few = f"only {len(splits['val'])} of {len(kept)} clips would be for validation"
        raise UserError(f"{few}, which needs {MIN_VAL_CLIPS}: {remedy}")
    if not splits["train"]:
        remedy = "lower --val_fraction and --test_fraction or add recordings of more sentences"
        raise UserError(f"none of {len(kept)} clips would be left for training: {remedy}")


def _check_rows(corpora: Sequence[Corpus], options: MetadataOptions) -> tuple[list[Clip], list[tuple[str, ...]]]:
    """Return (clips kept, rows of the drop report), both in the order of the corpora's tables."""
    rows = [(corpus, row) for corpus in corpora for row in corpus.rows()]
    kept: list[Clip] = []
    drops: list[tuple[str, ...]] = []
    screen = _Screen(options)
    first_with: dict[str, str] = {}  # sha256 of the samples → file_id
    # Threads, because libsndfile and SHA-256 release the interpreter lock.
    with progress(total=len(rows), what="checking audio", unit="clip") as bar, ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            screened = [screen(corpus, row) for corpus, row in batch]
            for (_, row), found in zip(batch, pool.map(lambda each: _measured(each, options), screened)):
                if not isinstance(found, _Dropped):
                    clip, sha256 = found
                    first = first_with.setdefault(sha256, clip.file_id)
                    if first == clip.file_id:
                        kept.append(clip)
                        continue
                    found = _Dropped(Drop.DUPLICATE_AUDIO, f"the same samples as {first}", clip.file_id)
                why = (found.reason, f"{row.where}: {found.detail}")
                drops.append((found.file_id, "dropped", *why, row.audio, row.text[:MAX_TEXT]))
            bar.update(len(batch))
    return kept, drops


class _Screen:
    """Checks a row's line, path and text, and gives it its ids.

    It keeps the ids and paths of earlier rows, so the rows must come in the order of their tables.
    """

    def __init__(self, options: MetadataOptions):
        self._options = options
        self._file_ids: dict[str, str] = {}  # id → path
        self._speaker_ids: dict[str, str] = {}  # id → name, with a mark where it is no person's
        self._lines_of: dict[str, str] = {}  # path → the line that names it

    def __call__(self, corpus: Corpus, row: Row) -> Clip | _Dropped:
        try:
            if row.problem:
                raise _Dropped(Drop.BAD_ROW, row.problem)
            audio = _contained(corpus.folder, row.audio)
            text = self._read(row.text)
            if audio in self._lines_of:
                raise _Dropped(Drop.DUPLICATE_ID, f"{self._lines_of[audio]} names the same file")
        except _Dropped as drop:
            return drop
        self._lines_of[audio] = row.where
        inside = Path(audio).relative_to(corpus.folder).with_suffix("").parts
        inside = inside[1:] if inside[0] in AUDIO_FOLDERS and len(inside) > 1 else inside
        file_id = _unique_id("/".join(inside), audio, self._file_ids)
        known = row.speaker_known
        speaker = row.speaker or corpus.folder.name + "_unknown" * (not known)
        speaker_id = _unique_id(speaker, speaker if known else f"{speaker}\0", self._speaker_ids)
        return Clip(file_id, text, speaker_id, math.nan, Path(audio), None, known)

    def _read(self, raw: str) -> str:
        if len(raw) > MAX_TEXT:
            raise _Dropped(Drop.BAD_ROW, f"the text has {len(raw)} characters")
        text = normalise(raw, archaic=self._options.archaic)
        fraction = georgian_fraction(raw)
        # A text without letters may still be a number, which is read in Georgian.
        if fraction < self._options.min_georgian_fraction and any(map(str.isalpha, raw)):
            raise _Dropped(Drop.NON_GEORGIAN_TEXT, f"{fraction:.0%} of its letters are Georgian")
        if not text:
            raise _Dropped(Drop.EMPTY_TEXT, "nothing in it is spoken" if raw.strip() else "it has no text")
        return text


def _contained(folder: Path, name: str) -> str:
    """The path of a row's recording, links resolved. _Dropped where the name is unusable or leads out of the folder."""
    if not name:
        raise _Dropped(Drop.BAD_ROW, "it names no recording")
    if _UNWRITABLE.search(name):
        raise _Dropped(Drop.BAD_ROW, "the file name holds characters that no table can hold")
    real = os.path.realpath(os.path.join(folder, name))
    if not real.startswith(f"{folder}{os.sep}"):
        raise _Dropped(Drop.OUTSIDE_SOURCE, f"the recording is outside {folder}")
    return real


def _measured(clip: Clip | _Dropped, options: MetadataOptions) -> tuple[Clip, str] | _Dropped:
    """Decode a clip's recording: the clip with its duration and the SHA-256 of its samples. Runs in a thread."""
    from xtts_ka.corpus.audio import AudioError, measure  # imports numpy, which --help does not need

    if isinstance(clip, _Dropped):
        return clip
    try:
        sound = measure(clip.audio_path, options.max_seconds)
    except AudioError as error:
        return _Dropped(error.reason, error.detail, clip.file_id)
    if sound.peak < SILENCE_PEAK:
        return _Dropped(Drop.EMPTY_AUDIO, f"{sound.seconds:.2f} s of silence", clip.file_id)
    if sound.seconds < options.min_seconds:
        return _Dropped(Drop.TOO_SHORT, f"{sound.seconds:.2f} s", clip.file_id)
    if sound.clipped_fraction > options.max_clipped_fraction:
        share = f"{sound.clipped_fraction:.1%} of its samples are at full scale"
        return _Dropped(Drop.CLIPPED_AUDIO, share, clip.file_id)
    return replace(clip, duration=sound.seconds), sound.sha256


def _unique_id(name: str, key: str, taken: dict[str, str]) -> str:
    """An id made from `name` that is safe in file names and spreadsheets. taken: id → the `key` that has it.

    A safe name stays as it is. Otherwise, or where another key has the same id, eight digits of the name's hash are
    appended, so that an id does not depend on what else the corpus holds unless two ids would be the same.
    """
    plain = unicodedata.normalize("NFC", name)
    safe = re.sub(r"[^\w.-]+", "_", plain).strip("_.-") or "unnamed"
    candidate = safe if safe == plain and tables.is_safe_id(safe) else ""
    while not candidate or taken.setdefault(candidate, key) != key:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        candidate = f"{safe[: tables.MAX_ID_LENGTH - 9]}-{digest[:8]}"
        name += "\0"  # gives another hash, should this one be taken
    return candidate


def _with_embeddings(clips: Sequence[Clip], folder: Path) -> Iterator[Clip]:
    """Give each clip the embedding named by its id, or by its file's stem if no other clip has that stem."""
    paths = [file for suffix in reversed(EMBEDDING_SUFFIXES) for file in folder.absolute().glob(f"*{suffix}")]
    files = {file.stem: file for file in paths if not _UNWRITABLE.search(str(file))}
    stems = Counter(clip.audio_path.stem for clip in clips)
    for clip in clips:
        stem = clip.audio_path.stem
        file = files.get(clip.file_id) or (files.get(stem) if stems[stem] == 1 else None)
        yield replace(clip, embedding_path=file)


def _copied(clips: Sequence[Clip], folder: Path) -> list[Clip]:
    """Copy the recordings into audio/ beside their table, each atomically; return the clips with the copies' paths."""
    copies = []
    for clip in progress(clips, what=f"copying {folder.name}", unit="clip"):
        copy = Path(os.path.realpath(folder), "audio", f"{clip.file_id}{clip.audio_path.suffix.lower()}")
        if not copy.is_file() or not filecmp.cmp(clip.audio_path, copy):  # equal sizes and times pass as equal
            with atomic_path(copy) as temporary:
                shutil.copy2(clip.audio_path, temporary)
        copies.append(replace(clip, audio_path=copy))
    return copies


def print_report(report: MetadataReport) -> None:
    """Print what was kept and dropped, by split and by reason; with --verbose also every dropped row."""
    heading("metadata")
    hours = sum(seconds for _, seconds in report.splits.values()) / 3600
    speakers = f"{report.speakers} speaker{'s'[: report.speakers != 1]}"
    kept = f"kept {report.kept} of {report.rows} clips"
    say(f"{kept}: {hours:.2f} hours, {speakers}, {report.embeddings} with an embedding")
    if report.unknown:
        say(f"the speaker of {report.unknown} clips is not known: they are trained on, but give no voice")
    if report.held_out:
        say(f"{report.held_out} of the speakers are kept from training, to validate and test after unheard voices")
    for split, (clips, seconds) in report.splits.items():
        say(f"  {split:<6}{clips:>9} clips {seconds / 60:>10.1f} min")
    if report.dropped:
        say(f"dropped {sum(report.dropped.values())}, listed in {report.drop_report}:")
        for reason, count in report.dropped.items():
            say(f"  {reason:<18}{count:>9}")
    else:
        say("dropped none")
    for _, action, reason, detail, *_ in tables.read_drop_report(report.drop_report.parents[1]):
        say(f"  {action} {detail} ({reason})", verbose=True)
