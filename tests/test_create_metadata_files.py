"""The command create_metadata_files.py: what it prints, refuses and imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_corpora import add_row, coqui

import create_metadata_files
from create_metadata_files import main
from xtts_ka.corpus.tables import has_metadata

ROOT = Path(create_metadata_files.__file__).parent


def test_command_prints_counts_and_the_next_step(tmp_path, capsys):
    source = coqui(tmp_path / "src")
    add_row(source, "wavs/none.wav|ა ბ|nino")
    arguments = ["--source", str(source), "--output_dir", str(tmp_path / "data"), "--val_fraction", "0.2"]
    arguments += ["--no_dnsmos"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for words in ("found coqui", "kept 20 of 21 clips", "2 speakers", "missing_audio", "run_pretrain.py --config"):
        assert words in out
    assert main([*arguments, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""


@pytest.mark.parametrize(
    "extra, word",
    [
        (["--val_fraction", "0"], "validation"),
        (["--min_seconds", "99"], "max_seconds"),
        (["--format", "fleurs"], "fleurs"),
        (["--embeddings_dir", "/nowhere"], "/nowhere"),
        (["--max_seconds", "0.55"], "too_long 20"),
        (["--min_snr", "-11"], "min_snr is -11.0: it must lie between -10 and"),
        (["--max_cer", "nan"], "max_cer"),
        (["--processes", "0"], "--processes is 0"),
        (["--no_quality", "--check_transcripts"], "--no_quality"),
        (["--base_model", "/nowhere"], "/nowhere"),
    ],
)
def test_command_refuses_in_one_sentence(tmp_path, capsys, extra, word):
    source = coqui(tmp_path / "src")
    quickly = ["--quiet", "--no_dnsmos"]
    assert main(["--source", str(source), "--output_dir", str(tmp_path / "data"), *quickly, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and word in error
    assert not has_metadata(tmp_path / "data")


def test_thirty_clips_are_enough_without_a_flag(tmp_path, capsys):
    source = coqui(tmp_path / "src", 30)
    assert main(["--source", str(source), "--output_dir", str(tmp_path / "data"), "--no_dnsmos"]) == 0
    assert "so that validation gets 2 clips" in capsys.readouterr().out and has_metadata(tmp_path / "data")


def test_where_every_row_fails_no_limit_is_proposed(tmp_path, capsys):
    source = coqui(tmp_path / "src", 12)
    for path in source.glob("wavs/*"):
        path.write_bytes(b"")
    assert main(["--source", str(source), "--output_dir", str(tmp_path / "data"), "--no_dnsmos"]) == 2
    error = capsys.readouterr().err
    assert "12 of 12 rows cannot be used" in error and "the file is empty" in error and "limit" not in error


def test_help_is_light():
    code = """
import sys, create_metadata_files
try:
    create_metadata_files.main(["--help"])
except SystemExit as stop:
    assert not stop.code
heavy = {"torch", "numpy", "pandas", "soundfile", "transformers", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "example: python create_metadata_files.py" in result.stdout
    assert "--max_drop_fraction" in result.stdout
