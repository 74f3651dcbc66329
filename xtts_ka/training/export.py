"""From the best checkpoint to the folder that stock coqui-tts loads, and the report that says what it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from data_loader import DataManager
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.files import atomic_path, read_json, write_json, write_text
from xtts_ka.core.tensor_files import load_torch, read_pickle, save_torch, tensors_to_bytes, write_pickle
from xtts_ka.corpus.tables import read_split
from xtts_ka.model.checkpoint import XttsFiles, extended_config, write_model
from xtts_ka.model.features import VoiceEncoder
from xtts_ka.model.speakers import read_speakers, recompute_cond_latents, suspect_ids
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.metrics_log import first_and_best

COMBINED_SCHEMA = 1


def export_model(
    config: PretrainConfig, base: XttsFiles, gpt_state: dict[str, Tensor], facts: dict[str, Any], device: str
) -> None:
    """Write the coqui layout, the combined pickle and the Georgian config into the output folder.

    gpt_state: the trained GPT's parameters, without prefix. facts: what `xtts_v2_ka_config.json` says of the training.
    """
    out = Path(config.output_model_path)
    state = {**base.state, **{f"gpt.{name}": tensor for name, tensor in gpt_state.items()}}
    xtts_config = extended_config(base.config, config.language, state["gpt.text_embedding.weight"].shape[0])
    for name in ("dvae.pth", "mel_stats.pth"):
        with atomic_path(out / name) as temporary:
            shutil.copyfile(base.folder / name, temporary)
    # The latents depend on the GPT's conditioning encoder, which has been trained since the embeddings stage.
    encoder = VoiceEncoder(xtts_config, state, device)
    speakers = recompute_cond_latents(
        read_speakers(out / "speakers_base.pth"),
        read_split(config.data_dir, "train"),
        encoder,
        suspect_ids(config.data_dir),
    )
    save_torch(out / "speakers_xtts.pth", speakers)
    language = read_pickle(out / "language_model_results.pkl")
    georgian = {
        "language": config.language,
        "character_limit": language["character_limit"],
        "archaic": config.text.archaic,
        "text_rows": state["gpt.text_embedding.weight"].shape[0],
        **facts,
        "pretrain_config": config.as_dict(),
    }
    write_pickle(out / "xtts_v2_ka_combined.pkl", _combined(out, state, speakers, xtts_config.to_dict(), georgian))
    write_model(out, xtts_config, state)
    write_json(out / "xtts_v2_ka_config.json", georgian)


def _combined(out: Path, state: dict[str, Tensor], speakers: dict, config: dict, georgian: dict) -> dict[str, Any]:
    """Everything in one file: builtins, with tensors as safetensors bytes."""
    voices = {f"{name}/{kind}": tensor for name, voice in speakers.items() for kind, tensor in voice.items()}
    return {
        "schema": COMBINED_SCHEMA,
        "georgian": georgian,
        "config": _plain(config),
        "vocab": (out / "vocab.json").read_text("utf-8"),
        "model": tensors_to_bytes(state),
        "speakers": tensors_to_bytes(voices),
        "g2p": tensors_to_bytes(load_torch(out / "g2p_model.pt")),
        "g2p_config": read_json(out / "g2p_config.json"),
        "phoneme_dict": read_json(out / "phoneme_dict_ka.json"),
        "phoneme_vocab": read_pickle(out / "phoneme_vocab.pkl"),
    }


def write_report(
    config: PretrainConfig, metrics: Path, data: DataManager, best: Checkpoint, stand_ins: list[str]
) -> dict[str, Any]:
    """Write and print the final report: what was trained on, losses first → best, what to do next. Returns its figures."""
    lines = first_and_best(metrics)
    first, lowest = lines["first_val"], lines["best_val"]
    train = [lines[name]["loss"] if lines[name] else None for name in ("first_train", "last_train")]
    figures = {
        "step": best.step,
        "train_clips": len(data.train),
        "train_hours": round(data.train.index.facts["seconds"] / 3600, 4),
        "first_train_loss": train[0],
        "last_train_loss": train[1],
        "first_val_loss": first and first["loss"],
        "best_val_loss": lowest and lowest["loss"],
        "stand_ins": stand_ins,
    }
    out = Path(config.output_model_path)
    report = [
        "# Georgian XTTS-v2",
        "",
        f"Trained on: {figures['train_clips']} clips, {figures['train_hours']} h"
        + (f" (STARTER: {', '.join(stand_ins)})" if stand_ins else ""),
        f"Training loss: {train[0]:.4f} → {train[1]:.4f}"
        if None not in train
        else "Training loss: too few steps to log",
        f"Validation loss: {first['loss']:.4f} → {lowest['loss']:.4f} (best, step {lowest['step']})" if first else "",
        f"Exported: step {best.step} to {out}",
        "",
        "Next: "
        + (
            "this is a rehearsal with stand-ins. Fetch the real base model and make metadata from your recordings "
            "(README, «your own data»), then run the same command."
            if stand_ins
            else "listen: python synthesize.py --config CONFIG --text '…'; more steps: raise max_steps and run the same command."
        ),
    ]
    write_text(out / "REPORT.md", "\n".join(report) + "\n")
    for line in report:
        say(line)
    return figures


def _plain(value: Any) -> Any:
    """Config values as builtins."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
