"""Turns recordings and transcripts into checked split tables and a drop report.

The steps: find the corpora (formats/), check their rows and recordings (screening.py), choose the splits (splits.py, or
as the corpus states them), write (tables.py).
"""

from __future__ import annotations

import filecmp
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from xtts_ka.core.console import heading, progress, say, style
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import TEMPORARY_SUFFIX, atomic_path, sweep_partials
from xtts_ka.corpus import extracted, tables
from xtts_ka.corpus import splits as splitting
from xtts_ka.corpus.drop_reasons import Drop
from xtts_ka.corpus.formats import Corpus, find_corpora
from xtts_ka.corpus.formats.columns import STRICTNESS
from xtts_ka.corpus.measurements import Measurements
from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.paths import UNWRITABLE, link_targets
from xtts_ka.corpus.quality_judging import Cost, judge
from xtts_ka.corpus.quality_limits import Finding
from xtts_ka.corpus.screening import Checked, check_rows, is_inside
from xtts_ka.corpus.splits import SplitPlan, sentence_of
from xtts_ka.corpus.tables import EMBEDDING_SUFFIXES, Clip, split_csv

MIN_VAL_CLIPS = 2  # training compares checkpoints by the validation loss, for which one clip is not enough
SHOWN_SPEAKERS = 12  # of which the report prints names
Check = Callable[[Sequence[Clip]], Iterable[Finding]]


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
    mended: dict[str, int]  # reason → rows kept after a change of their text or path
    suspected: dict[str, int]  # reason → rows kept that should be looked at
    voices: dict[str, tuple[str, int]]  # known speaker_id → (the corpus' own name, clips), most clips first
    costs: list[Cost]  # of each limit of the quality, where it was measured
    page: Path | None  # recordings_report.html, likewise


