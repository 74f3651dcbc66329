"""Checks the rows of corpora one by one: line, path and text (`_Screen`), then the sound (`_measured`).

What is dropped, mended or suspected becomes a row of the drop report; the words are in drop_reasons.py.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xtts_ka.core.console import progress
from xtts_ka.corpus import tables
from xtts_ka.corpus.content import kind_of, misnamed
from xtts_ka.corpus.decoder_warnings import decoder_warnings
from xtts_ka.corpus.drop_reasons import Drop, Flaw, Mending, Suspicion
from xtts_ka.corpus.excerpt import Cut
from xtts_ka.corpus.formats import Corpus, Row, rows_with_splits
from xtts_ka.corpus.formats.columns import STRICTNESS
from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.paths import PathFinder, PathProblem
from xtts_ka.corpus.quality_limits import Finding
from xtts_ka.corpus.tables import Clip
from xtts_ka.corpus.transcripts import read_transcript
from xtts_ka.georgian.alphabet import georgian_fraction, georgian_letters
from xtts_ka.georgian.text import normalise

if TYPE_CHECKING:
    from xtts_ka.corpus.audio import AudioContent
    from xtts_ka.corpus.measurements import Measurements
    from xtts_ka.corpus.quality import Quality

SILENCE_PEAK = 1e-3  # of full scale, -60 dB: a clip that is nowhere louder is silence
MAX_TEXT = 2_000  # characters; a clip of 28 s, the longest that XTTS can speak, has some 400
LONG_SILENCE = 1.5  # seconds of silence at the ends together, and half of the clip, from which it is suspected
HIGHEST_PEAK = 10 ** (-1 / 20)  # that levelling the loudness may lead to: -1 dB of full scale
LEAST_SPEECH = 0.3  # seconds; letters a second of less speech are those of the clip
BATCH = 256  # rows checked together: small, so that Ctrl-C does not wait long for the threads
PROBED_ROWS = 200  # of each corpus, to see whether its paths lead anywhere as written
# Letters a second. Georgian is spoken with 10 to 20; no one speaks faster than the first or slower than the second.
IMPOSSIBLE_RATES = 60.0, 0.5
# A clip is suspected beyond these rates and multiples of its corpus' median, where there are enough clips.
ODD_RATES, ODD_MULTIPLES, ENOUGH_FOR_A_MEDIAN = (30.0, 2.0), (2.0, 0.25), 8
SLOW_FROM = 3.0  # seconds: a short "yes" in a clip of two seconds is nothing odd
_ID_FOLDERS = ("wavs", "wav", "audio", "clips")  # whose names are left out of file_ids
_GEORGIAN = ("ka", "kat", "geo", "georgian", "ქართული")
_NO_LANGUAGE = ("", "und", "unk", "unknown", "none", "nan", "null", "0")

Line = tuple[str, str, str, str, str, str]  # of the drop report: file_id, action, reason, detail, audio_path, text


class _Dropped(Exception):
    """A row that is left out; file_id is "" where it got none."""

    def __init__(self, reason: Drop | Flaw, detail: str, file_id: str = ""):
        self.reason, self.detail, self.file_id = reason, detail, file_id


@dataclass(frozen=True)
class Speaker:
    """Who speaks: the id in our tables, the corpus' own name, and where it stands."""

    speaker_id: str
    name: str
    known: bool
    format: str
    folder: Path


