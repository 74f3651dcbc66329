"""Settings and fixtures that all tests share."""

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two test processes share the cores
sys.path.insert(0, str(Path(__file__).parents[1]))

import hypothesis
import pytest
from hypothesis import HealthCheck

# Property tests set no numbers of their own; the profile does (see CONTRIBUTING.md):
#   default    the same 25 cases of each property in every run
#   thorough   2,000 new cases of each in every run: pytest --hypothesis-profile thorough
# Many of them rewrite one file in a folder that their cases share, hence the first health check.
CHECKS_OFF = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
for name, cases in (("default", 25), ("thorough", 2000)):
    hypothesis.settings.register_profile(
        name,
        max_examples=cases,
        derandomize=name == "default",
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=CHECKS_OFF,
    )
hypothesis.settings.load_profile("default")

# A shell starts background jobs with SIGINT ignored, and child processes inherit that: the tests of Ctrl-C would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Files whose tests share the pipeline runs of the session fixtures `finished` and `small_project` below.
SHARED_RUN = {
    "tests/test_changes.py",
    "tests/test_damage.py",
    "tests/test_earlier_versions.py",
    "tests/test_hostile.py",
    "tests/test_parts_stages.py",
    "tests/test_phoneme_processor.py",
    "tests/test_pretrain_xtts_model.py",
    "tests/test_run_pretrain.py",
    "tests/test_run_xtts_pretrain.py",
    "tests/test_scripts.py",
}


# Other files that take 20 s or more.
LONG_FILES = {
    "tests/test_disk_full.py",
    "tests/test_evaluate_model.py",
    "tests/test_prepare_recordings.py",
    "tests/training/test_gpt_trainer.py",
    "tests/training/test_process_group.py",
}


def pytest_collection_modifyitems(items):
    """The longest groups and files first, so that several processes end at about the same time."""

    def later(item):
        file = item.nodeid.split("::")[0]
        return file not in SHARED_RUN, file not in LONG_FILES

    items.sort(key=later)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n`, the tests of a file run in one process, in their order, and so do all files that share a run.

    Not `--dist loadgroup`: pytest-xdist 3.8 loses the groups under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "shared" if file in SHARED_RUN else file

    return ByFile(config, log)


def pytest_make_parametrize_id(val):
    """Functions by their names: pytest-xdist needs equal test ids in all processes, and a `repr` holds an address."""
    return getattr(val, "__name__", None) if callable(val) else None


@pytest.fixture(autouse=True)
def as_just_started():
    """Undoes what a script's `main` leaves behind in this process: --quiet, and SIGINT ignored while it ends."""
    from xtts_ka.core import console

    yield
    console._verbosity = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def stopped(tmp_path_factory):
    """(config, the runs on it that signals ended): one pipeline, stopped or killed again and again on its way."""
    from pipeline_run import stop, typed, write_config

    config = write_config(tmp_path_factory.mktemp("pipeline"))
    return config, [
        stop(config, "── starter", signal.SIGINT),
        stop(config, "── embeddings:", signal.SIGTERM),
        # after step 15 the kept checkpoints would differ
        stop(config, "step      2/", signal.SIGINT, delay=0, start=typed),
        stop(config, "carrying on from step", signal.SIGKILL),
    ]


@pytest.fixture(scope="session")
def finished(stopped):
    """(config, the last run): the same pipeline, carried to its end."""
    from pipeline_run import run_here

    config, _ = stopped
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.chdir(config.parent)
        result = run_here(config)
    assert result.returncode == 0, result.stdout + result.stderr
    return config, result


@pytest.fixture(scope="session")
def small_project(tmp_path_factory):
    """A project run to its end (small_project.py), once for all tests, which leave it as they find it."""
    import small_project

    return small_project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(small_project, tmp_path):
    """The folder of a copy of it, which a test may change and run."""
    return small_project.copy(tmp_path)
