"""Nearly valid files: what a good one becomes when a few of its bytes are cut, doubled or replaced."""

from __future__ import annotations

from hypothesis import strategies as st

# What tends to upset readers of text, and of numbers in it.
PIECES = (b"", b"\0", b"\n", b"\r\n", b'"', b'""', b",", b"{", b"}", b"[", b"]", b":", b"null", b"true", b"-1", b"0", b"1e999", b"NaN",
          b"9" * 400, b"\xff", b"\xed\xa0\x80", b"\\ud800", b"../", b"/", b"=1+1", "ა".encode(), b" ", b"\x1b[2J", b"x" * 300)


def mutated(valid: bytes, most: int = 4) -> st.SearchStrategy[bytes]:
    """`valid` after one to `most` edits, each of which replaces up to 12 bytes somewhere by a piece, or by what stands elsewhere."""
    place = st.integers(0, len(valid))
    piece = st.sampled_from(PIECES) | st.binary(max_size=4) | place.map(lambda at: valid[at:at + 12])
    edits = st.lists(st.tuples(place, st.integers(0, 12), piece), min_size=1, max_size=most)

    def edited(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = valid
        for at, length, new in edits:
            content = content[:at] + new + content[at + length:]
        return content

    return edits.map(edited)