@dataclass
class Checked:
    """What `check_rows` found. clips: those kept, in the order of their tables; lines: of the drop report."""

    clips: list[Clip] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    official: dict[str, str] = field(default_factory=dict)  # file_id → split that the corpus states
    speakers: dict[str, Speaker] = field(default_factory=dict)  # of the clips kept, by speaker_id
    rows: int = 0
    measured: dict[str, dict[str, float | None]] | None = None  # file_id → tables.QUALITY_COLUMNS; None: not measured
    sources: dict[str, Row] = field(default_factory=dict)  # of the clips whose quality was measured, by file_id
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)  # by file_id and column
    gone: list[Clip] = field(default_factory=list)  # dropped for their quality

    def drop(self, reasons: Mapping[str, tuple[str, str]]) -> None:
        """Leave out clips: file_id → (reason, detail)."""
        self.gone += [clip for clip in self.clips if clip.file_id in reasons]
        self.clips = [clip for clip in self.clips if clip.file_id not in reasons]
        self.lines = [line for line in self.lines if line[0] not in reasons or line[1] == "dropped"]
        self.lines += [_line(self.sources[key], key, "dropped", *why) for key, why in reasons.items()]
        self.speakers = {clip.speaker_id: self.speakers[clip.speaker_id] for clip in self.clips}

    def find(self, findings: Iterable[Finding]) -> None:
        """Add what checks have found to what was measured."""
        for finding in findings:
            self.findings[finding.file_id, finding.column] = finding
            if self.measured is not None:
                self.measured[finding.file_id][finding.column] = finding.value

    def suspect(self, file_id: str, reason: str, detail: str) -> None:
        """List a clip that is kept."""
        self.lines.append(_line(self.sources[file_id], file_id, "suspect", reason, detail))

    def leave_out(self, reasons: Mapping[str, tuple[Drop, str]]) -> None:
        """Drop clips that no split takes: file_id → (reason, detail)."""
        gone = {clip.file_id: clip for clip in self.clips if clip.file_id in reasons}
        self.clips = [clip for clip in self.clips if clip.file_id not in gone]
        self.lines = [line for line in self.lines if line[0] not in gone or line[1] == "dropped"]
        self.lines += [(key, "dropped", *reasons[key], str(clip.audio_path), clip.text) for key, clip in gone.items()]
        self.speakers = {clip.speaker_id: self.speakers[clip.speaker_id] for clip in self.clips}

    def count(self, action: str) -> dict[str, int]:
        """Reason → lines with this action, the most frequent first."""
        return dict(Counter(reason for _, each, reason, *_ in self.lines if each == action).most_common())


@dataclass(frozen=True)
class _Candidate:
    """A row that passed the screen. part: (recording, start, end) where the clip has to be cut from a long one."""

    clip: Clip
    row: Row
    notes: tuple[tuple[str, str, str], ...]  # action, reason, detail
    speaker: Speaker
    part: tuple[str, float, float | None] | None = None


_Heard = tuple[_Candidate, "AudioContent", "Quality | None"]


def check_rows(
    corpora: Sequence[Corpus],
    options: MetadataOptions,
    measuring: Callable[[int], AbstractContextManager[Measurements]] | None = None,
) -> Checked:
    """Check every row of the corpora. measuring: rows → what measures their quality (measurements.py)."""
    respect = options.official_splits == "respect"
    rows = [(corpus, row) for corpus in corpora for row in (rows_with_splits(corpus) if respect else corpus.rows())]
    _choose_bare_names(rows)
    checked, screen = Checked(rows=len(rows), measured={} if measuring else None), _Screen(options)
    first_with: dict[str, str] = {}  # sha256 of the samples → file_id
    rates: dict[int, list[tuple[Clip, Row, float]]] = {}  # by corpus
    with ExitStack() as stack:
        # Threads, because libsndfile and SHA-256 release the interpreter lock.
        pool = stack.enter_context(ThreadPoolExecutor())
        measurements = stack.enter_context(measuring(len(rows))) if measuring else None
        bar = stack.enter_context(progress(total=len(rows), what="checking audio", unit="clip"))
        step = BATCH * (measurements.processes if measurements else 1)
        for start in range(0, len(rows), step):
            batch = rows[start : start + step]
            screened = [screen(corpus, row) for corpus, row in batch]
            if measurements:
                together = _with_quality(screened, options, pool, measurements)
            else:
                together = _measured_together(screened, options, pool)
            for (corpus, row), found in zip(batch, together):
                if isinstance(found, _Dropped):
                    checked.lines.append(_line(row, found.file_id, "dropped", found.reason, found.detail))
                    continue
                candidate, content, quality = found
                clip = candidate.clip
                first = first_with.setdefault(content.sha256, clip.file_id)
                if first != clip.file_id:
                    same = f"the same samples as {first}"
                    checked.lines.append(_line(row, clip.file_id, "dropped", Drop.DUPLICATE_AUDIO, same))
                    _state_split(checked, first, row.split)
                    continue
                _keep(checked, candidate)
                if quality and checked.measured is not None:
                    checked.measured[clip.file_id] = _values(clip, content, quality)
                    checked.sources[clip.file_id] = row
                    continue
                letters = len(georgian_letters(clip.text))
                rates.setdefault(id(corpus), []).append((clip, row, letters / clip.duration))
            bar.update(len(batch))
    for group in rates.values():
        checked.lines += _odd_rates(group)
    return checked


