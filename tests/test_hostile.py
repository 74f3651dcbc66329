"""Hostile files: no code in them is run, no file outside is read, memory stays bounded, each ends in one clear line.

The modules' own tests have the single cases; here whole commands meet hostile files in every place where they read one.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_corpora import SENTENCES, add_row, coqui
from small_project import Outcome, here, write_config

import create_metadata_files
import data_loader
import phoneme_processor
import run_pretrain
import synthesize
from xtts_ka.core.digests import hash_file, write_manifest
from xtts_ka.corpus.tables import SOURCES, split_csv

ROOT = Path(__file__).parents[1]
OUT = "models/xtts_v2_ka"


def refused(result: Outcome, *words: str, code: int = 2) -> None:
    """It ended with `code` and one line that has these words."""
    assert result.code == code, result.out + result.err
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and len(errors[0]) < 1500 and "Traceback" not in result.err, result.err
    assert all(word in errors[0] for word in words), errors[0]


def snapshot(folder: Path) -> dict[Path, tuple]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


# ── code in pickles and torch files ──────────────────────────────────────────────────────────────────────────────────


class Bomb:
    """Unpickled without restrictions, it makes the folder that the environment variable BOMB names."""

    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """place(path): put a bomb there, as a plain pickle or, for torch's suffixes, in torch's own format."""
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))

    def place(path: Path, plain: bool = False) -> None:
        path.unlink(missing_ok=True)  # it may be a hard link
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, np.array([Bomb(), 1], object), allow_pickle=True)
        elif path.suffix == ".npz":
            np.savez(path, a=np.array([Bomb()], object))
        elif path.suffix in (".pt", ".pth") and not plain:
            torch.save({"model": {"weight": Bomb()}}, path)
        else:
            path.write_bytes(pickle.dumps({"rows": Bomb()}))

    yield place
    assert not (tmp_path / "exploded").exists()


def test_the_bomb_is_real(bomb, tmp_path):
    bomb(tmp_path / "a.pkl")
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    (tmp_path / "exploded").rmdir()


def test_only_one_module_unpickles():
    unsafe = "pickle.load pickle.loads pickle.Unpickler torch.load marshal.loads joblib.load yaml.load".split()
    found = set()
    for path in (*ROOT.glob("*.py"), *ROOT.glob("xtts_ka/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not (isinstance(node, ast.Name) and node.id in ("eval", "exec")), path.name
            if isinstance(node, ast.Attribute) and ast.unparse(node) in unsafe:
                found.add(path.name)
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":  # numpy refuses pickles without it
                assert ast.unparse(node.value) == "False", path.name
    assert found == {"tensor_files.py"}


@pytest.mark.parametrize("plain", [False, True], ids=["torch", "pickle"])
@pytest.mark.parametrize("name", ["model.pth", "dvae.pth", "mel_stats.pth"])
def test_code_in_the_base_model(project, bomb, name, plain):
    bomb(project / "models/base_xtts_v2" / name, plain)
    refused(here(run_pretrain.main, "--config", project / "config.json"), name, "hf download")


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.npy", "x.npz"])
def test_code_in_given_embeddings(project, bomb, name):
    bomb(project / "data/embeddings/embeddings" / name)
    refused(here(run_pretrain.main, "--config", project / "config.json"), name, "replace or delete it")


RESULTS = {
    "g2p_model.pt": "phonemes",
    "phoneme_vocab.pkl": "phonemes",
    "phoneme_model_results.pkl": "phonemes",
    "language_model_results.pkl": "language",
    "xtts_init_results.pkl": "xtts_init",
    "speakers_base.pth": "embeddings",
    "model.pth": "full_pretrain",
    "dvae.pth": "full_pretrain",
    "mel_stats.pth": "full_pretrain",
    "speakers_xtts.pth": "full_pretrain",
    "xtts_v2_ka_combined.pkl": "full_pretrain",
}


def test_code_in_results_is_noticed_by_their_hash(small_project, project, bomb):
    for name, stage in RESULTS.items():
        bomb(project / OUT / name)
        listing = here(run_pretrain.main, "--config", project / "config.json", "--dry-run")
        assert listing.code == 0 and f"runs  output {name} was altered" in listing.out
        assert next(line for line in listing.out.splitlines() if "altered" in line).startswith(stage)
        (project / OUT / name).unlink()
        os.link(small_project.folder / OUT / name, project / OUT / name)


def forge_record(folder: Path, name: str) -> None:
    """Enter the hash of an altered output in the record, as somebody would who knows its format."""
    path = folder / OUT / "pretrain_progress.json"
    record = json.loads(path.read_text("utf-8"))
    entry = record["stages"][RESULTS[name]]
    entry["fingerprint"]["outputs"][name] = hash_file(folder / OUT / name)
    path.unlink()
    path.write_text(json.dumps(record), "utf-8")


@pytest.mark.parametrize(
    "name",
    ["language_model_results.pkl", "xtts_init_results.pkl", "speakers_base.pth", "g2p_model.pt", "phoneme_vocab.pkl"],
)
def test_code_in_results_whose_hash_is_on_record_is_refused_by_the_stage_that_reads_them(project, bomb, name):
    bomb(project / OUT / name)
    forge_record(project, name)
    refused(here(run_pretrain.main, "--config", project / "config.json"), name, "it names", "mkdir")


def test_code_in_what_the_small_scripts_read(small_project, project, bomb):
    config = project / "config.json"
    (project / "words.txt").write_text("სახლი\n", "utf-8")
    for main, flags, names in (
        (phoneme_processor.main, ("--words", project / "words.txt", "--model"), ["g2p_model.pt"]),
        (synthesize.main, ("--text", "დილა", "--output", project / "a.wav"), ["model.pth", "speakers_xtts.pth"]),
    ):
        for name in names:
            bomb(project / OUT / name)
            refused(here(main, "--config", config, *flags), name)
            (project / OUT / name).unlink()
            os.link(small_project.folder / OUT / name, project / OUT / name)
    assert not (project / "a.wav").exists()


def checkpoint_with(project: Path, name: str, content) -> Path:
    """Put a file into the newest checkpoint, with a valid manifest."""
    folder = sorted((project / "checkpoints").glob("step_*"))[-1]
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (folder / name).unlink()
    content(folder / name)
    (folder / "manifest.json").unlink()
    write_manifest(folder, {key: manifest[key] for key in manifest if key not in ("files", "checksum")})
    return folder


def test_code_in_a_checkpoint_with_a_valid_manifest(project, bomb):
    checkpoint_with(project, "optimizer.pt", bomb)
    refused(here(run_pretrain.main, "--config", write_config(project, max_steps=8)), "optimizer.pt", "mkdir")


@pytest.mark.parametrize(
    "name, content",
    [("model.safetensors", b"\0" * 100), ("state.json", b"[]"), ("state.json", b'{"step": "x", "total_steps": 6}')],
)
def test_a_checkpoint_of_nonsense_with_a_valid_manifest(project, name, content):
    checkpoint_with(project, name, lambda path: path.write_bytes(content))
    refused(here(run_pretrain.main, "--config", write_config(project, max_steps=8)), "checkpoint")


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ROW = "x1,კატას რძე უყვარს.,speaker0,2.0,{},,yes"


@pytest.mark.parametrize(
    "cell, words",
    [
        ("../../../../outside/o.wav", ("leads out of", SOURCES)),
        ("/etc/passwd", ("relative",)),
        ("away/o.wav", ("leads out of",)),
        ("../../../wavs/../outside/o.wav", ("leads out of",)),
        ("a\0b.wav", ("control character",)),
        ("a\x1b[2Jb.wav", ("control character",)),
        ("a" * 10_000_000, ("longer than 1048576 bytes",)),
        ('"a\nb.wav"', ("relative",)),
        ("C:\\o.wav", ("relative",)),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_table_that_leads_elsewhere_or_is_no_table(project, cell, words):
    outside = project.parent / "outside"
    outside.mkdir(exist_ok=True)
    (project / "data/split/train/away").symlink_to(outside)
    table = split_csv(project / "data", "train")
    with open(table, "a", encoding="utf-8") as file:
        file.write(ROW.format(cell) + "\n")
    before = snapshot(project)
    for main in (run_pretrain.main, data_loader.main):
        refused(here(main, "--config", project / "config.json"), str(table), ", line 1", *words)
    assert snapshot(project) == before


def test_a_recording_that_became_a_link_is_not_followed(project):
    secret = project.parent / "secret.wav"
    shutil.copy(project / "wavs/clip03.wav", secret)
    (project / "wavs/clip03.wav").unlink()
    (project / "wavs/clip03.wav").symlink_to(secret)
    os.utime(secret, ns=(1, 1))  # another recording than before
    refused(here(run_pretrain.main, "--config", project / "config.json"), "clip03.wav", "a symbolic link")


def test_no_cell_of_ours_is_a_formula_for_a_spreadsheet(tmp_path):
    source = coqui(tmp_path / "src")
    for name in ("=1+1", "@SUM(A1)", "+995", "-2+3|calc"):
        shutil.copy(source / "wavs/c00.wav", source / f"wavs/{name}.wav")
        soundfile.write(source / f"wavs/{name}.wav", np.random.default_rng(len(name)).uniform(-0.3, 0.3, 8_000), 8_000)
        add_row(source, f"wavs/{name}.wav|{SENTENCES[30]}|={name}")
        add_row(source, f"wavs/gone{name}.wav|={name}|@x")
        add_row(source, f"{name}|{SENTENCES[31]}|")
    result = here(
        create_metadata_files.main,
        "--source",
        source,
        "--output_dir",
        tmp_path / "data",
        "--val_fraction",
        "0.2",
        "--no_dnsmos",
    )
    assert result.code == 0, result.err
    for path in (tmp_path / "data/split").rglob("*.csv"):
        with open(path, encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        formulas = [cell for cell in cells if cell.lstrip()[:1] in ("=", "+", "-", "@") and not is_number(cell)]
        assert cells and not formulas, path


def is_number(cell):
    """Whether it is one as we write it, such as a level in decibels."""
    return re.fullmatch(r"-?\d+(\.\d+)?", cell) is not None


# ── audio ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Recordings with false headers or with much silence packed into little, and why each is dropped; one is in order.
AUDIO = {
    "hours.flac": "too_long",
    "wide.flac": "too_long",
    "hours.ogg": "too_long",
    "fast.wav": "",
    "nan.wav": "non_finite_audio",
    "nothing.wav": "empty_audio",
    "claims.wav": "unreadable_audio",
}


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Their folder. The first is a minute of sound and an hour of silence: 2 MB that unpack to 115 MB."""
    folder = tmp_path_factory.mktemp("audio")
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 44_100).astype(np.float32)
    for name, minutes, rate, channels in (
        ("hours.flac", 60, 8_000, 1),
        ("wide.flac", 0.7, 192_000, 8),
        ("hours.ogg", 10, 8_000, 1),
    ):
        with soundfile.SoundFile(folder / name, "w", rate, channels) as sound:
            sound.write(np.tile(noise[:rate, None], channels))
            for _ in range(round(10 * minutes)):
                sound.write(np.zeros((6 * rate, channels), np.int16))
    soundfile.write(
        folder / "fast.wav", np.tile(noise[:, None], (9, 8)), 192_000
    )  # two seconds at 192 kHz in 8 channels
    soundfile.write(folder / "nan.wav", np.append(noise, np.nan), 22_050, subtype="FLOAT")
    (folder / "nothing.wav").touch()
    soundfile.write(folder / "claims.wav", noise, 22_050)
    content = bytearray((folder / "claims.wav").read_bytes())
    content[4:8], content[40:44] = (
        int.to_bytes(10 * 3600 * 44_100 + extra, 4, "little") for extra in (36, 0)
    )  # ten hours
    (folder / "claims.wav").write_bytes(content)
    return folder


