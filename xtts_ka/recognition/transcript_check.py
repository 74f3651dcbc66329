"""Do recordings say what their transcripts say? Heard by recognisers that were not trained on them.

The sentences are cut into two halves by a hash; a recogniser is trained on either half and hears the other
(cross-fitting), so that none has learnt the transcript that it judges, nor another clip of the same sentence. A wrong
transcript here and there does not keep a recogniser from learning what the many right ones have in common.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from rapidfuzz.distance import Levenshtein
from torch.nn.utils.rnn import pad_sequence

from xtts_ka.core.config import RecogniserConfig
from xtts_ka.core.console import progress, say, warn
from xtts_ka.core.digests import hash_to_unit, hash_value
from xtts_ka.core.files import json_bytes, read_json, write_bytes
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.corpus.measurements import recording_key
from xtts_ka.corpus.quality_limits import Finding
from xtts_ka.corpus.splits import sentence_of
from xtts_ka.corpus.tables import Clip
from xtts_ka.recognition.ctc_trainer import CtcTrainer, fits
from xtts_ka.recognition.recogniser import HOP, RATE, CtcNetwork, batches_by_length, greedy
from xtts_ka.recognition.sound_cache import SoundCache, unpacked
from xtts_ka.recognition.symbols import encode, spoken_letters
from xtts_ka.recognition.train_recogniser import LONGEST, POOR, settled

FOLDER = "transcript_check"  # in the data folder: spectrograms and states while it works, then what was heard
HEARD = "heard.json"
VERSION = 1
COLUMN = "cer"
TRAINED_ON = 9.9 * 3600.0  # seconds of speech that either recogniser learns from at most: minutes of work on a CPU
LEAST_TRAINED_ON = 600.0  # seconds; a recogniser of less judges nothing
_HEARD_AT_ONCE = 120.0  # seconds of padded audio


def check_transcripts(
    clips: Sequence[Clip],
    data_dir: Path | str,
    settings: RecogniserConfig | None = None,
    device: str = "auto",
    seed: int = 1234,
) -> list[Finding]:
    """The share of letters of each clip that its text and what is heard have not in common.

    Nothing where there is too little speech, or where the recognisers hear so badly that they cannot judge; a sentence
    says so. A killed run carries on, and what was heard is kept until a clip changes.
    """
    folder = Path(data_dir) / FOLDER
    settings, chosen_device = settings or RecogniserConfig(), choose_device(device)
    judged = [clip for clip in clips if clip.duration <= LONGEST and spoken_letters(clip.text)]
    facts = [(clip.file_id, recording_key(clip.audio_path), clip.cut, clip.text) for clip in judged]
    identity = hash_value([VERSION, seed, settings.model_dump(), facts])
    heard = _known(folder, identity)
    if heard is None:
        if sum(clip.duration for clip in judged) < 2 * LEAST_TRAINED_ON:
            minutes = f"{2 * LEAST_TRAINED_ON / 60:.0f} minutes of speech are needed"
            warn(f"the transcripts are not checked: to train a recogniser on either half, {minutes}")
            return []
        heard = _listen(judged, folder, settings, chosen_device, seed, identity)
        write_bytes(folder / HEARD, json_bytes({"identity": identity, "heard": heard}))
        for work in (folder / "sounds", *folder.glob("*.pt")):
            shutil.rmtree(work) if work.is_dir() else work.unlink()
    return _findings(judged, heard)


def _known(folder: Path, identity: str) -> list[str] | None:
    if not (folder / HEARD).is_file():
        return None
    kept = read_json(folder / HEARD, "what was heard", "delete it, and it is made again")
    return kept["heard"] if isinstance(kept, dict) and kept.get("identity") == identity else None


def _findings(clips: Sequence[Clip], heard: Sequence[str]) -> list[Finding]:
    rates = []
    for clip, text in zip(clips, heard, strict=True):
        said = spoken_letters(clip.text)
        rates.append(min(1.0, Levenshtein.distance(said, text) / len(said)))
    floor = statistics.median(rates)
    by_whom = f"two recognisers, each trained on the other half, hear {floor:.0%} of a typical clip's letters otherwise"
    if floor > POOR:
        warn(f"the transcripts cannot be checked: {by_whom}; with more speech they hear better")
        return []
    say(f"transcripts: {by_whom}")
    return [Finding(clip.file_id, COLUMN, rate, f"heard: {text}") for clip, rate, text in zip(clips, rates, heard)]


class _Some:
    """Some of a cache's spectrograms, numbered anew."""

    def __init__(self, sounds: SoundCache, numbers: Sequence[int]):
        self._sounds, self._numbers = sounds, numbers
        self.frames = sounds.frames[list(numbers)]

    def __getitem__(self, number: int) -> torch.Tensor:
        return self._sounds[self._numbers[number]]


def _listen(
    clips: Sequence[Clip], folder: Path, settings: RecogniserConfig, device: str, seed: int, identity: str
) -> list[str]:
    """What is heard in each clip."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "identity"
    if not note.is_file() or note.read_text("utf-8") != identity:  # spectrograms and states of other clips
        shutil.rmtree(folder)
        folder.mkdir()
        write_bytes(note, identity.encode())
    sounds = SoundCache(folder / "sounds", clips)
    targets = [encode(spoken_letters(clip.text)) for clip in clips]
    half = [hash_to_unit(f"half: {sentence_of(clip.text)}") < 0.5 for clip in clips]
    heard = [""] * len(clips)
    for which in (False, True):
        fitting = [i for i in range(len(clips)) if half[i] != which and fits(int(sounds.frames[i]), len(targets[i]))]
        trained, seconds = [], 0.0
        for i in sorted(fitting, key=lambda i: hash_to_unit(clips[i].file_id)):
            if seconds < TRAINED_ON:
                trained.append(i)
                seconds += float(sounds.frames[i]) * HOP / RATE
        say(f"transcripts: recogniser {1 + which} of 2 learns from {seconds / 60:.0f} minutes of speech on {device}")
        own, letters = _Some(sounds, trained), [targets[i] for i in trained]
        state = folder / f"half{int(which)}.pt"
        trainer = CtcTrainer(own, letters, settled(settings, seconds), seed, state, f"{identity}{which}", device)
        network = trainer.train()
        trainer.save()
        hear(network.eval(), sounds, [i for i in range(len(clips)) if half[i] == which], heard, device)
    return heard


@torch.inference_mode()
def hear(network: CtcNetwork, sounds: SoundCache, numbers: Sequence[int], heard: list[str], device: str) -> None:
    """Put the likeliest letters of these clips in their places of `heard`."""
    frames = sounds.frames[list(numbers)].tolist()
    with progress(what="listening", unit="clip", total=len(numbers)) as bar:
        for batch in batches_by_length(frames, _HEARD_AT_ONCE * RATE / HOP):
            own = [numbers[place] for place in batch]
            mels = unpacked(pad_sequence([sounds[i] for i in own], batch_first=True).to(device))
            rows, counts = network(mels, torch.tensor([int(sounds.frames[i]) for i in own]))
            for i, row, count in zip(own, rows.float().cpu(), counts.tolist()):
                heard[i] = greedy(row[:count])
            bar.update(len(batch))
