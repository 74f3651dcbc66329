"""Clips spoilt on purpose: does create_metadata_files.py list each kind by the right reason, and lose no good clips?

    python tests/benchmarks/exp_quality.py --work DIR [--good 300] [--each 30] [--transcripts] [--base_model DIR]

espeak-ng speaks Georgian sentences in six voices, at several levels, sample rates and noise levels; then each kind of
fault is planted in clips of their own. Prints, for each kind, how many are listed (dropped or suspected) by its reason,
which other reasons are given, and for the good clips how many are dropped, and how many suspected. The true begin and
end of the speech are known: no trimming may cut into it.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import soundfile
from scipy.signal import lfilter, resample_poly

import create_metadata_files
from xtts_ka.corpus.tables import SPLITS, read_drop_report, read_split
from xtts_ka.starter.speech import VOICES, synthesise

RATE = 22_050
WHO = (
    "პატარა ბიჭი|მოხუცი მწყემსი|ჩვენი მეზობელი|ქალაქის ექიმი|"
    "გამხდარი ძაღლი|სკოლის მასწავლებელი|მისი ბებია|ახალი მზარეული"
)
WHERE = (
    "დილით ეზოში|გუშინ ტყეში|ხშირად სახლში|საღამოს ბაღში|"
    "ზამთარში სოფელში|ახლა სადგურზე|შაბათს ბაზარზე|ღამით მდინარესთან"
)
WHAT = (
    "სიმღერას უსმენს|ძველ წიგნს კითხულობს|მეგობრებს ელოდება|ცხელ პურს ყიდის|"
    "თოვლში თამაშობს|გზას ვერ პოულობს|ჩუმად ტირის|ვაშლებს აგროვებს"
)
ENDS = "|და მერე სახლში ბრუნდება|რადგან ძალიან დაიღალა|თუმცა ამის შესახებ არავინ იცის|სანამ წვიმა დაიწყება"
SENTENCES = [
    " ".join(parts).strip() + "." for parts in itertools.product(*(x.split("|") for x in (WHO, WHERE, WHAT, ENDS)))
]

Clip = tuple[np.ndarray, int]  # (samples,) or (samples, channels), Hz


def spoken(number: int, rng: np.random.Generator) -> tuple[np.ndarray, str, str]:
    """(speech without silence at its ends, text, speaker) of a clip."""
    text = SENTENCES[(number * 7919) % len(SENTENCES)]
    voice = VOICES[number % len(VOICES)]
    wave = synthesise(
        text, voice.voice, voice.rate + int(rng.integers(-12, 13)), voice.pitch + int(rng.integers(-5, 6))
    )
    loud = np.flatnonzero(np.abs(wave) > 0.003 * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1], text, voice.speaker_id


def noise(count: int, kind: int, rng: np.random.Generator) -> np.ndarray:
    """White, pink-like, or a hum with its harmonics; of standard deviation 1."""
    white = rng.standard_normal(count)
    if kind == 1:
        white = lfilter([1], [1, -0.95], white)
    elif kind == 2:
        seconds = np.arange(count) / RATE
        white = sum(np.sin(2 * np.pi * 50 * k * seconds + k) / k for k in range(1, 8)) + 0.3 * white
    return white / white.std()


def placed(speech: np.ndarray, before: float, after: float, level: float, snr: float, kind: int, rng) -> np.ndarray:
    """Speech of `level` dB (its root mean square) between silences of so many seconds, with noise `snr` dB below."""
    scaled = speech * 10 ** (level / 20) / speech.std()
    wave = np.concatenate([np.zeros(round(before * RATE)), scaled, np.zeros(round(after * RATE))])
    return wave + noise(len(wave), kind, rng) * 10 ** ((level - snr) / 20)


def at(wave: np.ndarray, rate: int) -> Clip:
    common = np.gcd(RATE, rate)
    return resample_poly(wave, rate // common, RATE // common), rate


# ── the faults: (speech, rng) → clip ─────────────────────────────────────────────────────────────────────────────────


def good(speech: np.ndarray, rng: np.random.Generator) -> tuple[Clip, tuple[float, float]]:
    before, after = rng.uniform(0.05, 0.8, 2)
    level, snr = rng.uniform(-32, -20), rng.uniform(25, 50)
    wave = placed(speech, before, after, level, snr, int(rng.integers(3)), rng)
    end = len(wave) / RATE - after
    return at(wave, int(rng.choice([16_000, 22_050, 24_000, 44_100, 48_000]))), (before, end)


def normal(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return placed(speech, 0.3, 0.3, -24, 40, int(rng.integers(3)), rng)


def no_speech(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    count, kind = round(rng.uniform(2, 5) * RATE), int(rng.integers(4))
    if kind == 3:  # notes with decay
        seconds = np.arange(count) / RATE
        wave = sum(np.sin(2 * np.pi * f * seconds) * np.exp(-3 * (seconds % 0.7)) for f in rng.uniform(200, 900, 3)) / 3
        return at(0.2 * wave, RATE)
    return at(10 ** (rng.uniform(-45, -20) / 20) * noise(count, kind, rng), RATE)


def long_silence(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    long, short = rng.uniform(3.3, 6), rng.uniform(0.1, 0.5)
    before, after = (long, short) if rng.random() < 0.5 else (short, long)
    return at(placed(speech, before, after, -24, rng.uniform(30, 45), int(rng.integers(3)), rng), RATE)


def too_quiet(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    return at(normal(speech, rng) * 10 ** (-rng.uniform(24, 30) / 20), RATE)


def clipped(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    wave = normal(speech, rng)
    return at(np.clip(wave / np.percentile(np.abs(wave), 100 - rng.uniform(0.3, 3)), -1, 1), RATE)


def clipped_then_turned_down(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    wave, rate = clipped(speech, rng)
    return np.clip(wave, -1, 1) * 10 ** (-rng.uniform(1, 20) / 20), rate


def constant_offset(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    return at(normal(speech, rng) + rng.uniform(0.03, 0.2) * rng.choice([-1, 1]), RATE)


def channels_cancel(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    wave = normal(speech, rng)
    return np.stack([wave, -rng.uniform(0.5, 1.0) * wave], axis=1), RATE


def narrow_band(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    low = int(rng.choice([8_000, 11_025, 16_000]))
    narrow, _ = at(normal(speech, rng), low)
    common = np.gcd(low, 48_000)
    return resample_poly(narrow, 48_000 // common, low // common), 48_000


def noisy(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    return at(placed(speech, 0.3, 0.3, -24, rng.uniform(0, 11), int(rng.integers(3)), rng), RATE)


def odd_rate(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    return at(normal(speech, rng), RATE)  # its text is changed


def wrong_text(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    return at(normal(speech, rng), RATE)  # likewise


def other_voice(speech: np.ndarray, rng: np.random.Generator) -> Clip:
    return at(normal(speech, rng), RATE)  # its speaker is changed


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], Clip]] = {
    kind.__name__: kind
    for kind in (no_speech, long_silence, too_quiet, clipped, clipped_then_turned_down, constant_offset,
                 channels_cancel, narrow_band, noisy, odd_rate, wrong_text, other_voice)
}  # fmt: skip
ALSO_RIGHT = {
    "clipped": {"clipped_audio"},
    "clipped_then_turned_down": {"clipped", "clipped_audio"},
    "channels_cancel": {"empty_audio"},
}


def make(source: Path, count: int, each: int, kinds: list[str], seed: int = 1) -> dict[str, tuple[float, float]]:
    """Write the corpus; file_id → (begin, end) of the speech of the good clips."""
    rng, rows, truth = np.random.default_rng(seed), [], {}
    (source / "wavs").mkdir(parents=True)
    names = ["good"] * count + [kind for kind in kinds for _ in range(each)]
    for number, kind in enumerate(names):
        speech, text, speaker = spoken(number, rng)
        name = f"{kind}_{number:05d}"
        if kind == "good":
            clip, truth[name] = good(speech, rng)
        else:
            clip = KINDS[kind](speech, rng)
        other = SENTENCES[(number * 7919 + 1234) % len(SENTENCES)]
        if kind == "odd_rate":  # twice the text, or a third of it
            text = f"{text} {text}" if number % 2 else " ".join(text.split()[: len(text.split()) // 3])
        elif kind == "wrong_text":
            text = other
        elif kind == "other_voice":
            speaker = VOICES[(number + 1 + number % 5) % len(VOICES)].speaker_id
        soundfile.write(source / "wavs" / f"{name}.wav", np.clip(clip[0], -1, 1 - 2**-15), clip[1])
        rows.append([f"wavs/{name}.wav", text, speaker])
    with open(source / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="|").writerows([["audio_file", "text", "speaker_name"], *rows])
    return truth


def show(data: Path, truth: dict[str, tuple[float, float]], kinds: list[str], each: int) -> None:
    listed: dict[str, set[str]] = {}
    dropped: dict[str, str] = {}
    for file_id, action, reason, *_ in read_drop_report(data):
        if action in ("dropped", "suspect"):
            listed.setdefault(file_id, set()).add(reason)
        if action == "dropped":
            dropped[file_id] = reason
    clips = {clip.file_id: clip for split in SPLITS for clip in read_split(data, split)}
    kept = [name for name in truth if name not in dropped]
    suspects = Counter(reason for name in truth for reason in listed.get(name, ()))
    lost = Counter(dropped[name] for name in truth if name in dropped)
    print(f"good: {len(truth)}, dropped {sum(lost.values())} {dict(lost)}, suspected {dict(suspects)}")
    cuts = [(clips[name].cut, *truth[name], name) for name in kept if clips[name].cut]
    deepest = [max(cut.start - begin, end - cut.end) for cut, begin, end, _ in cuts]
    into = sum(depth > 0 for depth in deepest)
    left = [begin - cut.start + cut.end - end for cut, begin, end, _ in cuts]
    print(f"trimmed: {len(cuts)}, into the speech: {into}, deepest {max(deepest, default=0):.3f} s; "
          f"silence left at both ends: median {np.median(left):.2f} s")  # fmt: skip
    for kind in kinds:
        own = [name for name in listed if name.rpartition("_")[0] == kind]
        right = {kind} | ALSO_RIGHT.get(kind, set())
        found = sum(bool(right & listed[name]) for name in own)
        gone = sum(name.rpartition("_")[0] == kind for name in dropped)
        others = Counter(reason for name in own for reason in listed[name] - right)
        print(f"{kind:<26}{found:>4} of {each} listed, {gone} dropped; other reasons {dict(others)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--good", type=int, default=300)
    parser.add_argument("--each", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transcripts", action="store_true", help="with --check_transcripts, which trains recognisers")
    parser.add_argument("--dnsmos", action="store_true")
    parser.add_argument("--base_model", help="of the speaker encoder")
    args = parser.parse_args()
    kinds = [kind for kind in KINDS if (kind != "wrong_text" or args.transcripts)]
    kinds = [kind for kind in kinds if kind != "other_voice" or args.base_model]
    truth = make(args.work / "source", args.good, args.each, kinds, args.seed)
    command = ["--source", str(args.work / "source"), "--output_dir", str(args.work / "data")]
    command += ["--no_dnsmos"] * (not args.dnsmos)
    command += ["--check_transcripts"] * args.transcripts + (
        ["--base_model", args.base_model] if args.base_model else []
    )
    if code := create_metadata_files.main(command):
        raise SystemExit(code)
    show(args.work / "data", truth, kinds, args.each)


if __name__ == "__main__":
    main()
