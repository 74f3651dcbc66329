"""From the split tables to training batches: `XTTSDataset`, `DataManager`, `CollateFunction`.

Run it to see what training would be fed. The order of the clips and the crops of the voice samples are functions of
(seed, epoch, clip), so a resumed run draws exactly what an uninterrupted one would have drawn. Every audio code is
scored, except those whose sound is in the clip's own voice sample.
"""

from __future__ import annotations

import xtts_ka  # noqa: F401  first of all: it refuses other versions of Python

# isort: split
import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.console import say, style
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.corpus import recordings
from xtts_ka.model import geometry as g
from xtts_ka.training.batch_plan import Batch, Draw, group_clips, plan_epoch
from xtts_ka.training.clip_index import AUDIO_STOPS, TrainingIndex
from xtts_ka.training.feature_cache import FeatureCache
from xtts_ka.training.memory_estimate import ROOM_ON_CPU, StepShape
from xtts_ka.training.prepare_features import extended_vocabulary, open_features

if TYPE_CHECKING:
    from xtts_ka.model.checkpoint import XttsArgs
    from xtts_ka.training.process_group import Peers

# ── 1. one clip ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Sample(NamedTuple):
    """One row of a batch before it is collated."""

    text: np.ndarray  # token ids, without start and stop
    codes: np.ndarray  # uint16, one per 1,024 samples
    cond_mel: np.ndarray  # float16, (frames, 80): the voice sample
    heard: tuple[int, int]  # first and last + 1 of the clip's own mel frames that are in the voice sample
    voice: int = -1  # number of the voice sample: samples of a batch with the same number share it; -1: shared by none


class XTTSDataset:
    """The clips of one split, read from the disk one by one; an item is drawn with a `Draw`.

    conditioning: where the voice samples are cut from, as in the config's `training.conditioning`. hears_others: of
    every clip, whether its voice sample comes from other clips of the same known speaker.
    """

    def __init__(self, index: TrainingIndex, cache: FeatureCache, conditioning: str, seed: int):
        self.index, self.cache, self.conditioning, self.seed = index, cache, conditioning, seed
        self.hears_others = index.accompanied & (conditioning == "same_speaker")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, draw: Draw) -> Sample:
        clip, frames = draw.clip, draw.cond_frames
        codes, mel = self._features(self.index, clip)
        sharing = draw.sharing or (clip,)
        random, text = self._random(sharing[0], draw.epoch), self.index.text(clip)
        if self.hears_others[clip]:
            voice = self._voice(self._other_clips(sharing, random), frames, random)
            return Sample(text, codes, voice, (0, 0), sharing[0])
        if self.conditioning == "coqui":
            first, end = _coquis_part(len(mel), frames, random)
        else:
            first, end = _own_part(len(codes), frames, random)
        voice = np.resize(mel[first:end], (frames, mel.shape[1]))  # repeated where it is too short
        return Sample(text, codes, voice, (first, min(end, len(mel))))

    def _random(self, clip: int, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, self.index.number(clip)])

    def _features(self, index: TrainingIndex, clip: int) -> tuple[np.ndarray, np.ndarray]:
        return self.cache.read(index.records[clip], index.file_id(clip))

    def _other_clips(self, sharing: Sequence[int], random: np.random.Generator) -> list[tuple[TrainingIndex, int]]:
        """Up to 16 clips of the same speaker other than these, in random order, each with its index."""
        clips = self.index.clips_of(self.index.speakers[sharing[0]])
        drawn = random.choice(clips, min(16 + len(sharing), len(clips)), replace=False)
        return [(self.index, other) for other in drawn[~np.isin(drawn, sharing)][:16].tolist()]

    def _voice(self, clips: list[tuple[TrainingIndex, int]], frames: int, random: np.random.Generator) -> np.ndarray:
        """`frames` mel frames of these clips: a random crop of the first, and while it is too short, of the next.

        coqui joins several reference files in the same way. Where all clips are too short, they come again.
        """
        parts: list[np.ndarray] = []
        missing, again = frames, itertools.cycle(clips)
        while missing:
            mel = self._features(*next(again))[1]
            start = random.integers(0, max(1, len(mel) - missing + 1))
            parts.append(mel[start : start + missing])
            missing -= len(parts[-1])
        return np.concatenate(parts)

    def unscored(self, batch: Batch) -> int:
        """How many audio codes of the batch are left unscored."""
        samples, frames = self.index.records["samples"][batch.clips].astype(np.int64), batch.cond_frames
        if self.conditioning == "coqui":
            last = int(batch.clips[-1])
            part = _coquis_part(g.frames_of(int(samples[-1])), frames, self._random(last, batch.epoch))
            first, end = np.minimum(part, g.codes_of(int(samples[-1])))  # coqui takes frames for codes
            return int(end - first)
        alone = ~self.hears_others[batch.clips]
        return int(np.sum(_own_codes(g.codes_of(samples[alone]), frames)))


