"""Turns the user's voice embeddings, or the recordings, into a speaker table of XTTS-v2.

Vectors that a measurement shows to come from XTTS's own speaker encoder are used as they are. Others go through a ridge
regression, if on held-out speakers it predicts XTTS's vectors better than the mean voice does. Otherwise the
recordings are encoded with XTTS's own encoder.
"""

from __future__ import annotations

import xtts_ka  # noqa: F401  first of all: it refuses other versions of Python

# isort: split
import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.console import progress, say, warn
from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.corpus.embedding_files import FOLDER, SPEAKERS_FILE, GivenVectors, read_given
from xtts_ka.corpus.tables import DROP_REPORT, Clip, replace_suspects
from xtts_ka.model import voice_space
from xtts_ka.model.geometry import SPEAKER_WIDTH
from xtts_ka.model.voice_space import hashed_order, unit

if TYPE_CHECKING:
    from xtts_ka.model.checkpoint import XttsFiles
    from xtts_ka.model.features import VoiceEncoder
    from xtts_ka.model.speakers import Table

UTTERANCES_PER_SPEAKER = 20  # encoded at most for a speaker's centroid
JUDGED_UTTERANCES = 100  # encoded to find out which space the given vectors are in
FITTED_UTTERANCES = 1000  # encoded to fit the ridge map
PER_SPEAKER_VECTOR = 5  # recordings encoded for comparison with a vector that stands for a whole speaker


