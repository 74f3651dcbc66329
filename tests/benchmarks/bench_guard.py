"""The guard of synthesis: faults without and with it, false alarms on real recordings, and what it costs.

    python tests/benchmarks/bench_guard.py --config xtts_pretrain_config.json --texts 200

The config is that of a finished run whose model has learnt to speak; its recogniser is trained first if it is missing.
Real recordings are those of val and test; planted faults are those of bench_faults.py; both become audio codes, which
the guard hears. Short texts are one to three words, long ones 100 to 150 letters, both from sentences that the model
was not trained on, and cut at the model's limit as synthesize.py cuts them; a text has the faults of its pieces. The
folder's voices take turns. Faults are those that the guard itself finds; `--judge` names the folder of another
recogniser (one trained with another seed, say), which then counts the faults of the first attempts and of those taken,
so that the guard is not its own judge. Everything is spoken twice, without the guard and with it, and seconds are of
CPU time.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from bench_faults import plant

import xtts_ka
from xtts_ka.core.config import load_config
from xtts_ka.corpus.tables import read_split
from xtts_ka.evaluation.texts import KEPT_SETS, read_texts
from xtts_ka.georgian.reading import Reading
from xtts_ka.georgian.text import split_sentences
from xtts_ka.model.checkpoint import read_config
from xtts_ka.model.coqui_georgian import FACTS_FILE, read_facts
from xtts_ka.model.features import FeatureExtractor, load_speech
from xtts_ka.recognition.error_rates import bootstrap
from xtts_ka.recognition.faults import longest_pause, wave_loudness
from xtts_ka.recognition.recogniser import Recogniser
from xtts_ka.recognition.symbols import spoken_letters
from xtts_ka.recognition.train_recogniser import ensure_recogniser
from xtts_ka.speech.batch import Drawn, Piece, Spoken, derived_seed
from xtts_ka.speech.code_sound import CodeSound
from xtts_ka.speech.guard import ATTEMPTS, Attempt, Guard, Guarded, heard_faults, next_piece, speak_guarded
from xtts_ka.speech.lengths import USUAL_RATE, fewest_codes, folder_rates, letter_rates, most_codes
from xtts_ka.starter.own_values import with_section_values

SENTENCES = Path(__file__).parents[2] / "data/evaluation_sentences_ka"
AT_A_TIME = 40  # pieces that are spoken without the guard and with it in turns


def unseen_sentences(config, reading: Reading) -> list[str]:
    """Normalised sentences that training has not seen, in a fixed order."""
    kept = [text.reading for name in KEPT_SETS for text in read_texts(SENTENCES / f"{name}.txt", reading, 100)]
    held_out = [reading(clip.text) for split in ("val", "test") for clip in read_split(config.data_dir, split)]
    found = sorted(dict.fromkeys([*kept, *held_out]))
    random.Random(0).shuffle(found)
    return found


def short_texts(sentences: list[str], count: int) -> list[str]:
    """Different runs of one to three words."""
    draw, found = random.Random(1), {}
    for _ in range(100 * count):
        words = spoken_letters(draw.choice(sentences)).split()
        size = draw.randint(1, 3)
        if len(words) >= size and len(found) < count:
            start = draw.randrange(len(words) - size + 1)
            found[" ".join(words[start : start + size]) + "."] = None
    return list(found)


def long_texts(sentences: list[str], count: int, limit: int) -> list[str]:
    """Of 100 letters to `limit`: sentences joined with commas."""
    draw, found = random.Random(2), {}
    for _ in range(20 * count):
        text = ""
        for sentence in draw.sample(sentences, 12):
            more = f"{text.rstrip('.!?')}, {sentence}" if text else sentence
            if len(more) <= limit:
                text = more
        if len(found) < count and len(text) > 100:
            found[text] = None
    return list(found)


def false_alarms(config, guard: Guard, reading: Reading, encode: FeatureExtractor) -> None:
    clips = [clip for split in ("val", "test") for clip in read_split(config.data_dir, split)]
    rates = letter_rates(read_split(config.data_dir, "train"))
    found: Counter = Counter()
    places = []
    for clip in clips:
        text, usual = reading(clip.text), rates.get(clip.speaker_id, USUAL_RATE)
        (attempt,) = judged(guard, [(text, usual, load_speech(clip.sound))], encode)
        found.update(attempt.faults)
        places.append(bool(attempt.faults))
    share = bootstrap(np.array(places, float), np.ones(len(places)))
    print(f"false alarms on {len(clips)} real recordings: {share}; {dict(found)}", flush=True)


def planted_faults(config, guard: Guard, encode: FeatureExtractor) -> None:
    """What the guard finds in espeak-ng's speech, sound and with faults planted in it (bench_faults.py)."""
    clips = [clip for clip in plant(guard.listener, "test", 1000) if clip.kind != "wrong speaker"]
    rates = letter_rates(read_split(config.data_dir, "train"))
    speech = [(c.expected, rates.get(c.voice, USUAL_RATE), torch.from_numpy(c.wave)[None]) for c in clips]
    found = judged(guard, speech, encode)
    for kind in dict.fromkeys(clip.kind for clip in clips):
        told = [bool(attempt.faults) for clip, attempt in zip(clips, found) if clip.kind == kind]
        print(f"planted: {kind}: the guard finds a fault in {sum(told)} of {len(told)} clips", flush=True)