PROLOGUE = """
import re, sys
from pathlib import Path
sys.path[:0] = [".", "tests"]
def mark():  # not ru_maxrss: a process begins with its parent's
    print("PEAK", int(re.search("VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024, flush=True)
"""


def peak_mib(program: str, *arguments: object) -> tuple[float, str]:
    """Run a program in its own process; returns by how many MiB its peak grew between its two marks, and its output."""
    result = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    first, last = (float(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("PEAK"))
    return last - first, result.stdout + result.stderr


def test_recordings_with_false_headers_or_packed_silence_are_dropped_in_little_memory(audio, tmp_path):
    source = coqui(tmp_path / "src")
    for number, name in enumerate(AUDIO):
        shutil.copy(audio / name, source / "wavs")
        add_row(source, f"wavs/{name}|{SENTENCES[30 + number]}|nino")
    grown, said = peak_mib(
        """
import create_metadata_files, soundfile
mark()
assert create_metadata_files.main(["--source", sys.argv[1], "--output_dir", sys.argv[2], "--val_fraction", "0.2",
                                   "--no_quality"]) == 0  # which would find noise in these
mark()
""",
        source,
        tmp_path / "data",
    )
    with open(tmp_path / "data/split/drop_report.csv", encoding="utf-8", newline="") as file:
        dropped = {row["audio_path"]: row["reason"] for row in csv.DictReader(file)}
    assert dropped == {f"wavs/{name}": reason for name, reason in AUDIO.items() if reason}
    assert grown < 100, said


def listen_to(project: Path, audio: Path, *names: str) -> None:
    """Add rows by hand that say that each recording has two seconds."""
    with open(split_csv(project / "data", "train"), "a", encoding="utf-8") as file:
        for name in names:
            shutil.copy(audio / name, project / "wavs")
            file.write(f"{name},კატას რძე უყვარს.,speaker0,2.0,../../../wavs/{name},,yes\n")


def test_packed_silence_is_read_only_as_far_as_the_longest_clip(project, audio):
    listen_to(project, audio, "hours.flac", "fast.wav")
    grown, said = peak_mib(
        """
import data_loader, torch
from xtts_ka.model.checkpoint import read_config
from xtts_ka.model.features import FeatureExtractor
base = Path(sys.argv[1])
FeatureExtractor(base, read_config(base))([torch.randn(1, 30 * 22050)] * 2)  # what long clips take that are in order
mark()
assert data_loader.main(["--config", sys.argv[2]]) == 0
mark()
""",
        project / "models/base_xtts_v2",
        project / "config.json",
    )
    assert "1 audio too long" in said
    assert grown < 200, said


def test_a_recording_that_training_cannot_use_is_named(project, audio):
    table = split_csv(project / "data", "train")
    whole = table.read_bytes()
    for name in ("nan.wav", "nothing.wav", "claims.wav"):
        listen_to(project, audio, name)
        refused(here(data_loader.main, "--config", project / "config.json"), name, AUDIO[name])
        table.write_bytes(whole)
