"""Corpora listed in files of JSON or in Kaldi's: NeMo, audiofolder's metadata.jsonl, lhotse, wav.scp with text."""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.delimited import encoding_of, text_lines
from xtts_ka.corpus.formats.columns import roles_of
from xtts_ka.corpus.formats.layout import Corpus, Row
from xtts_ka.corpus.formats.tabular import row_of

MAX_JSON_BYTES = 2**28  # of a file that is one JSON array: it is parsed as a whole


class JsonLines(Corpus):
    """One JSON object a line (NeMo's manifests, audiofolder's metadata.jsonl), or one array of objects."""

    format = "jsonl"
    many_voices = True
    expects = (
        'a .jsonl or .json whose lines are {"audio_filepath": …, "text": …} (NeMo), or metadata.jsonl with file_name'
    )

    def tables(self) -> list[Path]:
        files = self.files(".jsonl", ".json", ".ndjson", ".manifest")
        return [file for file in files if self.may_read(file) and self._is_mine(file)]

    def _is_mine(self, table: Path) -> bool:
        first = next(iter(self._entries(table)), None)
        return first is not None and isinstance(first[1], dict) and bool(roles_of(list(map(str, first[1]))))

    def _entries(self, table: Path) -> Iterator[tuple[int, Any, str]]:
        """Yield (line or position, JSON value, problem)."""
        with open(table, "rb") as file:
            head = file.read(4096)
        if head.decode(encoding_of(head), "ignore").lstrip("\ufeff \t\r\n").startswith("["):
            if table.stat().st_size > MAX_JSON_BYTES:
                raise UserError(
                    f"{table} is one JSON array of {table.stat().st_size} bytes: write an object a line (.jsonl)"
                )
            data = table.read_bytes()
            try:
                values = json.loads(data.decode(encoding_of(data[:4096])).lstrip("\ufeff"))
            except (ValueError, RecursionError):
                return
            yield from ((number, value, "") for number, value in enumerate(values, 1))
            return
        for number, line, problem in text_lines(table):
            value: Any = None
            if line.strip() and not problem:
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    problem = "the line is no JSON"
            if problem or line.strip():
                yield number, value, problem

    def rows(self) -> Iterator[Row]:
        for table in self.tables():
            for number, entry, problem in self._entries(table):
                where = f"{table.name}, line {number}"
                roles = roles_of(list(map(str, entry))) if isinstance(entry, dict) else {}
                if problem or not roles:
                    yield Row(where, problem=problem or "it names no recording or no text")
                    continue
                values = list(entry.values())
                yield row_of(where, {role: _cell(values[i]) for role, i in roles.items()}, table.parent)


def _cell(value: Any) -> str:
    """A JSON value as a table's cell; of {"path": …} the path."""
    if isinstance(value, dict):
        value = value.get("path", "")
    return "" if value is None else " ".join(str(value).split()) if not isinstance(value, list) else ""


class Kaldi(Corpus):
    """Kaldi's and ESPnet's data folders: wav.scp, text, and where they are utt2spk and segments."""

    format = "kaldi"
    expects = "Kaldi's wav.scp and text (utt2spk and segments where there are any)"
    # Programs of wav.scp that only decode: the file is read instead. Any other command is not run.
    decoders: ClassVar = re.compile(
        r"(?:cat|flac -[cdst -]+|sph2pipe(?: -\S+(?: wav)?)*|lame --decode) (\S+)(?: -)? *\|"
    )

    def tables(self) -> list[Path]:
        scripts = [self.folder / "wav.scp", *sorted(self.folder.glob("*/wav.scp"))]
        return [file.parent for file in scripts if self.may_read(file) and self.may_read(file.parent / "text")]

    def rows(self) -> Iterator[Row]:
        for folder in self.tables():
            recordings, speakers = self._read(folder / "wav.scp"), self._read(folder / "utt2spk")
            segments = self._read(folder / "segments")
            named = any(utterance != speaker for utterance, speaker in speakers.items())  # else Kaldi's "unknown"
            for number, line, problem in text_lines(folder / "text"):
                utterance, _, text = line.strip().replace("\t", " ").partition(" ")
                where = f"{os.path.relpath(folder / 'text', self.folder)}, line {number}"
                if problem:
                    yield Row(where, problem=problem)
                elif utterance:
                    yield self._row(where, folder, utterance, text, recordings, segments, speakers if named else {})

    def _row(
        self, where: str, folder: Path, utterance: str, text: str, recordings: dict, segments: dict, speakers: dict
    ) -> Row:
        recording, start, end = utterance, None, None
        if utterance in segments:
            cells = segments[utterance].split()
            try:
                recording, start, end = cells[0], float(cells[1]), float(cells[2])
            except (IndexError, ValueError):
                return Row(where, problem=f"segments does not give its recording, begin and end: {utterance}")
        audio = recordings.get(recording, "")
        if not audio:
            return Row(where, problem=f"wav.scp has no {recording}")
        if audio.endswith("|"):
            command = self.decoders.fullmatch(audio)
            if not command:
                return Row(where, problem="its entry in wav.scp is a command, which is not run: write the file itself")
            audio = command[1]
        speaker = speakers.get(utterance, "")
        name = utterance if start is not None else ""
        return Row(where, audio, text.strip(), speaker, bool(speaker), start=start, end=end, beside=folder, name=name)

    def _read(self, file: Path) -> dict[str, str]:
        """Key → the rest of the line, of one of Kaldi's files; {} where there is none."""
        if not self.may_read(file):
            return {}
        pairs = (line.strip().replace("\t", " ").partition(" ") for _, line, problem in text_lines(file) if not problem)
        return {key: value.strip() for key, _, value in pairs if key}


