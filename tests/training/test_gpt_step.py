"""The trainer's step compared with a plain one that is written here: coqui's forward pass clip by clip, one mean over
all clips of the step, clipping, AdamW and the learning rate by their formulas. In float64, so that errors of rounding
cannot hide anything."""

import math

import pytest
import tiny
import torch
from accelerate.state import AcceleratorState
from torch.nn import functional as F

from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.model.checkpoint import load_gpt
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.batch_plan import Room

TEXT_ROWS = ("text_embedding.weight", "text_head.weight", "text_head.bias")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.build_world(tmp_path_factory.mktemp("step"))


# ── the plain step ──


def summed_losses(gpt, sample):
    """Cross-entropies of a clip (text, audio) in nats: coqui's modules, all tokens scored, four stop tokens."""
    text = torch.tensor([gpt.start_text_token, *sample.text.tolist()])
    codes, stop = sample.codes.astype(int).tolist(), gpt.stop_audio_token
    audio, audio_target = (
        torch.tensor([gpt.start_audio_token, *codes, *[stop] * 3]),
        torch.tensor([*codes, *[stop] * 4]),
    )
    voice = gpt.get_style_emb(torch.from_numpy(sample.cond_mel).double().T[None]).transpose(1, 2)
    inputs = [
        (table(ids) + positions.emb(torch.arange(len(ids))))[None]
        for ids, table, positions in (
            (text, gpt.text_embedding, gpt.text_pos_embedding),
            (audio, gpt.mel_embedding, gpt.mel_pos_embedding),
        )
    ]
    scores = gpt.get_logits(inputs[0], gpt.text_head, inputs[1], gpt.mel_head, prompt=voice)
    text_target = torch.tensor([*sample.text.tolist(), gpt.stop_text_token])
    return [F.cross_entropy(s, t[None], reduction="sum") for s, t in zip(scores, (text_target, audio_target))]


def planned_rate(step, total, peak, warmup, floor):
    """Linear warm-up, then a cosine to `floor` × peak."""
    warmup = min(warmup, total // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / (total - warmup)
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2)