def _keep(checked: Checked, candidate: _Candidate) -> None:
    clip, row = candidate.clip, candidate.row
    checked.clips.append(clip)
    checked.speakers[clip.speaker_id] = candidate.speaker
    _state_split(checked, clip.file_id, row.split)
    checked.lines += [_line(row, clip.file_id, *note) for note in candidate.notes]


def _state_split(checked: Checked, file_id: str, split: str) -> None:
    """Note the split that a corpus states for a clip: of several, for one recording, the strictest."""
    if split:
        checked.official[file_id] = max(split, checked.official.get(file_id, ""), key=STRICTNESS.__getitem__)


def _line(row: Row, file_id: str, action: str, reason: str, detail: str) -> Line:
    return file_id, action, reason, f"{row.where}: {detail}", row.audio, row.text[:MAX_TEXT]


def _choose_bare_names(rows: Iterable[tuple[Corpus, Row]]) -> None:
    """Let a source's bare file names be found in any folder where none of its first paths leads anywhere as written."""
    probed: Counter[int] = Counter()
    written: dict[int, PathFinder] = {}
    for corpus, row in rows:
        finder = corpus.place.finder
        if row.problem or probed[id(finder)] >= PROBED_ROWS:
            continue
        probed[id(finder)] += 1
        written.setdefault(id(finder), finder)
        if finder.as_written(row.audio, corpus.starts(row), corpus.folders_of(row)):
            probed[id(finder)] = PROBED_ROWS
            written.pop(id(finder))
    for finder in written.values():
        finder.bare_names = True


def _odd_rates(group: Sequence[tuple[Clip, Row, float]]) -> list[Line]:
    """Clips of one corpus with far more, or far fewer, letters a second than the others."""
    if len(group) < ENOUGH_FOR_A_MEDIAN:
        return []
    middle = statistics.median(rate for *_, rate in group)
    fast, slow = max(ODD_RATES[0], ODD_MULTIPLES[0] * middle), min(ODD_RATES[1], ODD_MULTIPLES[1] * middle)
    lines = []
    for clip, row, rate in group:
        if rate > fast or (rate < slow and clip.duration >= SLOW_FROM):
            letters = f"{len(georgian_letters(clip.text))} letters in {clip.duration:.2f} s"
            detail = f"{letters}, where {middle:.0f} a second are usual"
            lines.append(_line(row, clip.file_id, "suspect", Suspicion.ODD_LENGTH, detail))
    return lines


