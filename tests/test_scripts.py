"""For every script: --help with an example, --quiet and --verbose, and colour on terminals only."""

import importlib
import io
import re
import subprocess
import sys

import planted_speech
import pytest
import soundfile
from pipeline_run import ROOT

READER = "xtts_ka.georgian.text"
FLAGS = {
    "run_pretrain": ["--config", "--force", "--only", "--dry-run"],
    "run_xtts_pretrain": ["--config", "--step"],
    "embedding_adapter": ["--config", "--force"],
    "phoneme_processor": ["--config", "--words"],
    "data_loader": ["--config"],
    "prepare_recordings": ["--source", "--output_dir", "--transcript", "--speaker", "--asr", "--processes", "--shard"],
    "create_metadata_files": ["--embeddings_dir", "--output_dir", "--source", "--format"],
    "checkpoint_monitor": ["--config", "--plot", "--watch", "--interval", "--cleanup", "--analyze", "--export"],
    READER: ["--archaic"],
    "synthesize": ["--text"],
    "evaluate_model": [
        "--config",
        "--model",
        "--checkpoints",
        "--texts",
        "--speakers",
        "--reference",
        "--asr",
        "--seeds",
    ],
}
FILTERS = (READER, "phoneme_processor")  # they print their result with --quiet too


def test_no_script_is_forgotten():
    files = [*ROOT.glob("*.py"), *ROOT.glob("xtts_ka/*/*.py")]
    scripts = [file.relative_to(ROOT) for file in files if '__name__ == "__main__"' in file.read_text("utf-8")]
    makes_the_schema = "xtts_ka.core.config"
    assert {".".join(script.with_suffix("").parts) for script in scripts} == {*FLAGS, makes_the_schema}


@pytest.mark.parametrize("script", FLAGS)
def test_help_shows_flags_and_an_example_and_imports_nothing_heavy(script):
    heavy = ("torch", "TTS", "pandas", "transformers", "matplotlib")
    code = (
        f"import importlib, sys\nsys.path.insert(0, {str(ROOT)!r})\nscript = importlib.import_module({script!r})\n"
        f"try: script.main(['--help'])\nexcept SystemExit as stop: assert not stop.code\n"
        f"print('HEAVY', [m for m in {heavy} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "HEAVY []" in result.stdout
    assert all(flag in result.stdout for flag in [*FLAGS[script], "--quiet", "--verbose"])
    for readme in ("README.md", "README.en.md"):
        text = (ROOT / readme).read_text("utf-8")
        assert not [flag for flag in set(re.findall(r"--[a-z][\w-]*", result.stdout)) if f"`{flag}" not in text]
    assert (f"example: python -m {script} " if script == READER else f"example: python {script}.py ") in " ".join(
        result.stdout.split()
    )


WITHOUT_CONFIG = ("create_metadata_files", "prepare_recordings", READER)


def film(folder):
    """A recording of one sentence with its subtitle."""
    tape = planted_speech.Tape(seed=1)
    tape.pause(1, 1)
    tape.plant(["დილა მშვიდობისა"])
    tape.pause(1, 1)
    soundfile.write(folder / "film.wav", tape.taken(), planted_speech.RATE)
    (folder / "film.srt").write_text(planted_speech.srt(tape.planted, 0.0), "utf-8")
    return folder / "film.wav"


def arguments(script: str, config, folder) -> list[str]:
    """Arguments with which the script has something to do on a finished run."""
    words = folder / "words.txt"
    words.write_text("5 კატა\n", "utf-8")
    of_its_own = {
        "phoneme_processor": ["--words", str(words)],
        "create_metadata_files": [
            "--no_quality",  # rating sound takes long where the extra dnsmos is installed
            "--source",
            str(config.parent / "data/starter_recordings"),
            "--output_dir",
            str(folder / "data"),
            *("--max_seconds", "4", "--max_drop_fraction", "0.99"),  # --verbose lists what is dropped
        ],
        "prepare_recordings": [
            "--source",
            str(film(folder)),
            "--output_dir",
            str(folder / "clips"),
            "--processes",
            "1",
        ],
        READER: [str(words)],
        "synthesize": ["--text", "დილა", "--output", str(folder / "a.wav")],
        "evaluate_model": [
            *("--texts", str(words), "--speakers", "espeak_f1", "--asr", "sh -c 'echo კატა' {wav}"),
            *("--output", str(config.parent / "evaluation")),  # what is finished there is not spoken again
        ],
    }.get(script, [])
    return of_its_own if script in WITHOUT_CONFIG else ["--config", str(config), *of_its_own]


@pytest.fixture(params=FLAGS)
def script(request, finished, tmp_path):
    """(name, a function that runs it in this process on a finished run)."""
    call = arguments(request.param, finished[0], tmp_path)
    return request.param, lambda *flags: importlib.import_module(request.param).main([*call, *flags])


def test_quiet_says_nothing_and_verbose_says_more(script, capfd):
    name, run = script
    said = {}
    for flags in ((), ("--quiet",), ("--verbose",)):
        assert run(*flags) == 0
        out, err = capfd.readouterr()
        said[flags] = (out, [line for line in err.splitlines() if "STARTER" not in line])
    (out, err), (quiet, quiet_err), (detailed, notes) = said.values()
    assert "\x1b" not in out + quiet + detailed  # no terminal, no colour
    assert out and err == quiet_err == []
    assert quiet == (out if name in FILTERS else "")
    assert notes and detailed == out if name in FILTERS else len(detailed.splitlines()) > len(out.splitlines())


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [True, False])
def test_colour_is_for_terminals_without_no_color(script, monkeypatch, no_color):
    name, run = script
    for variable in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal(io.BytesIO(), "utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run() == 0
    coloured = b"\x1b[" in terminal.buffer.getvalue()
    assert coloured == (not no_color and name not in (*FILTERS, "synthesize", "evaluate_model", "prepare_recordings"))
