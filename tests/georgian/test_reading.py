"""The reading that training and synthesis share."""

import pytest

from xtts_ka.core.config import TextConfig
from xtts_ka.georgian.reading import Reading


def test_the_config_s_table_reads_and_travels_in_the_facts(tmp_path):
    table = tmp_path / "own.tsv"
    table.write_text("ბჯთ\tბიუჯეტი\n", encoding="utf-8")
    reading = Reading.of(TextConfig(archaic="keep", abbreviations=str(table)))
    assert reading("ბჯთ-ში ჴელი") == "ბიუჯეტში ჴელი"
    assert Reading.from_facts({"step": 5, **reading.facts()}) == reading


def test_without_a_table_text_is_read_as_ever():
    assert Reading.of(TextConfig())("5 კმ") == "ხუთი კილომეტრი"


def test_a_model_of_before_the_table_has_none():
    assert Reading.from_facts({"archaic": "keep"}) == Reading("keep")


@pytest.mark.parametrize("facts", [None, [], {}, {"archaic": "sing"}, {"archaic": "keep", "abbreviations": ["ა"]},
                                   {"archaic": "keep", "abbreviations": {"ა": 5}}])  # fmt: skip
def test_facts_that_say_nothing_of_reading_give_none(facts):
    assert Reading.from_facts(facts) is None
