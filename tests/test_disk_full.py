"""Every kind of write on a full disk: the error names the file, and nothing half-written is left.

The same call succeeds once there is room. The disk is full in two ways: any user may limit the size of files (EFBIG, at
an exact byte), and where a small file system may be mounted, the last test runs this file again on it (ENOSPC).
"""

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline_run import run_here, write_config
from run_folder import curve, started, write_log
from small_corpora import coqui
from small_index import make_index
from training.test_feature_cache import fill, key_of

from xtts_ka.core import files, jsonl, tensor_files
from xtts_ka.core.command_line import run_cli
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.stage_ledger import Stage, StageLedger
from xtts_ka.corpus.audio import write_wav
from xtts_ka.corpus.metadata import create_metadata
from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.tables import replace_suspects
from xtts_ka.monitor.csv_export import export_csv
from xtts_ka.monitor.history import RunHistory
from xtts_ka.monitor.plots import draw_plot
from xtts_ka.starter.speech import speak_corpus
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.feature_cache import Clip, FeatureCache, Unit
from xtts_ka.training.metrics_log import MetricsLog

ROOT = Path(__file__).parents[1]
SMALL_DISK = os.environ.get("SMALL_DISK")  # a mounted file system of a few megabytes, made by the last test
PAGE = 4096


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """An empty folder on the disk that is going to be full."""
    folder = Path(SMALL_DISK, "work") if SMALL_DISK else tmp_path / "disk"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Leaves room for `size` bytes in any one file; on the small disk a page less, as a file's last page has room."""
    if SMALL_DISK:
        filler = Path(SMALL_DISK, "filler")
        free = os.statvfs(SMALL_DISK)
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - max(0, size // PAGE - 1) * PAGE)
        try:
            yield
        finally:
            filler.unlink()
    else:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ── the kinds of write: each makes what it needs `beside` the disk, and returns how version 1, then 2, is written ──


def file(name: str, write: Callable[[Path, int], object]) -> Callable:
    return lambda beside: lambda folder, version: write(folder / name, version)


def copy(beside: Path) -> Callable:
    for version in (1, 2):
        (beside / f"{version}").write_bytes(bytes([version]) * 20_000)

    def write(folder: Path, version: int) -> None:
        with files.atomic_path(folder / "copy" / "a.dat") as temporary:
            shutil.copyfile(beside / f"{version}", temporary)

    return write


def log(beside: Path) -> Callable:
    def write(folder: Path, version: int) -> None:
        path = folder / "a.jsonl"
        for number in range(path.read_bytes().count(b"\n") if path.exists() else 0, 60 * version):
            jsonl.append_jsonl(path, {"number": number, "text": "ტექსტი" * 9})

    return write


def a_folder(beside: Path) -> Callable:
    def write(folder: Path, version: int) -> None:
        with files.atomic_folder(folder / f"made_{version}") as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner/large").write_bytes(b"x" * 30_000)
            files.write_json(temporary / "small.json", {"version": version})

    return write


def checkpoint(beside: Path) -> Callable:
    def write(folder: Path, version: int) -> None:
        manager = CheckpointManager(folder, "run")
        weights = {"model": {"w": torch.full((5_000,), float(version))}}
        optimizer = {"state": {0: {"exp_avg": torch.ones(20_000) * version}}}
        manager.save(version, weights, optimizer, {"step": version}, {"seed": 1}, 1.0 / version)
        manager.wait()

    return write


def features(beside: Path) -> Callable:
    clips = []
    for number, samples in enumerate((70_000, 1024, 22_050, 33_333)):
        path = beside / f"clip{number}"
        path.write_text(str(samples))
        clips.append(Clip(key_of(path), path, samples / 22050))
    return lambda folder, version: fill(FeatureCache(folder, "k" * 64), clips[: 2 * version], batch=1)


def training_index(beside: Path) -> Callable:
    samples = [22_050 + number for number in range(600)]
    return lambda folder, version: (
        make_index(folder, samples) if version == 2 else None
    )  # an old one would be of no use


def metrics(beside: Path) -> Callable:
    def write(folder: Path, version: int) -> None:
        log = MetricsLog(folder, fresh=False)
        done = len(list(jsonl.read_jsonl(log.file))) if log.file.exists() else 0
        for step in range(done, 60 * version):
            log.log(step, "val", {"loss": 1.0, "loss_text": 2.0, "loss_mel": 3.0}, 120)

    return write


def tables(beside: Path) -> Callable:
    for version in (1, 2):
        coqui(beside / f"corpus{version}", 20 + version)
    options = MetadataOptions(copy=True, val_fraction=0.3)
    return lambda folder, version: create_metadata(beside / f"corpus{version}", folder, options=options)


def drop_report(beside: Path) -> Callable:
    return lambda folder, version: replace_suspects(
        folder, "voice", [(f"clip{number}", "x" * 200, "a.wav", "ტექსტი") for number in range(60 * version)]
    )


def speech(beside: Path) -> Callable:
    sentences = ["დილა მშვიდობისა.", "მზე ანათებს."]
    return lambda folder, version: speak_corpus(sentences, folder / f"speech{version}", seed=version, max_clips=3)


def exported_metrics(beside: Path) -> Callable:
    logs = [write_log(beside / f"{version}.jsonl", [started(), *curve("healthy", 100 * version)]) for version in (1, 2)]

    def write(folder: Path, version: int) -> None:
        history = RunHistory(logs[version - 1])
        history.refresh()
        export_csv(history, folder / "metrics.csv")

    return write


WRITES = {
    "text": file("a.txt", lambda path, version: files.write_text(path, f"{version} ტექსტი" * 2_000)),
    "json": file("a.json", lambda path, version: files.write_json(path, [version] * 5_000)),
    "pickle": file("a.pkl", lambda path, version: tensor_files.write_pickle(path, {"rows": b"%d" % version * 50_000})),
    "torch": file(
        "a.pth",
        lambda path, version: tensor_files.save_torch(
            path, {"w": torch.full((50_000,), float(version)), "b": torch.ones(3)}
        ),
    ),
    "safetensors": file(
        "a.safetensors",
        lambda path, version: tensor_files.save_tensors(path, {"w": torch.full((50_000,), float(version))}),
    ),
    "wav": file("a.wav", lambda path, version: write_wav(path, np.full(50_000, version / 4, np.float32), 24_000)),
    **{
        write.__name__: write
        for write in (
            copy,
            log,
            a_folder,
            checkpoint,
            features,
            training_index,
            metrics,
            tables,
            drop_report,
            speech,
            exported_metrics,
        )
    },
}


def grows(name: str) -> bool:
    """Whether a file is appended to, so that a longer one of whole records may stay."""
    return name.endswith((".jsonl", ".bin")) or "tfevents" in name


@pytest.mark.parametrize("share", [0, 0.7, 0.999], ids=["no room", "some room", "almost enough room"])
@pytest.mark.parametrize("kind", WRITES)
def test_each_write(disk, tmp_path, capsys, monkeypatch, kind, share):
    starts = []
    monkeypatch.setattr(time, "time", lambda: 1_790_000_000.0)  # so that two runs write the same bytes,
    monkeypatch.setattr(
        socket, "gethostname", lambda: f"start{len(starts)}"
    )  # TensorBoard's files under names of their own
    (tmp_path / "beside").mkdir()
    do = WRITES[kind](tmp_path / "beside")

    def write(version: int) -> None:
        starts.append(version)
        do(disk, version)

    write(1)
    old = content(disk)
    write(2)
    new = content(disk)
    empty(disk)
    starts.clear()
    write(1)
    assert content(disk) == old

    largest = max(len(data) - len(old.get(name, b"")) * bool(SMALL_DISK and grows(name)) for name, data in new.items())
    with room_for(int(largest * share)):
        assert run_cli(lambda: write(2)) == 1
    failed = named(capsys)
    assert failed in {disk / part for name in new for part in (name, Path(name).parts[0])} or failed.suffix == ".unit"
    left = content(disk)
    for name, data in left.items():
        if name.endswith(".unit"):  # computed, but not yet in the cache
            assert Unit.from_bytes(data), name
            continue
        before, after = old.get(name, b""), new.get(name, b"")
        assert data in (before, after) or (grows(name) and data.startswith(before) and after.startswith(data)), name
        assert not name.endswith(".jsonl") or data.endswith(b"\n")
    assert old.keys() - left.keys() == set()

    write(2)
    assert {name: data for name, data in content(disk).items() if "tfevents" not in name} == {
        name: data for name, data in new.items() if "tfevents" not in name
    }


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def named(capsys) -> Path:
    """The file that the last message says could not be written."""
    message = capsys.readouterr().err.strip().splitlines()[-1]
    found = re.match(r"error: the (?:disk is full while writing|system allows no file as large as) (\S+?):? ", message)
    assert found and message.endswith("same command; nothing finished is lost"), message
    return Path(found[1])


def test_the_plot(disk, tmp_path, capsys):
    history = RunHistory(write_log(tmp_path / "m.jsonl", [started(), *curve("healthy", 50)]))
    history.refresh()
    (disk / "plot.png").write_bytes(b"old")
    with room_for(20_000):
        assert run_cli(lambda: draw_plot(history, disk / "plot.png", total_steps=4000)) == 1
    assert named(capsys) == disk / "plot.png"
    assert content(disk) == {"plot.png": b"old"}


# ── the record of the stages, and the lock beside it ──


def test_the_record(disk, capsys):
    """Wherever room runs out, the record is whole, says no stage done that is not, and the next run needs no help."""

    class Words(Stage):
        name = "words"

        def outputs(self) -> list[Path]:
            return [disk / "out.txt"]

        def run(self) -> dict:
            files.write_text(disk / "out.txt", "o" * 20_000)
            return {"note": "n" * 30_000}  # the last record is the largest

    ledger = StageLedger(disk / "pretrain_progress.json", [Words(PretrainConfig())])
    errors = set()

    def run() -> None:
        with ledger.lock.hold():
            ledger.run(ledger.plan())

    for room in range(0, 60_000, 2048):
        with room_for(room):
            code = run_cli(run)
        if code:
            errors.add(named(capsys).name)
            assert ledger.plan()[0].run and content(disk).keys() <= {
                "pretrain.lock",
                "pretrain.lock.json",
                "pretrain_progress.json",
                "out.txt",
            }
        assert run_cli(run) == 0 and not ledger.plan()[0].run
        assert content(disk).keys() == {"pretrain.lock", "pretrain_progress.json", "out.txt"}
        empty(disk)
    assert errors == {"pretrain.lock.json", "pretrain_progress.json", "out.txt"}


# ── the command itself ──


@pytest.mark.skipif(bool(SMALL_DISK), reason="chaos_disk_full.py does that")
def test_the_pipeline(tmp_path):
    """Its first large file is the stand-in's DVAE: one sentence, and nothing of the model is left."""
    config = write_config(tmp_path / "run")
    with room_for(10**6):
        limited = run_here(config)
    assert limited.returncode == 1 and limited.stderr.count("error: ") == 1
    assert f"{tmp_path}/run/models/base_xtts_v2/dvae.pth would be" in limited.stderr
    left = [file.name for file in (tmp_path / "run/models").glob("*xtts*/*")]
    assert left == ["pretrain.lock"] and not list(tmp_path.rglob("*.partial"))  # filelock keeps its empty file
    assert (tmp_path / "run/data/split/train/train_metadata.csv").is_file()


# ── the same on a real small file system ──


def test_all_of_it_on_a_small_real_disk(tmp_path):
    if SMALL_DISK:
        pytest.skip("this is that run")
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=4m tmpfs {tmp_path}/disk"
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && exec {sys.executable} -m pytest {__file__} -p no:cacheprovider"],
        env=os.environ | {"SMALL_DISK": f"{tmp_path}/disk", "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
