"""Step 10: how well the base is understood in the languages that it was trained on.

The recogniser of `phonemes.py`, trained on natural speech of these languages, listens to sentences that nothing was
trained on: as espeak-ng speaks them, through the DVAE, as the decoder makes them of the GPT's latents of the recording
(teacher-forced), and as the base itself speaks them, drawn as `Xtts.inference` draws.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from safetensors.torch import load_file
from torch import Tensor

from starter_base import sizes
from starter_base.codes import load_dvae, mel_stats_file
from starter_base.decoder import DECODER, Sounds
from starter_base.dvae import through_codes
from starter_base.feed import SAMPLE_SECONDS, Feed
from starter_base.figures import note
from starter_base.gpt import GPT, load_gpt
from starter_base.mels import Mels
from starter_base.phonemes import hear, load_phonemes, spoken
from starter_base.speech import Speech
from xtts_ka.core.console import progress, say
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.compact_gpt import voice_latents
from xtts_ka.model.features import dvae_mels
from xtts_ka.model.latents import decode_latents, teacher_forced_latents
from xtts_ka.model.networks import build_vocoder
from xtts_ka.recognition.error_rates import character_error_rate

CLIPS, SPOKEN_CLIPS = 12, 6  # of each language: heard, and spoken by the base
# The defaults of `Xtts.inference`.
DRAWING: dict[str, Any] = {"temperature": 0.75, "top_k": 50, "top_p": 0.85, "repetition_penalty": 10.0}


class Base:
    """The trained networks of a work folder."""

    def __init__(self, work: Path, speech: Speech, device: str):
        self.feed = Feed(work, device, 2048, seed=1, speech=speech)
        self.sounds, self.speech, self.device = Sounds(work, speech, self.feed), speech, device
        self.gpt = load_gpt(load_file(work / GPT)).eval().to(device)
        self.vocoder = build_vocoder(sizes.GPT["model_dim"], **sizes.DECODER).eval().to(device)
        self.vocoder.load_state_dict({k: v.float() for k, v in load_file(work / DECODER).items()})
        self.gpt.init_gpt_for_inference(kv_cache=True, use_deepspeed=False)

    @torch.no_grad()
    def retold(self, clip: int) -> Tensor:
        """The decoder's wave of the latents of the recording's codes, (samples,) at 24 kHz."""
        return self._decoded(clip, self.feed.clips.code_row(clip))

    @torch.no_grad()
    def said(self, clip: int) -> tuple[Tensor, bool]:
        """The base's own wave of the clip's text in its voice, and whether it ended by itself."""
        text = self.feed.clips.text(clip)[None]
        drawn = self.gpt.generate(
            self._voice(clip), text, do_sample=True, num_return_sequences=1, num_beams=1, length_penalty=1.0, **DRAWING
        )[0]
        stopped = bool((drawn == g.STOP_AUDIO_TOKEN).any())
        codes = drawn[drawn < g.AUDIO_CODES]
        return (self._decoded(clip, codes) if len(codes) else torch.zeros(g.DECODER_RATE)), stopped

    def _voice(self, clip: int) -> Tensor:
        frames, random = round(max(SAMPLE_SECONDS) * g.FRAMES_PER_SECOND), np.random.default_rng(clip)
        return voice_latents(self.gpt, self.feed.voices.samples(self.feed.clips.voices[[clip]], frames, random))

    def _decoded(self, clip: int, codes: Tensor) -> Tensor:
        latents = teacher_forced_latents(self.gpt, self._voice(clip), [self.feed.clips.text(clip)], [codes])[0]
        embedding = self.sounds.embeddings[self.feed.clips.voices[clip], 0]
        return decode_latents(self.vocoder, latents[None], embedding[None, :, None])[0, 0].cpu()


def run(work: Path, options: Any) -> None:
    """Measure and note the error rates of phonemes and letters, all languages together and each by itself."""
    device, speech = choose_device(options.device), Speech(work)
    base, dvae = Base(work, speech, device), load_dvae(work).to(device).eval()
    scale, files = load_file(work / "mel_stats.safetensors")["mel_stats"], mel_stats_file(work)
    clips = _chosen(speech, CLIPS)
    own = [clip for clip in clips if clip in set(_chosen(speech, SPOKEN_CLIPS))]
    torch.manual_seed(1)
    said = {clip: base.said(clip) for clip in progress(own, what="spoken", unit="clip")}
    to_old = torchaudio.transforms.Resample(g.DECODER_RATE, g.SAMPLE_RATE)

    def mels_of(waves: list[Tensor]) -> Mels:
        rows = [mel.T * scale for mel in dvae_mels([wave.reshape(1, -1) for wave in waves], files)]
        return Mels.of(rows, scale, device)

    natural = mels_of([speech.wave(clip) for clip in clips])
    heard = {
        "natural": (clips, natural),
        "through the codes": (clips, through_codes(dvae, natural, len(clips))[0]),
        "teacher-forced": (clips, mels_of([to_old(base.retold(clip)) for clip in clips])),
        "free-running": (own, mels_of([to_old(said[clip][0]) for clip in own])),
    }
    figures: dict[str, Any] = {"clips": len(clips), "spoken": len(own)}
    figures["stopped"] = sum(stopped for _, stopped in said.values()) / max(1, len(own))
    for name, (numbers, mels) in heard.items():
        figures[name] = _rates(work, speech, numbers, mels, device)
        all_of = figures[name]["all"]
        say(f"{name:<18} phonemes {all_of['phonemes']:.1%}, letters {all_of['letters']:.1%}")
    note(work, "old_languages", figures)


def _chosen(speech: Speech, count: int) -> list[int]:
    """The first `count` test clips of each language."""
    numbers = speech.of("test")
    languages = dict.fromkeys(speech.clips[number].language for number in numbers)
    return [n for name in languages for n in [n for n in numbers if speech.clips[n].language == name][:count]]


def _rates(work: Path, speech: Speech, numbers: list[int], mels: Mels, device: str) -> dict[str, dict[str, float]]:
    network, symbols = load_phonemes(work, device)
    rows = [hear(network, symbols, *mels.log_mels(np.array([clip])))[0] for clip in range(len(numbers))]
    clips = [speech.clips[number] for number in numbers]
    phonemes = ["".join(chr(0x4E00 + i) for i in symbols.phoneme_ids(clip.phonemes)) for clip in clips]
    letters = [spoken(clip.text) for clip in clips]

    def rates(wanted: Callable[[int], bool]) -> dict[str, float]:
        kept = [place for place in range(len(clips)) if wanted(place)]
        pairs = {"phonemes": (phonemes, 0), "letters": (letters, 1)}
        return {
            name: round(character_error_rate([said[p] for p in kept], [rows[p][kind] for p in kept]).value, 4)
            for name, (said, kind) in pairs.items()
        }

    languages = dict.fromkeys(clip.language for clip in clips)
    return {"all": rates(lambda place: True)} | {
        name: rates(lambda place, name=name: clips[place].language == name)  # type: ignore[misc]
        for name in languages
    }
