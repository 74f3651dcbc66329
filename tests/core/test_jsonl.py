"""JSONL logs: whole lines are appended and read back; damaged lines are passed over."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.core import jsonl


def test_jsonl_lines_stand_one_after_the_other(tmp_path):
    for step in range(3):
        jsonl.append_jsonl(tmp_path / "log" / "m.jsonl", {"step": step})
    lines = (tmp_path / "log" / "m.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    assert list(jsonl.read_jsonl(tmp_path / "log" / "m.jsonl")) == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_the_checksum_of_older_versions_is_ignored(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2, "crc": "00000000"}\n')
    assert list(jsonl.read_jsonl(tmp_path / "m.jsonl")) == [{"step": 1}, {"step": 2}]


def test_a_torn_last_line_costs_only_itself(tmp_path):
    log = tmp_path / "m.jsonl"
    log.write_bytes(b'{"step": 0}\n{"step": 1, "lo')
    jsonl.append_jsonl(log, {"step": 2})
    assert log.read_bytes().startswith(b'{"step": 0}\n{"step": 1, "lo\n{"step": 2}\n')
    assert [record["step"] for record in jsonl.read_jsonl(log)] == [0, 2]


def test_a_log_of_a_single_torn_byte_is_carried_on(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b"{")
    jsonl.append_jsonl(tmp_path / "m.jsonl", {"step": 1})
    assert (tmp_path / "m.jsonl").read_bytes().startswith(b'{\n{"step": 1}\n')


def test_foreign_lines_are_passed_over(tmp_path):
    lines = [b"\0\0\0", b"\xff\xfe", b"[1]", b"7", b"", b"null", b"9" * 5000, b"[" * 100_000, b'{"step": 4}']
    (tmp_path / "m.jsonl").write_bytes(b"\n".join(lines))
    assert list(jsonl.read_jsonl(tmp_path / "m.jsonl")) == [{"step": 4}]


@given(raw=st.binary(max_size=300))
def test_no_log_whatever_stops_its_reader_or_writer(tmp_path, raw):
    log = tmp_path / "m.jsonl"
    log.write_bytes(raw)
    before = list(jsonl.read_jsonl(log))
    jsonl.append_jsonl(log, {"step": 1})
    assert list(jsonl.read_jsonl(log)) == before + [{"step": 1}]


@pytest.mark.parametrize("value", [None, True, "1", [1], math.nan, math.inf, 10**400, -1e31])
def test_what_is_no_sensible_number_is_nan(value):
    assert math.isnan(jsonl.number(value))


def test_numbers_become_floats():
    assert [jsonl.number(value) for value in (3, -0.5)] == [3.0, -0.5]