class Lhotse(Corpus):
    """lhotse's cuts, or recordings and supervisions, as JSON lines; read by lhotse itself."""

    format = "lhotse"
    expects = "lhotse's cuts.jsonl.gz, or recordings.jsonl.gz with supervisions.jsonl.gz (needs the extra `corpora`)"

    def tables(self) -> list[Path]:
        kinds = self._kinds()
        cuts = [file for file, kind in kinds.items() if kind == "cuts"]
        pairs = [file for file, kind in kinds.items() if kind == "supervisions" and self._partner(file, kinds)]
        return cuts or pairs

    def family(self) -> list[Path]:
        return list(self._kinds())

    def _kinds(self) -> dict[Path, str]:
        """File → cuts, recordings or supervisions."""
        files = sorted([*self.folder.glob("*.jsonl.gz"), *self.folder.glob("*.jsonl")])
        return {file: kind for file in files if self.may_read(file) and (kind := _lhotse_kind(file))}

    @staticmethod
    def _partner(supervisions: Path, kinds: dict[Path, str]) -> Path | None:
        """The recordings of a file of supervisions: its name with the other word in it, or the only one."""
        named = supervisions.with_name(supervisions.name.replace("supervision", "recording"))
        recordings = [file for file, kind in kinds.items() if kind == "recordings"]
        return named if named in recordings else recordings[0] if len(recordings) == 1 else None

    def rows(self) -> Iterator[Row]:
        try:
            from lhotse import CutSet, RecordingSet, SupervisionSet
        except ImportError:
            raise UserError(
                f"{self.folder} holds lhotse's manifests: install lhotse with `pip install lhotse`"
            ) from None
        kinds = self._kinds()
        for table in self.tables():
            try:
                if kinds[table] == "cuts":
                    cuts = CutSet.from_jsonl_lazy(table)
                else:
                    recordings = RecordingSet.from_jsonl(self._partner(table, kinds))
                    cuts = CutSet.from_manifests(recordings, SupervisionSet.from_jsonl(table), random_ids=False)
                yield from (row for cut in cuts for row in self._rows_of(table, cut))
            except (AttributeError, KeyError, TypeError, ValueError, OSError, EOFError, zlib.error) as error:
                raise UserError(
                    f"{table} cannot be read by lhotse ({error!r:.200}): make it anew with lhotse"
                ) from None

    def _rows_of(self, table: Path, cut: Any) -> Iterator[Row]:
        for supervision in cut.supervisions:
            where = f"{table.name}, {supervision.id}"
            sources = cut.recording.sources if getattr(cut, "recording", None) else []
            if len(sources) != 1 or sources[0].type != "file":
                kind = f"of the type {sources[0].type}" if sources else "not there"
                yield Row(where, problem=f"its recording is {kind}, not one file")
                continue
            start, end = cut.start + supervision.start, cut.start + supervision.end
            whole = start <= 0.001 and end >= cut.recording.duration - 0.001
            speaker, language = supervision.speaker or "", supervision.language or ""
            text, name = supervision.text or "", "" if whole else str(supervision.id)
            row = Row(where, sources[0].source, text, speaker, bool(speaker), language=language, beside=table.parent)
            yield row if whole else replace(row, start=max(0.0, start), end=end, name=name)


def _lhotse_kind(file: Path) -> str:
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb") as lines:
            entry = json.loads(lines.readline(2**22))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return ""
    if not isinstance(entry, dict):
        return ""
    if str(entry.get("type", "")).endswith("Cut"):
        return "cuts"
    if "recording_id" in entry and "start" in entry:
        return "supervisions"
    return "recordings" if "sources" in entry and "sampling_rate" in entry else ""