class PlainTraining:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2, without its schedule multiplier) on one batch with every clip."""

    def __init__(self, gpt, peak, settings, total, old_rows):
        self.gpt, self.peak, self.settings, self.total, self.old_rows = (
            gpt.double().eval(),
            peak,
            settings,
            total,
            old_rows,
        )
        self.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in gpt.named_parameters()}
        self.done = 0

    def step(self, samples, number):
        """Returns [text nats, text tokens, audio nats, audio tokens] and the norm of the gradient."""
        settings, parameters = self.settings, dict(self.gpt.named_parameters())
        text, audio = (torch.stack(parts).sum() for parts in zip(*(summed_losses(self.gpt, s) for s in samples)))
        counts = sum(len(s.text) + 1 for s in samples), sum(len(s.codes) + 4 for s in samples)
        loss = settings.text_loss_weight * text / counts[0] + settings.audio_loss_weight * audio / counts[1]
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        used = [(name, g) for name, g in zip(parameters, gradients) if g is not None]
        norm = math.sqrt(sum(float((g**2).sum()) for _, g in used))
        rate = planned_rate(number, self.total, self.peak, settings.warmup_steps, settings.final_learning_rate)
        self.done += 1
        for name, gradient in used:
            self._move(name, parameters[name], gradient * min(1.0, settings.clip_norm / norm), rate)
        return [text.item(), counts[0], audio.item(), counts[1]], norm

    @torch.no_grad()
    def _move(self, name, weight, gradient, rate):
        first, second = self.moments[name]
        first.copy_(0.9 * first + 0.1 * gradient)
        second.copy_(0.96 * second + 0.04 * gradient**2)
        decay = self.settings.weight_decay if weight.ndim > 1 and "embedding" not in name else 0.0
        ahead = first / (1 - 0.9**self.done) / ((second / (1 - 0.96**self.done)).sqrt() + 1e-8)
        rates = torch.full_like(weight, rate)
        if name in TEXT_ROWS:
            rates[self.old_rows :] *= self.settings.new_rows_rate or 10  # the default at XTTS's rate
        weight -= rates * (ahead + decay * weight)


# ── the comparison ──

DEFAULT = PretrainConfig().learning_rate, TrainingConfig(dropout=0.0), PretrainConfig().batch_seconds
OTHER = (
    1e-3,
    TrainingConfig(
        dropout=0.0,
        text_loss_weight=0.5,
        audio_loss_weight=2.0,
        clip_norm=0.3,
        weight_decay=0.3,
        warmup_steps=20,
        final_learning_rate=0.3,
        new_rows_rate=7.0,
    ),
    12.0,
)


def close(found, expected, tolerance):
    return bool((found - expected).norm() <= tolerance * expected.norm() + 1e-30)


@pytest.mark.parametrize("peak, settings, seconds", [DEFAULT, OTHER], ids=["default", "other"])
def test_a_step_of_several_micro_batches_is_a_plain_step(world, monkeypatch, peak, settings, seconds):
    start_model = load_gpt(world.model)
    # coqui normalises the voice sample in float32 whatever the weights are.
    monkeypatch.setattr(type(start_model.conditioning_encoder.attn[0].norm), "forward", torch.nn.GroupNorm.forward)
    monkeypatch.setattr(tiny, "CompactGPT", lambda gpt, dropout: CompactGPT(gpt.double(), dropout))
    loop = world.loop(
        learning_rate=peak, training=settings, batch_seconds=seconds, batch_size=None, max_steps=1000, log=False
    )
    loop.start(None)
    loop.room = Room(600)
    plain = PlainTraining(start_model, peak, settings, 1000, world.old_rows)
    names = {parameter: name for name, parameter in loop.bare.gpt.named_parameters()}
    start = {name: parameter.detach().clone() for parameter, name in names.items()}
    steps, active = loop._steps(), 0
    planned = [batch for epoch in range(3) for batch in loop.data.train_batches(epoch)]
    for place, number in enumerate((20, 700)):
        samples = [loop.data.train[draw] for draw in planned[place].draws()]
        assert all(sample.heard == (0, 0) for sample in samples)  # every code is scored
        batches = [{**batch, "cond_mels": batch["cond_mels"].double()} for batch in next(steps)]
        assert len(batches) > 1 and sum(batch["shape"][0] for batch in batches) == len(samples)
        loop.progress.step, loop._window = number, type(loop._window)()
        loop._train_step(batches)
        sums, norm = plain.step(samples, number)
        assert loop._window.sums.tolist() == pytest.approx(sums, rel=1e-5)
        assert loop._window.norms == pytest.approx(norm, rel=1e-4)
        active += norm > 1.2 * settings.clip_norm
        for parameter, name in names.items():
            state = loop.optimizer.state.get(parameter)
            first, second = plain.moments[name]
            if not state:
                assert not first.any(), f"{name} has had no gradient"
                continue
            assert close(state["exp_avg"], first, 1e-4), f"{name}: the gradient differs at step {number}"
            assert close(state["exp_avg_sq"], second, 1e-4), f"{name}: the squared gradient differs at step {number}"
            moved, expected = parameter.detach() - start[name], dict(plain.gpt.named_parameters())[name] - start[name]
            assert close(moved, expected, 1e-3), f"{name}: the weights differ at step {number}"
    assert active, "no gradient was long enough to be clipped"


@pytest.fixture
def new_state():
    """accelerate keeps one precision for a process; call it to choose another."""

    def reset():
        AcceleratorState._reset_state(reset_partial_state=True)

    yield reset
    reset()


def test_in_bf16_autocast_the_loop_trains_as_in_float32(world, new_state):
    found = {}
    for precision in ("float32", "bf16"):
        new_state()
        settings = TrainingConfig(dropout=0.0, precision=precision, log_interval=1)
        loop = world.loop(training=settings, batch_seconds=12.0, batch_size=None, log=False)
        assert loop.accelerator.mixed_precision == ("bf16" if precision == "bf16" else "no")
        loop.start(None)
        steps, losses = loop._steps(), []
        for _ in range(4):
            loop._train_step(next(steps))
            losses.append(loop._losses(loop._window.sums)["loss"])
            loop.progress.step += 1
        assert loop.progress.skipped == 0
        assert all(p.dtype == torch.float32 for p in loop.bare.parameters())  # autocast; the weights stay exact
        found[precision] = [*losses, loop.validate()]
    assert found["bf16"] != found["float32"]
    assert all(math.isfinite(loss) for loss in found["bf16"])
    assert found["bf16"] == pytest.approx(found["float32"], rel=5e-3)
