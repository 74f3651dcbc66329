"""A recogniser of the `transformers` library in a local folder: CTC (wav2vec 2.0 and kin) or seq2seq (Whisper and kin).

Nothing is fetched. `transformers` comes with coqui-tts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchaudio.functional import resample

from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import read_json
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.recognition.recogniser import batches_by_length
from xtts_ka.recognition.symbols import spoken_letters

LANGUAGE, MMS_LANGUAGE = "georgian", "kat"  # as Whisper and MMS name it
_TOGETHER = 60.0  # seconds of padded audio in one batch
_NEW_TOKENS = 440  # that a seq2seq model may write for one wave: Whisper's positions, less its prompt
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer_config.json", "spiece.model", "tokenizer.model")


class TransformersListener:
    """The recogniser in `folder`. UserError where it is not one, lacks its tokenizer or cannot write Georgian."""

    def __init__(self, folder: Path | str, device: str = "cpu"):
        self.name, self.folder, self.device = f"transformers {folder}", Path(folder), device
        self._model, self._processor, self._is_ctc = _load(self.folder)
        if not _writes_georgian(self._processor.tokenizer):
            raise UserError(
                f"--asr {folder}: its vocabulary has no Georgian letters, so it is a recogniser of another language; "
                "give one that was trained on Georgian"
            )
        self._model.to(device).eval()
        extractor = self._processor.feature_extractor
        self._rate: int = extractor.sampling_rate
        # Whisper pads and cuts everything to 30 s; other models take any length.
        self._limit = getattr(extractor, "n_samples", math.inf) / self._rate

    @torch.inference_mode()
    def hear(self, waves: Sequence[np.ndarray], rate: int) -> list[str]:
        """As `Listener.hear`."""
        heard = [""] * len(waves)
        longest = max(map(len, waves), default=0) / rate
        if longest > self._limit:  # its feature extractor would cut the rest off
            raise RunError(f"{self.name} hears {self._limit:g} s at most, and one wave has {longest:.1f} s: split it")
        for batch in batches_by_length([len(wave) for wave in waves], _TOGETHER * rate):
            sounds = [resample(torch.from_numpy(waves[i]).float(), rate, self._rate).numpy() for i in batch]
            for i, text in zip(batch, self._texts(sounds), strict=True):
                heard[i] = spoken_letters(text)
        return heard

    def _texts(self, sounds: list[np.ndarray]) -> list[str]:
        inputs = self._processor(
            sounds, sampling_rate=self._rate, return_tensors="pt", return_attention_mask=True, **self._padding
        ).to(self.device)
        if self._is_ctc:
            ids = self._model(**inputs).logits.argmax(-1)
            return self._processor.batch_decode(ids)
        ids = self._model.generate(**inputs, **self._language, max_new_tokens=_NEW_TOKENS, do_sample=False)
        return self._processor.batch_decode(ids, skip_special_tokens=True)

    @property
    def _padding(self) -> dict[str, Any]:
        return {"padding": True} if self._is_ctc else {}

    @property
    def _language(self) -> dict[str, str]:
        """Whisper is told the language; a model whose generation config knows no languages is not."""
        known = getattr(self._model.generation_config, "lang_to_id", None)
        return {"language": LANGUAGE, "task": "transcribe"} if known else {}


def _load(folder: Path) -> tuple[Any, Any, bool]:
    """(model, processor, whether it is a CTC model) of a local folder. UserError says what it lacks."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor

    if not (folder / "config.json").is_file():
        raise UserError(f"--asr {folder} has no config.json, so it is no transformers folder: give one, or a command")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(f"--asr {folder} has no tokenizer: save the recogniser's processor into the same folder")
    try:
        architecture = (AutoConfig.from_pretrained(folder, local_files_only=True).architectures or [""])[0]
        is_ctc = architecture.endswith("ForCTC")
        kind = AutoModelForCTC if is_ctc else AutoModelForSpeechSeq2Seq
        language = {"target_lang": MMS_LANGUAGE} if _is_multilingual(folder) else {}
        adapted = {"ignore_mismatched_sizes": True} if language else {}
        model = kind.from_pretrained(folder, local_files_only=True, **language, **adapted)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, **language)
        if not (hasattr(processor, "feature_extractor") and hasattr(processor, "tokenizer")):
            raise ValueError("its processor has no feature extractor or no tokenizer")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--asr {folder} is no recogniser that transformers can load ({reason}): give another"
        ) from None
    return model, processor, is_ctc


def _is_multilingual(folder: Path) -> bool:
    """Whether the vocabulary is one table for each language, as in MMS, whose adapters are named in the same way."""
    vocabulary = read_json(folder / "vocab.json") if (folder / "vocab.json").is_file() else {}
    return isinstance(vocabulary, dict) and isinstance(vocabulary.get(MMS_LANGUAGE), dict)


def _writes_georgian(tokenizer: Any) -> bool:
    """Whether the tokenizer can write every Georgian letter: encodes it, and gives it back."""
    ids = tokenizer(GEORGIAN_LETTERS, add_special_tokens=False).input_ids
    known = tokenizer.convert_ids_to_tokens(ids)
    return tokenizer.unk_token not in known and GEORGIAN_LETTERS in tokenizer.decode(ids).replace(" ", "")
