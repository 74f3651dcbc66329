"""JSONL logs: whole lines are appended and read back; damaged lines are passed over."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core import jsonl


def test_jsonl_lines_stand_one_after_the_other(tmp_path):
    for step in range(3):
        jsonl.append_jsonl(tmp_path / "log" / "m.jsonl", {"step": step})
    lines = (tmp_path / "log" / "m.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    assert list(jsonl.read_jsonl(tmp_path / "log" / "m.jsonl")) == [{"step": 0}, {"step": 1}, {"step": 2}]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_line_is_found(tmp_path, at, bit):
    """A digit that became another is no longer believed; only the name of the checksum itself may change unseen."""
    log = tmp_path / "m.jsonl"
    log.unlink(missing_ok=True)
    record = {"step": 12, "loss": 3.4217, "split": "val", "note": "ქართული"}
    jsonl.append_jsonl(log, record)
    raw = bytearray(log.read_bytes())
    raw[at % len(raw)] ^= 1 << bit
    log.write_bytes(raw)
    assert all(found.items() >= record.items() for found in jsonl.read_jsonl(log))


def test_a_line_without_a_checksum_is_believed(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2, "crc": "00000000"}\n')
    assert list(jsonl.read_jsonl(tmp_path / "m.jsonl")) == [{"step": 1}]


def test_a_torn_last_line_costs_only_itself(tmp_path):
    log = tmp_path / "m.jsonl"
    log.write_bytes(b'{"step": 0}\n{"step": 1, "lo')
    jsonl.append_jsonl(log, {"step": 2})
    assert log.read_bytes().startswith(b'{"step": 0}\n{"step": 1, "lo\n{"step": 2, ')
    assert [record["step"] for record in jsonl.read_jsonl(log)] == [0, 2]


def test_a_log_of_a_single_torn_byte_is_carried_on(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b"{")
    jsonl.append_jsonl(tmp_path / "m.jsonl", {"step": 1})
    assert (tmp_path / "m.jsonl").read_bytes().startswith(b'{\n{"step": 1, ')


def test_foreign_lines_are_passed_over(tmp_path):
    lines = [b"\0\0\0", b"\xff\xfe", b"[1]", b"7", b"", b"null", b"9" * 5000, b"[" * 100_000, b'{"step": 4}']
    (tmp_path / "m.jsonl").write_bytes(b"\n".join(lines))
    assert list(jsonl.read_jsonl(tmp_path / "m.jsonl")) == [{"step": 4}]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300))
def test_no_log_whatever_stops_its_reader_or_writer(tmp_path, raw):
    log = tmp_path / "m.jsonl"
    log.write_bytes(raw)
    before = list(jsonl.read_jsonl(log))
    jsonl.append_jsonl(log, {"step": 1})
    assert list(jsonl.read_jsonl(log)) == before + [{"step": 1}]
