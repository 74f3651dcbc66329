"""From metadata to training batches: `XTTSDataset`, `DataManager`, `CollateFunction`.

Order and conditioning crops are functions of (seed, epoch, clip), so a resumed run sees what an uninterrupted one sees.
Batches hold no holes: each row is [32 conditioning positions | start, text | start, codes, stop × 3], rows are of
similar length, and every row's voice sample is cut to the same number of frames.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from console import UserError, add_verbosity_flags, run_cli, say, style
from feature_cache import FeatureCache, clip_key, codes_of
from metadata_table import Clip, read_split
from pretrain_config import DEFAULT_CONFIG, PretrainConfig, load_config

COND_POSITIONS = 32  # latents that the perceiver makes of any voice sample
AUDIO_STOPS = 4  # coqui scores this many stop tokens behind the codes
MEL_FRAMES_PER_SECOND = 22050 / 256

# ── what a clip is to the trainer ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ModelLimits:
    """What the data must know of the model: its special tokens and longest inputs (in tokens and codes)."""

    start_text: int
    stop_text: int
    start_audio: int
    stop_audio: int
    max_text: int
    max_codes: int

    @classmethod
    def of(cls, args) -> ModelLimits:
        """Read them from coqui's XttsArgs; the stop tokens must fit in as well."""
        return cls(args.gpt_start_text_token, args.gpt_stop_text_token, args.gpt_start_audio_token,
                   args.gpt_stop_audio_token, args.gpt_max_text_tokens - 1, args.gpt_max_audio_tokens - 1)


class Draw(NamedTuple):
    """One clip of one batch: which clip, in which epoch, with a voice sample of how many mel frames."""

    clip: int
    epoch: int
    cond_frames: int


class Sample(NamedTuple):
    """text: token ids; codes: uint16; cond_mel: float16 (cond_frames, 80); masked: code span heard as voice sample."""

    text: np.ndarray
    codes: np.ndarray
    cond_mel: np.ndarray
    masked: tuple[int, int]


