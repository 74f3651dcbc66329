"""Voices in XTTS-v2's form: the user's voice embeddings, or the recordings, become `speakers_xtts.pth`.

Given embeddings are believed as far as a measurement carries: vectors of XTTS's own encoder are taken as they
are, others go through a ridge map that must do better on held-out speakers than guessing the mean voice, and
where it does not, the recordings are encoded instead.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.console import heading, progress, say, warn
from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.corpus.embedding_files import FOLDER, GivenVectors, read_given
from xtts_ka.corpus.tables import DROP_REPORT, SPLITS, Clip, read_split, replace_suspects, split_csv
from xtts_ka.model.speakers import (
    SPEAKER_WIDTH,
    SUSPECT,
    Table,
    clip_speech,
    hashed_order,
    read_speakers,
    speaker_table,
)
from xtts_ka.model.voice_space import (
    LEAST_TOLD_APART,
    RidgeReport,
    SpaceVerdict,
    Suspect,
    find_suspects,
    fit_ridge,
    judge_space,
    unit,
)

if TYPE_CHECKING:
    from xtts_ka.model.checkpoint import XttsFiles
    from xtts_ka.model.features import VoiceEncoder

SPEAKERS_FILE = "speakers_xtts.pth"

UTTERANCES_PER_SPEAKER = 20  # encoded for a speaker's centroid at most
JUDGED_UTTERANCES = 100  # encoded to find out where given vectors live
FITTED_UTTERANCES = 1000  # encoded to fit the ridge map
PER_SPEAKER_VECTOR = 5  # recordings encoded for a vector that stands for a whole speaker


# ── the adapter ─────────────────────────────────────────────────────────────────────────────────────────────


class EmbeddingAdapter:
    """From given vectors and recordings to one XTTS speaker embedding per speaker.

    The steps: `load`, `judge_space`, `fit_ridge` (only where the vectors are foreign), `adapt`, `collect`;
    all of them: `run`. Each keeps what it found, for `metrics`.
    """

    def __init__(self, clips: Sequence[Clip], encoder: VoiceEncoder, data_dir: Path | str, others: Sequence[Clip] = ()):
        if not clips:
            raise UserError(f"{data_dir} has no recordings: make the tables with create_metadata_files.py")
        self.clips, self.encoder, self.data_dir, self.others = list(clips), encoder, data_dir, list(others)
        self.speaker_of = {clip.file_id: clip.speaker_id for clip in clips}
        self.by_speaker: dict[str, list[Clip]] = defaultdict(list)  # a second or more first, then by hash
        for clip in sorted(clips, key=lambda clip: (clip.duration < 1.0, hashed_order(clip.file_id))):
            self.by_speaker[clip.speaker_id].append(clip)
        self.given = GivenVectors()
        self.encoded: dict[str, np.ndarray] = {}  # file_id → unit (512,), by XTTS's own encoder
        self.verdict: SpaceVerdict | None = None
        self.ridge: RidgeReport | None = None
        self.into_space: Callable[[np.ndarray], np.ndarray] | None = None  # None: given vectors are of no use
        self.suspects: list[Suspect] = []
        self.told_apart: dict[str, float | None] = {}  # by "given" and by "audio" vectors, see find_suspects
        self.source: dict[str, str] = {}  # speaker_id → "given", "mapped" or "audio"

    def load(self) -> GivenVectors:
        """Read the user's vectors and say what was found."""
        self.given = given = read_given(self.data_dir, self.clips, self.others)
        if given:
            say(
                f"{given.files} embedding file{'s' * (given.files > 1)}: {given.width} numbers a vector, for "
                f"{len(given.utterances)} of {len(self.clips)} recordings and {len(given.speakers)} of "
                f"{len(self.by_speaker)} speakers"
            )
        elif not given.files:
            say(f"no embeddings in {Path(self.data_dir) / FOLDER}: voices are computed from the recordings")
        if given.unusable:
            warn(f"vectors without a direction, not used ({len(given.unusable)}): {_some(given.unusable)}")
        if given.unused:
            warn(
                f"vectors that match no recording or speaker, or several, not used ({len(given.unused)}): "
                f"{_some(given.unused)}"
            )
        if given.files and not given:
            warn("no given embedding can be used: voices are computed from the recordings")
        return given

    def judge_space(self) -> SpaceVerdict:
        """Measure whether given vectors are what XTTS's own encoder says of the same recordings."""
        self.verdict = SpaceVerdict(0, None, None, False)
        if self.given.width == SPEAKER_WIDTH:
            self.verdict = judge_space(*self._pairs(JUDGED_UTTERANCES))
        if self.verdict.in_space:
            self.into_space = unit
        return self.verdict

    def fit_ridge(self) -> RidgeReport:
        """Fit a map into XTTS's speaker space; it is kept if it beats the mean voice on held-out voices."""
        self.ridge, self.into_space = fit_ridge(*self._pairs(FITTED_UTTERANCES))
        return self.ridge

    def adapt(self) -> dict[str, np.ndarray]:
        """Return speaker_id → unit float64 (512,), and find suspect labels on the way.

        A speaker's voice is, in this order: the vector given for the speaker; the centroid of those given for
        the speaker's recordings; the centroid of up to 20 recordings encoded here. Suspects stay out of it.
        """
        into, given = self.into_space, self.given
        whole = given.speakers if into else {}
        native = given.utterances if into else {}
        with_native = {self.speaker_of[file_id] for file_id in native}
        unheard = self.by_speaker.keys() - whole.keys() - with_native
        some = [clip for name in sorted(unheard) for clip in self.by_speaker[name][:UTTERANCES_PER_SPEAKER]]
        self._encode(some, "encoding voices")
        heard = {i: vector for i, vector in self.encoded.items() if self.speaker_of[i] not in with_native}
        spoken: dict[str, list[np.ndarray]] = defaultdict(list)
        for kind, vectors in (("given", native), ("audio", heard)):  # two spaces, each judged by itself
            suspects, self.told_apart[kind] = find_suspects(vectors, self.speaker_of)
            self.suspects += suspects
            doubtful = {suspect.file_id for suspect in suspects}
            for file_id in sorted(vectors.keys() - doubtful):  # sums in one order, whatever the hash seed
                spoken[self.speaker_of[file_id]].append(vectors[file_id])
        voices = {}
        for name in sorted(self.by_speaker):
            vectors = np.stack([whole[name]] if name in whole else spoken[name])
            voices[name] = unit((vectors if name in unheard else into(vectors)).mean(axis=0))
            self.source[name] = "audio" if name in unheard else "given" if self.verdict.in_space else "mapped"
        return voices

    def collect(self, voices: Mapping[str, np.ndarray]) -> Table:
        """The table of `speakers_xtts.pth` for these voices, its conditioning latents from the recordings."""
        return speaker_table(self.clips, self.encoder, voices, {suspect.file_id for suspect in self.suspects})

    def run(self) -> Table:
        """All the steps, announcing what they find."""
        if self.load():
            verdict = self.judge_space()
            if verdict.own is not None:
                other = "" if verdict.other is None else f", of other speakers {verdict.other:.3f}"
                say(
                    f"cosine to XTTS's own encodings of the same voices {verdict.own:.3f}{other} "
                    f"({verdict.pairs} pairs)"
                )
            if verdict.in_space:
                say("the given vectors live in XTTS's speaker space: taken as they are")
            elif (ridge := self.fit_ridge()).useful:
                say(
                    "the given vectors live in another space and are mapped into XTTS's: on held-out "
                    f"{ridge.held_out} cosine {ridge.cosine:.4f}, the mean voice alone {ridge.chance:.4f} "
                    f"({ridge.pairs} pairs)"
                )
            else:
                warn(f"the given vectors are not used ({ridge.reason}): voices are computed from the recordings")
        table = self.collect(self.adapt())
        self._say_suspects()
        return table

    def _say_suspects(self) -> None:
        for kind, share in self.told_apart.items():
            if share is not None and share < LEAST_TOLD_APART:
                say(
                    f"by the {kind} vectors {share:.0%} of the recordings are nearest to their own speaker: "
                    "too few to name suspect labels (an untrained encoder, or one person with several names)"
                )
        if count := len(self.suspects):
            named = _some([f"{suspect.file_id}, {suspect.detail}" for suspect in self.suspects])
            warn(
                f"{count} recording{'s do' if count > 1 else ' does'} not sound like the speaker and will "
                f"not shape the voice (see {DROP_REPORT}): {named}"
            )

    def metrics(self) -> dict[str, Any]:
        """What was found, as JSON-able builtins."""
        given, report = self.given, None
        if given.files:
            report = {
                "files": given.files,
                "width": given.width,
                "utterances": len(given.utterances),
                "speakers": len(given.speakers),
                "elsewhere": given.elsewhere,
                "unused": len(given.unused),
                "unused_names": given.unused[:20],
                "unusable": len(given.unusable),
                "unusable_names": given.unusable[:20],
            }
        return {
            "speakers": len(self.source),
            "recordings": len(self.clips),
            "encoded": len(self.encoded),
            "voices_from": dict(sorted(Counter(self.source.values()).items())),
            "given": report,
            "space": asdict(self.verdict) if self.verdict else None,
            "ridge": asdict(self.ridge) if self.ridge else None,
            "told_apart": self.told_apart,
            "suspects": len(self.suspects),
        }

    def _pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Given vectors (n, d), XTTS's encodings of the same voices (n, 512), and their speakers.

        At most `limit` recordings are encoded; speakers take turns in an order set by hash.
        """
        given = self.given
        order = sorted(self.by_speaker, key=hashed_order)
        queues = [[c for c in self.by_speaker[name] if c.file_id in given.utterances] for name in order]
        chosen = [clip for turn in zip_longest(*queues) for clip in turn if clip][:limit]
        places = (limit - len(chosen)) // PER_SPEAKER_VECTOR
        behind = {
            name: self.by_speaker[name][:PER_SPEAKER_VECTOR]
            for name in [name for name in order if name in given.speakers][:places]
        }
        self._encode(chosen + [clip for clips in behind.values() for clip in clips], "comparing embeddings")
        pairs = [(given.utterances[c.file_id], self.encoded[c.file_id], c.speaker_id) for c in chosen]
        for name, clips in behind.items():
            centroid = unit(np.mean([self.encoded[clip.file_id] for clip in clips], axis=0))
            pairs.append((given.speakers[name], centroid, name))
        vectors, targets, speakers = zip(*pairs)
        return unit(np.stack(vectors)), np.stack(targets), list(speakers)

    def _encode(self, clips: Iterable[Clip], what: str) -> None:
        """Encode those of `clips` that were not encoded yet."""
        new = [clip for clip in clips if clip.file_id not in self.encoded]
        for clip in progress(new, what=what, unit="clip", shown=bool(new)):
            vector = self.encoder.speaker_embedding(clip_speech(clip)).double().numpy().reshape(-1)
            if not np.isfinite(vector).all() or not vector.any():
                raise UserError(f"{clip.audio_path} has no voice that XTTS can encode: delete it and its row")
            self.encoded[clip.file_id] = unit(vector)


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


# ── the speaker table ───────────────────────────────────────────────────────────────────────────────────────


# ── the stage and the script ────────────────────────────────────────────────────────────────────────────────


def run_embeddings_stage(
    config: PretrainConfig,
    clips: list[Clip],
    base: XttsFiles,
    device: str = "cpu",
    others: Sequence[Clip] = (),
    file: str = SPEAKERS_FILE,
) -> dict[str, Any]:
    """Write `file` into `output_model_path` and the drop report's suspect rows; return the metrics.

    others: recordings of splits that are not to be heard; embedding files that bear their names are in order.
    """
    from xtts_ka.model.features import VoiceEncoder

    adapter = EmbeddingAdapter(clips, VoiceEncoder(base.config, base.state, device), config.data_dir, others)
    table = adapter.run()
    by_id = {clip.file_id: clip for clip in clips}
    rows = [(by_id[suspect.file_id], suspect.detail) for suspect in adapter.suspects]
    replace_suspects(config.data_dir, SUSPECT, [(c.file_id, d, str(c.audio_path), c.text) for c, d in rows])
    save_torch(Path(config.output_model_path) / file, table)
    return adapter.metrics()


def _describe(path: Path) -> None:
    """Say what a speaker table holds."""
    table = read_speakers(path)
    width = next(iter(table.values()))["gpt_cond_latent"].shape[2]
    say(
        f"{path} holds {len(table)} speaker{'s' * (len(table) > 1)} ({_some(sorted(table))}), conditioning "
        f"latents of width {width}"
    )
    for name, voice in sorted(table.items()):
        norms = [f"{kind} {tuple(tensor.shape)}, norm {float(tensor.norm()):.3f}" for kind, tensor in voice.items()]
        say(f"  {name}: {'; '.join(norms)}", verbose=True)


def _adapt_alone(config_path: str, force: bool) -> None:
    config = load_config(config_path)
    target = Path(config.output_model_path) / SPEAKERS_FILE
    if target.exists() and not force:
        _describe(target)
        say("nothing to do; --force makes it anew")
        return
    clips, *rest = (
        read_split(config.data_dir, split)
        for split in SPLITS
        if split == "train" or split_csv(config.data_dir, split).is_file()
    )
    import torch

    from xtts_ka.model.checkpoint import missing_base_files, read_model

    if config.starter.enabled and missing_base_files(config.base_model_path):
        raise UserError(
            f"the base model {config.base_model_path} is not there: the starter's stand-in is "
            f"made by `python run_pretrain.py --config {config_path} --only embeddings`"
        )
    device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    heading("embeddings")
    metrics = run_embeddings_stage(
        config, clips, read_model(config.base_model_path), device, [clip for split in rest for clip in split]
    )
    sources = ", ".join(f"{count} {kind}" for kind, count in metrics["voices_from"].items())
    say(
        f"voices: {sources}; {metrics['encoded']} of {metrics['recordings']} recordings encoded; "
        f"{metrics['suspects']} suspect labels"
    )
    _describe(target)


def main(argv: Sequence[str] | None = None) -> int:
    """The script: the embeddings stage alone."""
    parser = argparse.ArgumentParser(
        description="Turn voice embeddings (or the recordings) into XTTS-v2 speakers: speakers_xtts.pth.",
        epilog=f"example: python embedding_adapter.py --config {DEFAULT_CONFIG} --force",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (%(default)s)")
    parser.add_argument("--force", action="store_true", help=f"make {SPEAKERS_FILE} anew where there is one")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: _adapt_alone(args.config, args.force), args)


if __name__ == "__main__":
    sys.exit(main())
