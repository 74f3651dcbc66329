"""The real size on a small machine: a full-size XTTS-v2 with random weights, every stage, two training steps.

    python tests/benchmarks/bench_real_geometry.py --work /tmp/real

Writes the checkpoint (30 layers × 1024, 16 heads) in the released file layout, runs each stage in a process of its own,
and prints its seconds and peak memory, and how many parameters the GPT has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

STAGES = ("embeddings", "phonemes", "language", "xtts_init", "full_pretrain")


def write_inputs(work: Path, clips: int) -> Path:
    """Starter speech, the full-size base model, and a config for two steps of two clips."""
    from xtts_ka.core.config import StarterConfig
    from xtts_ka.corpus.metadata import create_metadata
    from xtts_ka.corpus.options import MetadataOptions
    from xtts_ka.corpus.tables import read_split
    from xtts_ka.starter.base_model import make_base_model
    from xtts_ka.starter.speech import read_sentences, speak_corpus

    if not (work / "speech").exists():
        speak_corpus(read_sentences(ROOT / "data/starter_sentences_ka.txt"), work / "speech", seed=1, max_clips=clips)
        create_metadata(work / "speech", work / "data", format="coqui", options=MetadataOptions(val_fraction=0.15))
    if not (work / "models/base_xtts_v2").exists():
        recordings = [clip.audio_path for clip in read_split(work / "data", "train")[:40]]
        make_base_model(work / "models/base_xtts_v2", StarterConfig(layers=30, model_dim=1024, heads=16), recordings, 0)
    config = work / "config.json"
    settings = {
        **{"device": "cpu", "batch_size": 2, "max_steps": 2},
        "starter": {"enabled": True, "base": "untrained", "max_steps": 2, "learning_rate": 1e-5},
        "training": {"log_interval": 1},
    }
    config.write_text(json.dumps(settings))
    return config


def parameters(base: Path) -> str:
    """The parameters of the base model's GPT, in millions."""
    from xtts_ka.model.checkpoint import read_model

    sizes = {name: weight.numel() / 1e6 for name, weight in read_model(base).gpt_state().items()}
    parts = {"transformer": "gpt.h.", "conditioning encoder": "conditioning_encoder.", "perceiver": "conditioning_perc"}
    found = {part: sum(size for name, size in sizes.items() if start in name) for part, start in parts.items()}
    return ", ".join(f"{part} {size:.0f}" for part, size in {"GPT": sum(sizes.values()), **found}.items())


def measured(command: list[str]) -> tuple[float, float]:
    """(seconds, peak resident GiB) of a child process; its output is shown."""
    began = time.time()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.time() - began, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--inputs_only", action="store_true")
    args = parser.parse_args()
    if args.inputs_only:
        write_inputs(args.work, args.clips)
        print(f"millions of parameters: {parameters(args.work / 'models/base_xtts_v2')}")
        return
    again = [sys.executable, __file__, "--work", str(args.work), "--clips", str(args.clips), "--inputs_only"]
    rows = [("checkpoint written", *measured(again))]
    run = [sys.executable, str(ROOT / "run_pretrain.py"), "--config", str(args.work / "config.json"), "--only"]
    rows += [(stage, *measured([*run, stage])) for stage in STAGES]
    print(f"\n{'stage':<20} {'seconds':>8} {'peak GiB':>9}")
    for name, seconds, memory in rows:
        print(f"{name:<20} {seconds:>8.0f} {memory:>9.1f}")


if __name__ == "__main__":
    main()
