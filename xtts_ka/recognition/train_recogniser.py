"""Makes the project's own recogniser where it is missing or out of date, and measures it on held-out recordings.

It is trained on the clips of the train table only. Its error rates are those on the clips of val and test, whose
sentences training has not seen; they stand in recogniser.json and beside everything that it scores.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from xtts_ka.core.config import PretrainConfig, RecogniserConfig
from xtts_ka.core.console import duration, progress, say, warn
from xtts_ka.core.digests import file_digest, hash_file, hash_to_unit, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.lock import RunLock
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.recordings import listing, look_again
from xtts_ka.corpus.tables import Clip, read_split, split_csv
from xtts_ka.georgian.character_ngram import CharacterNgram
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.beam_search import BONUS, WEIGHT
from xtts_ka.recognition.ctc_trainer import CtcTrainer, fits
from xtts_ka.recognition.error_rates import Rate, character_error_rate, word_error_rate
from xtts_ka.recognition.recogniser import FACTS, FORMAT, HOP, NGRAM, RATE, SHAPE, WEIGHTS, Recogniser, greedy
from xtts_ka.recognition.sound_cache import SoundCache
from xtts_ka.recognition.symbols import decode, encode, spoken_letters

FOLDER = "recogniser"  # in output_model_path
WORK = "work"  # in it: spectrograms and the state of a training that is not finished
VERSION = 2  # of the training: after a change recognisers are trained anew
LONGEST = 30.0  # seconds of a clip that is trained on
POOR = 0.3  # CER on held-out recordings above which a recogniser is no judge
HELD_OUT = 1000  # clips measured at most
NGRAM_ORDER, NGRAM_TEXTS = 5, 100_000  # of the n-gram for the beam search, and the transcripts it is made of at most
_LARGE = 10 * 3600.0  # seconds of speech from which the network is wide and the batches are large
# (below, from there) of what the config leaves open; why: docs/experiments.md, «The recogniser in three minutes»
_OPEN = {
    "dim": (160, 512),
    "layers": (2, 8),
    "recurrent": (2, 0),
    "batch_seconds": (10.0, 240.0),
    "learning_rate": (4e-3, 2e-3),
    "noise": (0.4, 1.0),
}
_STEPS = 2400  # with few hours: two to two and a half minutes of one core
_EPOCHS, _LARGE_EPOCHS = (4, 60), 15  # fewest and most below _LARGE; from there


def recogniser_folder(config: PretrainConfig) -> Path:
    """Where the recogniser of this config stands."""
    return Path(config.output_model_path) / FOLDER


def ensure_recogniser(config: PretrainConfig) -> Recogniser:
    """The recogniser of this config: the present one, or trained now if there is none or if it is out of date.

    Says why it is trained, and its error rates. Killed in the middle, the next call carries on. UserError where the
    tables or recordings cannot be read, where another process is at it, or where there is no clip to train on.
    """
    device, folder = choose_device(config.device), recogniser_folder(config)
    look_again()
    wanted = _wanted(config)
    if reason := _why_train(folder, wanted):
        say(f"recogniser: training it on {device}, because {reason}")
        with RunLock(folder / WORK / "lock").hold():
            _train(config, folder, wanted, device)
        shutil.rmtree(folder / WORK)
    return _opened(config, folder, device)


def present_recogniser(config: PretrainConfig) -> tuple[Recogniser | None, str]:
    """The recogniser of this config if it is there and up to date, as `ensure_recogniser`; else None and why not.

    Recordings are as they were when somebody last looked (`recordings.look_again`): a pipeline's start has looked.
    """
    folder = recogniser_folder(config)
    if reason := _why_train(folder, _wanted(config)):
        return None, reason
    return _opened(config, folder, choose_device(config.device)), ""


def _opened(config: PretrainConfig, folder: Path, device: str) -> Recogniser:
    """The recogniser in `folder`, measured on the present held-out recordings; says its error rates."""
    recogniser = Recogniser.load(folder, device)
    recogniser.facts["settings"]["beam"] = config.recogniser.beam
    held_out = _held_out_digest(config)
    if recogniser.facts.get("held_out", {}).get("digest") != held_out:
        measured = measure(recogniser, _held_out(config), Reading.of(config.text))
        recogniser.facts["held_out"] = {"digest": held_out, **measured}
        write_json(folder / FACTS, recogniser.facts)
    say(describe(recogniser))
    if recogniser.facts["held_out"]["cer"]["value"] > POOR:
        warn(
            f"{recogniser.name} mishears more than {POOR:.0%} of the letters of real recordings, so what it says of "
            "synthetic speech means little: give it more speech, or another recogniser with --asr"
        )
    return recogniser


def describe(recogniser: Recogniser) -> str:
    """The recogniser's name and error rates, one line: what must stand beside everything that it scores."""
    facts = recogniser.facts.get("held_out")
    if not facts:  # killed between training and measuring
        return f"{recogniser.name}: not measured on held-out recordings yet"
    cer, wer = (Rate(*(facts[kind][part] for part in Rate._fields)) for kind in ("cer", "wer"))
    return f"{recogniser.name}: CER {cer}, WER {wer} on {facts['clips']} recordings that it was not trained on"


