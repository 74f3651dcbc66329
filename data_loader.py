"""From metadata to training batches: `XTTSDataset`, `DataManager`, `CollateFunction`.

Order and conditioning crops are functions of (seed, epoch, clip), so a resumed run sees what an uninterrupted one sees.
Batches hold no holes: each row is [32 conditioning positions | start, text | start, codes, stop × 3], rows are of
similar length, and every row's voice sample is cut to the same number of frames.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.console import say, style
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.lock import RunLock
from xtts_ka.corpus import recordings
from xtts_ka.model.geometry import (
    CODE_STRIDE,
    COND_POSITIONS,
    FRAMES_PER_CODE,
    FRAMES_PER_SECOND,
    SAMPLE_RATE,
    frames_of,
)
from xtts_ka.training.batch_plan import BatchPlan
from xtts_ka.training.clip_index import AUDIO_STOPS, FEATURES, ModelLimits, TrainingIndex
from xtts_ka.training.feature_cache import FeatureCache
from xtts_ka.training.memory_estimate import StepShape
from xtts_ka.training.prepare_features import extended_vocabulary, feature_key, make_indexes, open_indexes

# ── what a clip is to the trainer ────────────────────────────────────────────────────────────────────────────────────


class Draw(NamedTuple):
    """One clip of one batch: which clip, in which epoch, with a voice sample of how many mel frames."""

    clip: int
    epoch: int
    cond_frames: int


class Sample(NamedTuple):
    """text: token ids; codes: uint16; cond_mel: float16 (cond_frames, 80); heard: span of the clip's own frames in it."""

    text: np.ndarray
    codes: np.ndarray
    cond_mel: np.ndarray
    heard: tuple[int, int]