def create_metadata(
    source: Path | str | Sequence[Path | str],
    output_dir: Path | str,
    *,
    format: str = "auto",
    embeddings_dir: Path | str | None = None,
    options: MetadataOptions = MetadataOptions(),
    enough_validation: bool = False,
    processes: int = 1,
    checks: Sequence[Check] = (),
) -> MetadataReport:
    """Check every recording in `source` (a folder, or several) and write the split tables under `output_dir`.

    `embeddings_dir` holds voice embeddings named after the clips (default `<output_dir>/embeddings/embeddings`).
    `enough_validation` raises the share of validation as far as it needs; the splits of few clips then depend on how
    many there are. `processes` measure the quality, where `options.quality` asks for it; `checks` then find more.
    UserError where no corpus is found, where more than `options.max_drop_fraction` of the rows would be dropped, or
    where fewer than two clips would be left for validation. Then no table is changed, but the drop report is written as
    soon as every row has been checked.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    output_dir = Path(output_dir)
    embeddings = [Path(embeddings_dir)] if embeddings_dir else []
    _check_folders([*sources, *embeddings], output_dir)
    if embeddings_dir and not os.path.isdir(embeddings_dir):
        raise UserError(f"the embeddings folder {embeddings_dir} does not exist: omit --embeddings_dir")
    corpora = _found(sources, output_dir, format, options)
    for folder in {file.parent for file in (output_dir / "split").rglob(f".*{TEMPORARY_SUFFIX}")}:
        sweep_partials(folder)  # left by a killed run; two runs into one folder at once are not supported
    checked = check_rows(corpora, options, _measuring(output_dir, options, processes))
    costs = []
    if checked.measured is not None:
        for check in checks:
            checked.find(check(checked.clips))
        costs = judge(checked, options)
    for remark in dict.fromkeys(f"{corpus.folder}: {remark}" for corpus in corpora for remark in corpus.remarks):
        say(f"  {remark}")
    official = official_splits(checked) if options.official_splits == "respect" else {}
    asked = splitting.Asked(options.val_fraction, options.test_fraction, options.eval_clips)
    plan = splitting.find_plan(output_dir, checked.clips, asked, official)
    if enough_validation:
        plan = _with_enough_validation(checked.clips, plan, official)
    splits = _assigned(checked, plan, official, Path(embeddings_dir or output_dir / tables.EMBEDDINGS_FOLDER))
    drop_report = tables.write_drop_report(output_dir, checked.lines)
    _check_drops(checked.rows, checked.count("dropped"), options, drop_report)
    _check_splits(splits, checked.clips, plan, official)
    if options.copy:
        splits = {split: _copied(clips, split_csv(output_dir, split).parent) for split, clips in splits.items()}
    os.sync()  # what was written beside the tables is on the disk before one names it
    sources_of_tables = embeddings if options.copy else _roots(corpora) + embeddings
    tables.write_splits(output_dir, splits, sources_of_tables, asdict(plan), checked.measured)
    page = _write_page(output_dir, checked, costs)
    return _report(corpora, checked, splits, plan, drop_report, _write_speakers(output_dir, checked), costs, page)


def _found(sources: list[Path | str], output_dir: Path, format: str, options: MetadataOptions) -> tuple[Corpus, ...]:
    """The corpora in the sources, which are told."""
    workspace = Path(os.path.realpath(output_dir)) / extracted.FOLDER
    found, alone = find_corpora(sources, format, workspace)
    corpora = tuple(replace(corpus, unnamed=options.unnamed_speakers) for corpus in found)
    _check_folders([folder for folder in _roots(corpora) if not is_inside(folder, workspace)], output_dir)
    for corpus in corpora:
        say(f"found {style(corpus.format, 'bold')} in {corpus.folder}")
    for folder in alone:
        say(f"found recordings that these name in {folder}")
    return corpora


def _report(
    corpora: tuple[Corpus, ...],
    checked: Checked,
    splits: Mapping[str, Sequence[Clip]],
    plan: SplitPlan,
    drop_report: Path,
    voices: dict[str, tuple[str, int]],
    costs: list[Cost],
    page: Path | None,
) -> MetadataReport:
    kept = checked.clips
    return MetadataReport(
        corpora=corpora,
        rows=checked.rows,
        kept=len(kept),
        dropped=checked.count("dropped"),
        splits={split: (len(clips), math.fsum(clip.duration for clip in clips)) for split, clips in splits.items()},
        speakers=len({clip.speaker_id for clip in kept if clip.speaker_known}),
        unknown=sum(not clip.speaker_known for clip in kept),
        held_out=len({clip.speaker_id for clip in kept if plan.holds_out(clip)}),
        embeddings=sum(clip.embedding_path is not None for clips in splits.values() for clip in clips),
        drop_report=drop_report,
        mended=checked.count("mended"),
        suspected=checked.count("suspect"),
        voices=voices,
        costs=costs,
        page=page,
    )


def _assigned(
    checked: Checked, plan: SplitPlan, official: Mapping[str, str], embeddings: Path
) -> dict[str, list[Clip]]:
    """The clips by split; those that no split takes become dropped ones."""
    spare = "their corpus has more clips for {}, which never train: --eval_clips sets how many are kept"
    checked.leave_out(
        {
            clip.file_id: (Drop.SPARE_EVALUATION, spare.format(split))
            for clip in checked.clips
            if plan.spares(sentence := sentence_of(clip.text), split := official.get(sentence))
        }
    )
    with_embeddings = list(_with_embeddings(checked.clips, embeddings))
    splits, left_out = plan.assign(with_embeddings, _stated(official, plan))
    why = "{} is kept from training, where someone says the same sentence"
    checked.leave_out({clip.file_id: (Drop.HELD_OUT_SENTENCE, why.format(clip.speaker_id)) for clip in left_out})
    return splits


def _write_page(output_dir: Path, checked: Checked, costs: Sequence[Cost]) -> Path | None:
    if not checked.measured:
        return None
    from xtts_ka.corpus.recordings_report import write_page  # imports numpy, which --help does not need

    return write_page(output_dir, checked, costs)


def _measuring(
    output_dir: Path, options: MetadataOptions, processes: int
) -> Callable[[int], AbstractContextManager[Measurements]] | None:
    if not options.quality:
        return None
    return lambda rows: Measurements(output_dir, options.max_seconds, processes, rows, options.dnsmos)


def _roots(corpora: Sequence[Corpus]) -> list[Path]:
    """The folders that hold the corpora's recordings, and those that links in them may lead to."""
    folders = [root.folder for corpus in corpora for root in corpus.place.finder.roots]
    return list(dict.fromkeys([*folders, *(target for folder in folders for target in link_targets(folder))]))