# ── is the present one up to date? ───────────────────────────────────────────────────────────────────────────────────


def _wanted(config: PretrainConfig) -> dict[str, Any]:
    """What a recogniser depends on, by the name that a reason for a new one gives."""
    return {
        "the training's version": VERSION,
        "the train table": file_digest(split_csv(config.data_dir, "train")),
        "its recordings": listing(config.data_dir, "train").digest,
        "the reading of its texts": hash_value(Reading.of(config.text).facts()),
        "the seed": config.seed,
        **{f"recogniser.{key}": value for key, value in config.recogniser.model_dump(exclude={"beam"}).items()},
    }


def _why_train(folder: Path, wanted: dict[str, Any]) -> str:
    """Why a recogniser must be trained, or ""."""
    if not (folder / FACTS).is_file():
        return "there is none yet"
    facts = read_json(folder / FACTS, "the recogniser", "delete its folder, and it is trained again")
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        return "the present one is of another version of this project"
    for file, recorded in ((folder / WEIGHTS, facts.get("weights")), (folder / NGRAM, facts.get("ngram"))):
        if not file.is_file() or hash_file(file) != recorded:
            return f"{file} is missing or damaged"
    made = facts.get("made_from", {})
    changed = [name for name, value in wanted.items() if made.get(name) != value]
    return f"{', '.join(changed)} changed" if changed else ""


def _held_out_digest(config: PretrainConfig) -> str:
    tables = [split_csv(config.data_dir, split) for split in ("val", "test")]
    digests = [file_digest(table) for table in tables if table.is_file()]
    return hash_value([config.recogniser.beam, WEIGHT, BONUS, *digests])


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _train(config: PretrainConfig, folder: Path, wanted: dict[str, Any], device: str) -> None:
    """Train a recogniser and write its folder's files, recogniser.json last."""
    identity, began = hash_value(wanted), time.monotonic()
    work = folder / WORK
    _clear_others(work, identity)
    clips = _trainable(config)
    sounds = SoundCache(work, clips)
    reading = Reading.of(config.text)
    targets = [encode(spoken_letters(clip.text, reading)) for clip in clips]
    kept = [i for i, target in enumerate(targets) if target and fits(int(sounds.frames[i]), len(target))]
    if not kept:
        raise UserError(f"{split_csv(config.data_dir, 'train')} has no clip that is long enough for its letters")
    if len(kept) < len(clips):
        warn(f"recogniser: {len(clips) - len(kept)} of {len(clips)} clips are too short for their text; left out")
    seconds = float(sounds.frames[kept].sum()) * HOP / RATE
    settings = settled(config.recogniser, seconds)
    chosen, letters = _Chosen(sounds, kept), [targets[i] for i in kept]
    trainer = CtcTrainer(chosen, letters, settings, config.seed, work / "state.pt", identity, device)
    network = trainer.train()
    save_tensors(folder / WEIGHTS, {name: tensor.cpu() for name, tensor in network.state_dict().items()})
    texts = sorted({decode(target) for target in targets if target}, key=hash_to_unit)
    arrays = CharacterNgram(texts[:NGRAM_TEXTS], NGRAM_ORDER).arrays()
    save_tensors(folder / NGRAM, {name: torch.from_numpy(array) for name, array in arrays.items()})
    weights = hash_file(folder / WEIGHTS)
    facts = {
        "format": FORMAT,
        "fingerprint": hash_value([weights, wanted]),
        "weights": weights,
        "ngram": hash_file(folder / NGRAM),
        "settings": settings.model_dump(include={*SHAPE, "beam"}),
        "made_from": wanted,
        "trained_on": {"clips": len(kept), "seconds": round(seconds, 1), "steps": trainer.total},
    }
    write_json(folder / FACTS, facts)
    say(f"recogniser: {trainer.total} steps on {duration(seconds)} of speech took {duration(time.monotonic() - began)}")