class EmbeddingAdapter:
    """Computes one XTTS speaker embedding per speaker from given vectors and recordings.

    The steps are `load`, `compare` (if there are given vectors) and `adapt`; `run` does all of them. Each reports and
    stores its findings, which `metrics` returns.
    """

    def __init__(self, clips: Sequence[Clip], encoder: VoiceEncoder, data_dir: Path | str, others: Sequence[Clip] = ()):
        """others: recordings of other splits; embedding files named after them are not reported as unmatched."""
        if not clips:
            raise UserError(f"{data_dir} has no recordings: make the tables with create_metadata_files.py")
        self.encoder, self.data_dir = encoder, data_dir
        self.clips = [clip for clip in clips if clip.speaker_known]  # the others are no one's voice
        self.others = [*others, *(clip for clip in clips if not clip.speaker_known)]
        self.speaker_of = {clip.file_id: clip.speaker_id for clip in self.clips}
        self.by_speaker: dict[str, list[Clip]] = defaultdict(list)  # clips of a second or more first, then by hash
        for clip in sorted(self.clips, key=lambda clip: (clip.duration < 1.0, hashed_order(clip.file_id))):
            self.by_speaker[clip.speaker_id].append(clip)
        self.given = GivenVectors()
        self.encoded: dict[str, np.ndarray] = {}  # file_id → unit (512,), by XTTS's own encoder
        self.verdict: voice_space.SpaceVerdict | None = None  # None: the width shows that it is another space
        self.ridge: voice_space.RidgeReport | None = None
        self.into_space: Callable[[np.ndarray], np.ndarray] | None = None  # None: the given vectors are not used
        self.suspects: dict[str, str] = {}  # file_id → what is wrong with its label
        self.told_apart: dict[str, float | None] = {}  # by "given" and by "audio" vectors, see find_suspects
        self.source: dict[str, str] = {}  # speaker_id → "given", "mapped" or "audio"

    def load(self) -> GivenVectors:
        """Read the user's vectors."""
        self.given = given = read_given(self.data_dir, self.clips, self.others)
        if not given.files:
            say(f"no embeddings in {Path(self.data_dir) / FOLDER}: voices are computed from the recordings")
        elif given:
            say(
                f"embedding files: {given.files}, {given.width} numbers a vector, for {len(given.utterances)} of "
                f"{len(self.clips)} recordings and {len(given.speakers)} of {len(self.by_speaker)} speakers"
            )
        else:
            warn("no given embedding can be used: voices are computed from the recordings")
        for what, names in (
            ("without a direction", given.unusable),
            ("that match no recording or speaker, or several", given.unused),
        ):
            if names:
                warn(f"vectors {what}, not used ({len(names)}): {_some(names)}")
        return given

    def compare(self) -> None:
        """Find out whether the given vectors can be used as they are, through a ridge map, or not at all."""
        if self.given.width == SPEAKER_WIDTH:
            self.verdict = verdict = voice_space.judge_space(*self._pairs(JUDGED_UTTERANCES))
            other = "" if verdict.other is None else f", of other speakers {verdict.other:.3f}"
            say(f"cosine to XTTS's own encodings of the same voices {verdict.own:.3f}{other} ({verdict.pairs} pairs)")
            if verdict.in_space:
                self.into_space = unit
                say("the given vectors are in XTTS's speaker space and used as they are")
                return
        self.ridge, self.into_space = voice_space.fit_ridge(*self._pairs(FITTED_UTTERANCES))
        if self.ridge.useful:
            say(
                "the given vectors are in another space and are mapped into XTTS's: on held-out "
                f"{self.ridge.held_out} cosine {self.ridge.cosine:.4f}, the mean voice alone {self.ridge.chance:.4f} "
                f"({self.ridge.pairs} pairs)"
            )
        else:
            warn(f"the given vectors are not used ({self.ridge.reason}): voices are computed from the recordings")

    def adapt(self) -> dict[str, np.ndarray]:
        """Return speaker_id → unit float64 (512,), and find suspect labels on the way.

        A speaker's voice is the vector given for the speaker, else the centroid of those given for the speaker's
        recordings, else the centroid of up to 20 recordings encoded here. Suspects are left out of centroids.
        """
        whole, native = (self.given.speakers, self.given.utterances) if self.into_space else ({}, {})
        with_native = {self.speaker_of[file_id] for file_id in native}
        unheard = sorted(self.by_speaker.keys() - whole.keys() - with_native)
        some = [clip for name in unheard for clip in self.by_speaker[name][:UTTERANCES_PER_SPEAKER]]
        self._encode(some, "encoding voices")
        heard = {i: vector for i, vector in self.encoded.items() if self.speaker_of[i] not in with_native}
        spoken: dict[str, list[np.ndarray]] = defaultdict(list)
        for kind, vectors in (("given", native), ("audio", heard)):  # two spaces, each judged separately
            suspects, self.told_apart[kind] = voice_space.find_suspects(vectors, self.speaker_of)
            self.suspects |= suspects
            for file_id in sorted(vectors.keys() - suspects.keys()):
                spoken[self.speaker_of[file_id]].append(vectors[file_id])
        self._say_suspects()
        voices = {}
        for name in sorted(self.by_speaker):
            vectors_of = np.stack([whole[name]] if name in whole else spoken[name])
            self.source[name] = "audio"
            if self.into_space and name not in unheard:
                vectors_of = self.into_space(vectors_of)
                self.source[name] = "mapped" if self.ridge else "given"
            voices[name] = unit(vectors_of.mean(axis=0))
        return voices

    def run(self) -> Table:
        """All the steps, and the speaker table with conditioning latents computed from the recordings.

        Recordings whose speakers are not known give no voice; where there are no others, the table is empty.
        """
        from xtts_ka.model.speakers import speaker_table

        if not self.clips:
            warn("the corpus names no speaker: the model gets no voice of its own, and speaks after a recording")
            return {}
        if self.load():
            self.compare()
        return speaker_table(self.clips, self.encoder, self.adapt(), self.suspects)

    def _say_suspects(self) -> None:
        for kind, share in self.told_apart.items():
            if share is not None and share < voice_space.LEAST_TOLD_APART:
                say(
                    f"by the {kind} vectors {share:.0%} of the recordings are nearest to their own speaker: "
                    "too few to name suspect labels (an untrained encoder, or one person with several names)"
                )
        if self.suspects:
            named = _some([f"{file_id}, {detail}" for file_id, detail in self.suspects.items()])
            warn(
                "recordings that do not sound like their speaker, and do not shape the voice "
                f"({len(self.suspects)}, see {DROP_REPORT}): {named}"
            )

    def metrics(self) -> dict[str, Any]:
        """The findings, as JSON-able builtins."""
        given = self.given
        found = {"files": given.files, "width": given.width, "elsewhere": given.elsewhere}
        found |= {kind: len(getattr(given, kind)) for kind in ("utterances", "speakers", "unused", "unusable")}
        return {
            "speakers": len(self.source),
            "recordings": len(self.clips),
            "encoded": len(self.encoded),
            "voices_from": dict(sorted(Counter(self.source.values()).items())),
            "given": found if given.files else None,
            "space": asdict(self.verdict) if self.verdict else None,
            "ridge": asdict(self.ridge) if self.ridge else None,
            "told_apart": self.told_apart,
            "suspects": len(self.suspects),
        }

    def _pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Given vectors (n, d), XTTS's encodings of the same voices (n, 512), and their speakers.

        At most `limit` recordings are encoded, one of each speaker in turn, in an order set by hash.
        """
        given = self.given
        order = sorted(self.by_speaker, key=hashed_order)
        queues = [[c for c in self.by_speaker[name] if c.file_id in given.utterances] for name in order]
        chosen = [clip for turn in zip_longest(*queues) for clip in turn if clip][:limit]
        places = (limit - len(chosen)) // PER_SPEAKER_VECTOR
        whole = [name for name in order if name in given.speakers][:places]
        behind = {name: self.by_speaker[name][:PER_SPEAKER_VECTOR] for name in whole}
        self._encode(chosen + [clip for clips in behind.values() for clip in clips], "comparing embeddings")
        pairs = [(given.utterances[c.file_id], self.encoded[c.file_id], c.speaker_id) for c in chosen]
        for name, clips in behind.items():
            centroid = unit(np.mean([self.encoded[clip.file_id] for clip in clips], axis=0))
            pairs.append((given.speakers[name], centroid, name))
        vectors, targets, speakers = zip(*pairs)
        return unit(np.stack(vectors)), np.stack(targets), list(speakers)

    def _encode(self, clips: Iterable[Clip], what: str) -> None:
        """Encode those of `clips` that were not encoded yet."""
        from xtts_ka.model.speakers import clip_speech

        new = [clip for clip in clips if clip.file_id not in self.encoded]
        for clip in progress(new, what=what, unit="clip", shown=bool(new)):
            vector = self.encoder.speaker_embedding(clip_speech(clip)).double().numpy().reshape(-1)
            if not np.isfinite(vector).all() or not vector.any():
                raise UserError(f"{clip.audio_path} has no voice that XTTS can encode: delete it and its row")
            self.encoded[clip.file_id] = unit(vector)


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


def run_embeddings_stage(
    config: PretrainConfig, clips: list[Clip], base: XttsFiles, device: str = "cpu", others: Sequence[Clip] = ()
) -> dict[str, Any]:
    """Write SPEAKERS_FILE into `output_model_path` and the drop report's suspect rows; return the metrics.

    others: recordings of splits that no voice may be computed from (see EmbeddingAdapter).
    """
    from xtts_ka.model.features import VoiceEncoder

    adapter = EmbeddingAdapter(clips, VoiceEncoder(base.config, base.state, device), config.data_dir, others)
    table = adapter.run()
    by_id = {clip.file_id: clip for clip in clips}
    rows = [(i, detail, str(by_id[i].audio_path), by_id[i].text) for i, detail in adapter.suspects.items()]
    replace_suspects(config.data_dir, voice_space.SUSPECT, rows)
    save_torch(Path(config.output_model_path) / SPEAKERS_FILE, table)
    metrics = adapter.metrics()
    sources = ", ".join(f"{count} {kind}" for kind, count in metrics["voices_from"].items())
    say(
        f"voices: {sources}; {metrics['encoded']} of {metrics['recordings']} recordings encoded; "
        f"{metrics['suspects']} suspect labels"
    )
    return metrics


def _adapt_alone(config_path: str, force: bool) -> None:
    config = load_config(config_path)
    from pretrain_xtts_model import PretrainPipeline
    from xtts_ka.model.speakers import read_speakers

    PretrainPipeline(config).run("embeddings", only="embeddings" if force else None)
    path = Path(config.output_model_path) / SPEAKERS_FILE
    table = read_speakers(path)
    say(f"speakers in {path} ({len(table)}): {_some(sorted(table))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the embeddings stage as `run_pretrain.py` does, and describe its speaker table."""
    parser = argparse.ArgumentParser(
        description="Turn voice embeddings (or the recordings) into XTTS-v2 speakers: the embeddings stage.",
        epilog=f"example: python embedding_adapter.py --config {DEFAULT_CONFIG} --force",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (%(default)s)")
    parser.add_argument("--force", action="store_true", help=f"make {SPEAKERS_FILE} anew although it is up to date")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: _adapt_alone(args.config, args.force), args)


if __name__ == "__main__":
    sys.exit(main())
