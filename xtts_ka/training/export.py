"""Writes the trained model as the folder that stock coqui-tts loads, the training report and the model card."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from xtts_ka.core.config import STARTER_MARK, PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.files import atomic_path, read_json, write_json, write_text
from xtts_ka.core.jsonl import number
from xtts_ka.core.tensor_files import load_torch, read_pickle, save_torch, tensors_to_bytes, write_pickle
from xtts_ka.corpus.embedding_files import SPEAKERS_FILE
from xtts_ka.corpus.tables import read_split
from xtts_ka.georgian.reading import Reading
from xtts_ka.model.checkpoint import VOCODER, XttsFiles, extended_config, write_model
from xtts_ka.model.features import VoiceEncoder
from xtts_ka.model.speakers import read_speakers, speaker_table, suspect_ids
from xtts_ka.speech.lengths import RATES_KEY, letter_rates
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.clip_index import TrainingIndex
from xtts_ka.training.metrics_log import SAMPLES, losses, rounds_of_samples, unseen_losses

COMBINED_SCHEMA = 1
_AFTER_STARTER = (
    "this is a rehearsal with stand-ins. Fetch the real base model and make metadata from your recordings (README, "
    "«your own data»), then run the same command."
)
_AFTER_TRAINING = "listen: python synthesize.py --config CONFIG --text '…'; more: raise {}, run the same command."


def export_model(
    config: PretrainConfig, base: XttsFiles, gpt_state: dict[str, Tensor], facts: dict[str, Any], device: str
) -> None:
    """Write the coqui layout, the combined pickle and the Georgian config into the output folder.

    gpt_state: the trained GPT's parameters, without prefix. facts: what `xtts_v2_ka_config.json` says of the training.
    """
    out = Path(config.output_model_path)
    state = {**base.state, **{f"gpt.{name}": tensor for name, tensor in gpt_state.items()}}
    xtts_config = extended_config(base.config, config.language, state["gpt.text_embedding.weight"].shape[0])
    for source in (config.dvae_file, base.folder / "mel_stats.pth"):
        if source.parent != out:  # the dvae stage has written its DVAE there
            with atomic_path(out / source.name) as temporary:
                shutil.copyfile(source, temporary)
    # The latents depend on the GPT's conditioning encoder, which was trained after the embeddings stage.
    table, clips = read_speakers(out / SPEAKERS_FILE), read_split(config.data_dir, "train")
    encoder = VoiceEncoder(xtts_config, state, device)
    voices = {name: voice["speaker_embedding"] for name, voice in table.items()}
    speakers = speaker_table(clips, encoder, voices, suspect_ids(config.data_dir))
    save_torch(out / "speakers_xtts.pth", speakers)
    language = read_pickle(out / "language_model_results.pkl")
    georgian = {
        "language": config.language,
        "character_limit": language["character_limit"],
        **Reading.of(config.text).facts(),
        "text_rows": state["gpt.text_embedding.weight"].shape[0],
        RATES_KEY: {name: round(rate, 3) for name, rate in letter_rates(clips).items()},
        **facts,
        "pretrain_config": config.model_dump(),
    }
    write_pickle(out / "xtts_v2_ka_combined.pkl", _combined(out, state, speakers, xtts_config.to_dict(), georgian))
    write_model(out, xtts_config, state)
    write_json(out / "xtts_v2_ka_config.json", georgian)


def replace_decoder(out: Path, exported: XttsFiles, weights: dict[str, Tensor]) -> None:
    """Put a trained vocoder into the exported model's `model.pth` and combined pickle.

    exported: as read from `out`. weights: the vocoder's, without prefix; those of the old one go, whose names may be
    those of torch's former weight_norm.
    """
    state = {name: tensor for name, tensor in exported.state.items() if not name.startswith(VOCODER)}
    state |= {f"{VOCODER}{name}": tensor for name, tensor in weights.items()}
    combined = read_pickle(out / "xtts_v2_ka_combined.pkl")
    write_pickle(out / "xtts_v2_ka_combined.pkl", {**combined, "model": tensors_to_bytes(state)})
    write_model(out, exported.config, state)


def _combined(out: Path, state: dict[str, Tensor], speakers: dict, config: dict, georgian: dict) -> dict[str, Any]:
    """Everything in one file: builtins, with tensors as safetensors bytes."""
    voices = {f"{name}/{kind}": tensor for name, voice in speakers.items() for kind, tensor in voice.items()}
    return {
        "schema": COMBINED_SCHEMA,
        "georgian": georgian,
        "config": json.loads(json.dumps(config, default=str)),
        "vocab": (out / "vocab.json").read_text("utf-8"),
        "model": tensors_to_bytes(state),
        "speakers": tensors_to_bytes(voices),
        "g2p": tensors_to_bytes(load_torch(out / "g2p_model.pt")),
        "g2p_config": read_json(out / "g2p_config.json"),
        "phoneme_dict": read_json(out / "phoneme_dict_ka.json"),
        "phoneme_vocab": read_pickle(out / "phoneme_vocab.pkl"),
    }


def write_report(
    config: PretrainConfig,
    metrics: Path,
    train: TrainingIndex,
    best: Checkpoint,
    stand_ins: list[str],
    length_key: str,
    old: dict[str, Any],
    candidates: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Write and print REPORT.md: what was trained on, losses first → best, what to do next. Returns its figures.

    metrics: the run's metrics.jsonl; train: the clips trained on; best: the exported checkpoint;
    length_key: the config's key that limits the number of steps; old: `old_rows` and `old_languages`, as
    training/old_languages.py measures them, where it could; candidates: step, val_loss, cer, similarity and fault_rate
    of the checkpoints that were heard, the chosen one first.
    """
    out, (train_losses, val_losses) = Path(config.output_model_path), losses(metrics)
    unseen = unseen_losses(metrics, best.step)
    figures = {
        "step": best.step,
        "train_clips": len(train),
        "voices": len(np.unique(train.speakers[train.known])),
        "train_hours": round(float(train.seconds.sum()) / 3600, 4),
        "first_train_loss": train_losses[0] if train_losses else None,
        "last_train_loss": train_losses[-1] if train_losses else None,
        "first_val_loss": val_losses[0] if val_losses else None,
        "best_val_loss": best.val_loss,
        "unseen_loss": unseen,
        "stand_ins": stand_ins,
        "best_by": config.training.best_by,
        "candidates": list(candidates),
        "samples": rounds_of_samples(metrics)[-1:],
        **old,
    }
    report = ["# Georgian XTTS-v2", "", f"Trained on: {figures['train_clips']} clips, {figures['train_hours']} h"]
    if stand_ins:
        report[-1] += f" (STARTER: {', '.join(stand_ins)})"
    if train_losses:
        report.append(f"Training loss: {train_losses[0]:.4f} → {train_losses[-1]:.4f}")
    else:
        report.append("Training loss: too few steps to log")
    if val_losses and best.val_loss is not None:
        report.append(f"Validation loss: {val_losses[0]:.4f} → {best.val_loss:.4f} (best, step {best.step})")
    if unseen:
        first, exported = unseen
        report.append(f"Validation loss of speakers not trained on: {first:.4f} → {exported:.4f} (step {best.step})")
    report += _heard_lines(metrics, candidates)
    report += [
        f"Exported: step {best.step} to {out}",
        *(f"{name}: {value}" for name, value in _old_language_lines(figures).items()),
        "",
        f"Next: {_AFTER_STARTER if stand_ins else _AFTER_TRAINING.format(length_key)}",
    ]
    write_text(out / "REPORT.md", "\n".join(report) + "\n")
    for line in report:
        say(line)
    return figures


