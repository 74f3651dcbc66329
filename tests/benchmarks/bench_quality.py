"""How fast create_metadata_files.py measures the quality of recordings, in one process and in two.

    python tests/benchmarks/bench_quality.py --work DIR [--clips 3000] [--processes 1 2] [--dnsmos]

The clips are mp3 files of 48 kHz, as those of Common Voice: spoken by espeak-ng, each with noise of its own, 5.4 s on
average. Behind the first 3,000 each is one of these without its first frames of 24 ms, which is made faster. Prints for
each run the seconds, the seconds of processors, and hours of sound an hour; the last run finds everything measured, as
after a kill or with other limits.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import av
import numpy as np
import soundfile
from exp_quality import RATE, SENTENCES, at, noise, spoken

import create_metadata_files
from xtts_ka.core import console
from xtts_ka.corpus.tables import SPLITS, read_split

SPOKEN = 3000  # clips with a sound of their own


def make(source: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    (source / "wavs").mkdir(parents=True)
    said = [spoken(number, rng) for number in range(120)]
    rows = []
    for number in range(count):
        speech, _, speaker = said[number % SPOKEN % len(said)]
        file = source / "wavs" / f"c{number:06d}.mp3"
        if number < SPOKEN:
            wave = np.pad(speech, (int(0.3 * RATE), int(0.3 * RATE)))
            clip, rate = at(0.5 * wave + 0.002 * noise(len(wave), number % 3, rng), 48_000)
            soundfile.write(file, clip, rate)
        else:
            shortened(source / "wavs" / f"c{number % SPOKEN:06d}.mp3", file, number // SPOKEN)
        text = f"{SENTENCES[number % len(SENTENCES)]} {SENTENCES[number // len(SENTENCES)]}".split()[:6]
        rows.append(f"wavs/c{number:06d}.mp3|{' '.join(text)}|{speaker}\n")
    (source / "metadata.csv").write_text("audio_file|text|speaker_name\n" + "".join(rows), encoding="utf-8")


def shortened(whole: Path, file: Path, packets: int) -> None:
    """Write a recording without its first packets."""
    with av.open(whole) as read, av.open(file, "w") as written:
        stream = written.add_stream_from_template(read.streams.audio[0])
        for number, packet in enumerate(read.demux(read.streams.audio[0])):
            if number >= packets and packet.dts is not None:
                packet.stream = stream
                written.mux(packet)


def processors() -> float:
    """Seconds of processors that this process and its children have taken."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dnsmos", action="store_true")
    args = parser.parse_args()
    source, data = args.work / "source", args.work / "data"
    if not source.exists():
        make(source, args.clips)
    console._verbosity = 0
    for processes, again in [*((n, False) for n in args.processes), (args.processes[-1], True)]:
        if not again:
            shutil.rmtree(data, ignore_errors=True)
        began, before = time.monotonic(), processors()
        command = ["--source", str(source), "--output_dir", str(data), "--processes", str(processes), "--quiet"]
        if code := create_metadata_files.main(command + ["--no_dnsmos"] * (not args.dnsmos)):
            raise SystemExit(code)
        took, worked = time.monotonic() - began, processors() - before
        clips = [clip for split in SPLITS for clip in read_split(data, split)]
        seconds = sum(soundfile.info(clip.audio_path).duration for clip in clips)
        print(
            f"{processes} process{'es'[: 2 * (processes > 1)]}{', measured before' * again}: {len(clips)} clips, "
            f"{seconds / 3600:.2f} h of sound in {took:.1f} s, {worked:.1f} s of processors: {seconds / took:.0f} x "
            f"real time, {seconds / worked:.0f} x a processor",
            flush=True,
        )


if __name__ == "__main__":
    main()
