"""Parquet shards of the Hugging Face hub, which hold the recordings themselves; read with pyarrow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from xtts_ka.core.digests import short_path_hash
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.content import suffix_of
from xtts_ka.corpus.extracted import keep_file
from xtts_ka.corpus.formats.columns import ROLES, SPLIT_WORDS, roles_of
from xtts_ka.corpus.formats.layout import Corpus, Row
from xtts_ka.corpus.formats.tabular import row_of
from xtts_ka.corpus.paths import Found, has_audio_suffix

ROWS_AT_ONCE = 32  # recordings in memory


class Parquet(Corpus):
    """Rows with text, and a recording as bytes (which are written to the output folder) or as a path."""

    format = "parquet"
    many_voices = True
    expects = "Hugging Face's .parquet shards with the columns audio and text (needs the extra `corpora`)"
    shard: ClassVar = re.compile(r"([a-z]+)(?:[-_.].*)?", re.I)  # train-00000-of-00002

    def tables(self) -> list[Path]:
        files = sorted([*self.folder.glob("*.parquet"), *self.folder.glob("data/*.parquet")])
        return [file for file in files if self.may_read(file)]

    def rows(self) -> Iterator[Row]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UserError(f"{self.folder} holds .parquet files: install pyarrow with `pip install pyarrow`") from None
        for table in self.tables():
            try:
                with pyarrow.parquet.ParquetFile(table) as shard:
                    yield from self._rows_of(table, shard)
            except (pyarrow.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())[:160]
                raise UserError(f"{table} cannot be read as parquet ({reason}): download it again") from None

    def _rows_of(self, table: Path, shard: Any) -> Iterator[Row]:
        names = list(shard.schema_arrow.names)
        roles = _roles(shard.schema_arrow)
        if not roles:
            columns = ", ".join(names[:12])
            raise UserError(f"{table} has the columns {columns}: a recording (audio) and its text (text) are needed")
        part = self.shard.fullmatch(table.stem)
        split = SPLIT_WORDS.get(part[1].lower(), "") if part else ""
        wanted, number = [names[i] for i in roles.values()], 0
        decoded = roles["audio"] in _decoded(shard.schema_arrow)
        for batch in shard.iter_batches(1 if decoded else ROWS_AT_ONCE, columns=list(dict.fromkeys(wanted))):
            for entry in batch.to_pylist():
                number += 1
                where = f"{table.name}, row {number}"
                cells = {role: entry[names[i]] for role, i in roles.items()}
                cells["audio"], problem = self._recording(table, number, cells["audio"])
                if problem:
                    yield Row(where, problem=problem)
                    continue
                row = row_of(where, {role: "" if v is None else str(v) for role, v in cells.items()}, table.parent)
                yield replace(row, split=row.split or split)

    def find(self, row: Row) -> Found:
        if self.workspace and row.audio.startswith(f"{self.workspace}{os.sep}"):
            return Found(row.audio, os.path.relpath(row.audio, self._written_to(self.workspace)))
        return super().find(row)

    def _written_to(self, workspace: Path) -> Path:
        """The folder for the recordings; another folder's of the same name have one of their own."""
        return workspace / f"{self.folder.name}-{short_path_hash(self.folder)}"

    def _recording(self, table: Path, number: int, value: Any) -> tuple[str, str]:
        """(path, problem) of a row's recording; its bytes are written to the workspace."""
        name, data = "", value
        if isinstance(value, dict):
            name, data = value.get("path") or "", value.get("bytes")
            if value.get("array") and data is None:
                if not (data := _wav_of(value["array"], value.get("sampling_rate"))):
                    return "", "its array and sampling_rate are no sound"
                name = ""  # its suffix is that of what was decoded
        if isinstance(value, str) or data is None:
            return (value if isinstance(value, str) else name), ""
        if not isinstance(data, bytes):
            return "", f"its recording is no bytes but {type(data).__name__}"
        if self.workspace is None:
            raise UserError(f"{table} holds recordings: read it with create_metadata_files.py, which writes them")
        base = os.path.basename(name.replace("\\", "/"))
        base = (
            base
            if has_audio_suffix(base) and base.isprintable()
            else f"{base[:60] if base.isprintable() else ''}{suffix_of(data)}"
        )
        target = self._written_to(self.workspace) / table.stem / f"{number:07d}-{base}"
        keep_file(target, data)
        return str(target), ""


def _roles(schema: Any) -> dict[str, int]:
    """Role → column. A column that holds bytes is the recording before any that names a file, whatever it is called."""
    words = [name.lower() for name in schema.names]
    held = sorted({i for i, column in enumerate(schema) if _holds_bytes(column.type)}.union(_decoded(schema)))
    named = sorted((i for i in held if words[i] in ROLES["audio"]), key=lambda i: ROLES["audio"].index(words[i]))
    recording = named[0] if named else held[0] if len(held) == 1 else None
    if recording is None:
        return roles_of(schema.names)
    roles = roles_of([*schema.names, "audio"])
    return {**roles, "audio": recording} if roles else {}


def _decoded(schema: Any) -> list[int]:
    """The columns that hold samples: {array, sampling_rate}, as older `datasets` wrote them."""
    from pyarrow import types

    structs = {
        i: {field.name for field in column.type} for i, column in enumerate(schema) if types.is_struct(column.type)
    }
    return [i for i, names in structs.items() if {"array", "sampling_rate"} <= names]


def _wav_of(samples: Any, rate: Any) -> bytes | None:
    """A mono wav of samples in [-1, 1], of one channel or of several; None where they are no sound."""
    import numpy as np

    from xtts_ka.corpus.audio import wav_bytes

    try:
        wave = np.asarray(samples, np.float32)
        return wav_bytes(np.rint((wave.mean(0) if wave.ndim > 1 else wave) * 32768), int(rate))
    except (TypeError, ValueError, OverflowError):
        return None


def _holds_bytes(kind: Any) -> bool:
    """Whether a column's cells are bytes, or Hugging Face's {bytes, path}."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