def _clear_others(work: Path, identity: str) -> None:
    """Delete what a training on other data or with other settings has left in the work folder."""
    mark = work / "identity.json"
    if not mark.is_file() or read_json(mark) != identity:
        for name in ("mels.u8", "frames.i4", "state.pt"):
            (work / name).unlink(missing_ok=True)
        write_json(mark, identity)


class _Chosen:
    """Some of a cache's spectrograms, numbered anew."""

    def __init__(self, sounds: SoundCache, numbers: Sequence[int]):
        self._sounds, self._numbers = sounds, numbers
        self.frames = sounds.frames[list(numbers)]

    def __getitem__(self, number: int) -> torch.Tensor:
        return self._sounds[self._numbers[number]]


def _trainable(config: PretrainConfig) -> list[Clip]:
    clips = [clip for clip in read_split(config.data_dir, "train") if clip.duration <= LONGEST]
    if not clips:
        raise UserError(f"{split_csv(config.data_dir, 'train')} has no clip of at most {LONGEST:g} s to train on")
    return clips


def settled(settings: RecogniserConfig, seconds: float) -> RecogniserConfig:
    """The settings with what they leave open chosen by the seconds of training speech."""
    large = seconds >= _LARGE
    chosen = {name: values[large] for name, values in _OPEN.items() if getattr(settings, name) is None}
    settings = settings.model_copy(update=chosen)
    fewest, most = _EPOCHS
    assert settings.batch_seconds
    few = min(most, max(fewest, math.ceil(_STEPS * settings.batch_seconds / seconds)))
    return settings.model_copy(update={"epochs": settings.epochs or (_LARGE_EPOCHS if large else few)})


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _held_out(config: PretrainConfig) -> list[Clip]:
    """The clips of val and test, at most HELD_OUT of them, chosen by hash."""
    splits = [split for split in ("val", "test") if split_csv(config.data_dir, split).is_file()]
    clips = [clip for split in splits for clip in read_split(config.data_dir, split) if clip.duration <= LONGEST]
    clips = [clip for clip in clips if spoken_letters(clip.text)]
    if not clips:
        tables = " and ".join(str(split_csv(config.data_dir, split)) for split in splits)
        raise UserError(f"{tables} have no clip to measure the recogniser on: give clips of at most {LONGEST:g} s")
    return sorted(clips, key=lambda clip: hash_to_unit(clip.file_id))[:HELD_OUT]


def measure(recogniser: Recogniser, clips: Sequence[Clip], reading: Reading) -> dict[str, Any]:
    """{clips, cer: {value, low, high}, wer, greedy_cer} of the recogniser on real recordings."""
    said, heard, simply = [], [], []
    with progress(what="held-out recordings", unit="clip", total=len(clips)) as bar:
        for clip in clips:
            (log_probs,) = recogniser.log_probs([(sound := read_mono(clip.sound))[0]], sound[1])
            said.append(spoken_letters(clip.text, reading))
            heard.append(recogniser.decode(log_probs))
            simply.append(greedy(log_probs))
            bar.update(1)
    rates = {
        "cer": character_error_rate(said, heard),
        "wer": word_error_rate(said, heard),
        "greedy_cer": character_error_rate(said, simply),
    }
    return {"clips": len(said), **{kind: rate._asdict() for kind, rate in rates.items()}}
