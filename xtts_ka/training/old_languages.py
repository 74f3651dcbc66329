"""Measures what training did to the languages that the base model spoke before.

Training on Georgian alone moves weights that all languages share. Two things show how far: how much the losses of old
clips (config: `replay_dir`) grow from the base model to the exported one, and the largest change of an old text row.
The same clips, voice samples and code serve both models.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import progress, warn
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.audio import AudioError
from xtts_ka.corpus.other_languages import MOST, choose_clips
from xtts_ka.corpus.tables import Clip, Row
from xtts_ka.model.checkpoint import XttsFiles, base_languages, load_gpt
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.features import REFLECTED, FeatureExtractor, load_speech
from xtts_ka.model.geometry import CODE_STRIDE, SAMPLE_RATE
from xtts_ka.model.old_text import OldTextTokenizer
from xtts_ka.model.vocabulary import read_vocabulary, token_ids
from xtts_ka.training.batch_plan import Batch
from xtts_ka.training.clip_index import TrainingIndex, build_index
from xtts_ka.training.feature_cache import RECORD
from xtts_ka.training.measuring import summed_losses

if TYPE_CHECKING:
    from accelerate import Accelerator

_CLIPS_AT_ONCE = 8


def check_replay(config: PretrainConfig) -> None:
    """UserError where `replay_dir` holds nothing to measure, or a language that coqui cannot read here."""
    if config.replay_dir is None:
        return
    tokenizer = OldTextTokenizer(Path(config.base_model_path) / "vocab.json")
    for language, clips in choose_clips(config.replay_dir, base_languages(config.base_model_path)).items():
        if all(tokenizer(clip.text, language) is None for clip in clips[:MOST]):
            raise UserError(f"replay_dir {config.replay_dir}: coqui can read no text in {language}: take it out")


def largest_changes(base: XttsFiles, trained: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The old token whose row has changed most, in the text embedding and in the text head.

    trained: the trained GPT's parameters, without prefix. For each table: the token, the largest absolute difference
    of a number in its row, and the length of the row's change as a share of the row's length.
    """
    names = {number: token for token, number in token_ids(read_vocabulary(base.vocab_file)).items()}
    changes = {}
    for table in ("text_embedding", "text_head"):
        before = base.gpt_state()[f"{table}.weight"].float()
        difference = trained[f"{table}.weight"][: len(before)].float().cpu() - before
        row = int(difference.abs().amax(dim=1).argmax())
        share = float(difference[row].norm() / before[row].norm().clamp(min=1e-12))
        token = names.get(row, f"id {row}, which no token has")
        changes[table] = {"token": token, "max_abs": float(difference[row].abs().max()), "share_of_norm": share}
    return changes


def measure_losses(
    config: PretrainConfig,
    base: XttsFiles,
    trained: Sequence[Mapping[str, Tensor]],
    data: Any,
    accelerator: Accelerator,
) -> dict[str, dict[str, Any]]:
    """Language → clips, seconds, and the losses [base, *trained] in nats a token on the clips of `replay_dir`.

    trained: the parameters of each trained GPT, without prefix. data: the DataManager of data_loader.py, a script,
    which no room may import; it draws voice samples as in validation.
    """
    states = [base.state, *({**base.state, **{f"gpt.{n}": t for n, t in weights.items()}} for weights in trained)]
    models = (XttsFiles(base.config, state, base.folder) for state in states)
    with tempfile.TemporaryDirectory(prefix="xtts_ka_") as folder:
        clips = _OldClips(config, base, Path(folder), str(accelerator.device))
        losses = [_losses(CompactGPT(load_gpt(model)), clips, data, accelerator) for model in models]
    measured = {}
    for language in losses[0]:
        seconds = clips.indexes[language].seconds
        text, audio = (list(values) for values in zip(*(of[language] for of in losses)))
        facts = {"clips": len(seconds), "seconds": round(float(seconds.sum()), 1)}
        measured[language] = {**facts, "loss_text": text, "loss_mel": audio}
    return measured


