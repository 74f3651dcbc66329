"""Stand-ins that are there already: with which settings they were made, where the config's are others now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xtts_ka.core.config import STARTER_MARK, PretrainConfig
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.model.checkpoint import FETCH, LICENCE
from xtts_ka.starter.own_values import RECORDINGS
from xtts_ka.starter.speech import VOICES


def refuse_unasked(config: PretrainConfig) -> None:
    """UserError where the base model is a stand-in, and starter mode is off."""
    base = Path(config.base_model_path)
    if (base / STARTER_MARK).is_file() and not config.starter.enabled:
        raise UserError(
            f"the base model in {base} is starter mode's stand-in ({STARTER_MARK} says so), and starter.enabled is "
            f"false: remove that folder and fetch the real one with {FETCH} {base} ({LICENCE}), or set "
            "starter.enabled to true"
        )


def ignored_settings(config: PretrainConfig) -> list[str]:
    """A sentence for each stand-in that would be another one by the config's starter section, and is not made anew."""
    base, speech = Path(config.base_model_path), Path(config.data_dir) / RECORDINGS
    mark = _mark(base)
    geometry = mark.get("geometry") if mark.get("base") != "trained" else None  # the trained one's is the pack's
    facts = {f"starter.{name}": value for name, value in geometry.items()} if isinstance(geometry, dict) else {}
    made: list[tuple[Path, dict[str, Any]]] = [
        (base, facts | ({"starter.base": mark.get("base", "untrained")} if mark else {})),
        (speech, {"starter.clips": _mark(speech)["clips"]} if "clips" in _mark(speech) else {}),
    ]
    sentences = []
    for folder, values in made:
        wanted = {name: config.value(name) for name in values}
        # Fewer clips than asked for are made where the sentences are used up.
        others = [name for name, value in values.items() if value != wanted[name]]
        if others == ["starter.clips"] and values["starter.clips"] == min(wanted["starter.clips"], _most_clips(config)):
            continue
        if others:
            said = ", ".join(f"{name} {wanted[name]}" for name in others)
            kept = ", ".join(str(values[name]) for name in others)
            sentences.append(
                f"{said} has no effect, since the stand-in in {folder} was made with {kept}: remove that folder to "
                "have it made anew"
            )
    return sentences


def _most_clips(config: PretrainConfig) -> int:
    """Clips that all voices make of all sentences; 0 where the sentences are gone, which nobody needs any more."""
    file = Path(config.starter.sentences)
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    return len(VOICES) * sum(bool(line.strip()) for line in lines)


def _mark(folder: Path) -> dict[str, Any]:
    file = folder / STARTER_MARK
    mark = read_json(file, "starter mode's mark", f"remove the folder {folder}") if file.is_file() else {}
    return mark if isinstance(mark, dict) else {}
