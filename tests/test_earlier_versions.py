"""What commit e9b19cd wrote, the last one before the package `xtts_ka`, is read: a run is never silently begun anew.

`tests/earlier_version/` holds the stage record, the log and the config of a run of `small_project` at that commit. Its
record has checksums, its log lines have a `crc`, and its index folders had a `names.txt` and other keys.
"""

import json
import shutil
from pathlib import Path

from small_project import here, write_config

import checkpoint_monitor
import run_pretrain
from pretrain_xtts_model import PretrainPipeline
from xtts_ka.core.config import PretrainConfig, load_config
from xtts_ka.core.digests import hash_value

EARLIER = Path(__file__).with_name("earlier_version")
CHANGED_SINCE = {  # stages whose version has been raised, the settings that they have read since, and new defaults
    "embeddings": {"version"},
    "phonemes": {"version", "phonemes.allophones"},
    "language": {"version"},
    "xtts_init": {"xtts_init.method"},
    "full_pretrain": {
        "batch_seconds",
        "epochs",
        *(
            f"training.{name}"
            for name in (
                *("accumulation", "warmup_steps", "conditioning", "validation_batches"),
                "shared_voices",
                "optimizer",
            )
        ),
    },
}
FORMER_DEFAULTS = {"epochs": 1000, "training.accumulation": 1, "training.warmup_steps": 100}  # not in the config
FORMER_DEFAULTS |= {"training.conditioning": "same_clip", "training.validation_batches": 50}
THEN = {"xtts_init": {"method": "mean"}}  # the former default, which a run that carries on must name
ADDED_SINCE = {"README.md"}  # outputs of full_pretrain
RECORD = "models/xtts_v2_ka/pretrain_progress.json"
STAGES = PretrainConfig().stages()


def put(file: Path, text: str) -> None:
    """Write a file of the project's copy; the original may be linked to it."""
    file.unlink()
    file.write_text(text, "utf-8")


def test_a_record_written_then_names_the_same_stages_settings_and_inputs(project, capsys):
    put(project / RECORD, (EARLIER / "pretrain_progress.json").read_text("utf-8"))
    shutil.copy(EARLIER / "config.json", project / "config.json")
    ledger = PretrainPipeline(load_config(project / "config.json")).ledger
    assert [stage.name for stage in ledger.stages] == list(STAGES)
    for stage in ledger.stages:
        record = ledger.record(stage.name)
        assert record.status == "done" and record.metrics
        above = STAGES[: STAGES.index(stage.name)] if stage.after is None else stage.after
        inputs = {*stage.inputs(), *(f"stage {name}" for name in above)}
        assert set(record.fingerprint.inputs) == inputs
        different = ledger.changes(stage) - inputs  # the files are not those of that run
        assert different == CHANGED_SINCE.get(stage.name, set())
        added = ADDED_SINCE if stage.name == "full_pretrain" else set()
        assert set(record.fingerprint.outputs) | added == {file.name for file in stage.outputs()}
    assert "damaged" not in capsys.readouterr().err


def made_as_before(project: Path) -> None:
    """Give the project's record, log and index folders the form that they had then. (The log's steps are the same.)"""
    record = json.loads((project / RECORD).read_text("utf-8"))
    for name, entry in record["stages"].items():
        entry["fingerprint"]["version"] -= "version" in CHANGED_SINCE.get(name, ())
        if name == "full_pretrain":
            del (
                entry["fingerprint"]["config"]["batch_seconds"],
                entry["fingerprint"]["config"]["training.new_rows_rate"],
                entry["fingerprint"]["config"]["training.shared_voices"],
                entry["fingerprint"]["config"]["training.optimizer"],
            )
            entry["fingerprint"]["config"] |= FORMER_DEFAULTS
        if name == "xtts_init":
            entry["fingerprint"]["config"]["xtts_init.method"] = "mean"
        for output in ADDED_SINCE & entry["fingerprint"]["outputs"].keys():
            del entry["fingerprint"]["outputs"][output]
            (project / "models/xtts_v2_ka" / output).unlink()
        entry["checksum"] = hash_value(entry)
    put(project / RECORD, json.dumps(record))
    put(project / "logs/metrics.jsonl", (EARLIER / "metrics.jsonl").read_text("utf-8"))
    for index in (project / "data/features").glob("*/index_*"):
        earlier = index.rename(index.with_name(f"{index.name[:-16]}{'0' * 16}"))
        (earlier / "names.txt").write_text("../../../wavs/clip00.wav\n")


def test_a_project_made_then_carries_on_with_its_checkpoints_and_features(project):
    made_as_before(project)
    write_config(project, **THEN)
    cache = {file: file.stat().st_mtime_ns for file in (project / "data/features").glob("*/*.bin")}
    listing = here(run_pretrain.main, "--config", project / "config.json", "--dry-run")
    due = {line.split()[0]: line.split(maxsplit=2)[2] for line in listing.out.splitlines() if "  runs  " in line}
    assert due.keys() <= {"xtts_init", "full_pretrain", *CHANGED_SINCE}
    raised = (stage for stage, changed in CHANGED_SINCE.items() if "version" in changed)
    assert all(due[stage].startswith("its code changed (version") for stage in raised)
    assert "epochs 1000 → 5" in due["full_pretrain"]  # and yet it is not trained anew
    status = json.loads(here(checkpoint_monitor.main, "--config", project / "config.json", "--json").out)
    assert status["training"]["step"] == 6 and not [line for line in status["warnings"] if "damaged" in line]

    longer = here(run_pretrain.main, "--config", write_config(project, max_steps=8, **THEN))
    assert longer.code == 0 and "damaged" not in longer.err, longer.err
    assert "carrying on from step 6" in longer.out and "xtts_init up to date" in longer.out
    assert len(cache) == 3 and {file: file.stat().st_mtime_ns for file in cache} == cache  # nothing was encoded anew
    assert "checksum" not in (project / RECORD).read_text("utf-8")