@torch.no_grad()
def _losses(model: CompactGPT, clips: _OldClips, data: Any, accelerator: Accelerator) -> dict[str, tuple[float, float]]:
    """Language → mean nats a text token and an audio code."""
    model.eval().to(accelerator.device)

    def forward(batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        moved = {k: v.to(accelerator.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        with accelerator.autocast():
            return model(moved)

    def summed(index: TrainingIndex) -> Tensor:
        dataset, batches = data.like_validation(index, clips, _CLIPS_AT_ONCE)

        def load(batch: Batch) -> dict[str, Any]:
            return next(data.loader(dataset, [batch]))

        return torch.stack([summed_losses(forward, load, batch) for batch in batches]).sum(dim=0)

    losses = {}
    for language, index in progress(clips.indexes.items(), what="old languages", unit="language"):
        if len(index):
            text, text_tokens, audio, codes = summed(index).tolist()
            losses[language] = text / text_tokens, audio / codes
    return losses


class _OldClips:
    """Up to MOST clips of each language that can be read: `indexes` by language, and their features.

    Takes the place of a FeatureCache for them. folder: for the files of the indexes.
    """

    def __init__(self, config: PretrainConfig, base: XttsFiles, folder: Path, device: str):
        assert config.replay_dir
        self._args, self._tokenizer = base.config.model_args, OldTextTokenizer(base.vocab_file)
        self._extractor = FeatureExtractor(base.folder, base.config, device, config.dvae_file)
        self._features: list[tuple[np.ndarray, np.ndarray]] = []
        self._samples: list[int] = []
        chosen = choose_clips(config.replay_dir, base_languages(base.folder))
        self.indexes = {code: self._index(folder, code, clips) for code, clips in chosen.items()}
        del self._extractor  # its memory is needed for the GPT

    def read(self, record: np.void, name: str) -> tuple[np.ndarray, np.ndarray]:
        """As `FeatureCache.read`."""
        return self._features[int(record["key"])]

    def _find(self, keys: Sequence[int]) -> np.ndarray:
        records = np.zeros(len(keys), RECORD)
        records["key"], records["samples"] = keys, [self._samples[key] for key in keys]
        return records

    def _index(self, folder: Path, language: str, clips: list[Clip]) -> TrainingIndex:
        rows: list[tuple[Row, int]] = []
        speech: list[Tensor] = []
        left_out: list[str] = []
        tokens: dict[str, np.ndarray] = {}
        for clip in clips:
            if len(rows) == MOST:
                break
            ids, heard = self._tokenizer(clip.text, language), self._speech(clip)
            if ids is None or heard is None:
                left_out.append(clip.file_id)
                continue
            tokens[clip.text] = np.array(ids, "<u4")
            row = Row(
                clip.file_id,
                clip.text,
                clip.speaker_id,
                0.0,
                str(clip.audio_path),
                "",
                "",
                clip.speaker_known,
                clip.cut,
            )
            rows.append((row, len(self._samples)))
            speech.append(heard)
            self._samples.append(heard.shape[1])
        if left_out:
            shown = ", ".join(left_out[:3]) + (" …" if len(left_out) > 3 else "")
            warn(f"replay_dir: {len(left_out)} clips in {language} cannot be read and are not measured: {shown}")
        for start in range(0, len(speech), _CLIPS_AT_ONCE):
            for codes, mel in self._extractor(speech[start : start + _CLIPS_AT_ONCE]):
                self._features.append((codes.numpy().astype("<u2"), mel.numpy().T.astype("<f2")))  # as in the cache

        def encode(texts: list[str]) -> list[np.ndarray]:
            return [tokens[text] for text in texts]

        return build_index(folder, f"replay-{language}", {}, rows, self._find, encode, self._args)

    def _speech(self, clip: Clip) -> Tensor | None:
        """(1, samples), cut where it is too long for the model (the index leaves it out); None if there is none."""
        longest = (self._args.gpt_max_audio_tokens + 1) * CODE_STRIDE / SAMPLE_RATE
        try:
            speech = load_speech(clip.sound, longest)
        except AudioError:
            return None
        return speech if speech.shape[1] > REFLECTED else None