def _write_speakers(output_dir: Path, checked: Checked) -> dict[str, tuple[str, int]]:
    """Write the table of speakers; return the known ones, most clips first."""
    clips = Counter(clip.speaker_id for clip in checked.clips)
    seconds: Counter[str] = Counter()
    for clip in checked.clips:
        seconds[clip.speaker_id] += clip.duration  # type: ignore[assignment]
    rows = [
        (s.speaker_id, s.name, "yes" if s.known else "no", s.format, str(s.folder), clips[key], f"{seconds[key]:.2f}")
        for key, s in sorted(checked.speakers.items())
    ]
    tables.write_speakers(output_dir, rows)
    known = [(key, count) for key, count in clips.most_common() if checked.speakers[key].known]
    return {key: (checked.speakers[key].name, count) for key, count in known}


def _check_folders(sources: Sequence[Path | str], output_dir: Path) -> None:
    real = os.path.realpath(output_dir)
    for source in map(os.path.realpath, sources):
        if os.path.commonpath([source, real]) == source:
            inside = f"the output folder {output_dir} lies in the source {source}, which is read only"
            raise UserError(f"{inside}: choose another --output_dir")
        if UNWRITABLE.search(source):
            raise UserError(f"the name of the folder {source!r} holds characters that no table can hold: rename it")
    if os.path.exists(real) and not os.path.isdir(real):
        raise UserError(f"the output folder {output_dir} is a file: choose another --output_dir")


def _check_drops(rows: int, dropped: dict[str, int], options: MetadataOptions, drop_report: Path) -> None:
    if rows == 0:
        raise UserError("the source has no rows: give a folder whose table or .txt files name a recording")
    gone = sum(count for reason, count in dropped.items() if reason != Drop.SPARE_EVALUATION)
    if gone > options.max_drop_fraction * rows or gone == rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
        limit = "" if gone == rows else f", and --max_drop_fraction allows {options.max_drop_fraction:g}"
        why = tables.read_drop_report(drop_report.parents[1])[0][3]
        first = "" if gone < rows else f" (the first: {why})"
        remedy = f"see {drop_report} and correct them" + (" or raise the limit" if limit else first)
        if list(dropped) == [Drop.MISSING_AUDIO] and why.endswith("does not exist"):
            remedy += "; if the recordings lie elsewhere, give their folder with --source too"
        raise UserError(f"{gone} of {rows} rows cannot be used ({reasons}){limit}: {remedy}")


def _with_enough_validation(kept: Sequence[Clip], plan: SplitPlan, official: Mapping[str, str]) -> SplitPlan:
    """`plan` with a val_fraction that gives validation MIN_VAL_CLIPS, where that leaves clips for training."""
    wanted = max(plan.val_fraction, _enough_for_validation(kept, official))
    if wanted == plan.val_fraction or wanted + plan.test_fraction >= 0.9:
        return plan
    raised = replace(plan, val_fraction=wanted)
    if not raised.assign(kept, _stated(official, raised))[0]["train"]:
        return plan
    say(f"val_fraction is {wanted:g} instead of {plan.val_fraction:g}, so that validation gets {MIN_VAL_CLIPS} clips")
    return raised


def _enough_for_validation(kept: Sequence[Clip], official: Mapping[str, str]) -> float:
    """The smallest val_fraction, in hundredths, that gives validation MIN_VAL_CLIPS clips; 1 where none does."""
    sentences = [sentence_of(clip.text) for clip in kept]
    stated = Counter(map(official.get, sentences))
    fixed = official if stated["val"] else {s: split for s, split in official.items() if split == "test"}
    places, missing = sorted(hash_to_unit(s) for s in sentences if s not in fixed), MIN_VAL_CLIPS - stated["val"]
    if missing <= 0:
        return 0.0
    return math.floor(places[missing - 1] * 100 + 1) / 100 if missing <= len(places) else 1.0


