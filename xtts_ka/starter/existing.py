"""Stand-ins that are there already: with which settings they were made, where the config's are others now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xtts_ka.core.config import STARTER_MARK, PretrainConfig
from xtts_ka.core.files import read_json
from xtts_ka.starter.stand_ins import RECORDINGS


def ignored_settings(config: PretrainConfig) -> list[str]:
    """A sentence for each stand-in that would be another one by the config's starter section, and is not made anew."""
    base, speech = Path(config.base_model_path), Path(config.data_dir) / RECORDINGS
    geometry = _mark(base).get("geometry")
    made = [
        (base, {f"starter.{name}": value for name, value in geometry.items()} if isinstance(geometry, dict) else {}),
        (speech, {"starter.clips": _mark(speech)["clips"]} if "clips" in _mark(speech) else {}),
    ]
    sentences = []
    for folder, values in made:
        wanted = {name: config.value(name) for name in values}
        # Fewer clips than asked for are made where the sentences are used up.
        others = [name for name, value in values.items() if value != wanted[name] and not _used_up(name, value, wanted)]
        if others:
            said = ", ".join(f"{name} {wanted[name]}" for name in others)
            kept = ", ".join(str(values[name]) for name in others)
            sentences.append(
                f"{said} has no effect, since the stand-in in {folder} was made with {kept}: remove that folder to "
                "have it made anew"
            )
    return sentences


def _used_up(name: str, value: Any, wanted: dict[str, Any]) -> bool:
    from xtts_ka.starter.speech import VOICES

    return name == "starter.clips" and value < wanted[name] and value % len(VOICES) == 0


def _mark(folder: Path) -> dict[str, Any]:
    file = folder / STARTER_MARK
    mark = read_json(file, "starter mode's mark", f"remove the folder {folder}") if file.is_file() else {}
    return mark if isinstance(mark, dict) else {}
