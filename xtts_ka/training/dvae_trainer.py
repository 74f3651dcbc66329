"""Trains XTTS's DVAE, which turns recordings into audio codes: from the base model's weights, or from nothing.

A tuned DVAE must keep the meaning of its code numbers, since the base model's GPT has learnt them: the learning rate is
small, code vectors follow slowly, unused ones stay (see model/codebook), and `compare` says how far the codes have
moved, `gpt_losses` what the base GPT's loss is on the old and on the new ones. From nothing, the codebook starts with
k-means over the encoder's first output, and codes that die are revived.

XTTS uses the encoder and the codebook alone; the decoder is trained so that the codes hold what a mel needs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xtts_ka.core.config import DvaeConfig, PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.corpus import recordings
from xtts_ka.corpus.excerpt import Recording
from xtts_ka.corpus.tables import TRAINING_SPLITS, Clip, read_split
from xtts_ka.model import geometry as g
from xtts_ka.model.codebook import codebook_use, follow, k_means, nearest, reconstruct, revive, settle
from xtts_ka.training.clip_pieces import PARTS, Arrays, ClipPieces, chosen_names, make_pieces
from xtts_ka.training.parts_loop import Batch, Part, Tools, crop_start, drawn, part_optimizer, train_part
from xtts_ka.training.process_group import ALONE, Peers

if TYPE_CHECKING:
    from accelerate import Accelerator

    from xtts_ka.model.checkpoint import XttsFiles
    from xtts_ka.model.networks import DiscreteVAE

    # (made mels, true mels, batch) → a loss that is added, such as a recogniser's; mels (batch, 80, frames)
    ExtraLoss = Callable[[Tensor, Tensor, Batch], Tensor]

MELS = "mels"
START_BATCHES = 16  # over which the codebook's start is measured
REVIVE_EVERY = 50  # steps
REVIVE_UNTIL = 0.8  # of the training; later the vectors settle
VAL_CLIPS = 256
COMPARED_CLIPS = 32  # on which the base GPT's loss is measured
INAUDIBLE = 13.8  # nepers of power below a piece's loudest bin: 60 dB


class DvaePart(Part):
    """The DVAE on pieces of mels.

    mels: (frames, 80) of each clip, as `mel_pieces` makes them. mel_scale: what the mels were divided by, (80,).
    extra: a loss that is added to the reconstruction's.
    """

    name = "dvae"
    settings: DvaeConfig

    def __init__(
        self,
        dvae: DiscreteVAE,
        train: ClipPieces,
        val: ClipPieces,
        settings: DvaeConfig,
        seed: int,
        mel_scale: Tensor,
        extra: ExtraLoss | None = None,
    ):
        self.dvae, self.train, self.val, self.settings, self.seed = dvae, train, val, settings, seed
        self.mel_scale, self.extra = mel_scale[:, None], extra
        self.networks = {"model": dvae}
        self.optimizers = {"model": part_optimizer(dvae, settings.learning_rate)}
        codes = int(sum(g.codes_of(int(frames) * g.MEL_HOP) for frames in train.lengths[MELS]))
        if settings.fresh and codes < dvae.num_tokens:
            problem = (
                f"the recordings have {codes} audio codes' time, fewer than the codebook's {dvae.num_tokens} entries"
            )
            raise UserError(f"{problem}: add recordings, or set dvae.fresh to false")

    def begin(self, tools: Tools) -> None:
        """Start the codebook: with k-means where it is fresh; its averages in any case from how it is used."""
        book, batches = self.dvae.codebook, [self.batch(step, 0, 1) for step in range(START_BATCHES)]
        with torch.no_grad():
            points = torch.cat([self._points(tools.on_device(batch), tools) for batch in batches])
            if self.settings.fresh:
                book.embed.copy_(k_means(points, self.dvae.num_tokens).T)
            uses = torch.bincount(nearest(book, points), minlength=self.dvae.num_tokens)
        world = tools.accelerator.num_processes
        settle(book, uses.float() * world / START_BATCHES)

    def _points(self, batch: Batch, tools: Tools) -> Tensor:
        """(points, dim): the encoder's output inside the clips."""
        with tools.autocast():
            points = self.dvae.encoder(batch["mels"]).transpose(1, 2).float()
        return points[_inside(batch["frames"], points.shape[1], g.FRAMES_PER_CODE)]

    def batch(self, step: int, rank: int, world: int) -> Batch:
        clips = drawn(len(self.train), self.settings.batch_size, self.seed, step, rank, world)
        return self._pieces(self.train, clips)

    def _pieces(self, source: ClipPieces, clips: Iterable[tuple[int, int]]) -> Batch:
        """Random pieces of clips, silence behind the end of shorter ones. clips: (epoch, clip)."""
        size, rows, starts = self.settings.segment_codes * g.FRAMES_PER_CODE, [], []
        for epoch, clip in clips:
            starts.append(crop_start(int(source.lengths[MELS][clip]), size, self.seed, epoch, clip))
            rows.append(torch.from_numpy(source.read(clip, MELS, starts[-1], starts[-1] + size)).float().T)
        silence = float(np.log(1e-5)) / self.mel_scale
        return {
            "mels": torch.stack([torch.cat([row, silence.expand(-1, size - row.shape[1])], dim=1) for row in rows]),
            "frames": torch.tensor([row.shape[1] for row in rows]),
            "clips": torch.tensor([clip for _, clip in clips]),
            "starts": torch.tensor(starts),
        }

    def train_step(self, batch: Batch, step: int, tools: Tools) -> dict[str, Tensor]:
        with tools.autocast():
            found = reconstruct(self.dvae, batch["mels"])
        error = self._error(found.mels.float(), batch)
        loss = error + self.settings.commitment * found.commitment
        if self.extra:
            loss = loss + self.extra(found.mels.float(), batch["mels"], batch)
        norm = torch.tensor(tools.step(self.dvae, self.optimizers["model"], loss))
        inside = _inside(batch["frames"], found.codes.shape[1], g.FRAMES_PER_CODE)
        points, codes = found.points[inside], found.codes[inside]
        metrics = {"loss": loss, "reconstruction": error, "commitment": found.commitment, "grad_norm": norm}
        if norm.isfinite():
            follow(self.dvae.codebook, points, codes, self.settings.codebook_decay)
            if self._revival_is_due(step):
                metrics["revived"] = torch.tensor(revive(self.dvae.codebook, points, self.settings.revive_below))
        return metrics

    def _revival_is_due(self, step: int) -> bool:
        early = step < REVIVE_UNTIL * self.settings.max_steps
        return self.settings.revive_below > 0 and early and step % REVIVE_EVERY == REVIVE_EVERY - 1

    def _error(self, made: Tensor, batch: Batch) -> Tensor:
        """Mean squared error inside the clips; quiet bins count less, as `audibility` says."""
        mels = batch["mels"]
        weight = _inside(batch["frames"], mels.shape[2])[:, None].float()
        level = mels * self.mel_scale.to(mels)  # log power
        below = ((level.amax((1, 2), keepdim=True) - level) / INAUDIBLE).clamp(0, 1)
        weight = weight * (1 - self.settings.audibility * below)
        return (weight * (made - mels).square()).sum() / weight.sum()

    @torch.no_grad()
    def validate(self, tools: Tools) -> dict[str, float]:
        """The reconstruction's loss on one piece of each validation clip, and how much of the codebook they use."""
        count, size, sums, codes = min(len(self.val), VAL_CLIPS), self.settings.batch_size, 0.0, []
        for first in range(0, count, size):
            clips = range(first, min(first + size, count))
            batch = tools.on_device(self._pieces(self.val, [(0, clip) for clip in clips]))
            with tools.autocast():
                found = reconstruct(self.dvae, batch["mels"])
            sums += float(self._error(found.mels.float(), batch)) * len(clips)
            codes.append(found.codes[_inside(batch["frames"], found.codes.shape[1], g.FRAMES_PER_CODE)].cpu())
        return {"loss": sums / count, **codebook_use(torch.cat(codes), self.dvae.num_tokens)}


