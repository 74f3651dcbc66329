"""What every test file needs: the repository's root on the path, and one thread per library."""

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import hypothesis
import pytest

# The same cases in every run, and nothing kept from one run for the next.
hypothesis.settings.register_profile("reproducible", derandomize=True, database=None)
hypothesis.settings.load_profile("reproducible")


signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # ignored in a shell's background job, and in all that tests start there


@pytest.fixture(autouse=True)
def as_just_started():
    """What a script run in this process leaves behind must not reach what comes after: --quiet, and Ctrl-C ignored, as it
    is on the way out, which every process that a later test or fixture starts would inherit."""
    from xtts_ka.core import console

    yield
    console._verbosity = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def stopped(tmp_path_factory):
    """(a config, the runs on it that signals ended): one pipeline, stopped or killed again and again on its way."""
    from pipeline_run import stop, write_config

    config = write_config(tmp_path_factory.mktemp("pipeline"))
    return config, [
        stop(config, "── starter", signal.SIGINT),
        stop(config, "── embeddings:", signal.SIGTERM),
        stop(config, "step      4/", signal.SIGINT),
        stop(config, "carrying on from step", signal.SIGKILL),
    ]


@pytest.fixture(scope="session")
def finished(stopped):
    """(config, the last run): the same pipeline, carried to its end."""
    from pipeline_run import run

    config, _ = stopped
    result = run(config)
    assert result.returncode == 0, result.stdout + result.stderr
    return config, result


@pytest.fixture(scope="session")
def small_project(tmp_path_factory):
    """A project run to its end (small_project.py), once for all tests; they leave it as they find it."""
    import small_project

    return small_project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(small_project, tmp_path):
    """The folder of a copy of it, to run and to spoil."""
    return small_project.copy(tmp_path)
