"""From the split tables to training batches: `XTTSDataset`, `DataManager`, `CollateFunction`.

Run it to see what training would be fed. The order of the clips and the crops of the voice samples are functions of
(seed, epoch, clip), so a resumed run draws exactly what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import xtts_ka  # noqa: F401  first of all: it refuses other versions of Python

# isort: split
import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.console import say, style
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.lock import RunLock
from xtts_ka.corpus import recordings
from xtts_ka.model import geometry as g
from xtts_ka.training.batch_plan import Batch, Draw, padding, plan_epoch
from xtts_ka.training.clip_index import AUDIO_STOPS, FEATURES, TrainingIndex
from xtts_ka.training.feature_cache import FeatureCache
from xtts_ka.training.memory_estimate import StepShape
from xtts_ka.training.prepare_features import extended_vocabulary, feature_key, make_indexes, open_indexes

if TYPE_CHECKING:
    from xtts_ka.model.checkpoint import XttsArgs

# ── 1. one clip ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Sample(NamedTuple):
    """One row of a batch before it is collated."""

    text: np.ndarray  # token ids, without start and stop
    codes: np.ndarray  # uint16, one per 1,024 samples
    cond_mel: np.ndarray  # float16, (frames, 80): the voice sample
    heard: tuple[int, int]  # first and last + 1 of the clip's own mel frames that are in the voice sample


class XTTSDataset:
    """The clips of one split, read from the disk one by one; an item is drawn with a `Draw`."""

    def __init__(self, index: TrainingIndex, cache: FeatureCache, conditioning: str, seed: int):
        self.index, self.cache, self.seed = index, cache, seed
        self.same_clip = conditioning == "same_clip"

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, draw: Draw) -> Sample:
        codes, mel = self._features(draw.clip)
        random = np.random.default_rng([self.seed, draw.epoch, self.index.number(draw.clip)])
        text, others = self.index.text(draw.clip), self._other_clips(draw.clip, random)
        if len(others):
            return Sample(text, codes, self._voice(others, draw.cond_frames, random), (0, 0))
        return Sample(text, codes, *_own_voice(mel, draw.cond_frames, random))

    def _features(self, clip: int) -> tuple[np.ndarray, np.ndarray]:
        return self.cache.read(self.index.records[clip], self.index.file_id(clip))

    def _other_clips(self, clip: int, random: np.random.Generator) -> np.ndarray:
        """Up to 16 other clips of the same speaker in random order; none when conditioning is on the same clip."""
        if self.same_clip:
            return np.empty(0, np.int64)
        clips = self.index.clips_of(self.index.speakers[clip])
        drawn = random.choice(clips, min(17, len(clips)), replace=False)
        return drawn[drawn != clip][:16]

    def _voice(self, clips: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
        """`frames` mel frames of these clips: a random crop of the first, and while it is too short, of the next.

        coqui joins several reference files in the same way. Where all clips are too short, they come again.
        """
        parts: list[np.ndarray] = []
        missing, again = frames, itertools.cycle(clips)
        while missing:
            mel = self._features(next(again))[1]
            start = random.integers(0, max(1, len(mel) - missing + 1))
            parts.append(mel[start : start + missing])
            missing -= len(parts[-1])
        return np.concatenate(parts)


def _own_voice(mel: np.ndarray, frames: int, random: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """A crop of the clip itself, and the span of frames it covers.

    A clip shorter than `frames` is a speaker's only one, in a batch with longer voice samples: half of it, repeated.
    """
    crop = frames if len(mel) >= frames else max(1, len(mel) // 2)
    start = int(random.integers(0, len(mel) - crop + 1))
    voice = np.resize(mel[start : start + crop], (frames, mel.shape[1]))
    return voice, (start, start + crop)


# ── 2. clips → a batch of tensors ────────────────────────────────────────────────────────────────────────────────────


class CollateFunction:
    """Samples → one batch, in which text, audio and scored positions of all rows are flat lists.

    Every row is [32 conditioning positions | start, text | start, codes, stop × 3] without padding in between, in a
    grid of (rows, length of the longest row). The batch is a dict of int64 tensors:

        text, audio                      input tokens of all rows, start tokens included
        text_position, audio_position    each token's position in its part of the row: what the position tables want
        cond_at, text_at, audio_at       each input's place in the flat grid
        text_target, audio_target        the scored tokens, stop tokens included
        text_scored, audio_scored        the place in the flat grid that predicts each of them

    and of `cond_mels` (float32, (rows, 80, frames)), `shape` (rows, length) and `seconds` of speech.
    """

    def __init__(self, args: XttsArgs):
        self.args = args

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        import torch

        length = max(g.COND_POSITIONS + len(s.text) + 1 + len(s.codes) + AUDIO_STOPS for s in samples)
        rows = [self._row(sample, row * length) for row, sample in enumerate(samples)]
        lists = {name: np.concatenate([row[name] for row in rows]).astype(np.int64) for name in rows[0]}
        mels = torch.from_numpy(np.stack([s.cond_mel for s in samples])).float()
        return {
            **{name: torch.from_numpy(values) for name, values in lists.items()},
            "cond_mels": mels.transpose(1, 2).contiguous(),
            "shape": (len(samples), length),
            "seconds": sum(len(s.codes) for s in samples) * g.CODE_STRIDE / g.SAMPLE_RATE,
        }

    def _row(self, sample: Sample, at: int) -> dict[str, np.ndarray]:
        """One row's lists. at: the row's first place in the flat grid.

        The codes that a frame of the row's own voice sample touches are not scored. coqui does so in the last row of a
        batch alone, and takes numbers of frames for numbers of codes.
        """
        text = np.concatenate([[self.args.gpt_start_text_token], sample.text])
        stops = [self.args.gpt_stop_audio_token] * AUDIO_STOPS
        audio = np.concatenate([[self.args.gpt_start_audio_token], sample.codes, stops[1:]])
        text_at = at + g.COND_POSITIONS + np.arange(len(text))
        audio_at = text_at[-1] + 1 + np.arange(len(audio))
        target = np.concatenate([sample.codes, stops])
        first, end = sample.heard
        scored = np.ones(len(target), bool)
        scored[first // g.FRAMES_PER_CODE : min(-(-end // g.FRAMES_PER_CODE), len(sample.codes))] = False
        return {
            "cond_at": at + np.arange(g.COND_POSITIONS),
            "text": text,
            "text_position": np.arange(len(text)),
            "text_at": text_at,
            "audio": audio,
            "audio_position": np.arange(len(audio)),
            "audio_at": audio_at,
            "text_target": np.append(sample.text, self.args.gpt_stop_text_token),
            "text_scored": text_at,
            "audio_target": target[scored],
            "audio_scored": audio_at[scored],
        }


# ── 3. all batches ───────────────────────────────────────────────────────────────────────────────────────────────────


class DataManager:
    """Plans the batches of training and validation, and loads them. args: coqui's, of the model to train."""

    def __init__(
        self, config: PretrainConfig, train: TrainingIndex, val: TrainingIndex, cache: FeatureCache, args: XttsArgs
    ):
        self.config, self.args = config, args
        self.left_out = Counter(train.left_out) + Counter(val.left_out)
        if not len(train) or not len(val):
            raise UserError(
                f"the data in {config.data_dir} leaves {len(train)} training and {len(val)} validation clips that "
                f"fit the model ({dict(self.left_out)} left out): add recordings"
            )
        self.train, self.val = (
            XTTSDataset(index, cache, config.training.conditioning, config.seed) for index in (train, val)
        )
        self.budget = int(config.batch_size * np.median(train.positions))  # positions of a batch at most

    def train_batches(self, epoch: int) -> list[Batch]:
        """The epoch's batches in order."""
        shortest, longest = (round(s * g.FRAMES_PER_SECOND) for s in self.config.training.conditioning_seconds)
        return self._batches(self.train, epoch, shortest, longest)

    def val_batches(self) -> list[Batch]:
        """The same at every validation: order, voice samples, and their length, the mean of the two in the config."""
        frames = round(float(np.mean(self.config.training.conditioning_seconds)) * g.FRAMES_PER_SECOND)
        return self._batches(self.val, 0, frames, frames)[: self.config.training.validation_batches]

    def like_validation(self, index: TrainingIndex, cache: Any, clips: int) -> tuple[XTTSDataset, list[Batch]]:
        """Clips that no table lists, drawn as the validation clips are: `clips` a batch, in the index's order."""
        frames = round(float(np.mean(self.config.training.conditioning_seconds)) * g.FRAMES_PER_SECOND)
        starts = range(clips, len(index), clips)
        parts = np.split(np.arange(len(index)), starts) if len(index) else []
        dataset = XTTSDataset(index, cache, "same_speaker", self.config.seed)
        return dataset, [Batch(part, 0, frames) for part in parts]

    def _batches(self, data: XTTSDataset, epoch: int, shortest: int, longest: int) -> list[Batch]:
        """Planned batches; all voice samples of a batch have the same random number of mel frames.

        Where they are cut from the clips themselves, and the batch's shortest clip has fewer frames, they have half as
        many as that clip: coqui's rule.
        """
        plan = plan_epoch(data.index.positions, self.budget, self.config.seed, epoch)
        random = np.random.default_rng([self.config.seed, epoch, 2])
        frames = random.integers(shortest, longest + 1, len(plan))
        if data.same_clip:
            own = g.frames_of(data.index.records["samples"].astype(np.int64))
            least = np.array([own[clips].min() for clips in plan])
            frames = np.where(least >= frames, frames, np.maximum(1, least // 2))
        return [Batch(clips, epoch, asked) for clips, asked in zip(plan, frames.tolist())]

    def loader(
        self, dataset: XTTSDataset, batches: Iterable[Batch], workers: int = 0, pin: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Loaded batches in the given order. workers: processes that load ahead; pin: page-locked memory, for a GPU."""
        from torch.utils import data

        draws, collate = (batch.draws() for batch in batches), CollateFunction(self.args)
        make: Any = data.DataLoader  # our dataset is no subclass of torch's: `--help` must not import torch
        try:
            yield from make(dataset, batch_sampler=draws, collate_fn=collate, num_workers=workers, pin_memory=pin)
        except (RunError, OSError, RuntimeError) as error:
            message = str(error).strip()
            if message.startswith("DataLoader worker"):
                what = "a process that loads the batches was killed; memory or /dev/shm may be full"
                raise RunError(f"{what}: make room there, and the same command carries on") from error
            if message.startswith("Caught ") and isinstance(error, RunError | OSError):
                # A worker's exception has its traceback as the message, whose last line is «type: message».
                raise RunError(message.rpartition("\n")[2].partition(": ")[2]) from error
            raise

    def typical_batch(self) -> StepShape:
        """A full batch of clips of average length, with the longest voice samples: for the estimate of memory."""
        index, clips = self.train.index, len(self.train)
        text, positions = 1 + len(index.tokens) / clips, float(np.mean(index.positions))
        codes, rows = positions - g.COND_POSITIONS - text, max(1.0, self.budget / positions)
        return StepShape(rows, text, codes, max(self.config.training.conditioning_seconds) * g.FRAMES_PER_SECOND)

    def describe(self) -> list[str]:
        """What training will be fed, one fact a line."""
        plan = [batch.clips for batch in self.train_batches(0)]
        share = padding(self.train.index.positions, plan)
        left = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()) or "none"
        lines = []
        for name, index in (("train", self.train.index), ("val", self.val.index)):
            speakers, seconds = len(np.unique(index.speakers[index.known])), index.seconds
            size = f"{len(index):>8,} clips  {seconds.sum() / 3600:8.3f} h  {speakers:>5} speakers"
            unknown = f"  {np.sum(~index.known)} clips of unknown ones" if not index.known.all() else ""
            lines.append(f"{name:<12}{size}  {seconds.min():.1f}–{seconds.max():.1f} s{unknown}")
        lines.append(f"left out    {left}")
        batches = f"{len(plan)} an epoch of at most {self.budget:,} positions, {100 * share:.1f} % padding"
        return [*lines, f"batches     {batches}"]


def open_data(config: PretrainConfig, device: str = "cpu", look: bool = True) -> DataManager:
    """Open the training indexes; what they or the feature cache lack is computed first, on `device`.

    The language stage must have written its vocabulary. look=False: another process has just compared the recordings
    with the indexes, so they are not looked at again.
    """
    from xtts_ka.model.checkpoint import read_config

    extended_vocabulary(config)
    args = read_config(config.base_model_path).model_args
    cache = FeatureCache(Path(config.data_dir) / FEATURES, feature_key(config))
    indexes = open_indexes(config, cache, args, look)
    if not indexes:
        with RunLock(cache.folder / "cache.lock").hold():
            indexes = make_indexes(config, cache, args, device)
    recordings.look_again()
    return DataManager(config, *indexes, cache, args)


# ── 4. the command line ──────────────────────────────────────────────────────────────────────────────────────────────


def _show(config: PretrainConfig) -> None:
    data = open_data(config)
    for line in data.describe():
        say(line)
    say(f"features    {data.train.cache.folder}", verbose=True)
    say(f"vocabulary  {extended_vocabulary(config)}", verbose=True)
    batch = next(data.loader(data.train, data.train_batches(0)[:1]))
    rows, length = batch["shape"]
    say(style("\nthe first batch", "bold") + f"  {rows} clips × {length} positions, {batch['seconds']:.1f} s of audio")
    for name, value in batch.items():
        if hasattr(value, "shape"):
            say(f"  {name:<15} {tuple(value.shape)!s:<18} {value.dtype}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Print what training would be fed: split sizes, hours, speakers, lengths, the shapes of one batch.",
        epilog="example: python data_loader.py --config xtts_pretrain_config.json",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (default: %(default)s)")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: _show(load_config(args.config)), args)


if __name__ == "__main__":
    sys.exit(main())
