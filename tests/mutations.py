"""Hypothesis strategies for nearly valid files: a good one with a few bytes cut, doubled or replaced."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

# Pieces that often break readers of text or of numbers.
PIECES = (
    "",
    "\0",
    "\n",
    "\r\n",
    '"',
    '""',
    ",",
    "{",
    "}",
    "[",
    "]",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "NaN",
    "9" * 400,
    "\ud800",
    "\\ud800",
    "../",
    "/",
    "=1+1",
    "ა",
    " ",
    "\x1b[2J",
    "x" * 300,
)


def mutated(valid: str | bytes, most: int = 4) -> st.SearchStrategy[bytes]:
    """`valid` after one to `most` edits, each replacing up to 12 characters or bytes by a piece or by another part."""
    pieces = st.sampled_from(PIECES) | st.text(max_size=3)
    if isinstance(valid, bytes):
        pieces = pieces.map(_encoded) | st.binary(max_size=4)
    place = st.integers(0, len(valid))
    edits = st.lists(
        st.tuples(place, st.integers(0, 12), pieces | place.map(lambda at: valid[at : at + 12])),
        min_size=1,
        max_size=most,
    )

    def edited(edits: list[tuple[int, int, str | bytes]]) -> bytes:
        content = valid
        for at, length, new in edits:
            content = content[:at] + new + content[at + length :]
        return content if isinstance(content, bytes) else _encoded(content)

    return edits.map(edited)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "0", "auto", "../x", "~", "a" * 300, [], {}, [1, 2], [2.5, 1.5], {"a": 1}, 1e15, 10**400])
)


def mutated_json(valid: dict[str, Any], most: int = 3) -> st.SearchStrategy[bytes]:
    """`valid` as JSON after one to `most` keys, also in sections, were given another value, renamed or deleted."""
    places = [(key,) for key in valid] + [
        (key, name) for key, part in valid.items() if isinstance(part, dict) for name in part
    ]
    edits = st.lists(
        st.tuples(st.sampled_from(places), VALUES, st.sampled_from(["set", "set", "set", "rename", "delete"])),
        min_size=1,
        max_size=most,
    )

    def edited(edits: list[tuple[tuple[str, ...], Any, str]]) -> bytes:
        content = copy.deepcopy(valid)
        for place, value, deed in edits:
            holder = content if len(place) == 1 else content.get(place[0])
            if isinstance(holder, dict):
                old = holder.pop(place[-1], None)
                if deed != "delete":
                    holder[place[-1] if deed == "set" else place[-1][:-1]] = value if deed == "set" else old
        return json.dumps(content).encode()

    return edits.map(edited)
