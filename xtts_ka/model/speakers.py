"""XTTS's speaker table (`speakers_xtts.pth`): made from recordings and voice embeddings, read, checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.console import progress
from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import load_torch
from xtts_ka.corpus.tables import Clip, read_drop_report
from xtts_ka.model.voice_space import unit

if TYPE_CHECKING:
    from torch import Tensor

    from xtts_ka.model.features import VoiceEncoder

SUSPECT = "suspect_speaker"  # this stage's reason in the drop report
SPEAKER_WIDTH = 512  # of XTTS's speaker space
MAX_SECONDS = 30.0  # of one recording, as coqui's max_ref_len
VOICE_SECONDS = 30.0  # of speech behind a gpt_cond_latent, as coqui's gpt_cond_len
GOOD_SECONDS = (3.0, 12.0)  # clips taken first for it
LEAST_SECONDS = 0.33  # coqui refuses less
_ANEW = "make it anew with: python embedding_adapter.py --force"
Table = dict[str, dict[str, "Tensor"]]


def hashed_order(name: str) -> bytes:
    """A place in an order that has nothing to do with names and does not move when others are added."""
    return blake2b(name.encode("utf-8"), digest_size=8).digest()


def clip_speech(clip: Clip) -> Tensor:
    from xtts_ka.model.features import load_speech
    from xtts_ka.model.geometry import SAMPLE_RATE

    speech = load_speech(clip.audio_path, MAX_SECONDS)
    if speech.shape[1] < LEAST_SECONDS * SAMPLE_RATE:
        raise UserError(f"{clip.audio_path} is shorter than {LEAST_SECONDS} s: delete it and its row")
    return speech


def reference_clips(clips: Sequence[Clip], suspects: Collection[str] = ()) -> list[Clip]:
    """The clips of one speaker whose sound makes the conditioning latent: as many as fill 30 s.

    Clips of 3 to 12 s come before others, longer ones before shorter, and equals in an order set by hash, so
    that a later call, with the trained GPT, hears the same. Suspects are taken where there is nothing else.
    """
    low, high = GOOD_SECONDS
    ranked = sorted(
        clips,
        key=lambda clip: (
            clip.file_id in suspects,
            not low <= clip.duration <= high,
            clip.duration < low,
            hashed_order(clip.file_id),
        ),
    )
    chosen, seconds = [], 0.0
    for clip in ranked:
        if seconds >= VOICE_SECONDS or (chosen and clip.file_id in suspects):
            break
        chosen.append(clip)
        seconds += min(clip.duration, MAX_SECONDS)
    return chosen


def cond_latent(clips: Sequence[Clip], encoder: VoiceEncoder) -> Tensor:
    """(1, 32, model_dim) float32 of the clips joined, as coqui's `get_conditioning_latents` joins them."""
    import torch

    from xtts_ka.model.geometry import SAMPLE_RATE

    speech = torch.cat([clip_speech(clip) for clip in clips], dim=1)[:, : int(VOICE_SECONDS * SAMPLE_RATE)]
    return encoder.cond_latent(speech).clone()


def speaker_table(
    clips: Sequence[Clip], encoder: VoiceEncoder, voices: Mapping[str, np.ndarray], suspects: Collection[str] = ()
) -> Table:
    """{speaker_id: {"gpt_cond_latent": (1, 32, model_dim), "speaker_embedding": (1, 512, 1)}}, float32.

    voices: speaker_id → (512,). The order of the two entries is part of the format: coqui unpacks them.
    UserError for a speaker without recordings, and for recordings that give no finite latent.
    """
    import torch

    by_speaker: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_speaker[clip.speaker_id].append(clip)
    table = {}
    for name in progress(sorted(voices), what="conditioning latents", unit="speaker"):
        if name not in by_speaker:
            raise UserError(f"speaker {name} has no recording in the split tables: {_ANEW}")
        latent = cond_latent(reference_clips(by_speaker[name], suspects), encoder)
        if not torch.isfinite(latent).all():
            raise UserError(
                f"the recordings of speaker {name} give no finite conditioning latent: check them and the base model"
            )
        embedding = torch.from_numpy(np.asarray(unit(voices[name]), np.float32)).reshape(1, SPEAKER_WIDTH, 1)
        table[name] = {"gpt_cond_latent": latent, "speaker_embedding": embedding}
    return table


def recompute_cond_latents(
    table: Table, clips: Sequence[Clip], encoder: VoiceEncoder, suspects: Collection[str] = ()
) -> Table:
    """The same speakers and speaker embeddings with the conditioning latents of `encoder`, a trained GPT's.

    suspects: file_ids to leave out, as `suspect_ids` reads them. The table itself stays as it is.
    """
    voices = {name: entry["speaker_embedding"].numpy().reshape(-1) for name, entry in table.items()}
    fresh = speaker_table(clips, encoder, voices, suspects)
    return {name: {**fresh[name], "speaker_embedding": table[name]["speaker_embedding"]} for name in fresh}


def suspect_ids(data_dir: Path | str) -> set[str]:
    """The file_ids that the drop report lists as suspect labels."""
    return {row[0] for row in read_drop_report(data_dir) if row[1:3] == ("suspect", SUSPECT)}


def read_speakers(path: Path | str) -> Table:
    """Read and check a `speakers_xtts.pth`; UserError for a missing, damaged, hostile or other one."""
    import torch

    def sound(entry: Any) -> bool:
        if not isinstance(entry, dict) or list(entry) != ["gpt_cond_latent", "speaker_embedding"]:
            return False
        if not all(isinstance(part, torch.Tensor) and part.dtype == torch.float32 for part in entry.values()):
            return False
        latent, embedding = entry.values()
        return embedding.shape == (1, SPEAKER_WIDTH, 1) and latent.ndim == 3 and latent.shape[:2] == (1, 32)

    table = load_torch(path, remedy=_ANEW)
    if not (isinstance(table, dict) and table and all(isinstance(n, str) and sound(table[n]) for n in table)):
        raise UserError(f"{path} is no table of XTTS speakers: {_ANEW}")
    return table
