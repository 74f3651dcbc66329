"""Samples while training: a fixed set of sentences and voices, spoken from the present weights every so often.

The trainer, which knows nothing of evaluation, is handed a `Samples` by the pipeline. A round stands in
`logs/samples/step_XXXXXXXX/`: a wav and a mel picture of each clip, and `samples.json` with what was heard; its figures
are a line of `metrics.jsonl` and, with the clips, in TensorBoard. `logs/samples/index.html` plays all rounds.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import duration, say, warn
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_folder, json_bytes, sweep_partials
from xtts_ka.core.out_of_memory import is_out_of_memory, release
from xtts_ka.corpus.audio import read_mono, wav_bytes
from xtts_ka.corpus.tables import Clip, read_split, split_csv
from xtts_ka.evaluation.clip_store import ClipStore, KeptClip
from xtts_ka.evaluation.figures import Measured, figures
from xtts_ka.evaluation.measuring import measure_clip
from xtts_ka.evaluation.samples_page import write_page
from xtts_ka.evaluation.speak_all import Task, speak_all
from xtts_ka.evaluation.speaker_similarity import VoiceJudge
from xtts_ka.evaluation.subjects import Subject, most_recorded, open_weights, renew_voices
from xtts_ka.evaluation.texts import Text, read_texts, split_texts
from xtts_ka.evaluation.time_share import TimeShare
from xtts_ka.georgian.reading import Reading
from xtts_ka.model.checkpoint import XttsFiles
from xtts_ka.recognition.recogniser import Recogniser, at_rate, log_mel
from xtts_ka.recognition.train_recogniser import ensure_recogniser, present_recogniser
from xtts_ka.speech.lengths import USUAL_RATE, letter_rates, longest
from xtts_ka.training.metrics_log import SAMPLES, MetricsLog, Picture, Sound

LETTERS = (15, 120)  # of a validation sentence that is spoken: what takes one to ten seconds
REFERENCE_SECONDS = (3.0, 12.0)  # of a recording that is a voice, where no speaker is known
PACE = {"cpu": 1.2, "cuda": 0.2}  # seconds for a second of speech, until a round was measured; one thread takes 1.1
LONGEST_ROUND = 240.0  # seconds; other processes wait meanwhile, ten minutes at most
NOBODY = "nobody"  # the listener's name where there is none
DYNAMIC_RANGE = 14.0  # nepers of power, 61 dB, from the loudest point of a picture to its black
_AT_ONCE = 8  # clips between two looks at the clock


@dataclass(frozen=True)
class Plan:
    """What is spoken in every round. clips: the recordings that the voices are computed from."""

    texts: list[Text]
    voices: list[str]
    clips: list[Clip]
    references: list[Path]
    rates: dict[str, float]
    seed: int

    def tasks(self) -> list[Task]:
        return [Task(voice, text, self.seed) for text in self.texts for voice in self.voices]

    def seconds(self) -> float:
        """Of speech in a round at most."""
        return sum(longest(task.text.reading, self.rates.get(task.voice, USUAL_RATE)) for task in self.tasks())


def plan_samples(config: PretrainConfig, sentences: int, voices: int) -> Plan:
    """The same for the same tables and config. UserError where there is nothing to speak, or no such voice."""
    settings, data, reading = config.samples, config.data_dir, Reading.of(config.text)
    train = read_split(data, "train")
    if settings.texts:
        texts = read_texts(settings.texts, reading, sentences)
    else:
        val = split_texts(read_split(data, "val") if split_csv(data, "val").is_file() else [], reading, 10**9)
        low, high = LETTERS
        texts = ([text for text in val if low <= len(text.expected) <= high] or val)[:sentences]
    if not texts:
        raise UserError(f"{split_csv(data, 'val')} has no sentences to speak: give some with samples.texts")
    names = list(dict.fromkeys(settings.speakers)) or most_recorded(train, voices)
    speakers = {clip.speaker_id for clip in train if clip.speaker_known}
    if unknown := next((name for name in names if name not in speakers), None):
        raise UserError(f"samples.speakers has {unknown!r}, of whom {split_csv(data, 'train')} has no recording")
    some = [] if names else [clip.audio_path for clip in sorted(train, key=_as_reference)[:voices]]
    own = [clip for clip in train if clip.speaker_known and clip.speaker_id in names]
    return Plan(texts, names or [path.stem for path in some], own, some, letter_rates(own), config.seed)


def training_listener(config: PretrainConfig, device: str, *, samples: bool = True) -> Recogniser | None:
    """The recogniser that hears samples and candidates; None, having said why, where there is none.

    It is trained first where `best_by` needs it, where the config asks for it, where the evaluation stage will need it
    anyway, and on a GPU, which takes minutes; else only one that is there and up to date is used. samples: whether any
    will be spoken.
    """
    by_cer, wanted = config.training.best_by == "cer", config.samples.recogniser
    soon = config.evaluation.enabled or device.startswith("cuda")
    if not (by_cer or (samples and config.samples.enabled)):
        return None
    if by_cer or wanted or (wanted is None and soon):
        try:
            return ensure_recogniser(config)
        except UserError as error:
            if by_cer or wanted:
                raise
            why_not = str(error)
    else:
        found, why_not = present_recogniser(config)
        if found:
            return found
    say(f"samples     without CER (recogniser: {why_not}); with samples.recogniser true it is trained first")
    return None


def open_samples(
    config: PretrainConfig, base: XttsFiles, log: MetricsLog, device: str, total_steps: int, listener: Recogniser | None
) -> Samples | None:
    """The samples of a training; None where they are off, or where the tables have nothing to speak, which is said."""
    if not config.samples.enabled:
        return None
    try:
        samples = Samples(config, base, log, device, total_steps, listener)
    except UserError as error:
        if config.samples.texts or config.samples.speakers:  # asked for by name
            raise
        warn(f"no samples: {error}")
        return None
    plan, share = samples.plan, samples.share
    first = f", the first after about {duration(share.until_first)}" if not share.spent else ""
    say(
        f"samples     {len(plan.texts)} sentences in {len(plan.voices)} voices, about {share.expected:.0f} s a round "
        f"and {config.samples.every_share:.1%} of the time at most{first}; to {samples.folder}"
    )
    return samples


def _as_reference(clip: Clip) -> tuple[bool, float]:
    """Sorts clips by how well they serve as a voice; those of a good length by hash."""
    low, high = REFERENCE_SECONDS
    return not low <= clip.duration <= high, hash_to_unit(clip.file_id)


class Samples:
    """Speaks rounds of samples of one training, on the main process.

    base: the model without its GPT. listener: None where nothing listens; then there is no CER.
    """

    def __init__(
        self,
        config: PretrainConfig,
        base: XttsFiles,
        log: MetricsLog,
        device: str,
        total_steps: int,
        listener: Recogniser | None,
    ):
        self.config, self.base, self.log, self.device, self.total = config, base, log, device, total_steps
        self.listener = listener
        self.plan = plan_samples(config, config.samples.sentences, config.samples.voices)
        self.folder = log.file.parent / SAMPLES
        sweep_partials(self.folder)
        first = PACE[device.partition(":")[0]] * self.plan.seconds()
        self.share = TimeShare(config.samples.every_share, total_steps, first, log.file)
        self._subject: Subject | None = None

    def due(self, step: int) -> bool:
        """Whether a round fits into the samples' share of the time now."""
        return self.share.allows(step)

    def speak(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Speak a round from the GPT's `weights` (named without prefix); where memory runs out, warn and leave it out.

        The training's random numbers are put back as they were.
        """
        began, done = time.monotonic(), None
        gpus = [torch.device(self.device)] if self.device.startswith("cuda") else []
        release()  # between two steps most of what training's allocator holds is unused
        try:
            with torch.random.fork_rng(devices=gpus):
                done = self._round(step, weights, began)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            warn(f"step {step}: out of memory while samples were spoken, so they are left out; training goes on")
            self._subject = None
        finally:
            self._rest()
            self.share.took(seconds := time.monotonic() - began, step)
        if done:
            self.log.log(step, SAMPLES, {**done, "seconds": round(seconds, 3)}, self.total)

    def _round(self, step: int, weights: Mapping[str, Tensor], began: float) -> dict[str, float] | None:
        subject, store, tasks = self._with(weights), _Held(), self.plan.tasks()
        keys: list[str] = []
        for start in range(0, len(tasks), _AT_ONCE):
            keys += speak_all(subject, tasks[start : start + _AT_ONCE], self.plan.rates, store, self.device)
            if time.monotonic() - began > LONGEST_ROUND and start + _AT_ONCE < len(tasks):
                warn(
                    f"step {step}: samples took over {LONGEST_ROUND:.0f} s and are left out: "
                    "lower samples.sentences or samples.voices"
                )
                return None
        return self._keep(step, subject, tasks, [store.clips[key] for key in keys])

    def _with(self, weights: Mapping[str, Tensor]) -> Subject:
        """The model with these weights, on the device."""
        if self._subject is None:
            self._subject = open_weights(
                self.config, self.base, weights, self.device, self.plan.clips, self.plan.voices, label="samples", key=""
            )
        else:
            self._subject.model.to(self.device)
            put_weights(self._subject, weights)
            renew_voices(self._subject, self.config, self.plan.clips, self.plan.voices)
        self._subject.add_references(self.plan.references)
        return self._subject

    def _rest(self) -> None:
        """Give the GPU's memory back to training."""
        if self._subject and self.device.startswith("cuda"):
            self._subject.model.to("cpu")
        release()

    def _keep(self, step: int, subject: Subject, tasks: Sequence[Task], spoken: Sequence[_Clip]) -> dict[str, float]:
        """Write the round's folder and TensorBoard records; returns the round's figures."""
        target = self.folder / f"step_{step:08d}"
        if target.exists():  # of a run that was set back to an earlier step
            shutil.rmtree(target)
        who = self.listener.name if self.listener else NOBODY
        heard = self.listener.hear([clip.wave for clip in spoken], subject.rate) if self.listener else []
        sounds, pictures, measured = {}, {}, []
        voices = {name: subject.voices[name]["speaker_embedding"].numpy() for name in self.plan.voices}
        judge = VoiceJudge(voices, np.zeros((0, 512)), [])
        with atomic_folder(target) as folder:
            for number, (task, clip) in enumerate(zip(tasks, spoken, strict=True)):
                name = f"{number // len(self.plan.voices) + 1:02d}_{task.voice}"
                sounds[name] = Sound(wav_bytes(np.floor(clip.wave * 32768), subject.rate), subject.rate, len(clip.wave))
                pictures[name] = mel_picture(clip.wave, subject.rate)
                (folder / f"{name}.wav").write_bytes(sounds[name].wav)
                (folder / f"{name}.png").write_bytes(pictures[name].png)
                wave, rate = read_mono(folder / f"{name}.wav")
                said = {who: heard[number]} if heard else {}
                measured.append(
                    measure_clip(
                        wave, rate, task.text, said, judge, subject.embedding(folder / f"{name}.wav"),
                        voice=task.voice, stopped=clip.stopped, key=name, seed=task.seed,
                    )
                )  # fmt: skip
            found = self._figures(measured, who)
            (folder / "samples.json").write_bytes(json_bytes(self._facts(step, found, measured, who), indent=2))
        write_page(self.folder)
        self.log.log_media(step, sounds, pictures)
        return found

    def _figures(self, measured: Sequence[Measured], who: str) -> dict[str, float]:
        """The round's figures by the names of their metrics; without a listener the similarity alone."""
        if self.listener is None:
            return {"similarity": float(np.mean([clip.similarity for clip in measured]))}
        found = figures(measured, who, len(self.plan.voices))
        rates = {"cer": found["cer"], "wer": found["wer"], "fault_rate": found["any_fault"]}
        own = {"recogniser_cer": self.listener.facts.get("held_out", {}).get("cer", {}).get("value")}
        values = {name: figure["value"] for name, figure in {**rates, "similarity": found["similarity"]}.items()} | own
        return {name: float(value) for name, value in values.items() if value is not None}

    def _facts(self, step: int, found: Mapping[str, float], measured: Sequence[Measured], who: str) -> dict[str, Any]:
        clips = [
            {
                "file": f"{clip.wav_key}.wav",
                "voice": clip.voice,
                "text": clip.text,
                "expected": clip.expected,
                "heard": clip.heard.get(who),
                "faults": sorted(clip.faults.get(who, ())),
                "similarity": None if clip.similarity is None else round(clip.similarity, 4),
            }
            for clip in measured
        ]
        return {"schema": 1, "step": step, "listener": who, "figures": dict(found), "clips": clips}


# ── parts of a round ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Clip:
    wave: np.ndarray
    stopped: bool


class _Held(ClipStore):
    """Holds clips in memory: every round speaks all of them anew."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.clips: dict[str, _Clip] = {}

    def get(self, key: str) -> KeptClip | None:
        return None

    def put(self, key: str, wave: np.ndarray, rate: int, *, stopped: bool, **facts: Any) -> None:
        self.clips[key] = _Clip(wave, stopped)


@torch.no_grad()
def put_weights(subject: Subject, weights: Mapping[str, Tensor]) -> None:
    """Give the subject's GPT other weights, in place: coqui's wrapper for generation shares them."""
    own = dict(subject.model.gpt.named_parameters(remove_duplicate=False))
    for name, tensor in weights.items():
        own[name].copy_(tensor)


def mel_picture(wave: np.ndarray, rate: int) -> Picture:
    """The clip's log-mel spectrogram as a PNG: a column for 10 ms, two rows a band, low frequencies at the bottom."""
    from matplotlib.image import imsave

    mel = log_mel(at_rate(wave, rate)).numpy().T[::-1].repeat(2, axis=0)
    top = float(mel.max())
    png = io.BytesIO()
    imsave(png, mel, format="png", cmap="magma", vmin=top - DYNAMIC_RANGE, vmax=top)
    return Picture(png.getvalue(), *mel.shape)
