"""How well the first command's model speaks: the acceptance of the trained stand-in base.

    python run_pretrain.py --config xtts_pretrain_config.json
    python tests/benchmarks/exp_starter_base.py --config xtts_pretrain_config.json --work /tmp/starter_base

Speaks the evaluation's kept sentences (100 that no training has seen, a third of them over 4 s), each in one of the
voices in turn, free-running, with stock coqui's `Xtts.load_checkpoint` and `Xtts.inference` on the exported folder.
Listens with a recogniser that is trained in WORK on the train table's natural clips alone, with the default settings.
Beside it stands what the recogniser hears when espeak-ng itself speaks the same sentences, and teacher-forced: when the
decoder makes them of the GPT's latents of espeak-ng's speech. Everything is kept in WORK: the same command carries on.
Whose voice it is the model's own speaker encoder says, and three others that are trained in WORK on the natural clips.
A sentence longer than the model's limit is spoken in pieces, as synthesize.py does; it has no teacher-forced clip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torchaudio
from torch import Tensor
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.models.xtts import Xtts

import xtts_ka
from xtts_ka.core.config import PretrainConfig, RecogniserConfig, load_config
from xtts_ka.core.console import progress, say
from xtts_ka.core.digests import file_digest
from xtts_ka.core.files import write_json
from xtts_ka.corpus.audio import read_mono, write_wav
from xtts_ka.corpus.tables import read_split
from xtts_ka.evaluation.character_errors import count_errors, mean
from xtts_ka.evaluation.speaker_similarity import VoiceJudge
from xtts_ka.evaluation.texts import KEPT_SETS, Text, read_texts
from xtts_ka.georgian.reading import Reading
from xtts_ka.model import geometry as g
from xtts_ka.model.coqui_georgian import FACTS_FILE, read_facts
from xtts_ka.model.features import FeatureExtractor, VoiceEncoder, load_speech
from xtts_ka.model.latents import decode_latents, teacher_forced_latents
from xtts_ka.model.networks import build_speaker_encoder
from xtts_ka.recognition.recogniser import Recogniser
from xtts_ka.recognition.train_recogniser import ensure_recogniser
from xtts_ka.starter.speech import VOICES, synthesise, trim_silence
from xtts_ka.training.gpt_trainer import build_accelerator
from xtts_ka.training.parts_loop import train_part
from xtts_ka.training.speaker_trainer import SpeakerConfig, SpeakerPart, wave_pieces

LONG_SECONDS = 4.0  # of espeak-ng's own clip
CUT_SECONDS = 27.0  # a clip of this length has not ended by itself: coqui stops at 605 codes, 28 s
ENCODER_SEEDS = (2, 3, 4)  # of the encoders beside the model's own
PER_VOICE = 20  # recordings of each voice that the nearest voice is judged by


class Clip(NamedTuple):
    """A sentence, and the files of what the model and espeak-ng have made of it."""

    text: Text
    voice: str
    spoken: Path
    teacher_forced: Path
    natural: Path


def kept_texts() -> list[Text]:
    return [
        t for kind in KEPT_SETS for t in read_texts(ROOT / f"data/evaluation_sentences_ka/{kind}.txt", Reading(), 99)
    ]


@cache
def stock_model(folder: Path) -> Xtts:
    """The exported folder as stock coqui loads it, at full width; loaded once."""
    xtts_ka.register()
    config = XttsConfig()
    config.load_json(str(folder / "config.json"))
    model = Xtts(config)
    model.load_checkpoint(config, checkpoint_dir=str(folder), eval=True)
    return model


def speak(folder: Path, clip: Clip, seed: int) -> None:
    """Write the clip; where a piece has not ended by itself, an empty file beside it says so."""
    model = stock_model(folder)
    voice = model.speaker_manager.speakers[clip.voice]
    torch.manual_seed(seed)
    waves = [
        np.atleast_1d(model.inference(piece, "ka", voice["gpt_cond_latent"], voice["speaker_embedding"])["wav"])
        for piece in clip.text.pieces(limit_of(folder))
    ]
    if any(len(wave) / g.DECODER_RATE > CUT_SECONDS for wave in waves):
        clip.spoken.with_suffix(".cut").touch()
    write_wav(clip.spoken, np.concatenate(waves), g.DECODER_RATE)


def speak_all(config: PretrainConfig, work: Path, seed: int) -> list[Clip]:
    folder = Path(config.output_model_path)
    place = work / f"{file_digest(folder / 'model.pth')[:12]}_{seed}"
    place.mkdir(parents=True, exist_ok=True)
    voices = {voice.speaker_id: voice for voice in VOICES}
    clips = []
    for number, text in enumerate(kept_texts()):
        name = list(voices)[number % len(voices)]
        natural = work / "natural" / f"{number:03d}_{name}.wav"
        spoken = place / natural.name
        clips.append(Clip(text, name, spoken, spoken.with_suffix(".teacher_forced.wav"), natural))
    for number, clip in enumerate(progress(clips, what="speaking", unit="clip")):
        if not clip.natural.is_file():
            clip.natural.parent.mkdir(exist_ok=True)
            own = voices[clip.voice]
            write_wav(clip.natural, trim_silence(synthesise(clip.text.reading, own.voice, own.rate, own.pitch)), 22_050)
        if not clip.spoken.is_file():
            speak(folder, clip, 1000 * seed + number)
    speak_teacher_forced([clip for clip in clips if len(clip.text.pieces(limit_of(folder))) == 1], folder)
    return clips


def limit_of(folder: Path) -> int:
    """The longest text in characters that the model speaks at once."""
    return read_facts(folder / FACTS_FILE)[0]


@torch.no_grad()
def speak_teacher_forced(clips: list[Clip], folder: Path) -> None:
    """Write each clip that is missing as the decoder makes it of the GPT's latents of espeak-ng's speech."""
    due = [clip for clip in clips if not clip.teacher_forced.is_file()]
    if not due:
        return
    model, speech = stock_model(folder), [load_speech(clip.natural) for clip in due]
    extractor = FeatureExtractor(folder, model.config)
    for clip, wave in progress(list(zip(due, speech)), what="speaking teacher-forced", unit="clip"):
        (codes, _), voice = extractor([wave])[0], model.speaker_manager.speakers[clip.voice]
        text = torch.tensor(model.tokenizer.encode(clip.text.text.strip().lower(), lang="ka"))
        latents = teacher_forced_latents(model.gpt, voice["gpt_cond_latent"], [text], [codes])[0]
        made = decode_latents(model.hifigan_decoder.waveform_decoder, latents[None], voice["speaker_embedding"])
        write_wav(clip.teacher_forced, made.flatten().numpy(), g.DECODER_RATE)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def recogniser(config: PretrainConfig, work: Path) -> Recogniser:
    """One of the default settings, trained in WORK on the train table."""
    own = {"output_model_path": str(work / "judge"), "recogniser": RecogniserConfig()}
    return ensure_recogniser(config.model_copy(update=own))


def errors(listener: Recogniser, clips: list[Clip], made: str, spaces: bool) -> list[float]:
    """The share of wrong letters of each clip. made: which of its files."""
    rates = []
    for clip in clips:
        wave, rate = read_mono(getattr(clip, made))
        (heard,) = listener.hear([wave], rate)
        expected = clip.text.expected
        if not spaces:
            expected, heard = expected.replace(" ", ""), heard.replace(" ", "")
        found = count_errors(expected, heard)
        rates.append(found.wrong_letters / found.letters)
    return rates


Embed = Callable[[Tensor], np.ndarray]  # a wave (1, samples) at 22,050 Hz → its voice


def nearest(config: PretrainConfig, clips: list[Clip], embed: Embed, voices: dict[str, np.ndarray]) -> list[bool]:
    """Of each clip, whether its own voice is the nearest. voices: empty for the means of their recordings."""
    own: dict[str, list[np.ndarray]] = {voice.speaker_id: [] for voice in VOICES}
    for clip in read_split(config.data_dir, "train"):
        if clip.speaker_id in own and len(own[clip.speaker_id]) < PER_VOICE:
            own[clip.speaker_id].append(embed(load_speech(clip.audio_path)))
    voices = voices or {name: np.mean(rows, axis=0) for name, rows in own.items()}
    heard = [(name, row) for name, rows in own.items() for row in rows]
    judge = VoiceJudge(voices, np.array([row for _, row in heard]), [name for name, _ in heard])
    return [judge.nearest(embed(load_speech(clip.spoken))) == clip.voice for clip in clips]


def by_the_model(config: PretrainConfig, clips: list[Clip]) -> list[bool]:
    """By the model's own speaker encoder and voices."""
    model = xtts_ka.load_xtts(config.output_model_path, "cpu")
    encoder = VoiceEncoder.of(model)
    voices = {
        name: voice["speaker_embedding"].numpy().ravel() for name, voice in model.speaker_manager.speakers.items()
    }
    return nearest(config, clips, lambda speech: encoder.speaker_embedding(speech).numpy().ravel(), voices)


