"""The recipe of the stand-in base: GPT, decoder, pack."""

import gzip
import json

import numpy as np
import pytest
import torch
import torchaudio
from safetensors.torch import load_file, save_file

from data_loader import CollateFunction, Sample
from starter_base import codes, decoder, feed, gpt, make_base, sizes, timed
from starter_base.pack import write_pack
from starter_base.speech import Speech
from xtts_ka.core.config import DecoderConfig
from xtts_ka.core.digests import hash_file
from xtts_ka.core.errors import UserError
from xtts_ka.model import geometry as g
from xtts_ka.model.compact_gpt import voice_latents
from xtts_ka.model.latents import SAMPLES_PER_LATENT, teacher_forced_latents
from xtts_ka.model.narrow import expanded
from xtts_ka.model.networks import build_dvae, build_gpt, build_speaker_encoder, build_vocoder, tiny_config
from xtts_ka.model.old_text import OldTextTokenizer
from xtts_ka.starter.base_model import starter_vocabulary
from xtts_ka.starter.trained_base import weights as packed_weights
from xtts_ka.training.parts_loop import crop_start


def untrained(layers: int = 1) -> dict:
    dim = sizes.GPT["model_dim"]
    return {
        "gpt": build_gpt(tiny_config(layers, dim, 4, 410), 410).state_dict(),
        "dvae": build_dvae(1024, **sizes.DVAE).state_dict(),
        "decoder": build_vocoder(dim, **sizes.DECODER).state_dict(),
        "speaker_encoder": build_speaker_encoder(**sizes.SPEAKER_ENCODER).state_dict(),
    }


def test_a_pack_says_what_it_holds(tmp_path):
    networks = untrained(layers=6)  # too large for one file
    write_pack(tmp_path, networks, torch.ones(80), {"dvae": {"cer": 0.08}})
    facts = json.loads((tmp_path / "base.json").read_text())
    assert {name: hash_file(tmp_path / name) for name in facts["files"]} == facts["files"]
    assert facts["geometry"]["gpt"] == {**sizes.GPT, "text_rows": 410} and facts["figures"] == {"dvae": {"cer": 0.08}}
    assert all((tmp_path / name).stat().st_size <= 16 * 2**20 for name in facts["files"])
    for name, weights in networks.items():
        stored = {
            key: value for file in tmp_path.glob(f"{name}*.safetensors") for key, value in load_file(file).items()
        }
        assert stored.keys() == weights.keys()
        assert all(torch.allclose(stored[key].to(value), value, rtol=1e-3, atol=1e-6) for key, value in weights.items())


def test_a_pack_that_is_too_large_is_refused(tmp_path):
    with pytest.raises(UserError, match="the pack has .* bytes"):
        write_pack(tmp_path, untrained(layers=9), torch.ones(80), {})