def _inside(lengths: Tensor, count: int, stride: int = 1) -> Tensor:
    """(batch, count): which places of `stride` frames begin before each row's end."""
    return torch.arange(count, device=lengths.device) * stride < lengths[:, None]


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def mel_pieces(folder: Path, key: Any, paths: Sequence[Recording], mel_stats: Path, device: str = "cpu") -> ClipPieces:
    """The DVAE's mels of recordings, (frames, 80) float16 each. key: what says that the recordings are unchanged."""
    from xtts_ka.model.features import dvae_mels, load_speech

    def make(batch: Sequence[Recording]) -> list[Arrays]:
        speech = [load_speech(path, g.MAX_SPEECH_SECONDS) for path in batch]
        return [{MELS: mel.T.contiguous().half().numpy()} for mel in dvae_mels(speech, mel_stats, device)]

    return make_pieces(folder, [key, file_digest(mel_stats), [str(path) for path in paths]], paths, make, "mels")


# ── how far have the codes moved? ────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def compare(old: DiscreteVAE, new: DiscreteVAE, mels: Sequence[Tensor]) -> tuple[float, list[Tensor], list[Tensor]]:
    """The share of codes that differ, and the codes of both. mels: (80, frames) of each clip, as long as it is."""
    both = [[dvae.eval().get_codebook_indices(mel[None])[0] for mel in mels] for dvae in (old, new)]
    differing = torch.cat(both[0]) != torch.cat(both[1])
    return float(differing.float().mean()), both[0], both[1]


