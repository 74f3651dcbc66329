"""XTTS's speaker table (`speakers_xtts.pth`): made from recordings and voice embeddings, read, checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtts_ka.core.console import progress
from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import load_torch
from xtts_ka.corpus.tables import Clip, read_drop_report
from xtts_ka.model.features import VoiceEncoder, load_speech
from xtts_ka.model.geometry import COND_POSITIONS, SAMPLE_RATE, SPEAKER_WIDTH
from xtts_ka.model.voice_space import SUSPECT, hashed_order

MAX_SECONDS = 30.0  # of one recording that are heard, as coqui's max_ref_len
VOICE_SECONDS = 30.0  # of speech behind a gpt_cond_latent, as coqui's gpt_cond_len
GOOD_SECONDS = (3.0, 12.0)  # clips of this length are taken for it first
LEAST_SECONDS = 0.33  # coqui refuses less
_AGAIN = "make it anew with: python run_pretrain.py"
Table = dict[str, dict[str, Tensor]]


def clip_speech(clip: Clip) -> Tensor:
    """(1, samples) of a clip at 22,050 Hz, 30 s at most; UserError if it is too short to encode."""
    speech = load_speech(clip.sound, MAX_SECONDS)
    if speech.shape[1] < LEAST_SECONDS * SAMPLE_RATE:
        raise UserError(f"{clip.audio_path} is shorter than {LEAST_SECONDS} s: delete it and its row")
    return speech


def reference_clips(clips: Sequence[Clip], suspects: Collection[str] = ()) -> list[Clip]:
    """The clips of one speaker that the conditioning latent is computed from: as many as fill 30 s.

    Clips of 3 to 12 s come first, then longer ones, then shorter ones, and equals in an order set by hash, so that a
    later call (with the trained GPT) takes the same ones. Suspects are taken only if there is nothing else.
    """
    low, high = GOOD_SECONDS

    def rank(clip: Clip) -> tuple[bool, bool, bool, bytes]:
        good = low <= clip.duration <= high
        return clip.file_id in suspects, not good, clip.duration < low, hashed_order(clip.file_id)

    chosen: list[Clip] = []
    seconds = 0.0
    for clip in sorted(clips, key=rank):
        if seconds >= VOICE_SECONDS or (chosen and clip.file_id in suspects):
            break
        chosen.append(clip)
        seconds += min(clip.duration, MAX_SECONDS)
    return chosen


def speaker_table(
    clips: Sequence[Clip],
    encoder: VoiceEncoder,
    voices: Mapping[str, np.ndarray | Tensor],
    suspects: Collection[str] = (),
) -> Table:
    """{speaker_id: {"gpt_cond_latent": (1, 32, model_dim), "speaker_embedding": (1, 512, 1)}}, float32.

    voices: speaker_id → the speaker embedding's 512 numbers, in any shape. The latents are computed from the clips
    joined, as coqui's `get_conditioning_latents` joins them. The order of the two entries is part of the format: coqui
    unpacks them. UserError for a speaker without recordings, and for recordings that give no finite latent.
    """
    by_speaker: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.speaker_known:
            by_speaker[clip.speaker_id].append(clip)
    table = {}
    for name in progress(sorted(voices), what="conditioning latents", unit="speaker"):
        if name not in by_speaker:
            raise UserError(f"speaker {name} has no recording in the split tables: {_AGAIN}")
        speech = torch.cat([clip_speech(clip) for clip in reference_clips(by_speaker[name], suspects)], dim=1)
        latent = encoder.cond_latent(speech[:, : int(VOICE_SECONDS * SAMPLE_RATE)]).clone()
        if not torch.isfinite(latent).all():
            raise UserError(
                f"the recordings of speaker {name} give no finite conditioning latent: check them and the base model"
            )
        embedding = torch.from_numpy(np.array(voices[name], np.float32)).reshape(1, SPEAKER_WIDTH, 1)
        table[name] = {"gpt_cond_latent": latent, "speaker_embedding": embedding}
    return table


def suspect_ids(data_dir: Path | str) -> set[str]:
    """The file_ids that the drop report lists as suspect labels."""
    return {row[0] for row in read_drop_report(data_dir) if row[1:3] == ("suspect", SUSPECT)}


def read_speakers(path: Path | str) -> Table:
    """Read and check a `speakers_xtts.pth`; UserError for a missing, damaged, hostile or other file.

    It is empty where the speakers of all recordings are unknown.
    """
    table = load_torch(path, remedy=_AGAIN)
    if not (isinstance(table, dict) and all(isinstance(n, str) and _is_voice(v) for n, v in table.items())):
        raise UserError(f"{path} is no table of XTTS speakers: {_AGAIN}")
    return table


def _is_voice(entry: Any) -> bool:
    if not isinstance(entry, dict) or list(entry) != ["gpt_cond_latent", "speaker_embedding"]:
        return False
    if not all(isinstance(part, Tensor) and part.dtype == torch.float32 for part in entry.values()):
        return False
    latent, embedding = entry.values()
    return embedding.shape == (1, SPEAKER_WIDTH, 1) and latent.ndim == 3 and latent.shape[:2] == (1, COND_POSITIONS)
