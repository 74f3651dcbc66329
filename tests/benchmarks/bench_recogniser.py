"""How well the recogniser hears unseen sentences after how much training, on the starter's speech.

    python tests/benchmarks/bench_recogniser.py --work DIR                  # the starter as shipped: 360 clips
    python tests/benchmarks/bench_recogniser.py --work DIR --clips 1500 --epochs 10

Speaks the clips with the starter's code where DIR has none, trains on the train table and measures on val and test
every `--every` steps: CER greedy and by beam search, and CER without spaces. CPU seconds are of this process, all
threads together, without the measuring; wall seconds are with it. Each setting of the config's section `recogniser` is
an option.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from xtts_ka.core.config import RecogniserConfig
from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.metadata import create_metadata
from xtts_ka.corpus.tables import has_metadata, read_split
from xtts_ka.georgian.character_ngram import CharacterNgram
from xtts_ka.recognition import train_recogniser
from xtts_ka.recognition.beam_search import beam_search
from xtts_ka.recognition.ctc_trainer import CtcTrainer
from xtts_ka.recognition.error_rates import character_error_rate, word_error_rate
from xtts_ka.recognition.recogniser import HOP, RATE, Recogniser, greedy
from xtts_ka.recognition.sound_cache import SoundCache
from xtts_ka.recognition.symbols import encode, spoken_letters
from xtts_ka.starter.speech import read_sentences, speak_corpus

SENTENCES = Path(__file__).parents[2] / "data/starter_sentences_ka.txt"
WEIGHTS = [(weight, bonus) for weight in (0.2, 0.3, 0.5, 0.7) for bonus in (0.0, 0.3, 0.6, 1.0)]


def speech(work: Path, clips: int) -> Path:
    """A data folder with the starter's recordings and their split tables."""
    data = work / f"data{clips}"
    if not has_metadata(data):
        speak_corpus(read_sentences(SENTENCES), data / "starter_recordings", seed=1234, max_clips=clips)
        create_metadata(data / "starter_recordings", data, format="coqui", enough_validation=True)
    return data


def measure(trainer: CtcTrainer, waves: list, said: list[str], ngram: CharacterNgram) -> tuple[str, list[torch.Tensor]]:
    """One line of error rates on the held-out clips, and their log-probabilities."""
    rows = Recogniser(trainer.network, {"fingerprint": "bench", "settings": {"beam": 1}}).log_probs(waves, 22_050)
    began = time.process_time()
    simple, searched = [greedy(row) for row in rows], [beam_search(row, ngram) for row in rows]
    pace = (time.process_time() - began) / sum(len(wave) / 22_050 for wave in waves)
    joined = [text.replace(" ", "") for text in said], [text.replace(" ", "") for text in simple]
    line = f"CER greedy {character_error_rate(said, simple)}, beam {character_error_rate(said, searched)}"
    line += f", without spaces {character_error_rate(*joined)}; WER beam {word_error_rate(said, searched)}"
    line += f"; decoding {1e3 * pace:.0f} ms for a second of audio"
    return line, rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the speech")
    parser.add_argument("--clips", type=int, default=360)
    parser.add_argument("--every", type=int, default=200, help="steps between measurements")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--search", action="store_true", help="try weights of the n-gram at the end")
    for name, field in RecogniserConfig.model_fields.items():
        kind = float if field.annotation in (float, float | None) else int
        parser.add_argument(f"--{name}", type=kind, default=field.default, help=field.description)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    settings = RecogniserConfig(**{name: getattr(args, name) for name in RecogniserConfig.model_fields})
    data = speech(args.work, args.clips)
    began, used = time.monotonic(), time.process_time()
    clips = read_split(data, "train")
    sounds = SoundCache(data / "work", clips)
    held_out = [*read_split(data, "val"), *read_split(data, "test")]
    said, waves = [spoken_letters(c.text) for c in held_out], [read_mono(c.audio_path)[0] for c in held_out]
    texts = [spoken_letters(clip.text) for clip in clips]
    ngram = CharacterNgram(sorted(set(texts)), train_recogniser.NGRAM_ORDER)
    seconds = sounds.frames.sum() * HOP / RATE
    settings = train_recogniser.settled(settings, seconds)
    state = args.work / "state.pt"
    state.unlink(missing_ok=True)
    trainer = CtcTrainer(sounds, [encode(text) for text in texts], settings, args.seed, state, "bench")
    weights = sum(p.numel() for p in trainer.network.parameters()) / 1e6
    print(f"{settings!r}\n{len(clips)} clips, {seconds / 60:.1f} min; {weights:.2f} M weights; {trainer.total} steps")
    for step in trainer.steps():
        if step % args.every == 0 or step == trainer.total:
            cpu = time.process_time() - used
            line, rows = measure(trainer, waves, said, ngram)
            print(
                f"step {step}, CPU {cpu:.0f} s, wall {time.monotonic() - began:.0f} s, loss {trainer.loss:.2f}: {line}"
            )
            sys.stdout.flush()
            used = time.process_time() - cpu
    for weight, bonus in WEIGHTS if args.search else ():
        found = [beam_search(row, ngram, weight=weight, bonus=bonus) for row in rows]
        half = len(said) // 2
        rates = [character_error_rate(said[part], found[part]) for part in (slice(half), slice(half, None))]
        print(f"weight {weight}, bonus {bonus}: CER of the first half {rates[0]}, of the second {rates[1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