def other_encoders(config: PretrainConfig, work: Path) -> Embed:
    """Several that are trained in WORK on the natural clips alone, and which no decoder has been trained with.

    Their embeddings are concatenated: each alone confuses one or two of the voices in what a decoder has made.
    """
    tables = {split: read_split(config.data_dir, split) for split in ("train", "val")}
    pieces = {
        split: wave_pieces(work / "voices" / split, split, [clip.audio_path for clip in table])
        for split, table in tables.items()
    }
    names = [[clip.speaker_id for clip in table] for table in tables.values()]
    settings = SpeakerConfig(max_steps=300, batch_size=24, learning_rate=2e-3)
    encoders = []
    for seed in ENCODER_SEEDS:
        torch.manual_seed(seed)
        encoder = build_speaker_encoder((8, 16, 32, 64))
        part = SpeakerPart(encoder, pieces["train"], names[0], pieces["val"], names[1], settings, seed=seed)
        folder = work / f"voices/{seed}"
        own = {"checkpoint_dir": str(folder), "log_dir": str(folder / "logs"), "device": "cpu"}
        changed = config.model_copy(update=own)
        encoder.load_state_dict(train_part(part, changed, "voices", build_accelerator(changed)).weights())
        encoders.append(encoder.eval())
    resample = torchaudio.transforms.Resample(g.SAMPLE_RATE, g.SPEAKER_RATE)

    @torch.no_grad()
    def embed(speech: Tensor) -> np.ndarray:
        heard = resample(speech)
        return np.concatenate([encoder(heard, l2_norm=True).numpy().ravel() for encoder in encoders])

    return embed