class _Screen:
    """Checks a row's line, path and text, and gives it its ids.

    It keeps the ids and paths of earlier rows, so the rows must come in the order of their tables.
    """

    def __init__(self, options: MetadataOptions):
        self._options = options
        self._file_ids: dict[str, str] = {}  # id → path
        self._speaker_ids: dict[str, str] = {}  # id → name and corpus, with a mark where it is no person's
        self._lines_of: dict[str, str] = {}  # path → the line that names it

    def __call__(self, corpus: Corpus, row: Row) -> _Candidate | _Dropped:
        try:
            return self._candidate(corpus, row)
        except _Dropped as drop:
            return drop

    def _candidate(self, corpus: Corpus, row: Row) -> _Candidate:
        if row.problem:
            raise _Dropped(Drop.BAD_ROW, row.problem)
        language = row.language.strip().lower()
        if re.split("[-_]", language)[0] not in _GEORGIAN and language not in _NO_LANGUAGE:
            raise _Dropped(Drop.OTHER_LANGUAGE, f"the corpus says that its language is {row.language}")
        if len(row.text) > MAX_TEXT:
            raise _Dropped(Drop.BAD_ROW, f"the text has {len(row.text)} characters")
        try:
            found = corpus.find(row)
        except PathProblem as problem:
            raise _Dropped(problem.reason, problem.detail) from None
        text, notes = self._read(row.text)
        whole = row.start is None
        place = found.path if whole else f"{found.path}#{row.start:.3f}-{row.end or 0:.3f}"
        if place in self._lines_of:
            same = "the same file" if whole else "the same part of the file"
            raise _Dropped(Drop.DUPLICATE_ID, f"{self._lines_of[place]} names {same}")
        self._lines_of[place] = row.where
        inside = Path(corpus.inside(found)).with_suffix("").parts
        inside = inside[1:] if inside[0] in _ID_FOLDERS and len(inside) > 1 else inside
        own = row.name or ("/".join(inside) if whole else f"{'/'.join(inside)}_{round(1000 * (row.start or 0)):08d}")
        file_id = _unique_id(own, place, self._file_ids)
        speaker = self._speaker(corpus, row, *corpus.voice(row, found))
        if found.note:
            notes = (("mended", Mending.PATH, found.note), *notes)
        notes += tuple(("suspect", *note) for note in row.suspected)
        part = None if whole else (found.path, row.start or 0.0, row.end)
        audio = Path(found.path) if whole else _part_file(corpus, file_id)
        clip = Clip(file_id, text, speaker.speaker_id, math.nan, audio, None, speaker.known)
        return _Candidate(clip, row, notes, speaker, part)

    def _speaker(self, corpus: Corpus, row: Row, named: str, known: bool) -> Speaker:
        """One name in two sources is two people, unless names are the same everywhere or the user says so."""
        name = unicodedata.normalize("NFC", named.strip()) or corpus.name + "_unknown" * (not known)
        label = corpus.speaker_label(name) if named.strip() else name
        scope = "" if self._options.join_speakers or corpus.speakers_everywhere or not known else corpus.scope(row)
        key = f"{name}\0{scope}\0{'' if known else 'unknown'}"
        speaker_id = _unique_id(label, key, self._speaker_ids, other=f"{corpus.name}/{label}")
        return Speaker(speaker_id, name, known, corpus.format, corpus.folder)

    def _read(self, raw: str) -> tuple[str, tuple[tuple[str, str, str], ...]]:
        """(text as it is read aloud, notes) of a transcript."""
        transcript = read_transcript(raw)
        if transcript.refused:
            reason, detail = transcript.refused
            raise _Dropped(Drop(reason), detail)
        text = normalise(transcript.text, archaic=self._options.archaic)
        fraction = georgian_fraction(transcript.text)
        # A text without letters may still be a number, which is read in Georgian.
        if fraction < self._options.min_georgian_fraction and any(map(str.isalpha, raw)):
            raise _Dropped(Drop.NON_GEORGIAN_TEXT, f"{fraction:.0%} of its letters are Georgian")
        if not text:
            raise _Dropped(Drop.EMPTY_TEXT, "nothing in it is spoken" if raw.strip() else "it has no text")
        mended = tuple(("mended", *note) for note in transcript.mended)
        return text, mended + tuple(("suspect", *note) for note in transcript.suspected)


def _part_file(corpus: Corpus, file_id: str) -> Path:
    if corpus.workspace is None:
        raise _Dropped(Drop.BAD_ROW, "it is a part of a recording, for which no folder was given")
    return corpus.workspace / f"{corpus.name}-parts" / f"{file_id}.wav"


def _measured_together(
    screened: Sequence[_Candidate | _Dropped], options: MetadataOptions, pool: ThreadPoolExecutor
) -> list[_Heard | _Dropped]:
    """`_measured` of each in threads. Where libmpg123 complains, each mp3 is decoded again to learn about which."""
    with decoder_warnings() as heard:
        results = list(pool.map(lambda each: _measured(each, options), screened))
    if heard:
        for i, found in enumerate(results):
            if not isinstance(found, _Dropped) and kind_of(found[0].clip.audio_path) == "MP3":
                with decoder_warnings() as own:
                    _measured(screened[i], options)
                if own:
                    note = ("suspect", Suspicion.DAMAGED_MP3, own[0])
                    results[i] = replace(found[0], notes=(*found[0].notes, note)), *found[1:]
    return results


