"""Our forward pass compared with coqui's own GPTTrainer: equal losses and gradients."""

from functools import partial

import coqui_trainer
import numpy as np
import pytest
import torch

from data_loader import CollateFunction, Sample
from xtts_ka.model.checkpoint import load_gpt
from xtts_ka.model.compact_gpt import CompactGPT, voice_latents
from xtts_ka.model.features import FeatureExtractor
from xtts_ka.model.geometry import MEL_HOP, codes_of

FRAMES = 300


@pytest.fixture(scope="module")
def trainer(base):
    return coqui_trainer.build(base, str(base.vocab_file), dropout=False)


def coqui_batch(trainer, speech, texts, heard=None):
    """A batch as coqui's loader and `format_batch_on_device` make it; heard: (first, last) sample of each voice."""
    wav = torch.zeros(len(speech), 1, max(s.shape[1] for s in speech))
    text = torch.zeros(len(speech), max(map(len, texts)), dtype=torch.int32)
    for row, (clip, ids) in enumerate(zip(speech, texts)):
        wav[row, :, : clip.shape[1]] = clip
        text[row, : len(ids)] = torch.tensor(ids)
    prompt = torch.stack([clip.repeat(1, 8)[:, : (FRAMES - 1) * 256] for clip in speech])[:, None]
    return trainer.format_batch_on_device(
        {
            "wav": wav,
            "padded_text": text,
            "text_lengths": torch.tensor([len(ids) for ids in texts]),
            "wav_lengths": torch.tensor([s.shape[1] for s in speech]),
            "conditioning": prompt,
            "cond_idxs": None if heard is None else torch.tensor(heard),
            "cond_lens": torch.tensor([prompt.shape[-1]] * len(speech)),
            "filenames": [],
        }
    )


def our_batch(base, batch, texts, heard=None):
    """The same batch in our layout, from coqui's own codes and mels; with `heard`, by `conditioning: coqui`."""
    samples = []
    for row, ids in enumerate(texts):
        codes = batch["audio_codes"][row, : -(-int(batch["wav_lengths"][row]) // 1024)].numpy().astype(np.uint16)
        first, end = (sample // MEL_HOP for sample in heard[row]) if heard else (0, 0)
        samples.append(Sample(np.array(ids), codes, batch["cond_mels"][row, 0].T.numpy(), (first, end)))
    return CollateFunction(base.config.model_args, as_coqui=bool(heard))(samples)


def test_cached_codes_and_mels_equal_what_format_batch_on_device_computes_for_the_clip(base, speech, trainer):
    # coqui cuts the voice sample out of the wave, we cut it out of the mel: the reflection at a cut changes the first
    # and the last two frames of coqui's.
    for clip, (codes, mel) in zip(speech, FeatureExtractor(base.folder, base.config)(speech)):
        theirs = coqui_batch(trainer, [clip], [[5]])
        assert torch.equal(codes, theirs["audio_codes"][0, : codes_of(clip.shape[1])])
        voice, inside = theirs["cond_mels"][0, 0], min(FRAMES, mel.shape[1]) - 2
        assert inside > 50
        torch.testing.assert_close(mel[:, 2:inside], voice[:, 2:inside], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [(0,), (1, 2, 3), (7, 0, 11, 4, 9)])
def test_losses_and_gradients_equal_coqui_gpt_trainer(base, speech, trainer, rows, masked):
    random = np.random.default_rng(len(rows))
    texts = [random.integers(3, 250, 5 + 3 * row).tolist() for row in rows]
    heard = [(1024 + 300 * row, 4000 + 300 * row) for row in rows] if masked else None
    batch = coqui_batch(trainer, [speech[row] for row in rows], texts, heard)
    compact = our_batch(base, batch, texts, heard)

    trainer.zero_grad()
    _, theirs = trainer.train_step(batch, None)
    theirs["loss"].backward()

    gpt = load_gpt(base)
    text, audio = CompactGPT(gpt).train()(compact)
    text, audio = text / len(compact["text_target"]), audio / len(compact["audio_target"])
    (0.01 * text + audio).backward()

    assert 0.01 * text.item() == pytest.approx(float(theirs["loss_text_ce"]), rel=1e-4)
    assert audio.item() == pytest.approx(float(theirs["loss_mel_ce"]), rel=1e-4)
    expected = dict(trainer.xtts.gpt.named_parameters())
    for name, parameter in gpt.named_parameters():
        reference = expected[name].grad
        if reference is None or reference.norm() < 1e-7:
            continue
        assert float((parameter.grad - reference).norm() / reference.norm()) < 1e-4, name


def test_a_shared_voice_sample_gives_the_losses_and_gradients_of_one_each(base):
    mels = np.random.default_rng(1).standard_normal((2, 60, 80)).astype(np.float16)
    rows = [Sample(np.arange(5 + row), np.arange(9 + row, dtype=np.uint16), mels[row % 2], (0, 0)) for row in range(5)]
    collate, found = CollateFunction(base.config.model_args), []
    for samples in (rows, [sample._replace(voice=row % 2) for row, sample in enumerate(rows)]):
        gpt, batch = load_gpt(base), collate(samples)
        text, audio = CompactGPT(gpt).train()(batch)
        (text + audio).backward()
        gradients = [p.grad for name, p in gpt.named_parameters() if name.startswith("conditioning_")]
        found.append((len(batch["cond_mels"]), float(text), float(audio), gradients))
    (own, *losses, gradients), (shared, *same, also) = found
    assert (own, shared) == (5, 2) and losses == pytest.approx(same, rel=1e-6)
    assert any(gradient is not None and gradient.norm() > 0.1 for gradient in gradients)
    torch.testing.assert_close(also, gradients, rtol=1e-4, atol=1e-4)


def test_voice_latents_equal_coqui_get_style_emb(base):
    gpt = load_gpt(base).eval()
    mels = torch.randn(3, 80, 117, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(voice_latents(gpt, mels), gpt.get_style_emb(mels).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(base, speech, trainer):
    texts = [[10, 11, 12], [30, 31]]
    compact = our_batch(base, coqui_batch(trainer, speech[:2], texts), texts)
    gradients = []
    for checkpointing in (False, True):
        gpt = load_gpt(base)
        torch.manual_seed(3)
        text, audio = CompactGPT(gpt, dropout=0.3, gradient_checkpointing=checkpointing).train()(compact)
        (text + audio).backward()
        gradients.append(gpt.mel_head.weight.grad)
    torch.testing.assert_close(*gradients)


def test_compiled_blocks_change_nothing(base, speech, trainer, monkeypatch):
    """The block is traced without a graph break; torch's own compiler of the traced graph (minutes) is left out."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    texts = [[10, 11, 12], [30, 31]]
    compact = our_batch(base, coqui_batch(trainer, speech[:2], texts), texts)
    results = []
    for compiled in (False, True):
        gpt = load_gpt(base)
        model = CompactGPT(gpt).train()
        if compiled:
            model.compile_blocks()
        text, audio = model(compact)
        (text + audio).backward()
        results.append((text.detach(), audio.detach(), gpt.gpt.h[0].mlp.c_fc.weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only(base, speech, trainer):
    texts = [[10, 11, 12]]
    compact = our_batch(base, coqui_batch(trainer, speech[:1], texts), texts)
    model = CompactGPT(load_gpt(base), dropout=0.5)
    assert float(model.train()(compact)[1]) != float(model(compact)[1])
    assert float(model.eval()(compact)[1]) == float(model(compact)[1])
