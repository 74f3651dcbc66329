"""xtts_ka/corpus/drop_reasons.py: every reason leads to the line that decides it."""

from pathlib import Path

import pytest

from xtts_ka.corpus import audio, drop_reasons, metadata
from xtts_ka.corpus.drop_reasons import Drop


@pytest.mark.parametrize("reason", Drop)
def test_a_reason_stands_in_the_module_that_its_section_names(reason):
    head, _, in_audio = Path(drop_reasons.__file__).read_text("utf-8").partition("# decided in audio.py")
    module = metadata if f" {reason.name} = " in head else audio
    assert module is metadata or f" {reason.name} = " in in_audio
    assert f"Drop.{reason.name}" in Path(module.__file__).read_text("utf-8")
