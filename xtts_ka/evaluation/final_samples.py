"""The pipeline's last stage: the finished model speaks a few sentences in the voices, and the recogniser listens.

The report page is that of evaluate_model.py, in the same folder; the wavs are also put beside the model, under names
that say the sentence and the voice.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.files import atomic_path, sweep_partials, write_text
from xtts_ka.evaluation.evaluate import Outcome, Request, evaluate
from xtts_ka.evaluation.report import shown_share, summary_lines, write_report

FOLDER, PAGE = "evaluation", "report.html"  # in log_dir
LIST = "sentences.txt"


def speak_samples(config: PretrainConfig, sentences: Path, folder: Path) -> dict[str, Any]:
    """Speak `sentences` (one a line) with the config's model, write the report, and put the wavs into `folder`.

    Returns the figures, and `heard`, what of them belongs on one line.
    """
    output = Path(config.log_dir) / FOLDER
    request = Request(
        output, kept_sets=(), texts=(sentences,), voices=config.evaluation.voices, attempts=0, rate_sound=False
    )  # without guard: the figures are the model's own, and it takes less time
    outcome = evaluate(config, request)
    report = write_report(outcome, {"texts": [str(sentences)], "seed": config.seed}, output)
    for line in summary_lines(report):
        say(line)
    _collect(outcome, output / "clips", folder)
    model, floor = report["model"], report["recogniser"]["cer"]
    similarity = model["similarity"]["value"]
    heard = f"CER {shown_share(model['cer'])}, recordings {shown_share(floor)}"
    return {
        "heard": heard + ("" if similarity is None else f", similarity {similarity:.2f}"),
        "cer": model["cer"]["value"],
        "recordings_cer": floor["value"],
        "similarity": similarity,
        "right_voice": model["top1"]["value"],
        "clips": len(outcome.clips),
        "folder": str(folder),
        "page": str(output / PAGE),
    }


def _collect(outcome: Outcome, clips: Path, folder: Path) -> None:
    """The clips as `1_2_espeak_f1.wav` (sentence 1, voice 2), in place of earlier ones, and the list of sentences."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(clip.text for clip in outcome.clips), 1)}
    voices = {voice: number for number, voice in enumerate(dict.fromkeys(clip.voice for clip in outcome.clips), 1)}
    folder.mkdir(parents=True, exist_ok=True)
    sweep_partials(folder)
    names = set()
    for clip in outcome.clips:
        voice = "".join(c if c.isalnum() or c in "-_" else "_" for c in clip.voice)[:60]
        names.add(name := f"{numbers[clip.text]}_{voices[clip.voice]}_{voice}.wav")
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(clips / f"{clip.wav_key}.wav", temporary)
    for old in folder.glob("[0-9]*_[0-9]*_*.wav"):
        if old.name not in names:
            old.unlink()
    write_text(folder / LIST, "".join(f"{number}  {text}\n" for text, number in numbers.items()))