class XTTSDataset:
    """Clips of one split as arrays (tokens, lengths, speakers, cache rows); items are drawn with a `Draw`.

    Holds about 100 bytes a clip; codes and mels stay on the disk until they are drawn.
    """

    def __init__(self, clips: Sequence[Clip], tokens: list[list[int]], cache: FeatureCache, rows: np.ndarray,
                 conditioning: str, seed: int):
        self.file_ids = [clip.file_id for clip in clips]
        self.texts = np.fromiter((t for row in tokens for t in row), np.int32)
        self.text_ends = np.cumsum([len(row) for row in tokens])
        self.rows, self.cache, self.seed = rows, cache, seed
        self.samples = cache.records["samples"][rows].astype(np.int64)
        self.seconds = self.samples / 22050
        speakers = {name: number for number, name in enumerate(dict.fromkeys(clip.speaker_id for clip in clips))}
        self.speakers = np.array([speakers[clip.speaker_id] for clip in clips], np.int64)
        self._by_speaker = np.argsort(self.speakers, kind="stable")
        self._speaker_starts = np.searchsorted(self.speakers[self._by_speaker], np.arange(len(speakers) + 1))
        self.same_clip = conditioning == "same_clip"
        self.positions = COND_POSITIONS + np.diff(self.text_ends, prepend=0) + 1 + codes_of(self.samples) + AUDIO_STOPS

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, clip: int) -> np.ndarray:
        """Token ids of a clip, without start and stop."""
        return self.texts[self.text_ends[clip - 1] if clip else 0 : self.text_ends[clip]]

    def __getitem__(self, draw: Draw) -> Sample:
        codes, mel = self.cache.read(self.rows[draw.clip])
        random = np.random.default_rng([self.seed, draw.epoch, _number(self.file_ids[draw.clip])])
        others = self._other_clips(draw.clip, random)
        if len(others):
            return Sample(self.text(draw.clip), codes, self._voice(others, draw.cond_frames, random), (0, 0))
        cond_mel, masked = _own_voice(mel, draw.cond_frames, random)
        return Sample(self.text(draw.clip), codes, cond_mel, masked)

    def _other_clips(self, clip: int, random: np.random.Generator) -> np.ndarray:
        """Up to 16 other clips of the same speaker in random order; none when conditioning is on the same clip."""
        if self.same_clip:
            return np.empty(0, np.int64)
        first, last = self._speaker_starts[self.speakers[clip] : self.speakers[clip] + 2]
        picks = first + random.permutation(last - first)[:17] if last - first < 1000 else random.integers(first, last, 17)
        others = self._by_speaker[picks]
        return others[others != clip][:16]

    def _voice(self, clips: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
        """`frames` mel frames of these clips: a random crop of the first, lengthened by the next ones as coqui does
        with several reference files, and repeated where the speaker has no more."""
        parts, have = [], 0
        while have < frames:
            for clip in clips:
                mel = self.cache.read(self.rows[clip])[1]
                start = random.integers(0, max(1, len(mel) - (frames - have) + 1))
                parts.append(mel[start : start + frames - have])
                have += len(parts[-1])
                if have == frames:
                    break
        return np.concatenate(parts)


def _own_voice(mel: np.ndarray, frames: int, random: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """A crop of the clip itself (half of a clip too short, repeated to length) and the code span it covers.

    A code spans 1024 samples, a frame 256: the span is every code that the crop touches.
    """
    crop = min(frames, max(1, len(mel) // 2)) if len(mel) < frames else frames
    start = int(random.integers(0, len(mel) - crop + 1))
    voice = np.resize(mel[start : start + crop], (frames, mel.shape[1]))
    return voice, (start // 4, -(-(start + crop) // 4))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class CollateFunction:
    """Samples → one batch of tensors in which text, audio and scored positions are flat lists.

    A row of the (rows, length) grid is laid out without holes; `*_at` are flat positions in that grid. Keys:
    cond_mels (rows, 80, frames) · cond_at · text, text_position, text_at · audio, audio_position, audio_at ·
    text_scored, text_target · audio_scored, audio_target · shape (rows, length) · seconds.
    """

    def __init__(self, limits: ModelLimits, mask_voice: bool = True):
        self.limits, self.mask_voice = limits, mask_voice

    def __call__(self, samples: list[Sample]) -> dict:
        import torch

        length = max(COND_POSITIONS + len(s.text) + 1 + len(s.codes) + AUDIO_STOPS for s in samples)
        columns: dict[str, list[np.ndarray]] = {name: [] for name in (
            "cond_at", "text", "text_position", "text_at", "audio", "audio_position", "audio_at",
            "text_target", "text_scored", "audio_target", "audio_scored")}
        for row, sample in enumerate(samples):
            for name, values in self._row(sample, row * length).items():
                columns[name].append(values)
        batch = {name: torch.from_numpy(np.concatenate(parts).astype(np.int64)) for name, parts in columns.items()}
        batch["cond_mels"] = torch.from_numpy(np.stack([s.cond_mel for s in samples])).float().transpose(1, 2).contiguous()
        batch["shape"] = (len(samples), length)
        batch["seconds"] = sum(len(s.codes) for s in samples) * 1024 / 22050
        return batch

    def _row(self, sample: Sample, at: int) -> dict[str, np.ndarray]:
        """One row's flat lists; `at` is where the row begins in the grid."""
        limits = self.limits
        text = np.concatenate([[limits.start_text], sample.text])
        stops = [limits.stop_audio] * AUDIO_STOPS
        audio = np.concatenate([[limits.start_audio], sample.codes, stops[1:]])
        text_at = at + COND_POSITIONS + np.arange(len(text))
        audio_at = text_at[-1] + 1 + np.arange(len(audio))
        target = np.concatenate([sample.codes, stops]).astype(np.int64)
        scored = np.ones(len(target), bool)
        if self.mask_voice:
            scored[sample.masked[0] : min(sample.masked[1], len(sample.codes))] = False
        return {"cond_at": at + np.arange(COND_POSITIONS),
                "text": text, "text_position": np.arange(len(text)), "text_at": text_at,
                "audio": audio, "audio_position": np.arange(len(audio)), "audio_at": audio_at,
                "text_target": np.append(sample.text, limits.stop_text), "text_scored": text_at,
                "audio_target": target[scored], "audio_scored": audio_at[scored]}


def plan_batches(positions: np.ndarray, budget: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Every clip once, in batches of similar length whose rows × longest stay within `budget` positions.

    Clips are shuffled, sorted by length within windows of some fifty batches, packed, and the batches shuffled: the
    order is random, the padding small. A clip longer than the budget is a batch of its own.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(positions))
    window = max(1, 50 * budget // max(1, int(np.median(positions)))) if len(positions) else 1
    batches = []
    for begin in range(0, len(order), window):
        part = order[begin : begin + window]
        part = part[np.argsort(positions[part], kind="stable")]
        start, longest = 0, 0
        for end, clip in enumerate(part):
            longest = max(longest, positions[clip])
            if end > start and longest * (end - start + 1) > budget:
                batches.append(part[start:end])
                start, longest = end, positions[clip]
        batches.append(part[start:])
    return [batches[i] for i in random.permutation(len(batches))]


def padding_share(positions: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Share of grid positions that hold nothing."""
    grid = sum(int(positions[batch].max()) * len(batch) for batch in batches)
    return 1 - float(positions.sum()) / grid if grid else 0.0


# ── the manager ──────────────────────────────────────────────────────────────────────────────────────────────────────


class DataManager:
    """Opens the splits, tokenizes, and plans batches for training and validation.

    tokenizer: a `tokenizers.Tokenizer`; cache: already filled for these clips; limits: of the model to train.
    """

    def __init__(self, config: PretrainConfig, splits: dict[str, list[Clip]], tokenizer, cache: FeatureCache,
                 limits: ModelLimits):
        self.config, self.limits = config, limits
        self.left_out: Counter[str] = Counter()
        self.train, self.val = (self._dataset(splits[name], tokenizer, cache) for name in ("train", "val"))
        if not len(self.train) or not len(self.val):
            raise UserError(f"the data in {config.data_dir} leaves {len(self.train)} training and {len(self.val)} validation "
                            f"clips that fit the model ({dict(self.left_out)} left out): add recordings")
        self.budget = int(config.batch_size * np.median(self.train.positions))

    def _dataset(self, clips: list[Clip], tokenizer, cache: FeatureCache) -> XTTSDataset:
        from georgian_text import normalise
        from tokenizer_extension import encode_batch

        texts = [normalise(clip.text, archaic=self.config.text.archaic) for clip in clips]  # as synthesis will
        tokens = encode_batch(tokenizer, texts, self.config.language)
        rows = cache.find(np.array([clip_key(clip.file_id, clip.audio_path) for clip in clips], "<u8"))
        samples = cache.records["samples"][rows] if len(cache.records) else np.zeros(len(clips), np.int64)
        keep = []
        for number, (ids, row, count) in enumerate(zip(tokens, rows, samples)):
            reason = ("audio not in the cache" if row < 0 else "text too long" if len(ids) > self.limits.max_text
                      else "audio too long" if codes_of(int(count)) > self.limits.max_codes else "")
            self.left_out[reason] += bool(reason)
            keep += [] if reason else [number]
        self.left_out = +self.left_out
        return XTTSDataset([clips[i] for i in keep], [tokens[i] for i in keep], cache, rows[keep],
                           self.config.training.conditioning, self.config.seed)

    def train_batches(self, epoch: int, budget: int | None = None) -> list[list[Draw]]:
        """The epoch's batches in order; `budget` overrides the one that `batch_size` stands for."""
        batches = plan_batches(self.train.positions, budget or self.budget, self.config.seed, epoch)
        shortest, longest = (round(s * MEL_FRAMES_PER_SECOND) for s in self.config.training.conditioning_seconds)
        random = np.random.default_rng([self.config.seed, epoch, 1])
        frames = random.integers(shortest, longest + 1, len(batches))
        return [[Draw(int(clip), epoch, int(count)) for clip in batch] for batch, count in zip(batches, frames)]

    def val_batches(self) -> list[list[Draw]]:
        """Always the same: fixed order, fixed voice samples of middling length."""
        frames = round(float(np.mean(self.config.training.conditioning_seconds)) * MEL_FRAMES_PER_SECOND)
        batches = plan_batches(self.val.positions, self.budget, self.config.seed, 0)
        return [[Draw(int(clip), 0, frames) for clip in batch] for batch in batches[: self.config.training.validation_batches]]

    def loader(self, dataset: XTTSDataset, batches: list[list[Draw]], workers: int = 0, pin: bool = False) -> Iterator[dict]:
        """Collated batches in the given order."""
        from torch.utils.data import DataLoader

        return iter(DataLoader(dataset, batch_sampler=batches, collate_fn=CollateFunction(self.limits),
                               num_workers=workers, pin_memory=pin))

    def describe(self) -> list[str]:
        """What training will be fed, one fact a line."""
        batches = plan_batches(self.train.positions, self.budget, self.config.seed, 0)
        left = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()) or "none"
        return [
            *(f"{name:<12}{len(data):>8,} clips  {data.seconds.sum() / 3600:8.3f} h  {data.speakers.max() + 1:>5} speakers  "
              f"{data.seconds.min():.1f}–{data.seconds.max():.1f} s" for name, data in (("train", self.train), ("val", self.val))),
            f"left out    {left}",
            f"batches     {len(batches)} an epoch of at most {self.budget:,} positions, "
            f"{100 * padding_share(self.train.positions, batches):.1f} % padding",
        ]


def feature_key(config: PretrainConfig) -> str:
    """Digest of everything but the recordings that the cached features depend on."""
    from artifacts import hash_file, hash_value
    from feature_cache import VERSION

    weights = {name: hash_file(Path(config.base_model_path) / name) for name in ("dvae.pth", "mel_stats.pth")}
    return hash_value({"version": VERSION, "sample_rate": 22050, **weights})


def open_data(config: PretrainConfig, device: str = "cpu") -> DataManager:
    """Read the splits, compute what the feature cache lacks, and return the manager. Needs the language stage's vocabulary."""
    from tokenizer_extension import load_tokenizer
    from xtts_backbone import FeatureExtractor, load_speech, read_config

    vocabulary = Path(config.output_model_path) / "vocab.json"
    if not vocabulary.is_file():
        raise UserError(f"{vocabulary} does not exist: run python run_pretrain.py first (the language stage writes it)")
    splits = {name: read_split(config.data_dir, name) for name in ("train", "val")}
    clips = [(clip_key(clip.file_id, clip.audio_path), clip.audio_path) for split in splits.values() for clip in split]
    xtts_config = read_config(config.base_model_path)
    cache = FeatureCache(Path(config.data_dir) / "features", feature_key(config))
    if (cache.find(np.array([key for key, _ in clips], "<u8")) < 0).any():
        extractor = FeatureExtractor(Path(config.base_model_path), xtts_config, device)
        cache.fill(clips, load_speech, extractor, 600.0 if device.startswith("cuda") else 60.0)
    return DataManager(config, splits, load_tokenizer(vocabulary), cache, ModelLimits.of(xtts_config.model_args))


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def _show(config: PretrainConfig) -> None:
    data = open_data(config)
    for line in data.describe():
        say(line)
    for name, clips in (("train", data.train), ("val", data.val)):
        low, middle, high = np.percentile(clips.positions, [5, 50, 95])
        say(f"{name:<12}5, 50 and 95 % of the clips are no longer than {low:.0f}, {middle:.0f} and {high:.0f} positions", verbose=True)
    say(f"features    {Path(config.data_dir) / 'features'}\nvocabulary  {Path(config.output_model_path) / 'vocab.json'}", verbose=True)
    batch = next(data.loader(data.train, data.train_batches(0)[:1]))
    say(style("\nthe first batch", "bold") + f"  {batch['shape'][0]} clips × {batch['shape'][1]} positions, {batch['seconds']:.1f} s of audio")
    for name, value in batch.items():
        if hasattr(value, "shape"):
            say(f"  {name:<15} {str(tuple(value.shape)):<18} {value.dtype}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Print what the loader would feed to training: split sizes, hours, speakers, lengths, one batch's shapes.",
        epilog="example: python data_loader.py --config xtts_pretrain_config.json")
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (default: %(default)s)")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: _show(load_config(args.config)), args)


if __name__ == "__main__":
    sys.exit(main())