def judged(guard: Guard, speech: list[tuple[str, float, torch.Tensor]], encode: FeatureExtractor) -> list[Attempt]:
    """What the guard says of recordings: (text, letters a second of the speaker, (1, samples) at 22,050 Hz)."""
    pieces, drawn = [], []
    for (text, usual, _), (codes, _) in zip(speech, encode([wave for *_, wave in speech])):
        most = most_codes(text, usual)
        pieces.append(Piece(text, torch.zeros(0), torch.zeros(0), 0, most, fewest_codes(text, usual)))
        drawn.append(Drawn(tuple(codes.tolist()), len(codes) <= most))
    return guard.judge(pieces, drawn)


def faulty(judge: Recogniser, text: str, clip: Spoken, rate: int) -> tuple[bool, float]:
    """Whether another recogniser hears a fault in a wave, and the share of letters wrong."""
    (heard,), pause = judge.hear([clip.wave], rate), longest_pause(wave_loudness(clip.wave, rate))
    faults, wrong = heard_faults(spoken_letters(text), heard, pause=pause, stopped=clip.stopped)
    return bool(faults), wrong


def pieces_of(config, folder: Path, voices: dict, texts: list[str]) -> tuple[list[Piece], np.ndarray]:
    """The pieces of all texts, and the number of each one's text."""
    rates, names, limit = folder_rates(folder / FACTS_FILE), sorted(voices), read_facts(folder / FACTS_FILE)[0]
    found, texts_of = [], []
    for number, whole in enumerate(texts):
        name = names[number % len(names)]
        rate = rates.get(name, USUAL_RATE)
        for text in split_sentences(whole, limit):
            seed = derived_seed(config.seed, name, text)
            found.append(Piece(text, *voices[name].values(), seed, most_codes(text, rate), fewest_codes(text, rate)))
            texts_of.append(number)
    return found, np.array(texts_of)


def share_of_texts(faulty: list[bool], text_of: np.ndarray) -> str:
    """The share of texts with a faulty piece, with its interval."""
    texts = np.zeros(text_of.max() + 1)
    np.maximum.at(texts, text_of, np.array(faulty, float))
    return str(bootstrap(texts, np.ones(len(texts))))