class XTTSDataset:
    """Clips of one split; items are drawn with a `Draw`. Everything stays on the disk until it is drawn."""

    def __init__(self, index: TrainingIndex, cache: FeatureCache, conditioning: str, seed: int):
        self.index, self.cache, self.seed = index, cache, seed
        self.same_clip = conditioning == "same_clip"

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, draw: Draw) -> Sample:
        codes, mel = self._features(draw.clip)
        random = np.random.default_rng([self.seed, draw.epoch, int(self.index.id_numbers[draw.clip])])
        text, others = self.index.text(draw.clip), self._other_clips(draw.clip, random)
        if len(others):
            return Sample(text, codes, self._voice(others, draw.cond_frames, random), (0, 0))
        return Sample(text, codes, *_own_voice(mel, draw.cond_frames, random))

    def _features(self, clip: int) -> tuple[np.ndarray, np.ndarray]:
        return self.cache.read(self.index.records[clip], self.index.file_id(clip))

    @property
    def seconds(self) -> np.ndarray:
        """Length of every clip."""
        return self.index.records["samples"] / SAMPLE_RATE

    def frames(self, clips: np.ndarray) -> np.ndarray:
        """Mel frames of these clips."""
        return frames_of(self.index.records["samples"][clips].astype(np.int64))

    def _other_clips(self, clip: int, random: np.random.Generator) -> np.ndarray:
        """Up to 16 other clips of the same speaker in random order; none when conditioning is on the same clip."""
        if self.same_clip:
            return np.empty(0, np.int64)
        clips = self.index.clips_of(self.index.speakers[clip])
        others = clips[random.permutation(len(clips))[:17] if len(clips) < 1000 else random.integers(0, len(clips), 17)]
        return others[others != clip][:16]

    def _voice(self, clips: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
        """`frames` mel frames of these clips: a random crop of the first, lengthened by the next ones as coqui does
        with several reference files, and repeated where the speaker has no more."""
        parts, have = [], 0
        while have < frames:
            for clip in clips:
                mel = self._features(clip)[1]
                start = random.integers(0, max(1, len(mel) - (frames - have) + 1))
                parts.append(mel[start : start + frames - have])
                have += len(parts[-1])
                if have == frames:
                    break
        return np.concatenate(parts)


def _own_voice(mel: np.ndarray, frames: int, random: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """A crop of the clip itself and the span of frames it covers.

    Only a speaker's one clip among longer references can be too short for the batch: half of it, repeated to length.
    """
    crop = min(frames, max(1, len(mel) // 2)) if len(mel) < frames else frames
    start = int(random.integers(0, len(mel) - crop + 1))
    voice = np.resize(mel[start : start + crop], (frames, mel.shape[1]))
    return voice, (start, start + crop)


def _voice_frames(asked: int, shortest: int) -> int:
    """Frames of a batch's voice samples cut from its own clips: coqui's rule, for the batch's shortest clip."""
    return asked if shortest >= asked else max(1, shortest // 2)


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class CollateFunction:
    """Samples → one batch of tensors in which text, audio and scored positions are flat lists.

    A row of the (rows, length) grid is laid out without holes; `*_at` are flat positions in that grid. Keys:
    cond_mels (rows, 80, frames) · cond_at · text, text_position, text_at · audio, audio_position, audio_at ·
    text_scored, text_target · audio_scored, audio_target · shape (rows, length) · seconds.

    like_coqui: leave unscored what coqui's GPTTrainer does, for comparing losses with it.
    """

    def __init__(self, limits: ModelLimits, like_coqui: bool = False):
        self.limits, self.like_coqui = limits, like_coqui

    def __call__(self, samples: list[Sample]) -> dict:
        import torch

        length = max(COND_POSITIONS + len(s.text) + 1 + len(s.codes) + AUDIO_STOPS for s in samples)
        columns: dict[str, list[np.ndarray]] = {
            name: []
            for name in (
                "cond_at",
                "text",
                "text_position",
                "text_at",
                "audio",
                "audio_position",
                "audio_at",
                "text_target",
                "text_scored",
                "audio_target",
                "audio_scored",
            )
        }
        for row, (sample, heard) in enumerate(zip(samples, self._heard_codes(samples))):
            for name, values in self._row(sample, row * length, heard).items():
                columns[name].append(values)
        batch = {name: torch.from_numpy(np.concatenate(parts).astype(np.int64)) for name, parts in columns.items()}
        batch["cond_mels"] = (
            torch.from_numpy(np.stack([s.cond_mel for s in samples])).float().transpose(1, 2).contiguous()
        )
        batch["shape"] = (len(samples), length)
        batch["seconds"] = sum(len(s.codes) for s in samples) * CODE_STRIDE / SAMPLE_RATE
        return batch

    def _heard_codes(self, samples: list[Sample]) -> list[tuple[int, int]]:
        """The span of each row's audio targets that its voice sample gives away: every code that a frame
        of it touches. coqui leaves out the last row's alone, and takes frames for codes."""
        if self.like_coqui:
            return [(0, 0)] * (len(samples) - 1) + [samples[-1].heard]
        return [(s.heard[0] // FRAMES_PER_CODE, min(-(-s.heard[1] // FRAMES_PER_CODE), len(s.codes))) for s in samples]

    def _row(self, sample: Sample, at: int, heard: tuple[int, int]) -> dict[str, np.ndarray]:
        """One row's flat lists; `at` is where the row begins in the grid, `heard` the audio targets that are not scored."""
        limits = self.limits
        text = np.concatenate([[limits.start_text], sample.text])
        stops = [limits.stop_audio] * AUDIO_STOPS
        audio = np.concatenate([[limits.start_audio], sample.codes, stops[1:]])
        text_at = at + COND_POSITIONS + np.arange(len(text))
        audio_at = text_at[-1] + 1 + np.arange(len(audio))
        target = np.concatenate([sample.codes, stops]).astype(np.int64)
        scored = np.ones(len(target), bool)
        scored[slice(*heard)] = False
        return {
            "cond_at": at + np.arange(COND_POSITIONS),
            "text": text,
            "text_position": np.arange(len(text)),
            "text_at": text_at,
            "audio": audio,
            "audio_position": np.arange(len(audio)),
            "audio_at": audio_at,
            "text_target": np.append(sample.text, limits.stop_text),
            "text_scored": text_at,
            "audio_target": target[scored],
            "audio_scored": audio_at[scored],
        }


class EpochBatches(Sequence[list[Draw]]):
    """An epoch's batches, each made when it is asked for; a slice of them is another of these."""

    def __init__(
        self,
        data: XTTSDataset,
        plan: BatchPlan,
        epoch: int,
        asked: tuple[int, int],
        seed: int,
        which: range | None = None,
    ):
        """asked: fewest and most mel frames of a batch's voice samples."""
        self._about = data, plan, epoch, asked, seed
        self._which = range(len(plan)) if which is None else which

    def __len__(self) -> int:
        return len(self._which)

    def __getitem__(self, at: int | slice) -> list[Draw] | EpochBatches:
        if isinstance(at, slice):
            return EpochBatches(*self._about, self._which[at])
        number = self._which[at]
        data, plan, epoch, (fewest, most), seed = self._about
        clips = plan[number]
        frames = int(np.random.default_rng([seed, epoch, 2, number]).integers(fewest, most + 1))
        if data.same_clip:
            frames = _voice_frames(frames, int(data.frames(clips).min()))
        return [Draw(clip, epoch, frames) for clip in clips.tolist()]


@lru_cache(2)  # of train and val: they are asked for again and again
def _plan(index: TrainingIndex, budget: int, seed: int, epoch: int) -> BatchPlan:
    return BatchPlan(index.positions, budget, seed, epoch)


def _said_by_worker(error: Exception) -> str:
    """What an error that a worker process raised, or died of, says in one sentence; nothing of an error of this process.

    The former comes with the other's traceback for a message, which ends in a line «type: what it said».
    """
    if str(error).startswith("Caught ") and isinstance(error, RunError | OSError):
        return str(error).strip().rpartition("\n")[2].partition(": ")[2]
    if str(error).startswith("DataLoader worker"):
        return (
            "a process that loads the batches was killed; memory or /dev/shm may be full: make room there, and the same "
            "command carries on"
        )
    return ""


# ── the manager ──────────────────────────────────────────────────────────────────────────────────────────────────────


class DataManager:
    """Plans batches for training and validation, and loads them. limits: of the model to train."""

    def __init__(
        self, config: PretrainConfig, train: TrainingIndex, val: TrainingIndex, cache: FeatureCache, limits: ModelLimits
    ):
        self.config, self.limits = config, limits
        self.left_out = Counter(train.facts["left_out"]) + Counter(val.facts["left_out"])
        if not len(train) or not len(val):
            raise UserError(
                f"the data in {config.data_dir} leaves {len(train)} training and {len(val)} validation clips that "
                f"fit the model ({dict(self.left_out)} left out): add recordings"
            )
        self.train, self.val = (
            XTTSDataset(index, cache, config.training.conditioning, config.seed) for index in (train, val)
        )
        self.budget = int(config.batch_size * train.facts["median_positions"])

    def train_batches(self, epoch: int, budget: int | None = None) -> EpochBatches:
        """The epoch's batches in order; `budget` overrides the one that `batch_size` stands for."""
        shortest, longest = (round(s * FRAMES_PER_SECOND) for s in self.config.training.conditioning_seconds)
        plan = _plan(self.train.index, budget or self.budget, self.config.seed, epoch)
        return EpochBatches(self.train, plan, epoch, (shortest, longest), self.config.seed)

    def val_batches(self) -> EpochBatches:
        """Always the same: fixed order, fixed voice samples of middling length."""
        frames = round(float(np.mean(self.config.training.conditioning_seconds)) * FRAMES_PER_SECOND)
        plan = _plan(self.val.index, self.budget, self.config.seed, 0)
        return EpochBatches(self.val, plan, 0, (frames, frames), self.config.seed)[
            : self.config.training.validation_batches
        ]

    def loader(
        self, dataset: XTTSDataset, batches: Iterable[list[Draw]], workers: int = 0, pin: bool = False
    ) -> Iterator[dict]:
        """Collated batches in the given order."""
        from torch.utils.data import DataLoader

        loader = DataLoader(
            dataset, batch_sampler=batches, collate_fn=CollateFunction(self.limits), num_workers=workers, pin_memory=pin
        )
        try:
            yield from loader
        except (RunError, OSError, RuntimeError) as error:
            if sentence := _said_by_worker(error):
                raise RunError(sentence) from error
            raise

    def typical_batch(self) -> StepShape:
        """A full batch of clips of average length, its voice samples as long as they get."""
        index, clips = self.train.index, len(self.train)
        text, all_of_it = 1 + len(index.tokens) / clips, float(np.mean(index.positions))
        return StepShape(
            max(1.0, self.budget / all_of_it),
            text,
            all_of_it - COND_POSITIONS - text,
            max(self.config.training.conditioning_seconds) * FRAMES_PER_SECOND,
        )

    def describe(self) -> list[str]:
        """What training will be fed, one fact a line."""
        plan = _plan(self.train.index, self.budget, self.config.seed, 0)
        left = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()) or "none"
        return [
            *(
                "{:<12}{clips:>8,} clips  {hours:8.3f} h  {speakers:>5} speakers  {shortest:.1f}–{longest:.1f} s".format(
                    name, hours=facts["seconds"] / 3600, **facts
                )
                for name, facts in (("train", self.train.index.facts), ("val", self.val.index.facts))
            ),
            f"left out    {left}",
            f"batches     {len(plan)} an epoch of at most {self.budget:,} positions, {100 * plan.padding:.1f} % padding",
        ]


def open_data(config: PretrainConfig, device: str = "cpu", look: bool = True) -> DataManager:
    """Open the training indexes, computing first what they or the feature cache lack. Needs the language stage's vocabulary.

    look=False: the recordings are taken to be as they were when the indexes were made, as another process has just seen.
    """
    from xtts_ka.model.checkpoint import read_config

    extended_vocabulary(config)
    limits = ModelLimits.of(read_config(config.base_model_path).model_args)
    cache = FeatureCache(Path(config.data_dir) / FEATURES, feature_key(config))
    indexes = open_indexes(config, cache, limits, look)
    if not all(indexes):
        with RunLock(cache.folder / "cache.lock").hold():
            indexes = make_indexes(config, cache, limits, device)
    recordings.look_again()
    return DataManager(config, *indexes, cache, limits)


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def _show(config: PretrainConfig) -> None:
    data = open_data(config)
    for line in data.describe():
        say(line)
    for name, clips in (("train", data.train), ("val", data.val)):
        low, middle, high = np.percentile(clips.index.positions, [5, 50, 95])
        say(
            f"{name:<12}5, 50 and 95 % of the clips are no longer than {low:.0f}, {middle:.0f} and {high:.0f} positions",
            verbose=True,
        )
    say(
        f"features    {Path(config.data_dir) / 'features'}\nvocabulary  {Path(config.output_model_path) / 'vocab.json'}",
        verbose=True,
    )
    batch = next(data.loader(data.train, data.train_batches(0)[:1]))
    say(
        style("\nthe first batch", "bold")
        + f"  {batch['shape'][0]} clips × {batch['shape'][1]} positions, {batch['seconds']:.1f} s of audio"
    )
    for name, value in batch.items():
        if hasattr(value, "shape"):
            say(f"  {name:<15} {tuple(value.shape)!s:<18} {value.dtype}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Print what the loader would feed to training: split sizes, hours, speakers, lengths, one batch's shapes.",
        epilog="example: python data_loader.py --config xtts_pretrain_config.json",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (default: %(default)s)")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: _show(load_config(args.config)), args)


if __name__ == "__main__":
    sys.exit(main())