def middle(values: list[float]) -> str:
    """The median with its 95 % interval, by the bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return f"{np.median(values):.1%} ({low:.1%}–{high:.1%})"


def average(values: list[float]) -> str:
    found = mean([float(value) for value in values], range(len(values)))
    return "{value:.1%} ({low:.1%}–{high:.1%})".format(**found)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    config = load_config(args.config)
    clips = speak_all(config, args.work, args.seed)
    listener = recogniser(config, args.work)
    sounds = {clip: read_mono(clip.natural) for clip in clips}
    long = {clip: len(wave) / rate > LONG_SECONDS for clip, (wave, rate) in sounds.items()}
    say(f"{len(clips)} sentences, {sum(long.values())} of them over {LONG_SECONDS:g} s; intervals of 95 %")
    facts: dict[str, list] = {}
    for made, who in (
        ("natural", "espeak-ng itself"),
        ("teacher_forced", "the model teacher-forced"),
        ("spoken", "the model"),
    ):
        there = [clip for clip in clips if getattr(clip, made).is_file()]
        for spaces in (True, False):
            rates = errors(listener, there, made, spaces)
            facts[f"{who}, {'with' if spaces else 'without'} spaces"] = rates
            parts = {"all": rates}
            parts |= {f"over {LONG_SECONDS:g} s": [r for r, clip in zip(rates, there) if long[clip]]}
            parts |= {"shorter": [r for r, clip in zip(rates, there) if not long[clip]]}
            for name, part in parts.items():
                how = "" if spaces else ", spaces not counted"
                say(f"CER of {who}{how}, {name}: median {middle(part)}, mean {average(part)}")
    stopped = [not clip.spoken.with_suffix(".cut").is_file() for clip in clips]
    right, others = by_the_model(config, clips), other_encoders(config, args.work)
    other = nearest(config, clips, others, {})
    natural = nearest(config, [clip._replace(spoken=clip.natural) for clip in clips], others, {})
    say(f"ended by themselves: {average(stopped)}; own voice nearest of {len(VOICES)}: {average(right)}")
    say(f"by {len(ENCODER_SEEDS)} speaker encoders of another training: {average(other)}")
    say(f"by these, of espeak-ng itself: {average(natural)}")
    facts |= {
        "stopped": stopped,
        "right voice": right,
        "right voice by other encoders": other,
        "long": list(long.values()),
        "texts": [clip.text.text for clip in clips],
    }
    write_json(args.work / f"figures_{args.seed}.json", facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
