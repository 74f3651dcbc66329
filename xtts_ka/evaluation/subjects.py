"""The models that are evaluated: an exported folder, or a checkpoint of a training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import read_pickle
from xtts_ka.corpus.decoder_warnings import named
from xtts_ka.corpus.embedding_files import SPEAKERS_FILE
from xtts_ka.corpus.excerpt import Recording
from xtts_ka.corpus.tables import Clip
from xtts_ka.georgian.reading import Reading
from xtts_ka.model.checkpoint import Xtts, XttsFiles, build_xtts, extended_config, load_xtts, read_model
from xtts_ka.model.coqui_georgian import FACTS_FILE, read_facts, register
from xtts_ka.model.features import VoiceEncoder, load_speech
from xtts_ka.model.geometry import SAMPLE_RATE
from xtts_ka.model.speakers import LEAST_SECONDS, MAX_SECONDS, VOICE_SECONDS, read_speakers, speaker_table, suspect_ids
from xtts_ka.training.checkpoint_folders import read_checkpoints
from xtts_ka.training.checkpoint_manager import Checkpoint

Voice = dict[str, Tensor]  # gpt_cond_latent (1, 32, model_dim), speaker_embedding (1, 512, 1)


@dataclass
class Subject:
    """A loaded model. voices: all it knows; limit: characters of one piece of text; key: changes with its weights."""

    label: str
    model: Xtts
    encoder: VoiceEncoder
    voices: dict[str, Voice]
    limit: int
    reading: Reading
    key: str

    @property
    def rate(self) -> int:
        return self.model.config.model_args.output_sample_rate

    def embedding(self, wav: Recording) -> np.ndarray:
        """The speaker embedding, (512,), of the first 30 s of a recording; of a shorter one than XTTS takes, zeros."""
        speech = named(load_speech, wav, MAX_SECONDS)
        if speech.shape[1] < LEAST_SECONDS * SAMPLE_RATE:
            return np.zeros(512, np.float32)
        return self.encoder.speaker_embedding(speech).numpy().ravel()

    def add_references(self, wavs: Sequence[Path]) -> list[str]:
        """Clone the voice of each recording, as `speaker_table` computes voices; returns their names."""
        names = []
        for wav in wavs:
            speech = named(load_speech, wav, MAX_SECONDS)
            if speech.shape[1] < LEAST_SECONDS * SAMPLE_RATE:
                raise UserError(f"--reference {wav} is shorter than {LEAST_SECONDS} s: give a longer recording")
            latent = self.encoder.cond_latent(speech[:, : int(VOICE_SECONDS * SAMPLE_RATE)])
            names.append(wav.stem)
            self.voices[wav.stem] = {
                "gpt_cond_latent": latent.clone(),
                "speaker_embedding": self.encoder.speaker_embedding(speech).clone(),
            }
        return names

    def voice(self, name: str) -> tuple[Tensor, Tensor]:
        """(gpt_cond_latent, speaker_embedding) of a voice."""
        return self.voices[name]["gpt_cond_latent"], self.voices[name]["speaker_embedding"]

    def voice_key(self, name: str) -> str:
        """Changes with the voice."""
        return hash_value([part.numpy().tobytes().hex() for part in self.voice(name)])


def open_folder(folder: Path, device: str) -> Subject:
    """A model folder as the export writes it. UserError for one that is incomplete or damaged."""
    limit, reading = read_facts(folder / FACTS_FILE)
    voices = dict(read_speakers(folder / "speakers_xtts.pth"))
    register()
    model = load_xtts(folder, device)
    key = hash_value([file_digest(folder / name) for name in ("model.pth", "vocab.json", FACTS_FILE)])
    return Subject(folder.name, model, VoiceEncoder.of(model), voices, limit, reading, key)


def open_checkpoint(
    config: PretrainConfig, folder: Path, device: str, clips: Sequence[Clip], wanted: Collection[str]
) -> Subject:
    """A training checkpoint over the config's base model, with the average weights if it has them.

    The latents of the `wanted` voices are computed with its own conditioning encoder from the `clips`, as the export
    does; the other voices are known by their embedding alone and cannot speak.
    """
    found = next((each for each in read_checkpoints(folder.parent) if each.folder.name == folder.name), None)
    if found is None or found.problem:
        reason = found.problem if found else "there is none"
        raise UserError(f"checkpoint {folder} cannot be used: {reason}")
    checkpoint = Checkpoint(**vars(found))
    return open_weights(
        config, read_model(config.base_model_path), checkpoint.present_weights(), device, clips, wanted,
        label=folder.name, key=hash_value([folder.name, checkpoint.run_id, checkpoint.time]),
    )  # fmt: skip


def open_weights(
    config: PretrainConfig, base: XttsFiles, weights: Mapping[str, Tensor], device: str, clips: Sequence[Clip],
    wanted: Collection[str], *, label: str, key: str,
) -> Subject:  # fmt: skip
    """A GPT's weights (named without prefix) over the other parts of the base model; voices as `open_checkpoint`'s.

    key: changes with the weights.
    """
    out = Path(config.output_model_path)
    limit = read_pickle(out / "language_model_results.pkl")["character_limit"]
    state = {**base.state, **{f"gpt.{name}": tensor.float() for name, tensor in weights.items()}}
    geometry = extended_config(base.config, config.language, state["gpt.text_embedding.weight"].shape[0])
    register()
    model = build_xtts(geometry, state, out / "vocab.json", device)
    model.tokenizer.reading = reading = Reading.of(config.text)
    key = hash_value([key, file_digest(out / "vocab.json")])
    subject = Subject(label, model, VoiceEncoder.of(model), {}, limit, reading, key)
    subject.voices |= read_speakers(out / SPEAKERS_FILE)
    renew_voices(subject, config, clips, wanted)
    return subject


def renew_voices(subject: Subject, config: PretrainConfig, clips: Sequence[Clip], wanted: Collection[str]) -> None:
    """Compute the latents of the `wanted` voices that are known with the model's present conditioning encoder."""
    known = {name: subject.voices[name]["speaker_embedding"] for name in wanted if name in subject.voices}
    subject.voices |= speaker_table(clips, subject.encoder, known, suspect_ids(config.data_dir))


def most_recorded(clips: Sequence[Clip], most: int) -> list[str]:
    """The names of the known speakers with the most seconds of recordings."""
    seconds: dict[str, float] = {}
    for clip in clips:
        if clip.speaker_known:
            seconds[clip.speaker_id] = seconds.get(clip.speaker_id, 0.0) + clip.duration
    return sorted(seconds, key=lambda name: (-seconds[name], name))[:most]


def check_voices(names: Sequence[str], voices: Mapping[str, Voice], where: Path) -> None:
    """UserError that names the first of `names` which is not among `voices`, and some that are."""
    if unknown := next((name for name in names if name not in voices), None):
        known = ", ".join(list(voices)[:20]) or "none: use --reference"
        raise UserError(f"--speakers {unknown!r} is not in {where}: choose of {known}")


def free(subject: Subject) -> None:
    """Give back the GPU's memory of a model that is no longer needed."""
    subject.model.to("cpu")
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
