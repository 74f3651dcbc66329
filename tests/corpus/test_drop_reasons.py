"""xtts_ka/corpus/drop_reasons.py: every reason leads to the line that decides it."""

import re
from pathlib import Path

import pytest

from xtts_ka.corpus import drop_reasons
from xtts_ka.corpus.drop_reasons import Drop, Mending, Suspicion

SOURCE = Path(drop_reasons.__file__).read_text("utf-8")


REASONS = [*Drop, *Mending, *Suspicion]


@pytest.mark.parametrize("reason", REASONS, ids=[f"{type(reason).__name__}.{reason.name}" for reason in REASONS])
def test_a_reason_stands_in_the_module_that_is_named_for_it(reason):
    if isinstance(reason, Drop):  # under the heading of its module
        module = re.findall(r"# decided in ([\w/]+)\.py", SOURCE.partition(f" {reason.name} = ")[0])[-1]
    else:
        section = SOURCE.partition(f"class {type(reason).__name__}(")[2].partition("\nclass ")[0]
        module = re.search(rf" {reason.name} = .*\(([\w/]+)\.py\)", section)[1]
    text = (Path(drop_reasons.__file__).parent / f"{module}.py").read_text("utf-8")
    assert f"{type(reason).__name__}.{reason.name}" in text
