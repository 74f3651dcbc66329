"""Planted truth for prepare_recordings.py: espeak speech with known boundaries, pauses, noise, tones and faults.

    python tests/benchmarks/exp_prepare.py --work DIR                    # 2 hours
    python tests/benchmarks/exp_prepare.py --work DIR --minutes 10       # a quick run
    python tests/benchmarks/exp_prepare.py --work DIR --text --asr RECOGNISER    # plain text without times
    python tests/benchmarks/exp_prepare.py --work DIR --long 10          # memory: one recording of 10 hours
    python tests/benchmarks/exp_prepare.py --align 10                    # memory and time of the alignment alone

Makes recordings of 20 minutes with subtitles whose times are wrong by --jitter, prepares them through the script, and
compares with what was planted. A sentence is good when what is written is what is said. It is found when one clip has
all of it, and lost when none has; a clip is right when its text is all that is said in it, in order. A cut that is more
than 20 ms inside a phrase cuts a word. A fault is found when left_out.csv has its text, or for speech without text its
time, with a reason that fits, and no clip has it.

--long repeats ten minutes to one recording with subtitles; the peak memory is that of the largest process. --align
aligns the text of so many hours with log-probabilities of it, a letter in ten misheard, which need no sound.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import numpy as np
import planted_speech
import soundfile
import spoken_letters
from planted_speech import ENGLISH, EXTRA, MISSING, NOISE, RATE, TAG, TONES, WRONG, Planted

import prepare_recordings
from xtts_ka.core.console import say
from xtts_ka.core.files import read_json, write_json
from xtts_ka.corpus.planned_clips import Limits
from xtts_ka.corpus.segmentation import MARGIN, Speech
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.heard import Heard, joined
from xtts_ka.recognition.long_alignment import Book, plan_from_text

FAULTS = {NOISE: 0.02, TONES: 0.02, MISSING: 0.02, EXTRA: 0.02, WRONG: 0.02, TAG: 0.01, ENGLISH: 0.01}
REASONS = {
    NOISE: {"no_speech", "not_read"},
    TONES: {"no_speech", "not_read"},
    MISSING: {"no_speech", "not_read"},
    EXTRA: {"no_text"},
    WRONG: {"wrong_length", "not_heard", "not_read", "unsure"},
    TAG: {"noise_tag"},
    ENGLISH: {"non_georgian_text"},
}
# In a plain text, a sentence that is not read beside speech that is not written is a wrong sentence.
ANY_WAY = {"not_heard", "unsure", "wrong_length"}
INSIDE = 0.02  # seconds inside a phrase from which on a cut cuts a word


def make(folder: Path, minutes: float, jitter: float, text: bool, first: int, linger: bool) -> None:
    pauses, stay = ((1.5, 2.5), 1.0) if linger else ((0.4, 1.2), None)
    faults = {fault: share for fault, share in FAULTS.items() if not text or fault not in (TAG, ENGLISH)}
    folder.mkdir(parents=True)
    for number in range(first, first + max(1, round(minutes / 20))):
        voice = planted_speech.VOICES[number % len(planted_speech.VOICES)]
        name = f"r{number:03d}"
        with soundfile.SoundFile(folder / f"{name}.flac", "w", RATE, 1) as file:
            for tape, wave in planted_speech.record(60 * min(minutes, 20), number, faults, voice, pauses=pauses):  # noqa: B007
                file.write(wave)
        if text:
            (folder / f"{name}.txt").write_text("\n".join(each.text for each in tape.planted if each.text), "utf-8")
        else:
            subtitles = planted_speech.srt(tape.planted, jitter, number, linger=stay)
            (folder / f"{name}.srt").write_text(subtitles, "utf-8")
        write_json(folder / f"{name}.truth", [vars(each) for each in tape.planted])


def judge(source: Path, output: Path) -> dict[str, float]:
    """The figures, over all recordings."""
    clips = list(csv.DictReader((output / "metadata.csv").open(encoding="utf-8"), delimiter="|"))
    left = list(csv.DictReader((output / "left_out.csv").open(encoding="utf-8")))
    counts: Counter[str] = Counter()
    errors: list[float] = []
    for truth in sorted(source.glob("*.truth")):
        planted = [Planted(**each) for each in read_json(truth)]
        mine = [clip for clip in clips if Path(clip["source_file"]).stem == truth.stem]
        counts += _clips(planted, mine, errors)
        mine_left = [row for row in left if Path(row["source_file"]).stem == truth.stem]
        counts += _sentences(planted, mine, mine_left, truth.with_suffix(".txt").is_file())
    found = {f"listed {fault}": counts[f"listed {fault}"] / max(1, counts[fault]) for fault in FAULTS}
    faults = sum(counts[fault] for fault in FAULTS)
    return {
        "clips": len(clips),
        "good sentences": counts["good"],
        "good lost": counts["lost"] / max(1, counts["good"]),
        "clips that cut a word": counts["cut"],
        "clips with a wrong text": counts["wrong text"] / max(1, len(clips)),
        "median boundary error, ms": 1000 * float(np.median(np.abs(errors))),
        "95 % of boundaries within, ms": 1000 * float(np.percentile(np.abs(errors), 95)),
        "the same with the margin of a clip, ms": 1000 * float(np.median(np.abs(errors) + MARGIN)),
        "faults": faults,
        "faults listed": sum(counts[f"listed {fault}"] for fault in FAULTS) / max(1, faults),
        **found,
    }


def _clips(planted: Sequence[Planted], clips: Sequence[dict], errors: list[float]) -> Counter[str]:
    counts: Counter[str] = Counter()
    spans = np.array([span for each in planted for span in each.phrases])
    for clip in clips:
        start, end = float(clip["source_start"]), float(clip["source_end"])
        for edge in (start, end):
            counts["cut"] += bool(((spans[:, 0] + INSIDE < edge) & (edge < spans[:, 1] - INSIDE)).any())
        inside = spans[(spans[:, 0] > start - INSIDE - 1e-3) & (spans[:, 1] < end + INSIDE + 1e-3)]
        if len(inside):
            errors += [start + MARGIN - inside[0][0], end - MARGIN - inside[-1][1]]
        said = [each.spoken for each in planted if each.phrases and _covers(start, end, each)]
        counts["wrong text"] += clip["text"] != " ".join(said)
    return counts


def _covers(start: float, end: float, each: Planted) -> bool:
    middle = (each.start + each.end) / 2
    return start < middle < end


def _sentences(planted: Sequence[Planted], clips: Sequence[dict], left: Sequence[dict], text: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in planted:
        if not each.fault:
            counts["good"] += 1
            whole = [c for c in clips if _covers(float(c["source_start"]), float(c["source_end"]), each)]
            counts["lost"] += not any(each.text in clip["text"] for clip in whole)
            continue
        counts[each.fault] += 1
        fitting = REASONS[each.fault] | (ANY_WAY if text else set())
        rows = [row for row in left if row["reason"] in fitting]
        if each.fault == EXTRA:
            listed = any(row["source_start"] and _covers(*_times(row), each) for row in rows)
        else:
            listed = any(each.text in row["text"] or row["text"] in each.text for row in rows if row["text"])
        spoken = [c for c in clips if each.phrases and _covers(float(c["source_start"]), float(c["source_end"]), each)]
        counts[f"listed {each.fault}"] += (
            listed and not spoken and not any(each.text and each.text in clip["text"] for clip in clips)
        )
    return counts


def _times(row: dict) -> tuple[float, float]:
    return float(row["source_start"]), float(row["source_end"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--jitter", type=float, default=0.2, help="seconds, standard deviation of the subtitles' times")
    parser.add_argument("--seed", type=int, default=0, help="of the first recording; the others' follow")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--text", action="store_true", help="plain text instead of subtitles")
    linger = "pauses of 1.5 to 2.5 s, subtitles that stay until a second after the next begins"
    parser.add_argument("--linger", action="store_true", help=linger)
    parser.add_argument("--asr", help="as of prepare_recordings.py")
    parser.add_argument("--long", type=float, metavar="HOURS")
    parser.add_argument("--align", type=float, metavar="HOURS")
    args = parser.parse_args()
    if args.align:
        align(args.align)
        return
    source, output = args.work / "recordings", args.work / "clips"
    if not source.exists() and args.long:
        make_long(source, args.long)
    elif not source.exists():
        make(source, args.minutes, args.jitter, args.text, args.seed, args.linger)
    began, used = time.monotonic(), _cpu()
    flags = ["--source", source, "--output_dir", output, "--processes", args.processes]
    flags += [] if args.asr is None else ["--asr", args.asr]
    assert prepare_recordings.main(list(map(str, flags))) == 0
    seconds = 3600 * args.long if args.long else 60 * args.minutes
    wall, cpu = (time.monotonic() - began) / seconds, (_cpu() - used) / seconds
    say(f"real-time factor {wall:.4f}, CPU seconds a second {cpu:.4f}, {args.processes} processes")
    if args.long:
        say(f"peak memory of the largest process {_peak() / 1e9:.2f} GB")
        return
    for name, value in judge(source, output).items():
        say(f"{name}: {value:.4g}")


def make_long(folder: Path, hours: float) -> None:
    """One recording of so many hours: ten minutes, or what is asked for if less, again and again."""
    folder.mkdir(parents=True)
    blocks, tape = [], None
    for tape, wave in planted_speech.record(min(600, 3600 * hours), 0, {}):  # noqa: B007
        blocks.append(wave)
    assert tape
    part, length = np.concatenate(blocks), sum(map(len, blocks)) / RATE
    planted = []
    with soundfile.SoundFile(folder / "long.flac", "w", RATE, 1) as file:
        for turn in range(max(1, round(hours * 3600 / length))):
            file.write(part)
            moved = ((each.text, "", each.start + turn * length, each.end + turn * length) for each in tape.planted)
            planted += [Planted(*each) for each in moved]
    (folder / "long.srt").write_text(planted_speech.srt(planted, 0.2), "utf-8")


def align(hours: float) -> None:
    rng = np.random.default_rng(0)
    texts, speech, parts, at = [], [], [], 0.0
    while at < 3600 * hours:
        sentences = [planted_speech.sentence(rng) for _ in range(100)]  # at once: `say` makes lists of floats
        pieces, heard = spoken_letters.say(
            [phrase for phrases in sentences for phrase in phrases], 0.1, seed=len(parts)
        )
        speech += [Speech(piece.start + at, piece.end + at) for piece in pieces]
        parts.append(Heard(heard.log_probs, heard.times + at))
        texts += [", ".join(phrases) + "." for phrases in sentences]
        at = speech[-1].end
    heard, before, began = joined(parts), _peak(), time.monotonic()
    book = Book.read("\n".join(texts), Reading())
    read = time.monotonic() - began
    plan = plan_from_text(book, speech, heard, at, Limits())
    took, clips = time.monotonic() - began - read, len(plan.clips)
    say(f"{at / 3600:.1f} hours, {len(book.letters):,} letters, {len(texts):,} sentences: {clips:,} clips")
    say(f"reading the text {read:.0f} s, aligning it {took:.0f} s")
    say(f"peak memory {_peak() / 1e9:.2f} GB, before the alignment {before / 1e9:.2f} GB")


def _peak() -> float:
    """Bytes, of the largest process."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _cpu() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