def _own_codes(codes: np.ndarray, frames: int) -> np.ndarray:
    """How many codes' sound is in a voice sample of `frames`, of clips with so many codes: a third of them at most."""
    return np.minimum(-(-frames // g.FRAMES_PER_CODE), np.maximum(1, codes // 3))


def _own_part(codes: int, frames: int, random: np.random.Generator) -> tuple[int, int]:
    """First and last + 1 of the mel frames of a clip that are its own voice sample: whole codes, except at the end."""
    heard = int(_own_codes(np.array(codes), frames))
    first = int(random.integers(0, codes - heard + 1)) * g.FRAMES_PER_CODE
    return first, first + min(frames, heard * g.FRAMES_PER_CODE)


def _coquis_part(length: int, frames: int, random: np.random.Generator) -> tuple[int, int]:
    """The same as coqui's GPTTrainer cuts it: `frames` of the clip, or half of a clip that is shorter."""
    crop = frames if length >= frames else max(1, length // 2)
    first = int(random.integers(0, length - crop + 1))
    return first, first + crop


GROUPS = 8  # of clips that share a voice sample, in a step at least: with two it learns less (docs/experiments.md)
VALIDATION_VOICE = round(4.5 * g.FRAMES_PER_SECOND)  # mel frames of a voice sample: the middle of coqui's 3 to 6 s
VALIDATION_ROWS = 8  # clips of a batch
MAX_VALIDATION = 1200  # clips; create_metadata_files.py makes about 1,000


class ValidationSet(XTTSDataset):
    """The validation clips, measured in the same way whatever the settings of the training.

    A clip's voice sample is of other clips of the same known speaker: of validation, or if it has no other there, of
    training. Only a clip without any is heard itself. Of a large table MAX_VALIDATION clips are taken, chosen by hash.
    heard: of every clip, whether the training has clips of its speaker.
    """

    def __init__(self, index: TrainingIndex, cache: FeatureCache, train: TrainingIndex):
        super().__init__(index, cache, "same_speaker", seed=0)
        self.train, self._in_train = train, {voice: number for number, voice in enumerate(train.voices.tolist())}
        self.heard = np.isin(index.voices, train.voices)[index.speakers]
        self.hears_others |= self.heard

    def _other_clips(self, sharing: Sequence[int], random: np.random.Generator) -> list[tuple[TrainingIndex, int]]:
        if others := super()._other_clips(sharing, random):
            return others
        clips = self.train.clips_of(self._in_train[int(self.index.voices[self.index.speakers[sharing[0]]])])
        return [(self.train, other) for other in random.choice(clips, min(16, len(clips)), replace=False).tolist()]

    def batches(self) -> dict[str, list[Batch]]:
        """The parts of the set that are reported separately, without empty ones.

        heard: of speakers that training hears; unseen: of others; own: whose voice sample is a part of themselves.
        """
        order = np.argsort([self.index.number(clip) for clip in range(len(self))], kind="stable")
        taken = np.zeros(len(self), bool)
        taken[order[:MAX_VALIDATION]] = True
        parts = {"heard": self.hears_others & self.heard, "unseen": self.hears_others & ~self.heard}
        parts["own"] = ~self.hears_others
        return {name: self._packed(np.flatnonzero(part & taken)) for name, part in parts.items() if part[taken].any()}

    def _packed(self, clips: np.ndarray) -> list[Batch]:
        """Clips of similar length together."""
        clips = clips[np.argsort(self.index.positions[clips], kind="stable")]
        starts = range(0, len(clips), VALIDATION_ROWS)
        return [Batch(clips[start : start + VALIDATION_ROWS], 0, VALIDATION_VOICE) for start in starts]


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

    and of `cond_mels` (float32, (voice samples, 80, frames)), `cond_of` (each row's voice sample), `shape` (rows,
    length) and `seconds` of speech. A voice sample that several rows share is there once.

    as_coqui: leave unscored what coqui's GPTTrainer does.
    """

    def __init__(self, args: XttsArgs, as_coqui: bool = False):
        self.args, self.as_coqui = args, as_coqui

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        import torch

        samples = _masked_by_coqui(samples) if self.as_coqui else samples
        length = max(g.COND_POSITIONS + len(s.text) + 1 + len(s.codes) + AUDIO_STOPS for s in samples)
        rows = [self._row(sample, row * length) for row, sample in enumerate(samples)]
        lists = {name: np.concatenate([row[name] for row in rows]).astype(np.int64) for name in rows[0]}
        voices, cond_of = _distinct(samples)
        mels = torch.from_numpy(np.stack(voices)).float()
        return {
            **{name: torch.from_numpy(values) for name, values in lists.items()},
            "cond_mels": mels.transpose(1, 2).contiguous(),
            "cond_of": torch.tensor(cond_of),
            "shape": (len(samples), length),
            "seconds": sum(len(s.codes) for s in samples) * g.CODE_STRIDE / g.SAMPLE_RATE,
        }

    def _row(self, sample: Sample, at: int) -> dict[str, np.ndarray]:
        """One row's lists. at: the row's first place in the flat grid.

        The codes that a frame of the row's own voice sample touches are not scored.
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


def _distinct(samples: list[Sample]) -> tuple[list[np.ndarray], list[int]]:
    """The voice samples without repetition, and which of them each row hears."""
    numbers: dict[int, int] = {}
    voices: list[np.ndarray] = []
    cond_of = []
    for sample in samples:
        number = len(voices) if sample.voice < 0 else numbers.setdefault(sample.voice, len(voices))
        if number == len(voices):
            voices.append(sample.cond_mel)
        cond_of.append(number)
    return voices, cond_of


def _masked_by_coqui(samples: list[Sample]) -> list[Sample]:
    """The samples, heard where coqui masks: in the last row alone, numbers of frames taken for numbers of codes."""
    first, end = (frame * g.FRAMES_PER_CODE for frame in samples[-1].heard)
    return [*(sample._replace(heard=(0, 0)) for sample in samples[:-1]), samples[-1]._replace(heard=(first, end))]


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
        self.train = XTTSDataset(train, cache, config.training.conditioning, config.seed)
        self.val = ValidationSet(val, cache, train)
        self.processes = 1  # that share each step

    @property
    def step_seconds(self) -> float:
        """Seconds of audio in an optimizer step: `batch_seconds`, or what the older keys come to."""
        config = self.config
        if not config.clips_at_once:
            return config.batch_seconds
        clips = config.clips_at_once * (config.training.accumulation or 1) * self.processes
        return clips * float(np.median(self.train.index.seconds))

    @property
    def step_samples(self) -> int:
        """The same in audio samples: with the seed, what an epoch's steps depend on."""
        return max(1, round(self.step_seconds * g.SAMPLE_RATE))

    @property
    def shared_voices(self) -> int:
        """How many clips of a step may share a voice sample: one where they hear themselves."""
        training = self.config.training
        return training.shared_voices if training.conditioning == "same_speaker" else 1

    def train_batches(self, epoch: int) -> list[Batch]:
        """The batch of each of the epoch's steps, whose voice samples all have the same random number of mel frames."""
        index, seed = self.train.index, self.config.seed
        positions, samples = index.positions, index.records["samples"].astype(np.int64)
        clips = self.step_samples * len(samples) / int(samples.sum())  # in a step
        shared = min(self.shared_voices, max(1, round(clips / GROUPS)))
        groups = group_clips(index.speakers, positions, shared, seed, epoch)
        plan = plan_epoch(positions, samples, self.step_samples, seed, epoch, groups)
        shortest, longest = (round(s * g.FRAMES_PER_SECOND) for s in self.config.training.conditioning_seconds)
        random = np.random.default_rng([self.config.seed, epoch, 2])
        frames = random.integers(shortest, longest + 1, len(plan)).tolist()
        return [
            Batch(clips, epoch, self._voice_frames(clips, asked), (clips, groups[clips]))
            for clips, asked in zip(plan, frames)
        ]

    def _voice_frames(self, clips: np.ndarray, asked: int) -> int:
        """Frames of a batch's voice samples: where all are of the clips themselves, no more than those can give."""
        if self.train.hears_others[clips].any():
            return asked
        middle = int(np.median(self.train.index.records["samples"][clips]))
        if self.config.training.conditioning == "coqui":
            return asked if g.frames_of(middle) >= asked else max(1, g.frames_of(middle) // 2)
        return min(asked, g.FRAMES_PER_CODE * int(_own_codes(np.array(g.codes_of(middle)), asked)))

    def like_validation(self, index: TrainingIndex, cache: Any, clips: int) -> tuple[XTTSDataset, list[Batch]]:
        """Clips that no table lists, drawn as the validation clips are: `clips` a batch, in the index's order."""
        parts = np.split(np.arange(len(index)), range(clips, len(index), clips)) if len(index) else []
        return XTTSDataset(index, cache, "same_speaker", seed=0), [Batch(part, 0, VALIDATION_VOICE) for part in parts]

    def loader(
        self, dataset: XTTSDataset, batches: Iterable[Batch], workers: int = 0, pin: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Loaded batches in the given order. workers: processes that load ahead; pin: page-locked memory, for a GPU."""
        from torch.utils import data

        draws = (batch.draws() for batch in batches)
        collate = CollateFunction(self.args, as_coqui=dataset.conditioning == "coqui")
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

    def typical_clip(self) -> StepShape:
        """A row of average length with the longest voice sample: for the estimate of memory."""
        index, clips = self.train.index, len(self.train)
        text, positions = 1 + len(index.tokens) / clips, float(np.mean(index.positions))
        frames = max(self.config.training.conditioning_seconds) * g.FRAMES_PER_SECOND
        return StepShape(1, text, positions - g.COND_POSITIONS - text, frames)

    def describe(self) -> list[str]:
        """What training will be fed, one fact a line."""
        planned = self.train_batches(0)
        codes = int(np.sum(g.codes_of(self.train.index.records["samples"].astype(np.int64))))
        scored = 1 - sum(self.train.unscored(batch) for batch in planned) / codes
        # coqui masks a row of every batch that is computed at once: how many a step has depends on the memory.
        less = " (less where a step is cut into micro-batches)" if self.train.conditioning == "coqui" else ""
        left = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()) or "none"
        lines = []
        for name, index in (("train", self.train.index), ("val", self.val.index)):
            speakers, seconds = len(np.unique(index.speakers[index.known])), index.seconds
            size = f"{len(index):>8,} clips  {seconds.sum() / 3600:8.3f} h  {speakers:>5} speakers"
            unknown = f"  {np.sum(~index.known)} clips of unknown ones" if not index.known.all() else ""
            lines.append(f"{name:<12}{size}  {seconds.min():.1f}–{seconds.max():.1f} s{unknown}")
        lines.append(f"left out    {left}")
        by = "batch_size" if self.config.clips_at_once else "batch_seconds"
        size = f"{self.step_seconds:,.0f} s of audio ({len(self.train) / len(planned):.0f} clips) in a step, by {by}"
        return [
            *lines,
            f"batch       {size}, {len(planned):,} steps an epoch",
            f"scored      {100 * scored:.1f} % of the audio codes{less}",
            self._validated(),
        ]

    def _validated(self) -> str:
        """What validation measures, as a line."""
        names = {
            "heard": "clips of speakers trained on",
            "unseen": "clips of other speakers",
            "own": "clips that are their own voice sample",
        }
        sizes = {name: sum(len(batch.clips) for batch in part) for name, part in self.val.batches().items()}
        return "validation  " + ", ".join(f"{count} {names[name]}" for name, count in sizes.items())


def open_data(config: PretrainConfig, device: str = "cpu", peers: Peers | None = None) -> DataManager:
    """Open the training indexes; what they or the feature cache lack is computed first, on `device`.

    The language stage must have written its vocabulary. peers: the processes of this job, all of which call this
    function and share the computing.
    """
    from xtts_ka.model.checkpoint import read_config

    extended_vocabulary(config)
    args = read_config(config.base_model_path).model_args
    cache, (train, val) = open_features(config, args, device, peers)
    recordings.look_again()
    data = DataManager(config, train, val, cache, args)
    data.processes = peers.world if peers else 1
    return data


# ── 4. the command line ──────────────────────────────────────────────────────────────────────────────────────────────


def _show(config: PretrainConfig) -> None:
    data = open_data(config)
    for line in data.describe():
        say(line)
    say(f"features    {data.train.cache.folder}", verbose=True)
    say(f"vocabulary  {extended_vocabulary(config)}", verbose=True)
    first = data.train_batches(0)[0].cut(data.train.index.positions, ROOM_ON_CPU)[:1]
    batch = next(data.loader(data.train, first))
    rows, length = batch["shape"]
    say(
        style("\nthe first micro-batch", "bold")
        + f"  {rows} clips × {length} positions, {batch['seconds']:.1f} s of audio"
    )
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