def _heard_lines(metrics: Path, candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was heard in samples, first → last, and in the candidates for the export."""
    lines, rounds = [], rounds_of_samples(metrics)
    if rounds:
        first, last = rounds[0], rounds[-1]
        shown = [
            f"{title} {form.format(first[name])} → {form.format(last[name])}"
            for name, (title, form) in _HEARD.items()
            if math.isfinite(number(first.get(name))) and math.isfinite(number(last.get(name)))
        ]
        own = number(last.get("recogniser_cer"))
        floor = f"; the recogniser's own CER on real recordings {own:.1%}" if math.isfinite(own) else ""
        where = metrics.with_name(SAMPLES) / "index.html"
        lines.append(
            f"Samples, step {first['step']} → {last['step']} ({len(rounds)} rounds): {', '.join(shown)}{floor}; {where}"
        )
    for candidate in candidates:
        loss, cer = candidate["val_loss"], candidate["cer"]
        chosen = "chosen by CER" if candidate is candidates[0] else "also heard"
        validation = "not validated" if loss is None else f"validation loss {loss:.4f}"
        interval = f"{cer['value']:.1%} ({cer['low']:.1%} to {cer['high']:.1%})"
        faults = f"clips with a fault {candidate['fault_rate']:.0%}"
        lines.append(f"Step {candidate['step']}, {chosen}: CER {interval}, {validation}, {faults}")
    return lines


_HEARD = {
    "cer": ("CER", "{:.1%}"),
    "similarity": ("voice similarity", "{:.3f}"),
    "fault_rate": ("clips with a fault", "{:.0%}"),
}


def _old_language_lines(figures: dict[str, Any]) -> dict[str, str]:
    """What training did to the old languages: name → figures."""
    lines = {}
    if rows := figures.get("old_rows"):
        changes = (
            f"{table} {c['max_abs']:.2g} at {c['token']!r} ({c['share_of_norm']:.2%})" for table, c in rows.items()
        )
        lines["Largest change of an old text row (share of the row's length)"] = ", ".join(changes)
    for language, found in figures.get("old_languages", {}).items():
        losses = {"text": found["loss_text"], "audio": found["loss_mel"]}
        shown = ", ".join(f"{kind} {before:.4f} → {after:.4f}" for kind, (before, after) in losses.items())
        lines[f"Loss in {language}, base → exported"] = f"{shown} ({found['clips']} clips, {found['seconds']:.0f} s)"
    return lines


# ── the model card ───────────────────────────────────────────────────────────────────────────────────────────────────

# The licence's fields are those of the base model's own card.
_BASE_FIELDS = """license: other
license_name: coqui-public-model-license
license_link: https://huggingface.co/coqui/XTTS-v2/blob/main/LICENSE.txt
base_model: coqui/XTTS-v2
"""
_CARD = """---
language: ka
{base_fields}pipeline_tag: text-to-speech
library_name: coqui
tags:
- text-to-speech
- xtts
- georgian
- coqui-tts
---

# {title}

{about}

## Training

| | |
|---|---|
{figures}

The losses are means over tokens, in nats: they say how training went, not how the voice sounds.

## How to speak with it

Install the project `xtts-ka` (`pip install .` in its folder), which teaches coqui-tts to read Georgian, and download
this folder as `xtts_v2_ka`:

```python
import xtts_ka

model = xtts_ka.load_xtts("xtts_v2_ka")  # coqui's Xtts
{voice}
wav = model.inference("დღეს კარგი ამინდია.", "ka", latents, speaker)["wav"]
```

`wav` is mono, 24 kHz. With a recording of another voice, and by coqui's `tts` command:

```
xtts-ka tts --model_path xtts_v2_ka --config_path xtts_v2_ka/config.json --language_idx ka --speaker_wav voice.wav \\
    --text "დღეს კარგი ამინდია." --out_path speech.wav
```

## Files

Speaking needs `model.pth`, `config.json`, `vocab.json`, `speakers_xtts.pth` and `xtts_v2_ka_config.json`. All others
are optional: `dvae.pth` and `mel_stats.pth` for further training, `xtts_v2_ka_combined.pkl` (the whole model again, in
one file), and the pronunciation dictionary, measurements and records of the run.

{consent}
"""
# A model whose recordings name no speaker has no voice of its own.
_FIRST_VOICE = (
    "latents, speaker = next(iter(model.speaker_manager.speakers.values())).values()  # the first; a dict by name"
)
_OTHER_VOICE = 'latents, speaker = model.get_conditioning_latents(audio_path="voice.wav")  # of a recording'
_CONSENT = "`speakers_xtts.pth` holds the voices of the people who were recorded: publish it only with their consent."
_NO_VOICES = (
    "`speakers_xtts.pth` is empty: the recordings did not tell who spoke, so the model speaks after a recording."
)
_UNUSABLE = (
    "**STARTER: this is no usable voice.** It is a rehearsal of the training, made with stand-ins: {}. It shows that "
    "the pipeline works, nothing more: do not use its speech."
)
_ADAPTED = (
    "XTTS-v2, which speaks 17 languages in any voice after a few seconds of it, trained further to read Georgian."
)
_LICENSED = (
    "The base model's licence, the Coqui Public Model License, holds for this model too: non-commercial use only, of "
    "the model and of its speech. Training changed weights that all languages share, so the old ones may sound "
    "worse. Where losses in them were measured, they stand below: the more they have grown, the more was lost."
)


def write_card(config: PretrainConfig, figures: dict[str, Any]) -> None:
    """Write README.md, the model's page on Hugging Face. figures: what `write_report` returned."""
    stand_ins, own_base = figures["stand_ins"], not (Path(config.base_model_path) / STARTER_MARK).is_file()
    about = [_UNUSABLE.format(", ".join(stand_ins))] if stand_ins else []
    about += [_ADAPTED, _LICENSED] if own_base else []
    data = f"{figures['train_clips']} clips, {figures['train_hours']} h"
    rows = {"Data": data + (f" ({', '.join(stand_ins)})" if stand_ins else ""), "Exported step": figures["step"]}
    for name, first, last in (
        ("Training loss, first → last", "first_train_loss", "last_train_loss"),
        ("Validation loss, first → exported", "first_val_loss", "best_val_loss"),
    ):
        if figures[first] is not None and figures[last] is not None:
            rows[name] = f"{figures[first]:.4f} → {figures[last]:.4f}"
    rows |= {name: value.replace("|", "\\|") for name, value in _old_language_lines(figures).items()}
    card = _CARD.format(
        base_fields=_BASE_FIELDS if own_base else "",
        title="Georgian XTTS-v2" + (" (STARTER: no usable voice)" if stand_ins else ""),
        about="\n\n".join(about),
        voice=_FIRST_VOICE if figures["voices"] else _OTHER_VOICE,
        consent=_CONSENT if figures["voices"] else _NO_VOICES,
        figures="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
    )
    write_text(Path(config.output_model_path) / "README.md", card)