def _check_splits(
    splits: dict[str, list[Clip]], kept: Sequence[Clip], plan: SplitPlan, official: Mapping[str, str]
) -> None:
    """UserError where validation or training would have too little."""
    pool = " or set --official_splits pool" if official else ""
    if len(splits["val"]) < MIN_VAL_CLIPS:
        wanted = _enough_for_validation(kept, official)
        enough = len(kept) > 4 * MIN_VAL_CLIPS and plan.val_fraction < wanted and wanted + plan.test_fraction < 0.5
        remedy = f"run again with --val_fraction {wanted:g}" if enough else f"add recordings of more sentences{pool}"
        few = f"only {len(splits['val'])} of {len(kept)} clips would be for validation"
        raise UserError(f"{few}, which needs {MIN_VAL_CLIPS}: {remedy}")
    if not splits["train"]:
        remedy = f"lower --val_fraction and --test_fraction, add recordings of more sentences{pool}"
        raise UserError(f"none of {len(kept)} clips would be left for training: {remedy}")


def official_splits(checked: Checked) -> dict[str, str]:
    """Sentence → the split that a corpus states for a clip of it; of several, test before val before train.

    All clips of the sentence go there, those of other corpora too, since a sentence never stands in two splits.
    """
    splits: dict[str, str] = {}
    for clip in checked.clips:
        if split := checked.official.get(clip.file_id):
            sentence = sentence_of(clip.text)
            splits[sentence] = max(split, splits.get(sentence, split), key=STRICTNESS.__getitem__)
    return splits


def _stated(official: Mapping[str, str], plan: SplitPlan) -> dict[str, str]:
    """`official`, with a part of the training sentences for validation or test where no corpus states such a split."""
    stated = set(official.values())
    chosen = {sentence: plan.of_sentence(sentence) for sentence, split in official.items() if split == "train"}
    return {**official, **{sentence: split for sentence, split in chosen.items() if split not in stated}}


def _with_embeddings(clips: Sequence[Clip], folder: Path) -> Iterator[Clip]:
    """Give each clip the embedding named by its id, or by its file's stem if no other clip has that stem."""
    paths = [file for suffix in reversed(EMBEDDING_SUFFIXES) for file in folder.absolute().glob(f"*{suffix}")]
    files = {file.stem: file for file in paths if not UNWRITABLE.search(str(file))}
    stems = Counter(clip.audio_path.stem for clip in clips)
    for clip in clips:
        stem = clip.audio_path.stem
        file = files.get(clip.file_id) or (files.get(stem) if stems[stem] == 1 else None)
        yield replace(clip, embedding_path=file)


def _copied(clips: Sequence[Clip], folder: Path) -> list[Clip]:
    """Copy the recordings into audio/ beside their table, each atomically; return the clips with the copies' paths."""
    copies = []
    for clip in progress(clips, what=f"copying {folder.name}", unit="clip"):
        if is_inside(clip.audio_path, folder.parents[1] / extracted.FOLDER):
            copies.append(clip)  # it was written there already
            continue
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
    shown = list(report.voices.items())[:SHOWN_SPEAKERS]
    if shown:
        names = [f"{key} ({n})" if key == name else f"{key} = {name[:24]} ({n})" for key, (name, n) in shown]
        more = f" … and {len(report.voices) - len(names)} more" if len(report.voices) > len(names) else ""
        table = report.drop_report.with_name("speakers.csv")
        say(f"speakers, with their clips: {', '.join(names)}{more}; all in {table}")
    for what, counts in (("dropped", report.dropped), ("mended", report.mended), ("suspect", report.suspected)):
        if counts:
            say(f"{what} {sum(counts.values())}, listed in {report.drop_report}:")
            for reason, count in counts.items():
                say(f"  {reason:<18}{count:>9}")
        elif what == "dropped":
            say("dropped none")
    costly = [cost for cost in report.costs if cost.beyond and not cost.is_set]
    if costly:
        say("limits of quality that are off, and what each would drop:")
    for cost in costly:
        limit = f"--{cost.measure.option} {cost.limit:g}"
        say(f"  {limit:<28}{cost.beyond:>7} clips {cost.seconds / 3600:>8.2f} hours  ({cost.measure.title})")
    if report.page:
        say(f"histograms, and the worst clips to listen to: {report.page}")
    for _, action, reason, detail, *_ in tables.read_drop_report(report.drop_report.parents[1]):
        say(f"  {action} {detail} ({reason})", verbose=True)
