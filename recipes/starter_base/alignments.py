"""Step 7: which token of the text each code says, in `alignments.npz`.

The recogniser of `phonemes.py` hears every clip as the DVAE's decoder gives it back, and its frames are aligned with
the clip's letters (CTC forced alignment). The GPT learns from them where in the text it is.

`tokens` (int16): of each code of `codes.npz`, the place of its token among the clip's; -1 where a clip could not be
aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from starter_base.codes import CODES, load_dvae, longest_first
from starter_base.phonemes import PhonemeNetwork, load_phonemes
from starter_base.speech import Speech, all_clips
from starter_base.tokens import spoken_tokens, tokens_of
from xtts_ka.core.console import progress, say
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.recognition.forced_alignment import likeliest_path
from xtts_ka.recognition.symbols import BLANK

ALIGNMENTS = "alignments.npz"
AT_ONCE = 4000  # codes that are heard together
UNKNOWN = -1


def run(work: Path, options: Any) -> None:
    """Write `work/alignments.npz`."""
    device, found = choose_device(options.device), np.load(work / CODES)
    codes, ends = found["codes"], found["ends"]
    counts = np.diff(ends, prepend=0)
    clips = all_clips(work, Speech(work), counts)
    token_rows = tokens_of([clip.text for clip in clips], [clip.language for clip in clips])
    network, symbols = load_phonemes(work, device)
    dvae, scale = load_dvae(work).to(device).eval(), load_file(work / "mel_stats.safetensors")["mel_stats"].to(device)
    tokens, missed = np.full(len(codes), UNKNOWN, np.int16), 0
    with progress(total=len(clips), what="aligned", unit="clip") as bar:
        for batch in longest_first(counts.tolist(), AT_ONCE):
            rows = [torch.from_numpy(codes[ends[clip] - counts[clip] : ends[clip]].astype(np.int64)) for clip in batch]
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=options.precision == "bf16"):
                heard = listen(network, dvae, scale, rows)
            for clip, log_probs in zip(batch, heard):
                letters = aligned(log_probs, symbols.letter_ids(clips[clip].text))
                if letters is None:
                    missed += 1
                    continue
                tokens[ends[clip] - counts[clip] : ends[clip]] = np.array(spoken_tokens(token_rows[clip]))[letters]
            bar.update(len(batch))
    with atomic_path(work / ALIGNMENTS) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, tokens=tokens)
    say(f"aligned     {len(clips) - missed:,} of {len(clips):,} clips")


def load_alignments(work: Path, codes: int) -> np.ndarray:
    """`tokens` of so many codes; UNKNOWN everywhere where the clips have not been aligned."""
    file = work / ALIGNMENTS
    if not file.is_file():
        return np.full(codes, UNKNOWN, np.int16)
    found = np.load(file)
    if "tokens" not in found or len(found["tokens"]) != codes:
        raise UserError(f"{file} is of an earlier version or other codes: remove it and run the step alignments again")
    return found["tokens"]


@torch.inference_mode()
def listen(network: PhonemeNetwork, dvae: Any, scale: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """Log-probabilities (frames, letters + 1) of clips given by their codes; a code has FRAMES_PER_CODE / 2 frames."""
    counts = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(scale.device)
    mels = dvae.decode(padded)[0].float().transpose(1, 2) * scale
    _, log_probs, frames = network(mels, counts.to(scale.device) * g.FRAMES_PER_CODE)
    return [row[:count] for row, count in zip(log_probs.cpu(), frames.tolist())]


def aligned(log_probs: Tensor, ids: Sequence[int]) -> np.ndarray | None:
    """For each code the place in `ids` of the letter whose frame on the likeliest path is nearest.

    None where there are no letters, or too few frames for them.
    """
    try:
        path = likeliest_path(log_probs, ids)[0].numpy() if ids else np.zeros(0)
    except ValueError:
        return None
    frames = np.flatnonzero(path != BLANK)
    if not len(frames):
        return None
    begins = (path != BLANK) & (path != np.concatenate([[BLANK], path[:-1]]))
    letters = begins.cumsum()[frames] - 1
    per_code = g.FRAMES_PER_CODE // 2
    middles = per_code * np.arange(len(log_probs) // per_code) + (per_code - 1) / 2
    after = np.searchsorted(frames, middles).clip(0, len(frames) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(np.abs(middles - frames[before]) <= np.abs(frames[after] - middles), before, after)
    return letters[nearest]