def _measured(screened: _Candidate | _Dropped, options: MetadataOptions) -> _Heard | _Dropped:
    """Decode a clip's recording and judge it. Runs in a thread."""
    from xtts_ka.corpus.audio import AudioError, measure  # imports numpy, which --help does not need

    candidate = _cut_out(screened, options)
    if isinstance(candidate, _Dropped):
        return candidate
    try:
        return _judged(candidate, measure(candidate.clip.audio_path, options.max_seconds), None, options)
    except AudioError as error:
        return _Dropped(error.reason, error.detail, candidate.clip.file_id)


def _with_quality(
    screened: Sequence[_Candidate | _Dropped],
    options: MetadataOptions,
    pool: ThreadPoolExecutor,
    measurements: Measurements,
) -> list[_Heard | _Dropped]:
    """As `_measured_together`, with the quality of each, which processes of their own measure."""
    from xtts_ka.corpus.quality import Unusable

    ready = list(pool.map(lambda each: _cut_out(each, options), screened))
    sounds = iter(measurements([each.clip.audio_path for each in ready if not isinstance(each, _Dropped)]))
    found: list[_Heard | _Dropped] = []
    for each in ready:
        if isinstance(each, _Dropped):
            found.append(each)
        elif isinstance(sound := next(sounds), Unusable):
            found.append(_Dropped(sound.reason, sound.detail, each.clip.file_id))
        else:
            if sound.complaint:
                each = replace(each, notes=(*each.notes, ("suspect", Suspicion.DAMAGED_MP3, sound.complaint)))
            found.append(_judged(each, sound.content, sound.quality, options))
    return found


def _cut_out(candidate: _Candidate | _Dropped, options: MetadataOptions) -> _Candidate | _Dropped:
    """Write the clip's own file where it is a part of a long recording."""
    from xtts_ka.corpus import extracted
    from xtts_ka.corpus.audio import AudioError

    if isinstance(candidate, _Dropped) or not candidate.part:
        return candidate
    _, begin, end = candidate.part
    if end is not None and end - begin > options.max_seconds:
        return _Dropped(Drop.TOO_LONG, f"{end - begin:.2f} s", candidate.clip.file_id)
    try:
        extracted.cut(*candidate.part, candidate.clip.audio_path)
    except AudioError as error:
        return _Dropped(error.reason, error.detail, candidate.clip.file_id)
    return candidate


def _judged(
    candidate: _Candidate, sound: AudioContent, quality: Quality | None, options: MetadataOptions
) -> _Heard | _Dropped:
    """The candidate with its duration and with what is read of it, or why it is dropped."""
    clip, path = candidate.clip, candidate.clip.audio_path
    if sound.seconds > options.max_seconds:
        return _Dropped(Drop.TOO_LONG, f"{sound.seconds:.2f} s", clip.file_id)  # measured with another limit
    most_cancelled = options.max_cancelled
    if most_cancelled is not None and sound.cancelled > most_cancelled:
        return _Dropped(Flaw.CHANNELS_CANCEL, f"their sum is {sound.cancelled:.0f} dB weaker than each", clip.file_id)
    if sound.swing < SILENCE_PEAK:
        offset = "" if sound.peak < SILENCE_PEAK else ", all samples at one level"
        return _Dropped(Drop.EMPTY_AUDIO, f"{sound.seconds:.2f} s of silence{offset}", clip.file_id)
    if sound.seconds < options.min_seconds:
        return _Dropped(Drop.TOO_SHORT, f"{sound.seconds:.2f} s", clip.file_id)
    if sound.clipped_fraction > options.max_clipped_fraction:
        share = f"{sound.clipped_fraction:.1%} of its samples are clipped: at full scale, or in flat tops"
        return _Dropped(Drop.CLIPPED_AUDIO, share, clip.file_id)
    letters = len(georgian_letters(clip.text))
    if letters > IMPOSSIBLE_RATES[0] * sound.seconds:
        return _Dropped(
            Drop.WRONG_LENGTH, f"{letters} letters in {sound.seconds:.2f} s: nobody speaks so fast", clip.file_id
        )
    if letters < IMPOSSIBLE_RATES[1] * sound.seconds and sound.seconds >= SLOW_FROM:
        return _Dropped(
            Drop.WRONG_LENGTH, f"{letters} letters in {sound.seconds:.2f} s: most is not written", clip.file_id
        )
    notes, cut, seconds = candidate.notes, None, sound.seconds
    if quality:
        cut = _cut_of(sound, quality, options)
        seconds = cut.end - cut.start if cut else seconds
        if seconds < options.min_seconds:
            return _Dropped(Drop.TOO_SHORT, f"{seconds:.2f} s without the silence at its ends", clip.file_id)
    elif sound.steady:
        notes += (("suspect", Suspicion.NO_SPEECH, "quiet and equally loud throughout"),)
    elif sound.silence_at_ends > max(LONG_SILENCE, sound.seconds / 2):
        silence = f"{sound.silence_at_ends:.1f} of {sound.seconds:.1f} s are silence before and after the speech"
        notes += (("suspect", Suspicion.LONG_SILENCE, silence),)
    if not candidate.part and (kind := misnamed(path)):
        notes += (("suspect", Suspicion.WRONG_SUFFIX, f"{kind} by its content, and read as such"),)
    return replace(candidate, clip=replace(clip, duration=seconds, cut=cut), notes=notes), sound, quality


