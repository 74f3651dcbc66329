"""Is a clip spoken by the person that its table names? By the embeddings of XTTS's speaker encoder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from xtts_ka.core.console import progress, say
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.files import append_bytes
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.corpus.measurements import recording_key
from xtts_ka.corpus.quality_limits import Finding
from xtts_ka.corpus.tables import Clip
from xtts_ka.model import geometry as g
from xtts_ka.model.checkpoint import load_speaker_encoder, read_model
from xtts_ka.model.features import load_speech
from xtts_ka.model.voice_space import LEAST_TOLD_APART, find_suspects, likeness

COLUMN = "voice_similarity"
MOST_SECONDS = 10.0  # of a clip that are heard
LEAST_SECONDS = 0.5
_RECORD = np.dtype([("key", "S24"), ("vector", "<f2", g.SPEAKER_WIDTH)])
_AT_ONCE = 64  # clips between two writes


class VoiceCheck:
    """base_model: an XTTS folder. What was computed is kept in the data folder, so a killed run carries on."""

    def __init__(self, base_model: Path | str, data_dir: Path | str, device: str = "auto"):
        base = read_model(base_model)
        self._device = choose_device(device)
        self._encoder = load_speaker_encoder(base).eval().to(self._device)
        self._kept = Path(data_dir) / "split" / f"voices_{file_digest(base.folder / 'model.pth')[:8]}.bin"

    def __call__(self, clips: Sequence[Clip]) -> Iterable[Finding]:
        """The likeness of each clip to its speaker's others: of known speakers with two clips or more.

        Nothing, and a sentence, where the encoder cannot tell these speakers apart, as one that is untrained.
        """
        groups: dict[str, list[Clip]] = defaultdict(list)
        for clip in clips:
            if clip.speaker_known and clip.duration >= LEAST_SECONDS:
                groups[clip.speaker_id].append(clip)
        compared = [clip for own in groups.values() if len(own) > 1 for clip in own]
        vectors = self._vectors(compared)
        speaker_of = {clip.file_id: clip.speaker_id for clip in compared}
        suspects, told_apart = find_suspects(vectors, speaker_of)
        if told_apart is not None and told_apart < LEAST_TOLD_APART:
            say(f"voices are not compared: the speaker encoder knows the speaker of only {told_apart:.0%} of the clips")
            return []
        return [
            Finding(file_id, COLUMN, value, suspects.get(file_id, ""), file_id in suspects)
            for file_id, value in likeness(vectors, speaker_of).items()
        ]

    def _vectors(self, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
        known: dict[bytes, np.ndarray] = {}
        if self._kept.is_file():
            count = self._kept.stat().st_size // _RECORD.itemsize
            records = np.fromfile(self._kept, _RECORD, count)
            known = dict(zip(records["key"].tolist(), records["vector"]))
        keys = {clip.file_id: _key(clip) for clip in clips}
        missing = [clip for clip in clips if keys[clip.file_id] not in known]
        with progress(total=len(missing), what="voices", unit="clip", shown=bool(missing)) as bar:
            for start in range(0, len(missing), _AT_ONCE):
                some = missing[start : start + _AT_ONCE]
                rows = np.zeros(len(some), _RECORD)
                rows["key"] = [keys[clip.file_id] for clip in some]
                rows["vector"] = [self._vector(clip) for clip in some]
                self._keep(rows)
                known.update(zip(rows["key"].tolist(), rows["vector"]))
                bar.update(len(some))
        return {clip.file_id: known[keys[clip.file_id]].astype(np.float64) for clip in clips}

    def _keep(self, rows: np.ndarray) -> None:
        if self._kept.is_file() and (torn := self._kept.stat().st_size % _RECORD.itemsize):
            with open(self._kept, "ab") as file:
                file.truncate(file.tell() - torn)
        append_bytes(self._kept, rows.tobytes())

    @torch.inference_mode()
    def _vector(self, clip: Clip) -> np.ndarray:
        speech = load_speech(clip.sound, MOST_SECONDS, g.SPEAKER_RATE).to(self._device)
        return self._encoder(speech, l2_norm=True)[0].float().cpu().numpy()


def _key(clip: Clip) -> bytes:
    return hash_value([recording_key(clip.audio_path), clip.cut])[:24].encode()