# ── the GPT and the decoder ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder in which the steps before `gpt` are done: 24 clips of noise, four voices of two languages."""
    monkeypatch.setattr(sizes, "GPT", {"layers": 1, "model_dim": 64, "heads": 1})
    monkeypatch.setattr(sizes, "DECODER", {"widths": [16, 8, 8, 8, 8], "kernels": [3]})
    monkeypatch.setattr(sizes, "SPEAKER_ENCODER", {"filters": [2, 2, 2, 2]})
    monkeypatch.setattr(feed, "VOICE_SECONDS", {"cpu": 3.0})
    monkeypatch.setattr(feed, "SAMPLE_SECONDS", (1.0, 2.0))
    monkeypatch.setattr(feed, "VOICES_AT_ONCE", {"cpu": 2})
    monkeypatch.setattr(decoder, "EMBEDDED_SECONDS", 1.0)
    monkeypatch.setattr(timed, "EVERY", 4)
    torch.manual_seed(0)
    random, rows, start = np.random.default_rng(0), [], 0
    for number in range(24):
        language, samples = ("es", "hi")[number % 2], int(random.integers(20_000, 40_000))
        text = ("Hola, ¿qué tal?", "नमस्ते दुनिया.")[number % 2] + " a" * (number % 5)
        split = "val" if number >= 20 else "train"
        rows.append([text, language, "", f"{language}+{number // 2 % 2}", start, samples, split])
        start += samples
    (tmp_path / "speech").mkdir()
    random.integers(-9000, 9000, start).astype("<i2").tofile(tmp_path / "speech/waves.i16")
    (tmp_path / "speech/clips.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "speech/done.json").write_text("{}")
    save_file({"mel_stats": torch.full((80,), 5.0)}, tmp_path / "mel_stats.safetensors")
    save_file(build_dvae(1024, **sizes.DVAE).state_dict(), tmp_path / "dvae.safetensors")
    networks = build_speaker_encoder(**sizes.SPEAKER_ENCODER).state_dict()
    save_file(networks, tmp_path / "speaker_encoder.safetensors")
    codes.run(tmp_path, options_of(tmp_path))
    return tmp_path


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def options_of(work, *given):
    return make_base.parser().parse_args(["--work", str(work), "--device", "cpu", "--positions", "400", *given])


def test_codes_are_those_of_the_expanded_dvae(work):
    dvae = build_dvae(1024)
    dvae.load_state_dict(expanded(load_file(work / "dvae.safetensors"), dvae))
    wide = codes.NarrowFeatures(dvae, work / "mel_stats.pth", "cpu")
    found, speech = np.load(work / "codes.npz"), Speech(work)
    rows = np.split(found["codes"], found["ends"][:-1])
    again = wide.codes([speech.wave(clip) for clip in range(4)])
    assert np.mean(np.concatenate(rows[:4]) == np.concatenate(again)) > 0.99


def test_a_batch_is_that_of_the_pipeline(work):
    clips = feed.Feed(work, "cpu", 400, seed=1).clips
    chosen = np.array([3, 0, 8])
    batch = clips.batch(chosen)
    tokenizer = OldTextTokenizer(write(work / "vocab.json", starter_vocabulary()))
    found, speech = np.load(work / "codes.npz"), Speech(work)
    rows = np.split(found["codes"], found["ends"][:-1])
    texts = [np.array(tokenizer(speech.clips[clip].text, speech.clips[clip].language)) for clip in chosen]
    samples = [Sample(text, rows[clip], np.zeros((9, 80), np.float16), (0, 0)) for text, clip in zip(texts, chosen)]
    wanted = CollateFunction(tiny_config(1, 64, 1, 410).model_args)(samples)
    for name, value in wanted.items():
        if name not in ("cond_mels", "cond_of"):
            assert torch.equal(batch[name], value) if torch.is_tensor(value) else batch[name] == value, name


def test_each_epoch_has_every_clip_once_and_few_voices_in_a_step(work):
    fed = feed.Feed(work, "cpu", 400, seed=1)
    for epoch in (2, 3):
        steps = fed.train_batches(epoch)
        assert sorted(np.concatenate([step.clips for step in steps])) == list(range(20))
        assert all(len(set(fed.clips.voices[step.clips])) <= 2 for step in steps)
        assert all(len(s.clips) * fed.clips.positions[s.clips].max() <= 400 or len(s.clips) == 1 for s in steps)
    batch = fed.loaded(steps[0], noisy=True)
    assert not torch.equal(batch["audio"], fed.loaded(steps[0], noisy=False)["audio"])
    assert torch.equal(batch["audio"], fed.loaded(steps[0], noisy=True)["audio"])


def test_the_gpt_and_the_decoder_are_trained_and_carry_on(work, capsys):
    out = work / "out"
    given = ("--minutes-gpt", "0.02", "--minutes-decoder", "0.02", "--out", str(out))
    gpt.run(work, options_of(work, *given))
    assert load_file(work / "gpt.safetensors").keys() == build_gpt(tiny_config(1, 64, 1, 410), 410).state_dict().keys()
    facts = json.loads((work / "figures.json").read_text())["gpt"]
    assert facts["steps"] > 0 and 0 < facts["audio"] < 10
    gpt.run(work, options_of(work, *given))  # at its end already: one more step
    assert "carrying on from step" in capsys.readouterr().out
    decoder.run(work, options_of(work, *given))
    made = build_vocoder(64, **sizes.DECODER)
    made.load_state_dict(load_file(work / "decoder.safetensors"))
    assert {"gpt.safetensors", "decoder.safetensors"} <= {file.name for file in out.iterdir()}
    assert json.loads((work / "figures.json").read_text())["decoder"]["loss"] > 0


def test_training_goes_on_from_a_pack(work, tmp_path):
    pack = tmp_path / "pack"
    gpt.run(work, options_of(work, "--minutes-gpt", "0.02", "--out", str(pack)))
    again = options_of(work, "--minutes-gpt", "0.02", "--begin-with", str(pack))
    _, loop = gpt.prepare(work, again)
    assert loop.checkpoints.last() is None and loop.progress.epoch == feed.SHORT_EPOCHS
    packed = packed_weights(pack, "gpt")
    assert all(torch.allclose(value, packed[name]) for name, value in gpt.narrow_state(loop.bare).items())


def test_pieces_of_the_decoder_are_the_gpts_latents_and_their_sound(work):
    gpt.run(work, options_of(work, "--minutes-gpt", "0.02"))
    speech, fed = Speech(work), feed.Feed(work, "cpu", 400, seed=1)
    sounds, snapshots = decoder.Sounds(work, speech, fed), decoder.Snapshots(work, "cpu")
    snapshots.wait()
    part = decoder.BaseDecoder(
        build_vocoder(64, **sizes.DECODER),
        fed,
        sounds,
        snapshots,
        DecoderConfig(segment_codes=16, discriminator_width=0),
    )
    source, clips = part.val
    batch = part._cut([(source, 0, clip) for clip in clips])
    numbers = source.numbers
    whole = fed.loaded(feed.Step(numbers, 0, clips[0]), noisy=False)
    model = snapshots.newest()
    voices = voice_latents(model.gpt, whole["cond_mels"])[whole["cond_of"]]
    latents = teacher_forced_latents(
        model.gpt, voices, [fed.clips.text(n) for n in numbers], [fed.clips.code_row(n) for n in numbers]
    )
    for row, clip in enumerate(clips):
        start = crop_start(len(latents[row]), 16, part.seed, 0, clip)
        torch.testing.assert_close(batch["latents"][row], latents[row][start : start + 16], atol=1e-4, rtol=1e-4)
        wave = torchaudio.functional.resample(speech.wave(numbers[row]), 22050, 24000)[0]
        first = round(start * SAMPLES_PER_LATENT)
        likeness = torch.corrcoef(torch.stack([wave[first : first + 9000], batch["waves"][row, :9000]]))[0, 1]
        assert likeness > 0.6  # of noise: half a sample leaves 0.69, one and a half 0.2


def test_clips_that_were_spoken_elsewhere_train_the_gpt_and_not_the_decoder(work):
    speech, found = Speech(work), np.load(work / "codes.npz")
    rows = [{"text": clip.text, "language": clip.language, "phonemes": ""} for clip in speech.clips]
    rows += [{"text": f"otra {number}", "language": "es", "phonemes": ""} for number in range(30)]
    lines = "\n".join(json.dumps(row) for row in rows)
    (work / "texts.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    more = found["ends"][-1] + 20 * np.arange(1, 31)
    np.savez(
        work / "codes.npz", codes=np.append(found["codes"], np.full(600, 7, np.uint16)), ends=[*found["ends"], *more]
    )
    clips = feed.Clips(work, speech, "cpu")
    assert clips.spoken.tolist() == [True] * 24 + [False] * 30
    assert clips.code_row(53).tolist() == [7] * 20 and set(clips.languages[24:]) == {"es"}
    assert set(clips.splits[24:]) >= {"train"} and clips.seconds[30] == pytest.approx(20 * 1024 / 22050)
    live = decoder.LiveLatents(clips, np.arange(54))
    assert live.numbers.max() < 24 and (live.lengths["latents"] >= 16).all()


def test_the_heads_that_point_learn_which_token_is_said_next(work):
    found = np.load(work / "codes.npz")
    known = np.full(len(found["codes"]), -1, np.int16)
    known[: found["ends"][0]] = 1 + np.arange(found["ends"][0]) // 4 % 6
    np.savez(work / "alignments.npz", tokens=known)
    data = feed.Feed(work, "cpu", 400, seed=1)
    batch = data.loaded(feed.Step(np.array([0, 4]), 0, 0), noisy=False)
    own, rows = batch["said"], batch["audio_row"]
    said = known[: found["ends"][0]].tolist()
    assert own[rows == 0].tolist() == [*said, *[-1] * (len(own[rows == 0]) - len(said))]  # the stops say none
    assert (own[rows == 1] == -1).all()  # a clip without alignment counts nothing
    model = gpt.BaseGPT(gpt.new_gpt(layers=2), gpt.codebook(work)).train()
    optimizer, losses = torch.optim.Adam(model.parameters(), 1.5e-3), []
    for _ in range(150):
        model.hidden(batch)
        losses.append(model.pointer_loss(batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    token = g.COND_POSITIONS + 1 + own[own >= 0]
    model.hidden(batch)
    attention = model.log_attention(1, batch)[own >= 0].exp()
    assert (attention.argmax(1) == token).float().mean() > 0.9
    torch.testing.assert_close(attention.sum(1), torch.ones(len(token)))
