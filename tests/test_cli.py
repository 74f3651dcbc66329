import subprocess
import sys
from pathlib import Path

import pytest

from xtts_ka import __version__, cli

ROOT = Path(__file__).parents[1]


def test_help_and_version_are_quick_and_load_nothing_heavy():
    probe = (
        "import sys\nfrom xtts_ka import cli\n"
        "try: cli.main([sys.argv[1]])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'transformers', 'TTS'} & sys.modules.keys()))"
    )
    for flag, words in (("--help", "xtts-ka tts --model_path"), ("--version", __version__)):
        done = subprocess.run([sys.executable, "-c", probe, flag], cwd=ROOT, capture_output=True, text=True)
        assert words in done.stdout and done.stdout.endswith("[]\n"), done.stdout + done.stderr


def test_tts_hands_its_flags_to_coquis_command(monkeypatch):
    given = []
    monkeypatch.setattr("xtts_ka.model.coqui_georgian.coqui_command", given.append)
    flags = ["--text", "II მსოფლიო ომი", "--model_path", "m", "-h", "--version"]
    assert cli.main(["tts", *flags]) == 0 and given == [flags]


def test_another_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sing"])
    assert stop.value.code == 2 and "invalid choice: 'sing'" in capsys.readouterr().err
