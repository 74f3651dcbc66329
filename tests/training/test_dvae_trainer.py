import numpy as np
import pytest
import torch
from part_runs import part_config, run, saved

from xtts_ka.core.config import DvaeConfig
from xtts_ka.core.errors import UserError
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.model.networks import build_dvae
from xtts_ka.training import dvae_trainer
from xtts_ka.training.clip_pieces import make_pieces
from xtts_ka.training.dvae_trainer import MELS, DvaePart, compare

SCALE = torch.full((80,), 4.0)
SETTINGS = DvaeConfig(
    fresh=True, max_steps=8, batch_size=4, learning_rate=1e-2, segment_codes=8, codebook_decay=0.9, revive_below=0.1
)


def mels(clips: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Mels that move between four sounds, as speech does."""
    random = np.random.default_rng(seed)
    sounds = np.random.default_rng(0).normal(size=(4, 80))
    rows = [np.repeat(sounds[random.integers(0, 4, 12)], 4, axis=0)[: random.integers(20, 48)] for _ in range(clips)]
    return [{MELS: (row + 0.05 * random.normal(size=row.shape)).astype(np.float16)} for row in rows]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mels")
    return [make_pieces(folder / name, name, mels(n, n), list, "mels") for name, n in (("train", 30), ("val", 6))]


def part(pieces, dvae=None, extra=None, **changes):
    torch.manual_seed(0)
    settings = SETTINGS.model_copy(update=changes)
    return DvaePart(dvae or build_dvae(16, hidden=16, codebook_dim=8), *pieces, settings, 1, SCALE, extra)


def test_from_nothing_it_learns_and_its_codebook_lives(pieces, tmp_path):
    config = part_config(tmp_path)
    run(part(pieces, max_steps=60), config)
    lines = list(read_jsonl(tmp_path / "logs/dvae/metrics.jsonl"))
    train = [line["reconstruction"] for line in lines if line.get("split") == "train"]
    val = [line for line in lines if line.get("split") == "val"]
    assert np.mean(train[-5:]) < 0.6 * train[0] and val[-1]["loss"] < 0.7 * val[0]["loss"]
    assert val[-1]["codes_used"] >= 4 and val[-1]["perplexity"] > 3
    assert [line["event"] for line in lines if "event" in line] == ["start", "finish"]


def test_stopped_and_resumed_equals_uninterrupted(pieces, tmp_path):
    whole = run(part(pieces), part_config(tmp_path / "whole"))
    config = part_config(tmp_path / "stopped")
    run(part(pieces), config, stop_at=3)
    resumed = run(part(pieces, build_dvae(16, 16, 8)), config)
    assert resumed.checkpoints.last().step == 8
    assert saved(resumed, 8) == saved(whole, 8)


def test_tuning_keeps_most_codes(pieces, tmp_path):
    trained = run(part(pieces, max_steps=40), part_config(tmp_path / "base"))
    base = build_dvae(16, 16, 8)
    base.load_state_dict(trained.chosen().weights())
    for rate, least, most in ((1e-6, 0.0, 0.02), (3e-2, 0.1, 1.0)):
        dvae = build_dvae(16, 16, 8)
        dvae.load_state_dict(base.state_dict())
        changes = {"fresh": False, "learning_rate": rate, "codebook_decay": 0.999, "revive_below": 0.0}
        run(part(pieces, dvae, **changes), part_config(tmp_path / f"tuned{rate}"))
        samples = [torch.from_numpy(pieces[1].read(clip, MELS)).float().T for clip in range(6)]
        moved, before, after = compare(base, dvae, samples)
        assert least <= moved <= most, rate
        assert (
            [len(codes) for codes in before]
            == [len(codes) for codes in after]
            == [-(-m.shape[1] // 4) for m in samples]
        )


def test_codes_that_nothing_uses_are_revived_until_the_last_fifth(pieces, tmp_path, monkeypatch):
    monkeypatch.setattr(dvae_trainer, "REVIVE_EVERY", 2)
    learner = part(pieces, max_steps=8, revive_below=0.5)
    run(learner, part_config(tmp_path))
    lines = [line for line in read_jsonl(tmp_path / "logs/dvae/metrics.jsonl") if line.get("split") == "train"]
    assert [line["step"] for line in lines if "revived" in line] == [2, 4, 6]
    assert sum(line.get("revived", 0) for line in lines) > 0


def test_quiet_bins_count_less_and_what_pads_a_clip_not_at_all(pieces):
    plain, deaf = part(pieces), part(pieces, audibility=1.0)
    batch = plain.batch(0, 0, 1)
    assert (batch["frames"] < 32).any()
    quiet, loud = batch["mels"].clone(), batch["mels"].clone()
    lowest, highest = batch["mels"].amin(), batch["mels"].amax()
    quiet[batch["mels"] < lowest + 0.3 * (highest - lowest)] += 1.0
    loud[batch["mels"] > lowest + 0.7 * (highest - lowest)] += 1.0
    ratios = [p._error(loud, batch) / p._error(quiet, batch) for p in (plain, deaf)]
    assert ratios[1] > 1.2 * ratios[0]
    padded = batch["mels"].clone()
    for row, frames in enumerate(batch["frames"]):
        padded[row, :, frames:] += 5
    assert plain._error(padded, batch) == 0


def test_another_loss_takes_part(pieces, tmp_path):
    seen = []

    def extra(made, true, batch):
        seen.append((made.shape, true.shape, set(batch)))
        return made.mean() * 0

    run(part(pieces, extra=extra, max_steps=2), part_config(tmp_path))
    assert seen == [(torch.Size([4, 80, 32]),) * 2 + ({"mels", "frames", "clips", "starts"},)] * 2


def test_too_few_recordings_for_a_fresh_codebook_are_refused(pieces):
    with pytest.raises(UserError, match="fewer than the codebook's 1024 entries: add recordings"):
        part(pieces, build_dvae(1024, 16, 8))
