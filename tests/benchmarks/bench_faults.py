"""Faults planted in espeak-ng's speech: how many of each kind the evaluation finds, and how many it finds wrongly.

    python tests/benchmarks/bench_faults.py --config xtts_pretrain_config.json

The config is that of a finished starter run; its recogniser is trained first if it is missing. The kept sentences of
the evaluation, of which the recogniser has heard none, are spoken by the starter's six voices. Words are cut out or
doubled at boundaries that forced alignment finds; babble is other speech, pseudo-words or reversed; a wrong speaker is
the next voice. A fault's precision and recall count all clips: the sound ones and those with another fault planted.
The thresholds in recognition/faults.py were chosen without sound (exp_fault_thresholds.py) before this was run;
`--part` divides the sentences, for choosing others on `tune` and reporting `test`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

import xtts_ka
from xtts_ka.core.config import load_config
from xtts_ka.corpus.tables import read_split
from xtts_ka.evaluation.speaker_similarity import VoiceJudge
from xtts_ka.evaluation.texts import KEPT_SETS, read_texts
from xtts_ka.georgian.reading import Reading
from xtts_ka.model.features import load_speech
from xtts_ka.model.geometry import SAMPLE_RATE
from xtts_ka.recognition.faults import KINDS, find_faults, longest_pause, wave_loudness
from xtts_ka.recognition.forced_alignment import align
from xtts_ka.recognition.recogniser import Recogniser
from xtts_ka.recognition.train_recogniser import ensure_recogniser
from xtts_ka.starter.own_values import with_section_values
from xtts_ka.starter.speech import VOICES, synthesise, trim_silence

SENTENCES = Path(__file__).parents[2] / "data/evaluation_sentences_ka"
PLANTED = ("sound", "skipped", "repetition", "babble", "silence", "wrong speaker")
SYLLABLES = "ბუ რე კო ლა გი მო შუ ტე ვი ნო ჯა ფე ძუ ხი ზა პრო სტი ღელ ქამ წური".split()


class Planted(NamedTuple):
    """expected: the text that should be said; voice: the one it should be; kind: of PLANTED."""

    kind: str
    expected: str
    voice: str
    wave: np.ndarray
    detail: str


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--recogniser", help="another recogniser's folder (default: the config's, trained if missing)")
    parser.add_argument("--part", choices=("tune", "test"), default="test")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument(
        "--clips", type=int, default=150, help="recordings that the voices' covariance is estimated from"
    )
    parser.add_argument("--voices", action="store_true", help="judge the voices only, without a recogniser")
    args = parser.parse_args(argv)
    config = with_section_values(load_config(args.config))
    if args.voices:
        return judge_voices(config, args)
    recogniser = Recogniser.load(args.recogniser) if args.recogniser else ensure_recogniser(config)
    clips = list(plant(recogniser, args.part, args.sentences))
    heard = recogniser.hear([clip.wave for clip in clips], SAMPLE_RATE)
    judge, plain, encode = voice_judge(config, args.clips)
    found, right = [], []
    for clip, text in zip(clips, heard):
        faults = set(
            find_faults(clip.expected, text, pause=longest_pause(wave_loudness(clip.wave, SAMPLE_RATE)), stopped=True)
        )
        if clip.kind in ("sound", "wrong speaker"):
            nearest, by_cosine = (each.nearest(encode(clip.wave)) for each in (judge, plain))
            faults |= {"wrong speaker"} if nearest != clip.voice else set()
            right += [(nearest == clip.voice, by_cosine == clip.voice)] if clip.kind == "sound" else []
        found.append(faults)
        wanted = {clip.kind} - {"sound"}
        if faults != wanted:
            print(f"{clip.kind} ({clip.detail}): found {sorted(faults)}\n    {clip.expected}\n    {text}")
    report(clips, found)
    by_distance, by_cosine = np.mean(right, axis=0)
    print(f"nearest to the right voice, sound clips: {by_distance:.3f}; by cosine alone {by_cosine:.3f}")
    return 0


def judge_voices(config, args) -> int:
    """Precision and recall of "nearer to another voice", with as many recordings as --clips allows."""
    judge, plain, encode = voice_judge(config, args.clips)
    found = []
    for _, _, voice, other, text in cast(args.part, args.sentences):
        for speaker in (voice, other):
            embedding = encode(spoken(text.reading, speaker))
            wrong = [each.nearest(embedding) != voice.speaker_id for each in (judge, plain)]
            found.append((speaker is other, *wrong))
    planted, *judged = np.array(found).T
    for name, wrong in zip(("by distance", "by cosine alone"), judged):
        right = (planted & wrong).sum()
        print(f"wrong speaker, {name}: {planted.sum()} planted in {len(planted)} clips, precision "
              f"{right / wrong.sum():.3f}, recall {right / planted.sum():.3f}")  # fmt: skip
    return 0


def report(clips: list[Planted], found: list[set[str]]) -> None:
    counts = Counter(clip.kind for clip in clips)
    print(f"\n{len(clips)} clips, {len(clips) - counts['sound']} with a planted fault; {dict(counts)}")
    print("fault          planted  found  right  precision  recall")
    for kind in (*(kind for kind in KINDS if kind != "no_stop"), "wrong speaker"):
        # The voice is judged in whole clips only: those that are sound and those of another speaker.
        at_issue = [n for n, c in enumerate(clips) if kind != "wrong speaker" or c.kind in ("sound", "wrong speaker")]
        planted = {n for n in at_issue if clips[n].kind == kind}
        reported = {n for n in at_issue if kind in found[n]}
        right = len(planted & reported)
        precision, recall = right / max(1, len(reported)), right / max(1, len(planted))
        print(f"{kind:<14} {len(planted):>7} {len(reported):>6} {right:>6} {precision:>10.3f} {recall:>7.3f}")


# ── planting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def plant(recogniser: Recogniser, part: str, most: int) -> Iterator[Planted]:
    """One sound clip and one of each fault for every sentence of three words or more."""
    for _, draw, voice, other, text in cast(part, most):
        wave = spoken(text.reading, voice)
        yield Planted("sound", text.expected, voice.speaker_id, wave, "")
        yield Planted("wrong speaker", text.expected, voice.speaker_id, spoken(text.reading, other), other.speaker_id)
        (log_probs,) = recogniser.log_probs([wave], SAMPLE_RATE)
        words = word_edges(align(log_probs, text.expected), recogniser.seconds_per_frame, len(wave))
        for kind, faulty, detail in altered(wave, words, text.expected.split(), voice, draw):
            yield Planted(kind, text.expected, voice.speaker_id, faulty, detail)


def cast(part: str, most: int) -> Iterator[tuple]:
    """(number, random numbers, voice, another voice, text) of each sentence."""
    texts = [text for name in KEPT_SETS for text in read_texts(SENTENCES / f"{name}.txt", Reading(), 100)]
    texts = [text for text in texts if len(text.expected.split()) > 2]
    texts = [text for n, text in enumerate(texts) if (n % 3 == 0) == (part == "tune")][:most]
    for number, text in enumerate(texts):
        draw = random.Random(f"{part}{number}")
        yield number, draw, VOICES[number % len(VOICES)], VOICES[(number + 1) % len(VOICES)], text


def altered(wave, words, names, voice, draw) -> Iterator[tuple[str, np.ndarray, str]]:
    first = draw.choice([n for n, name in enumerate(names) if len(name) > 2])
    start, end = words[first]
    yield "skipped", joined(wave[:start], wave[end:]), names[first]
    last = min(first + draw.choice((0, 0, 1)), len(words) - 1)
    said = wave[start : words[last][1]]
    yield "repetition", joined(wave[: words[last][1]], said, wave[words[last][1] :]), " ".join(names[first : last + 1])
    babble = spoken("".join(draw.choices(SYLLABLES, k=3)) + " " + "".join(draw.choices(SYLLABLES, k=2)), voice)
    backwards = draw.random() < 0.5
    yield "babble", joined(wave, babble[::-1] if backwards else babble), "reversed" if backwards else "pseudo-words"
    place, seconds = draw.choice([start, end, len(wave)]), draw.uniform(1.2, 2.5)
    hiss = 1e-4 * np.random.default_rng(draw.randrange(10**6)).standard_normal(int(seconds * SAMPLE_RATE))
    yield "silence", joined(wave[:place], hiss.astype(np.float32), wave[place:]), f"{seconds:.1f} s"


def spoken(text: str, voice) -> np.ndarray:
    return trim_silence(synthesise(text, voice.voice, voice.rate, voice.pitch))


def word_edges(spans, seconds_per_frame: float, samples: int) -> list[tuple[int, int]]:
    """(first sample, end) of each word: words meet in the middle of what lies between their letters."""
    words: list[list] = [[]]
    for span in spans:
        if span.letter == " ":
            words.append([])
        else:
            words[-1].append(span)
    inner = [(a[-1].end + b[0].start) / 2 for a, b in pairwise(words)]
    edges = [0, *(round(frame * seconds_per_frame * SAMPLE_RATE) for frame in inner), samples]
    return list(pairwise(edges))


def joined(*parts: np.ndarray, fade: int = 220) -> np.ndarray:
    """The parts in a row, faded over 10 ms on both sides of each joint, so that no click is heard."""
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    faded = [part.copy() for part in parts if len(part) > 2 * fade]
    for before, after in pairwise(faded):
        before[-fade:] *= ramp[::-1]
        after[:fade] *= ramp
    return np.concatenate(faded)


# ── voices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def voice_judge(config, most: int):
    """The judge, one by cosine alone, and the function that embeds a wave, of the config's model."""
    model = xtts_ka.load_xtts(config.output_model_path, "cpu")
    clips = read_split(config.data_dir, "train")[:most]
    heard = [model.get_speaker_embedding(load_speech(clip.audio_path), SAMPLE_RATE).numpy().ravel() for clip in clips]
    voices = {name: v["speaker_embedding"].numpy().ravel() for name, v in model.speaker_manager.speakers.items()}

    def encode(wave: np.ndarray) -> np.ndarray:
        return model.get_speaker_embedding(torch.from_numpy(wave)[None], SAMPLE_RATE).numpy().ravel()

    judge = VoiceJudge(voices, np.array(heard), [clip.speaker_id for clip in clips])
    return judge, VoiceJudge(voices, np.zeros((0, 512)), []), encode


if __name__ == "__main__":
    sys.exit(main())
