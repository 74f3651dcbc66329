"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

_SIGNS = (  # (offset, bytes, what they are the sign of)
    (0, LFS_POINTER, "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
    (8, b"WAVE", "WAV"), (0, b"fLaC", "FLAC"), (0, b"OggS", "Ogg"), (0, b"ID3", "MP3"), (4, b"ftyp", "MP4 (AAC)"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"), (0, b"#!AMR", "AMR"), (0, b"caff", "CAF"), (0, b".snd", "AU"),
    (8, b"AIFF", "AIFF"), (8, b"AIFC", "AIFF"), (0, b"riff\x2e\x91\xcf\x11", "W64"), (0, b"0&\xb2u", "WMA"),
    (8, b"AVI ", "AVI"), (0, b"PK\x03\x04", "a zip archive"), (0, b"\x1f\x8b", "a gzip archive"),
)  # fmt: skip
_SUFFIX_KINDS = {
    "WAV": ".wav", "FLAC": ".flac", "Ogg": ".ogg .oga .opus", "MP3": ".mp3", "MP4 (AAC)": ".m4a .mp4 .m4b .3gp .mov",
    "AAC": ".aac", "WebM or Matroska": ".webm .mkv .mka", "AMR": ".amr", "CAF": ".caf", "AU": ".au .snd",
    "AIFF": ".aif .aiff .aifc", "W64": ".w64", "WMA": ".wma",
}  # fmt: skip


def kind_of(path: Path | str) -> str:
    """What a file is by its first bytes, for people; "" where they tell nothing."""
    try:
        with open(path, "rb") as file:
            return _kind(file.read(64))
    except OSError:
        return ""


def suffix_of(data: bytes) -> str:
    """The suffix for a recording with this content; .wav where the content tells nothing."""
    return _SUFFIX_KINDS.get(_kind(data[:64]), ".wav").split()[0]


def _kind(head: bytes) -> str:
    for offset, sign, kind in _SIGNS:
        if head[offset : offset + len(sign)] == sign:
            return kind
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "AAC" if head[1] & 0xF6 == 0xF0 else "MP3"  # ADTS has the layer bits 00
    return ""


def is_pointer(path: Path | str) -> bool:
    """Whether a file is a Git LFS pointer."""
    return kind_of(path).startswith("a Git LFS pointer")


def misnamed(path: Path | str) -> str:
    """What a file is whose suffix says another; "" where it is what its suffix says, or cannot be told."""
    kind = kind_of(path)
    suffix = Path(path).suffix.lower()
    return kind if suffix and suffix not in _SUFFIX_KINDS.get(kind, suffix).split() else ""