def speak_both(model, pieces: list[Piece], guard: Guard) -> tuple[list[list[Guarded]], list[float]]:
    """All pieces without the guard and with it, and the CPU seconds of either; in turns, so that both meet the same."""
    done: list[list[Guarded]] = [[], []]
    seconds = [0.0, 0.0]
    for start in range(0, len(pieces), AT_A_TIME):
        for side in (0, 1) if start // AT_A_TIME % 2 else (1, 0):
            began = time.process_time()
            done[side] += speak_guarded(model, pieces[start : start + AT_A_TIME], guard if side else None)
            seconds[side] += time.process_time() - began
    return done, seconds


def measure(
    model, pieces: list[Piece], text_of: np.ndarray, guard: Guard, judge: Recogniser | None, rate: int, kind: str
) -> None:
    (plain, done), (alone, guarded) = speak_both(model, pieces, guard)
    before, after = [bool(g.attempts[0].faults) for g in done], [bool(g.best.faults) for g in done]
    print(f"{kind}: {text_of.max() + 1} texts in {len(done)} pieces, fault without the guard "
          f"{share_of_texts(before, text_of)}, with it {share_of_texts(after, text_of)}")  # fmt: skip
    for name, which in (("first attempts", lambda g: g.attempts[0]), ("taken", lambda g: g.best)):
        print(f"   {name}: {dict(Counter(fault for g in done for fault in which(g).faults))}")
    wrong = [np.mean([attempt.wrong for attempt in side]) for side in zip(*((g.attempts[0], g.best) for g in done))]
    counts = dict(sorted(Counter(len(g.attempts) for g in done).items()))
    kept = [len(next_piece(piece, g.attempts[:n]).begun) / len(g.attempts[n - 1].drawn.codes)
            for piece, g in zip(pieces, done) for n in range(1, len(g.attempts))]  # fmt: skip
    print(f"   letters wrong {wrong[0]:.3f} → {wrong[1]:.3f}; attempts {counts}, which keep {np.mean(kept):.0%}")
    if judge:
        told = [[faulty(judge, piece.text, g.spoken, rate) for piece, g in zip(pieces, side)] for side in (plain, done)]
        shares = [share_of_texts([is_faulty for is_faulty, _ in side], text_of) for side in told]
        wrong = [np.mean([letters for _, letters in side]) for side in told]
        print(f"   by the other recogniser: faults {shares[0]} → {shares[1]}, letters wrong "
              f"{wrong[0]:.3f} → {wrong[1]:.3f}")  # fmt: skip
    audio = sum(len(g.spoken.wave) for g in plain) / rate
    print(f"   CPU seconds: without the guard {alone:.1f} ({audio:.0f} s of audio), with it {guarded:.1f} "
          f"({guarded / alone - 1:.1%} more)", flush=True)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--model", type=Path, help="model folder (default: the config's)")
    parser.add_argument("--judge", type=Path, help="folder of another recogniser that counts the faults")
    parser.add_argument("--texts", type=int, default=200, help="of each kind (0: planted faults and recordings only)")
    parser.add_argument("--long", type=int, help="long texts, where they are fewer than --texts")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    config = with_section_values(load_config(args.config))
    folder = args.model or Path(config.output_model_path)
    guard = Guard(ensure_recogniser(config), CodeSound(folder, args.device), args.attempts)
    judge = Recogniser.load(args.judge, args.device) if args.judge else None
    encode = FeatureExtractor(folder, read_config(folder), args.device)
    reading = Reading.of(config.text)
    false_alarms(config, guard, reading, encode)
    planted_faults(config, guard, encode)
    if not args.texts:
        return 0
    sentences = unseen_sentences(config, reading)
    model = xtts_ka.load_xtts(folder, args.device)
    rate = model.config.model_args.output_sample_rate
    kinds = {"short": short_texts(sentences, args.texts), "long": long_texts(sentences, args.long or args.texts, 150)}
    for kind, texts in kinds.items():
        pieces, text_of = pieces_of(config, folder, model.speaker_manager.speakers, texts)
        measure(model, pieces, text_of, guard, judge, rate, kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
