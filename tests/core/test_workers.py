import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xtts_ka.core import workers

ROOT = Path(workers.__file__).parents[2]
# A process that starts a worker, says the worker's number and dies.
STARTER = """
import multiprocessing, os, time
from xtts_ka.core.workers import begin_worker

def work(parent, begun):
    begin_worker(parent)
    begun.set()
    time.sleep(600)

context = multiprocessing.get_context("fork")
begun = context.Event()
worker = context.Process(target=work, args=(os.getpid(), begun))
worker.start()
begun.wait()
print(worker.pid, flush=True)
os._exit(0)
"""


def test_at_least_one_core_is_there():
    assert 1 <= workers.cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="whether a process lives is read as Linux tells it")
def test_a_worker_ends_when_its_parent_has_died():
    said = subprocess.run([sys.executable, "-c", STARTER], cwd=ROOT, capture_output=True, text=True, check=True)
    worker = Path(f"/proc/{int(said.stdout)}")
    until = time.monotonic() + 60
    while worker.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not worker.exists()