def gpt_losses(
    base: XttsFiles, clips: Sequence[Recording], *codings: Sequence[Tensor], device: str = "cpu"
) -> list[float]:
    """The base GPT's nats a code on each coding of these clips, each in the clip's own voice and without text.

    Without text, because the base model reads no Georgian: the figure says how familiar the codes are, nothing else.
    """
    from xtts_ka.model.checkpoint import load_gpt
    from xtts_ka.model.features import VoiceEncoder, load_speech
    from xtts_ka.model.latents import code_nats

    encoder = VoiceEncoder(base.config, base.state, device)
    voices = torch.cat([encoder.cond_latent(load_speech(path, g.MAX_SPEECH_SECONDS)) for path in clips]).to(device)
    gpt, nothing = load_gpt(base).to(device).eval(), torch.empty(0, dtype=torch.long)
    losses = []
    for coding in codings:
        rows = [code_nats(gpt, voices[i : i + 1], [nothing], [codes]) for i, codes in enumerate(coding)]
        weights = [len(codes) for codes in coding]
        losses.append(float(np.average(rows, weights=weights)))
    return losses


# ── the stage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_dvae_stage(
    config: PretrainConfig, base: XttsFiles, accelerator: Accelerator, peers: Peers = ALONE
) -> dict[str, Any]:
    """Train on the user's recordings, write `dvae.pth` into the output folder, say what has changed."""
    from xtts_ka.model.features import load_dvae, read_mel_stats
    from xtts_ka.model.narrow import expanded, slim_dvae
    from xtts_ka.model.networks import build_dvae

    settings, device = config.dvae, str(accelerator.device)
    mel_stats = base.folder / "mel_stats.pth"
    old = load_dvae(base.folder / "dvae.pth", base.config)
    clips = {name: _chosen_clips(config, name) for name in TRAINING_SPLITS}
    with peers.main_first("mels"):
        pieces = {name: _mels(config, name, clips[name], mel_stats, device) for name in clips}
    whole = build_dvae(old.num_tokens) if settings.fresh else copy.deepcopy(old)
    dvae = whole if settings.fresh else slim_dvae(whole)
    part = DvaePart(dvae, pieces["train"], pieces["val"], settings, config.seed, read_mel_stats(mel_stats))
    facts = [file_digest(base.folder / "dvae.pth"), pieces["train"].folder.name, settings.fresh]
    if dvae is not whole:
        facts.append("narrow")  # checkpoints of the whole network do not fit
    chosen = train_part(part, config, hash_value(facts)[:16], accelerator, peers)
    if not peers.is_main:
        return {}
    dvae.load_state_dict(chosen.weights())
    save_torch(Path(config.output_model_path) / "dvae.pth", expanded(dvae.cpu().state_dict(), old))
    return _changes(base, old, dvae, pieces["val"], clips["val"], part, chosen.val_loss, device)


def _chosen_clips(config: PretrainConfig, split: str) -> list[Clip]:
    clips = {clip.file_id: clip for clip in read_split(config.data_dir, split)}
    return [clips[name] for name in chosen_names(clips, config.dvae.clips if split == "train" else VAL_CLIPS)]


def _mels(config: PretrainConfig, split: str, clips: Sequence[Clip], mel_stats: Path, device: str) -> ClipPieces:
    key = recordings.listing(config.data_dir, split).digest
    folder = Path(config.data_dir) / PARTS / f"{MELS}_{split}"
    return mel_pieces(folder, key, [clip.sound for clip in clips], mel_stats, device)


def _changes(
    base: XttsFiles,
    old: DiscreteVAE,
    new: DiscreteVAE,
    pieces: ClipPieces,
    clips: Sequence[Clip],
    part: DvaePart,
    val_loss: float | None,
    device: str,
) -> dict[str, Any]:
    audible = [place for place, clip in enumerate(clips) if clip.duration >= 1][:COMPARED_CLIPS]
    chosen = audible or [int(np.argmax([clip.duration for clip in clips]))]
    mels = [torch.from_numpy(pieces.read(place, MELS)).float().T for place in chosen]
    moved, codes_before, codes_after = compare(old, new, mels)
    paths = [clips[place].sound for place in chosen]
    before, after = gpt_losses(base, paths, codes_before, codes_after, device=device)
    use = codebook_use(torch.cat(codes_after), new.num_tokens)
    say(
        f"dvae        {moved:.1%} of the codes of {len(mels)} validation clips have changed; the base GPT's loss on "
        f"them: {before:.3f} → {after:.3f} nats a code; perplexity {use['perplexity']:.0f}"
    )
    return {
        "val_loss": val_loss,
        "codes_changed": moved,
        "gpt_loss_before": before,
        "gpt_loss_after": after,
        "perplexity": use["perplexity"],
    }
