"""How long the monitor takes over a long log: the first reading, then each refresh; and its memory.

    python tests/benchmarks/bench_monitor.py --lines 100000

A refresh is everything that `--watch` does between two frames: reading the new lines, working out the status and
rendering the screen. Over 100,000 old lines it is to stay under 100 ms; exits 1 where it does not.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

REFRESHES, NEW_LINES, LIMIT_MS = 30, 20, 100.0


def write_lines(log: Path, first: int, count: int) -> None:
    """Append `count` training lines from step 10·`first` on, with a validation after every tenth."""
    with open(log, "a", encoding="utf-8") as out:
        for i in range(first, first + count):
            loss = 2.0 + 4.0 / (1 + i * 1e-5) + (i * 7919 % 1000) * 1e-4
            line = {"step": 10 * i, "split": "train", "loss": loss, "loss_text": loss * 1.4, "loss_mel": loss * 0.99}
            more = {"lr": 2e-5, "grad_norm": 0.8731, "audio_s_per_s": 28.1, "data_wait_s": 0.03}
            when = {"time": 1.79e9 + 3.0 * i}
            out.write(json.dumps(line | more | when) + "\n")
            if i % 10 == 0:
                out.write(json.dumps(line | when | {"split": "val"}) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="example: python tests/benchmarks/bench_monitor.py --lines 10000"
    )
    parser.add_argument("--lines", type=int, default=100_000, help="old training lines (default: %(default)s)")
    args = parser.parse_args(argv)
    from rich.console import Console
    from run_folder import add_checkpoint, make_run

    from xtts_ka.core.config import load_config
    from xtts_ka.monitor.history import RunHistory
    from xtts_ka.monitor.screen import screen
    from xtts_ka.monitor.status import read_status

    with tempfile.TemporaryDirectory() as folder:
        config = load_config(make_run(Path(folder), []))
        for step in (500, 1000, 1500):
            add_checkpoint(Path(folder) / "checkpoints", step, 3.0)
        log = Path(config.log_dir) / "metrics.jsonl"
        log.unlink()
        write_lines(log, 1, args.lines)
        history, canvas = RunHistory(log), Console(file=io.StringIO(), width=100)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clock = time.perf_counter()
        history.refresh()
        canvas.print(screen(read_status(config, history)))
        first = time.perf_counter() - clock
        seconds = []
        for n in range(REFRESHES):
            write_lines(log, args.lines + 1 + n * NEW_LINES, NEW_LINES)
            clock = time.perf_counter()
            history.refresh()
            canvas.print(screen(read_status(config, history)))
            seconds.append(time.perf_counter() - clock)
        assert history.train.last == 10 * (args.lines + REFRESHES * NEW_LINES), "every line must be read"
        typical, worst = 1000 * statistics.median(seconds), 1000 * max(seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{args.lines} old training lines, {log.stat().st_size / 1e6:.0f} MB: first screen after {first:.1f} s")
        print(f"a refresh with {NEW_LINES} new lines: {typical:.1f} ms (worst of {REFRESHES}: {worst:.1f} ms)")
        print(f"peak memory {peak / 1024:.0f} MB ({before / 1024:.0f} MB before reading)")
    return 0 if typical < LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
