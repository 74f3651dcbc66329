"""Step 7: of which phoneme each code is, in `alignments.npz`.

The recogniser of `phonemes.py` hears every clip as the DVAE's decoder gives it back, and its frames are aligned with
the clip's phonemes (CTC forced alignment). The GPT learns from them where in the text it is.

`phonemes` (uint8): one for each code of `codes.npz`, an id of `Symbols`; 0 where a clip could not be aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from starter_base.codes import CODES, load_dvae
from starter_base.phonemes import PhonemeNetwork, load_phonemes
from starter_base.speech import Speech, all_clips
from xtts_ka.core.console import progress, say
from xtts_ka.core.files import atomic_path
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.recognition.forced_alignment import likeliest_path
from xtts_ka.recognition.symbols import BLANK

ALIGNMENTS = "alignments.npz"
AT_ONCE = 4000  # codes that are heard together


def run(work: Path, options: Any) -> None:
    """Write `work/alignments.npz`."""
    device, found = choose_device(options.device), np.load(work / CODES)
    codes, ends = found["codes"], found["ends"]
    counts = np.diff(ends, prepend=0)
    clips = all_clips(work, Speech(work), counts)
    network, symbols = load_phonemes(work, device)
    dvae, scale = load_dvae(work).to(device).eval(), load_file(work / "mel_stats.safetensors")["mel_stats"].to(device)
    phonemes, order, missed = np.zeros(len(codes), np.uint8), np.argsort(counts, kind="stable").tolist(), 0
    with progress(total=len(order), what="aligned", unit="clip") as bar:
        while order:
            number = max(1, AT_ONCE // max(1, int(counts[order[-1]])))
            batch, order = order[-number:], order[:-number]
            rows = [torch.from_numpy(codes[ends[clip] - counts[clip] : ends[clip]].astype(np.int64)) for clip in batch]
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=options.precision == "bf16"):
                heard = listen(network, dvae, scale, rows)
            for clip, log_probs in zip(batch, heard):
                own = aligned(log_probs, symbols.phoneme_ids(clips[clip].phonemes))
                phonemes[ends[clip] - counts[clip] : ends[clip]] = own
                missed += not own.any()
            bar.update(len(batch))
    with atomic_path(work / ALIGNMENTS) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, phonemes=phonemes)
    say(f"aligned     {len(clips) - missed:,} of {len(clips):,} clips")


@torch.inference_mode()
def listen(network: PhonemeNetwork, dvae: Any, scale: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """Log-probabilities (frames, phonemes + 1) of clips given by their codes; a code has FRAMES_PER_CODE / 2 frames."""
    counts = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(scale.device)
    mels = dvae.decode(padded)[0].float().transpose(1, 2) * scale
    log_probs, _, frames = network(mels, counts.to(scale.device) * g.FRAMES_PER_CODE)
    return [row[:count] for row, count in zip(log_probs.cpu(), frames.tolist())]


def aligned(log_probs: Tensor, ids: Sequence[int]) -> np.ndarray:
    """The phoneme of each code: the one whose frame on the likeliest path is nearest; zeros where none is possible."""
    per_code = g.FRAMES_PER_CODE // 2
    count = len(log_probs) // per_code
    if not ids:
        return np.zeros(count, np.uint8)
    try:
        path, _ = likeliest_path(log_probs, ids)
    except ValueError:  # it has too few frames
        return np.zeros(count, np.uint8)
    said = path.numpy()
    places = np.flatnonzero(said != BLANK)
    middles = per_code * np.arange(count) + (per_code - 1) / 2
    after = np.searchsorted(places, middles).clip(1, max(1, len(places) - 1))
    before = after - 1
    after = after.clip(max=len(places) - 1)
    nearest = np.where(middles - places[before] <= places[after] - middles, before, after)
    return said[places[nearest]].astype(np.uint8)
