import numpy as np
import pytest
import soundfile
import torch
from part_runs import part_config, run, saved

from xtts_ka.core.config import DecoderConfig
from xtts_ka.core.errors import UserError
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.model.latents import SAMPLES_PER_LATENT, decode_latents
from xtts_ka.model.networks import build_speaker_encoder, build_vocoder
from xtts_ka.training.clip_pieces import make_pieces
from xtts_ka.training.decoder_trainer import LATENTS, VOICES, WAVES, DecoderPart, write_samples
from xtts_ka.training.voice_loss import VoiceLoss

SETTINGS = DecoderConfig(
    max_steps=4,
    batch_size=2,
    learning_rate=3e-3,
    discriminator_width=4,
    discriminator_start=2,
    discriminator_minutes=0.0,
)
SETTINGS = SETTINGS.model_copy(update={"segment_codes": 2})  # less than the config allows: the tests take less time


def tones(clips: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Tones whose latents say how loud and how high they are."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(clips):
        codes = int(random.integers(3, 9))
        latents = np.repeat(random.uniform(0.2, 1, (1, 8)), codes, axis=0)
        time = np.arange(round(codes * SAMPLES_PER_LATENT))
        wave = 0.5 * latents[0, 0] * np.sin(time * 0.2 * latents[0, 1])
        made.append(
            {
                LATENTS: latents.astype(np.float16),
                WAVES: (wave * 32767).astype(np.int16),
                VOICES: random.normal(size=(1, 512)).astype(np.float32),
            }
        )
    return made


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    return [make_pieces(folder / name, name, tones(n, n), list, "latents") for name, n in (("train", 14), ("val", 5))]


def vocoder():
    torch.manual_seed(0)
    return build_vocoder(8, widths=(16, 8, 8, 4, 4), kernels=(3,))


def part(pieces, **changes):
    settings = SETTINGS.model_copy(update=changes)
    return DecoderPart(vocoder(), pieces[:1], pieces[1], settings, seed=1)


def test_it_learns_from_nothing_by_spectra(pieces, tmp_path):
    loop = run(part(pieces, max_steps=40, discriminator_width=0, learning_rate=1e-2), part_config(tmp_path))
    val = [line for line in read_jsonl(tmp_path / "logs/decoder/metrics.jsonl") if line.get("split") == "val"]
    assert val[-1]["loss"] < 0.9 * val[0]["loss"]
    assert val[-1]["loss"] == pytest.approx(val[-1]["mel"] + val[-1]["stft"])
    assert loop.chosen().val_loss == min(line["loss"] for line in val)


def test_discriminators_begin_at_their_step_and_the_last_checkpoint_is_exported(pieces, tmp_path):
    loop = run(part(pieces), part_config(tmp_path))
    train = [line for line in read_jsonl(tmp_path / "logs/decoder/metrics.jsonl") if line.get("split") == "train"]
    assert ["discriminators" in line for line in train] == [False] * 2 + [True] * 2
    assert loop.chosen().step == 4
    assert {"model.safetensors", "discriminators.safetensors"} <= set(loop.chosen().files)
    fresh = part(pieces)
    before = {name: weight.clone() for name, weight in fresh.judges.named_parameters()}
    run(fresh, part_config(tmp_path / "again"))
    assert all(not torch.equal(before[name], weight) for name, weight in fresh.judges.named_parameters())


def test_with_a_weight_the_voice_of_the_clips_trained_on_comes_nearer(pieces, tmp_path):
    torch.manual_seed(1)
    encoder = build_speaker_encoder([4, 8, 8, 8])
    distances = []
    for weight in (0.0, 3000.0):
        settings = SETTINGS.model_copy(
            update={"max_steps": 60, "discriminator_width": 0, "learning_rate": 3e-3, "voice_weight": weight}
        )
        learner = DecoderPart(vocoder(), pieces[:1], pieces[1], settings, 1, encoder)
        run(learner, part_config(tmp_path / str(weight)))
        batch = learner._cut([(pieces[0], 0, clip) for clip in range(14)])
        with torch.no_grad():
            made = decode_latents(learner.vocoder, batch[LATENTS], batch[VOICES])[:, 0]
            distances.append(float(VoiceLoss(encoder)(made, batch[WAVES])))
    assert distances[1] < 0.95 * distances[0], distances


def test_stopped_and_resumed_equals_uninterrupted(pieces, tmp_path):
    changes = {"latent_noise": 0.1}  # random numbers inside the step
    whole = run(part(pieces, **changes), part_config(tmp_path / "whole"))
    config = part_config(tmp_path / "stopped")
    run(part(pieces, **changes), config, stop_at=3)
    resumed = run(part(pieces, **changes), config)
    assert saved(resumed, 4) == saved(whole, 4)


def test_pieces_of_waves_lie_where_their_latents_do(tmp_path):
    codes = 40
    position = np.arange(round(codes * SAMPLES_PER_LATENT))
    clip = {
        LATENTS: np.repeat(np.arange(codes, dtype=np.float16)[:, None], 8, axis=1),
        WAVES: (position // 2).astype(np.int16),
        VOICES: np.zeros((1, 512), np.float32),
    }
    source = make_pieces(tmp_path, "key", [clip], list, "latents")
    learner = DecoderPart(vocoder(), [source], source, SETTINGS, seed=1)
    starts = set()
    for step in range(12):
        batch = learner.batch(step, 0, 1)
        for latents, wave in zip(batch[LATENTS], batch[WAVES]):
            start = int(latents[0, 0])
            starts.add(start)
            assert latents[:, 0].tolist() == list(range(start, start + 2))
            assert abs(float(wave[0]) * 32767 * 2 - start * SAMPLES_PER_LATENT) <= 2.5
            assert wave.shape == (8 * 256,)  # what the vocoder makes of two latents
    assert len(starts) > 8


def test_samples_are_the_clips_as_recorded_and_as_decoded(pieces, tmp_path):
    write_samples(tmp_path / "samples", vocoder(), pieces[1])
    files = sorted(file.name for file in (tmp_path / "samples").iterdir())
    assert files == [f"{clip}_{what}.wav" for clip in range(4) for what in ("decoded", "recorded")]
    recorded, rate = soundfile.read(tmp_path / "samples/0_recorded.wav", dtype="int16")
    np.testing.assert_allclose(recorded, pieces[1].read(0, WAVES), atol=1)
    decoded, _ = soundfile.read(tmp_path / "samples/0_decoded.wav")
    assert rate == 24000 and 0 <= len(recorded) - len(decoded) < 256


def test_a_step_draws_from_all_collections(pieces):
    both = DecoderPart(vocoder(), [pieces[0], pieces[1]], pieces[1], SETTINGS, seed=1)
    one = part(pieces)
    assert len(both._clips) > len(one._clips)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"discriminator_minutes": 10.0}, "0.1 minutes of recordings are too few for discriminators"),
        ({"segment_codes": 30}, "no training clip is 30 audio codes long"),
    ],
)
def test_too_few_recordings_are_one_sentence(pieces, changes, words):
    with pytest.raises(UserError, match=words):
        part(pieces, **changes)
