"""What the GPT's training loop is fed: all clips in the device's memory, batches made there.

`Feed` stands where `data_loader.DataManager` stands in a run of the pipeline, and its batches are the same dicts. It is
there because a small GPT on a large GPU takes batches faster than processes can read clips from files.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram

from starter_base.alignments import UNKNOWN, load_alignments
from starter_base.codes import CODES, mel_stats_file
from starter_base.speech import FOLDER as SPEECH
from starter_base.speech import WAVES, Clip, Speech, all_clips
from starter_base.tokens import tokens_of
from xtts_ka.core.console import say
from xtts_ka.model import geometry as g
from xtts_ka.model.features import STYLE_FFT
from xtts_ka.training.batch_plan import Room
from xtts_ka.training.clip_index import AUDIO_STOPS
from xtts_ka.training.memory_estimate import StepShape

# Voices of a step: each has one voice sample. On a CPU its encoding costs as much as several clips: with 4 voices 26
# clips a second and core in bf16, with 8 only 19, steps of 8,192 positions; on a GPU it costs next to nothing.
VOICES_AT_ONCE = {"cpu": 4, "cuda": 32}
VOICE_SECONDS = {"cpu": 40.0, "cuda": 100.0}  # of each voice, from which voice samples are cut
SAMPLE_SECONDS = (3.0, 6.0)
SHORT_SECONDS, SHORT_EPOCHS = 3.0, 2  # the first passes are over short clips alone
CODE_NOISE = 0.2  # largest share of a clip's input codes that are replaced by random ones
VAL_OF_LANGUAGE = 64  # validation clips of each language


class Step(NamedTuple):
    """A step's or a validation batch's clips. epoch, number: what its voice samples and noise are a function of."""

    clips: np.ndarray
    epoch: int
    number: int

    def cut(self, positions: np.ndarray, room: Room, processes: int = 1) -> list[Step]:
        """Itself, or where the room for a micro-batch has become smaller, in pieces."""
        pieces = -(-len(self.clips) * int(positions[self.clips].max()) // room.positions)
        return [self._replace(clips=clips) for clips in np.array_split(self.clips, min(pieces, len(self.clips)))]


class Clips:
    """Texts and codes of all clips as flat tensors, and their voices.

    said: of each code the place of its token in the text, UNKNOWN where the clips have not been aligned.
    positions: each clip's length in the GPT's sequence. voices: each clip's voice, numbered. spoken: whether the work
    folder has its wave.
    """

    def __init__(self, work: Path, speech: Speech, device: str):
        found = np.load(work / CODES)
        clips = all_clips(work, speech, np.diff(found["ends"], prepend=0))
        tokens = tokens_of([clip.text for clip in clips], [clip.language for clip in clips])
        code_ends, token_ends = found["ends"], np.cumsum([len(row) for row in tokens], dtype=np.int64)
        self.codes = torch.from_numpy(found["codes"].astype(np.int64)).to(device)
        self.tokens = torch.from_numpy(np.concatenate(tokens).astype(np.int64)).to(device)
        self.said = torch.from_numpy(load_alignments(work, len(self.codes)).astype(np.int64)).to(device)
        self.code_counts, self.token_counts = np.diff(code_ends, prepend=0), np.diff(token_ends, prepend=0)
        self.positions = g.COND_POSITIONS + self.token_counts + 1 + self.code_counts + AUDIO_STOPS
        starts = (code_ends - self.code_counts, self.code_counts, token_ends - self.token_counts, self.token_counts)
        self._places = torch.from_numpy(np.stack(starts, 1)).to(device)
        self.languages = np.array([clip.language for clip in clips])
        self.splits = np.array([clip.split for clip in clips])
        self.seconds = np.array([clip.samples for clip in clips]) / g.SAMPLE_RATE
        self.spoken = np.arange(len(clips)) < len(speech.clips)
        self.voice_names, self.voices = np.unique([clip.voice for clip in clips], return_inverse=True)
        self.device = device

    def text(self, clip: int) -> Tensor:
        return _part(self.tokens, self._places[clip, 2:])

    def code_row(self, clip: int) -> Tensor:
        return _part(self.codes, self._places[clip, :2])

    def batch(self, clips: np.ndarray, text_of: np.ndarray | None = None, ended: bool = False) -> dict[str, Any]:
        """A batch without voice samples, see `data_loader.CollateFunction`. text_of: clips whose texts they get.

        ended: with the stop token behind the text, as coqui's inference has it, and its training has not.
        """
        texts = clips if text_of is None else text_of
        code_start, code_count = self._places[torch.from_numpy(clips).to(self.device), :2].T
        text_start, text_count = self._places[torch.from_numpy(texts).to(self.device), 2:].T
        codes, words = self.code_counts[clips], self.token_counts[texts]
        before = g.COND_POSITIONS + 1 + ended  # positions of a row beside its text and audio
        length = int((before + words + codes + AUDIO_STOPS).max())
        row, place = _ragged(text_count + 1 + ended, int(words.sum()) + (1 + ended) * len(clips))
        scored, to_score = _ragged(text_count + 1, int(words.sum()) + len(clips))
        spoken, at = _ragged(code_count + AUDIO_STOPS, int(codes.sum()) + AUDIO_STOPS * len(clips))
        audio_at = spoken * length + before + text_count[spoken] + at
        rows = torch.arange(len(clips), device=self.device)
        cond_at = rows[:, None] * length + torch.arange(g.COND_POSITIONS, device=self.device)

        def word(of: Tensor, number: Tensor) -> Tensor:
            found = self.tokens[(text_start[of] + number).clamp(0, len(self.tokens) - 1)]
            return torch.where(number < text_count[of], found, g.STOP_TEXT_TOKEN)

        def code(offset: int, of: Tensor = self.codes) -> Tensor:
            return of[(code_start[spoken] + at + offset).clamp(0, len(of) - 1)]

        inside = at <= code_count[spoken]
        audio = torch.where(inside, code(-1), g.STOP_AUDIO_TOKEN)
        return {
            "text": torch.where(place == 0, g.START_TEXT_TOKEN, word(row, place - 1)),
            "text_position": place,
            "text_at": row * length + g.COND_POSITIONS + place,
            "text_target": word(scored, to_score),
            "text_scored": scored * length + g.COND_POSITIONS + to_score,
            "audio": torch.where(at == 0, g.START_AUDIO_TOKEN, audio),
            "audio_position": at,
            "audio_at": audio_at,
            "audio_target": torch.where(at < code_count[spoken], code(0), g.STOP_AUDIO_TOKEN),
            "audio_scored": audio_at,
            "said": torch.where(at < code_count[spoken], code(0, self.said), UNKNOWN),
            "audio_row": spoken,
            "is_code": inside & (at > 0),
            "cond_at": cond_at.flatten(),
            "shape": (len(clips), length),
            "seconds": float(codes.sum()) * g.CODE_STRIDE / g.SAMPLE_RATE,
        }


def _part(flat: Tensor, place: Tensor) -> Tensor:
    start, count = place.tolist()
    return flat[start : start + count]


def _ragged(counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """(row, place in the row) of each of `total` items, of which row i has counts[i]."""
    row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    return row, torch.arange(total, device=counts.device) - (counts.cumsum(0) - counts)[row]


class Voices:
    """Mel spectrograms of each voice, (voices, 80, frames) in float16, from which voice samples are cut.

    They are of train clips joined one behind the other, as coqui joins several reference files.
    """

    def __init__(self, work: Path, speech: Speech, clips: Clips):
        mel = TorchMelSpectrogram(filter_length=STYLE_FFT, mel_norm_file=str(mel_stats_file(work))).to(clips.device)
        samples = round(VOICE_SECONDS[clips.device.split(":")[0]] * g.SAMPLE_RATE)
        heard = clips.spoken & (clips.splits == "train")
        with open(work / SPEECH / WAVES, "rb") as file:
            own = [np.flatnonzero(heard & (clips.voices == voice)) for voice in range(len(clips.voice_names))]
            self.mels = torch.stack([self._mel(mel, file, [speech.clips[n] for n in some], samples) for some in own])

    def _mel(self, mel: Any, file: BinaryIO, clips: Sequence[Clip], samples: int) -> Tensor:
        parts, count = [], 0
        for clip in itertools.cycle(clips):
            # Read, not mapped: a page fault for every 4 kB is slow on some virtual machines.
            file.seek(2 * clip.start)
            parts.append(np.frombuffer(file.read(2 * clip.samples), "<i2"))
            count += clip.samples
            if count >= samples:
                break
        wave = torch.from_numpy(np.concatenate(parts)[:samples])
        return mel(wave.to(mel.mel_stft.spectrogram.window.device)[None].float() / 32768)[0].half()

    def samples(self, voices: np.ndarray, frames: int, random: np.random.Generator) -> Tensor:
        """A random piece of each of these voices, float32 (voices, 80, frames)."""
        starts = random.integers(0, self.mels.shape[2] - frames + 1, len(voices))
        which, first = torch.from_numpy(np.stack([voices, starts])).to(self.mels.device)
        places = first[:, None] + torch.arange(frames, device=self.mels.device)
        return self.mels[which[:, None], :, places].transpose(1, 2).float()


class Part:
    """The clips of one split. index: itself, where the loop asks a data set for its positions."""

    def __init__(self, clips: Clips, split: str):
        self.clips, self.positions, self.index = clips, clips.positions, self
        self.numbers = np.flatnonzero(clips.splits == split)

    def batches(self) -> dict[str, list[Step]]:
        """Validation batches by language."""
        languages = self.clips.languages[self.numbers]
        return {
            str(language): [Step(self.numbers[languages == language][:VAL_OF_LANGUAGE], 0, 0)]
            for language in np.unique(languages)
        }


class Feed:
    """Batches for `PretrainLoop`. step_positions: of all clips of a step together."""

    shared_voices = 0

    def __init__(self, work: Path, device: str, step_positions: int, seed: int, speech: Speech | None = None):
        began = time.monotonic()
        speech = speech or Speech(work)
        self.clips = Clips(work, speech, device)
        say(f"clips       {len(self.clips.codes):,} codes; {time.monotonic() - began:.1f} s")
        self.voices = Voices(work, speech, self.clips)
        say(f"voices      {self.voices.mels.shape[0]}; {time.monotonic() - began:.1f} s")
        self.train, self.val = Part(self.clips, "train"), Part(self.clips, "val")
        self.step_positions, self.seed = step_positions, seed
        own = self.train.numbers
        self.step_seconds = float(step_positions * self.clips.seconds[own].sum() / self.clips.positions[own].sum())
        self.step_samples = round(self.step_seconds * g.SAMPLE_RATE)

    def train_batches(self, epoch: int) -> list[Step]:
        """An epoch's steps: clips of similar length and of VOICES_AT_ONCE voices, as many as the positions allow."""
        random, clips = np.random.default_rng([self.seed, epoch]), self.train.numbers
        if epoch < SHORT_EPOCHS:
            clips = clips[self.clips.seconds[clips] <= SHORT_SECONDS]
        order = random.permutation(len(self.clips.voice_names))
        group = (np.argsort(order) // VOICES_AT_ONCE[self.clips.device.split(":")[0]])[self.clips.voices[clips]]
        lengths = self.clips.positions[clips] + random.uniform(0, 8, len(clips))
        clips = clips[np.lexsort((lengths, group))]
        steps = _cut(self.clips.positions[clips], np.sort(group), self.step_positions)
        found = [Step(clips[start:end], epoch, number) for number, (start, end) in enumerate(steps)]
        return [found[place] for place in random.permutation(len(found))]

    def loader(
        self, part: Part, batches: Iterable[Step], workers: int = 0, pin: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Batches of these steps. workers, pin: of no use here."""
        return (self.loaded(step, noisy=part is self.train) for step in batches)

    def loaded(self, step: Step, noisy: bool, text_of: np.ndarray | None = None, ended: bool = False) -> dict[str, Any]:
        """The batch of a step. noisy: as for training, where half of the steps are `ended`. See `Clips.batch`."""
        random = np.random.default_rng([self.seed, step.epoch, step.number])
        batch = self.clips.batch(step.clips, text_of, ended or (noisy and random.random() < 0.5))
        voices, cond_of = np.unique(self.clips.voices[step.clips], return_inverse=True)
        shortest, longest = (round(seconds * g.FRAMES_PER_SECOND) for seconds in SAMPLE_SECONDS)
        frames = int(random.integers(shortest, longest + 1)) if noisy else (shortest + longest) // 2
        batch["cond_mels"] = self.voices.samples(voices, frames, random)
        batch["cond_of"] = torch.from_numpy(cond_of).to(self.clips.device)
        if noisy:
            self._add_noise(batch, int(random.integers(2**62)))
        return batch

    def _add_noise(self, batch: dict[str, Any], seed: int) -> None:
        """Replace up to CODE_NOISE of each clip's input codes by random ones."""
        device = batch["audio"].device
        random = torch.Generator(device).manual_seed(seed)
        share = CODE_NOISE * torch.rand(batch["shape"][0], generator=random, device=device)
        hit = torch.rand(len(batch["audio"]), generator=random, device=device) < share[batch["audio_row"]]
        other = torch.randint(g.AUDIO_CODES, batch["audio"].shape, generator=random, device=device)
        batch["audio"] = torch.where(hit & batch["is_code"], other, batch["audio"])

    def typical_clip(self) -> StepShape:
        own = self.train.numbers
        text, codes = self.clips.token_counts[own].mean() + 1, self.clips.code_counts[own].mean() + AUDIO_STOPS
        return StepShape(1, float(text), float(codes), 0)


def _cut(positions: np.ndarray, groups: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """(start, end) of runs of one group whose rows × longest row is at most `limit`."""
    found, start = [], 0
    lengths, of = positions.tolist(), groups.tolist()
    for place in range(len(lengths)):
        if place > start and (of[place] != of[start] or (place + 1 - start) * lengths[place] > limit):
            found.append((start, place))
            start = place
    return [*found, (start, len(lengths))]