def _cut_of(sound: AudioContent, quality: Quality, options: MetadataOptions) -> Cut | None:
    """What is read of a recording; None: all of it as it is."""
    from xtts_ka.corpus.quality import trimmed

    start, end = trimmed(quality, sound.seconds) if options.trim else (0.0, sound.seconds)
    gain = 0.0
    if options.loudness is not None and quality.speech_seconds:
        most = 20 * math.log10(HIGHEST_PEAK / sound.peak)
        gain = max(-tables.MAX_GAIN_DB, min(options.loudness - quality.loudness, most, tables.MAX_GAIN_DB))
    gain, start, end = round(gain, 2), round(start, 4), math.ceil(10_000 * end) / 10_000
    return Cut(start, end, gain) if gain or end - start < sound.seconds - 1e-3 else None


def _values(clip: Clip, sound: AudioContent, quality: Quality) -> dict[str, float | None]:
    """Of tables.QUALITY_COLUMNS, what a recording by itself tells."""
    speech = quality.speech_seconds
    return {
        "speech_share": min(1.0, speech / clip.duration),
        "silence_start": quality.silence_start,
        "silence_end": quality.silence_end,
        "loudness": quality.loudness,
        "clipped_share": sound.clipped_fraction,
        "offset": abs(sound.offset),
        "cancelled": sound.cancelled,
        "bandwidth": quality.bandwidth,
        "rate": quality.rate,
        "seconds": sound.seconds,
        "snr": quality.snr,
        "dnsmos": quality.dnsmos,
        "speech_seconds": speech,
        "letters_per_second": len(georgian_letters(clip.text)) / (speech if speech >= LEAST_SPEECH else clip.duration),
    }


def _unique_id(name: str, key: str, taken: dict[str, str], other: str = "") -> str:
    """An id made from `name` that is safe in file names and spreadsheets. taken: id → the `key` that has it.

    A safe name stays as it is. Otherwise, or where another key has the same id, eight digits of the hash of the name
    (or of `other`) are appended, so that an id does not depend on what else the corpus holds unless two ids would be
    the same.
    """
    plain = unicodedata.normalize("NFC", name)
    safe = re.sub(r"[^\w.-]+", "_", plain).strip("_.-") or "unnamed"
    candidate = safe if safe == plain and tables.is_safe_id(safe) else ""
    hashed = name
    while not candidate or taken.setdefault(candidate, key) != key:
        hashed = other or hashed if candidate else hashed
        digest = hashlib.sha256(hashed.encode("utf-8", "surrogatepass")).hexdigest()
        candidate = f"{safe[: tables.MAX_ID_LENGTH - 9]}-{digest[:8]}"
        hashed, other = f"{hashed}\0", ""  # gives another hash, should this one be taken
    return candidate


def is_inside(path: str | Path, folder: Path) -> bool:
    return os.path.realpath(path).startswith(f"{os.path.realpath(folder)}{os.sep}")
