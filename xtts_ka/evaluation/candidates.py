"""Which of the kept checkpoints is exported where `training.best_by` is cer: the one that is understood best.

All speak the same validation sentences in the same voices with the same seeds. Clips and what was heard are kept in
`logs/candidates/`, so a choice that was interrupted carries on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.digests import hash_value
from xtts_ka.core.files import sweep_partials
from xtts_ka.evaluation.clip_store import ClipStore, hear_all
from xtts_ka.evaluation.figures import Measured, figures
from xtts_ka.evaluation.measuring import measure_clip
from xtts_ka.evaluation.samples import Plan, plan_samples
from xtts_ka.evaluation.speak_all import speak_all
from xtts_ka.evaluation.speaker_similarity import VoiceJudge
from xtts_ka.evaluation.subjects import Subject, free, open_weights
from xtts_ka.model.checkpoint import XttsFiles
from xtts_ka.recognition.recogniser import Recogniser
from xtts_ka.training.checkpoint_manager import Checkpoint

FOLDER = "candidates"  # in log_dir
HEARD = {"cpu": (8, 2), "cuda": (40, 3)}  # sentences and voices of each candidate


@dataclass(frozen=True)
class Candidate:
    """A checkpoint and what was measured of it. cer: {"value", "low", "high"}, as in a report."""

    checkpoint: Checkpoint
    cer: Mapping[str, float]
    similarity: float | None
    fault_rate: float

    def facts(self) -> dict[str, Any]:
        """For the report, the record and the log."""
        return {
            "step": self.checkpoint.step,
            "val_loss": self.checkpoint.val_loss,
            "cer": dict(self.cer),
            "similarity": self.similarity,
            "fault_rate": self.fault_rate,
        }


def choose_by_cer(
    config: PretrainConfig, base: XttsFiles, checkpoints: Sequence[Checkpoint], listener: Recogniser, device: str
) -> list[Candidate]:
    """All of `checkpoints`, the one with the lowest CER first; of equals the one with the lower validation loss."""
    folder = Path(config.log_dir) / FOLDER
    for part in (folder, folder / "clips"):
        sweep_partials(part)
    plan = plan_samples(config, *HEARD["cpu" if device == "cpu" else "cuda"])
    spoken = f"{len(plan.texts)} sentences in {len(plan.voices)} voices"
    say(f"best_by cer: each of {len(checkpoints)} checkpoints speaks {spoken}")
    heard = [_heard(config, base, checkpoint, plan, listener, device) for checkpoint in checkpoints]
    for candidate in heard:
        loss = candidate.checkpoint.val_loss
        shown = "not validated" if loss is None else f"validation loss {loss:.4f}"
        low, value, high = (candidate.cer[name] for name in ("low", "value", "high"))
        say(f"  step {candidate.checkpoint.step}: CER {value:.1%} ({low:.1%} to {high:.1%}), {shown}")
    return sorted(heard, key=_rank)


def _rank(candidate: Candidate) -> tuple[float, float, int]:
    loss = candidate.checkpoint.val_loss
    return candidate.cer["value"], math.inf if loss is None else loss, candidate.checkpoint.step


def _heard(
    config: PretrainConfig, base: XttsFiles, checkpoint: Checkpoint, plan: Plan, listener: Recogniser, device: str
) -> Candidate:
    key = hash_value([checkpoint.run_id, checkpoint.step, checkpoint.time])
    subject = open_weights(
        config, base, checkpoint.present_weights(), device, plan.clips, plan.voices,
        label=checkpoint.folder.name, key=key,
    )  # fmt: skip
    subject.add_references(plan.references)
    clips = _measured(subject, plan, Path(config.log_dir) / FOLDER, listener, device)
    free(subject)
    found = figures(clips, listener.name, len(plan.voices))
    return Candidate(checkpoint, found["cer"], found["similarity"]["value"], found["any_fault"]["value"])


def _measured(subject: Subject, plan: Plan, folder: Path, listener: Recogniser, device: str) -> list[Measured]:
    store, tasks = ClipStore(folder / "clips"), plan.tasks()
    keys = speak_all(subject, tasks, plan.rates, store, device)
    wavs = [store.folder / f"{key}.wav" for key in keys]
    heard = hear_all(listener, list(zip(keys, wavs)), folder / "heard.jsonl")
    voices = {name: subject.voices[name]["speaker_embedding"].numpy() for name in plan.voices}
    judge = VoiceJudge(voices, np.zeros((0, 512)), [])
    clips = []
    for task, key, wav in zip(tasks, keys, wavs, strict=True):
        kept = store.get(key)
        assert kept
        wave, rate = kept.read()
        said = {listener.name: heard[key]}
        clips.append(
            measure_clip(
                wave, rate, task.text, said, judge, subject.embedding(wav), voice=task.voice, stopped=kept.stopped,
                key=key, seed=task.seed,
            )
        )  # fmt: skip
    return clips
