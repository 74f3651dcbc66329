import dataclasses
import json

import numpy as np
import pytest
import tiny
import torch

from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.core.errors import UserError
from xtts_ka.model.checkpoint import load_gpt, read_model
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.optimizer import Muon, NewRows, RunningAverage, Schedule, build_optimizer


def test_learning_rate_warms_up_and_falls_to_its_floor():
    config = PretrainConfig(learning_rate=1e-3, training=TrainingConfig(warmup_steps=10, final_learning_rate=0.1))
    schedule = Schedule.of(config, 1000)
    rates = [schedule.rate(step) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(1e-3) and rates[1000] == pytest.approx(1e-4)
    assert rates[505] == pytest.approx((1e-3 + 1e-4) / 2, rel=1e-3)  # half way down the cosine
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_warm_up_is_a_tenth_of_all_steps_at_most():
    schedule = Schedule.of(PretrainConfig(learning_rate=1e-3, training=TrainingConfig(warmup_steps=50)), 220)
    assert rates_of(schedule, 0, 22) == pytest.approx([1e-3 * (step + 1) / 22 for step in range(22)])


def rates_of(schedule, first, end):
    return [schedule.rate(step) for step in range(first, end)]


@pytest.mark.parametrize("warmup", [0, 1, 50])
def test_a_longer_training_climbs_from_the_last_rate_instead_of_jumping(warmup):
    config = PretrainConfig(learning_rate=2e-5, training=TrainingConfig(warmup_steps=warmup))
    short, long = Schedule.of(config, 1000), Schedule.of(config, 2000)
    last = short.rate(999)
    assert last < 2.1e-6 and long.rate(1000) > 1.1e-5  # the jump
    longer = long.after(short, 1000, last)
    rates = [last, *rates_of(longer, 1000, 2000)]
    steps = max(1, min(warmup, 100))  # a tenth of the thousand that are left, at most
    assert rates[1] == pytest.approx(last)
    assert np.max(np.diff(rates)) <= 1.1e-5 / steps
    assert rates[steps + 1 :] == rates_of(long, 1000 + steps, 2000)  # then it is the longer training's


def test_a_climb_is_carried_on_exactly_and_may_be_followed_by_another():
    config = PretrainConfig(learning_rate=2e-5)
    short, long = Schedule.of(config, 1000), Schedule.of(config, 2000)
    longer = long.after(short, 1000, short.rate(999))
    saved = Schedule(**json.loads(json.dumps(dataclasses.asdict(longer))))
    again = long.after(saved, 1020, longer.rate(1019))  # as a run that was stopped in the climb finds it
    assert again == longer
    third = Schedule.of(config, 9000).after(again, 1030, again.rate(1029))
    assert third.rate(1030) == pytest.approx(again.rate(1029)) and third.rate(1080) == Schedule.of(config, 9000).rate(
        1080
    )


def test_a_lower_rate_is_taken_at_once_and_so_is_the_next_step_of_the_same_schedule():
    before, after = (Schedule.of(PretrainConfig(learning_rate=rate), 1000) for rate in (1e-3, 1e-4))
    assert after.after(before, 500, before.rate(499)).rate(500) == after.rate(500)
    assert before.after(before, 20, before.rate(19)) == before
    # A checkpoint from before 2026-11-26 does not hold its schedule.
    unknown = before.after(None, 500, before.rate(499))
    assert rates_of(unknown, 500, 1000) == rates_of(before, 500, 1000)


def test_new_rows_learn_at_their_own_rate_as_if_the_optimizer_had_it(tmp_path):
    """AdamW with decay: the new rows of both text tables move as with ten times the rate, all else as before."""

    def trained(rate, times):
        torch.manual_seed(0)
        model = CompactGPT(load_gpt(files))
        optimizer, new_rows = build_optimizer(model, PretrainConfig(learning_rate=rate)), NewRows(model, 255, times)
        parameters = dict(model.named_parameters())
        start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        for parameter in parameters.values():
            parameter.grad = torch.randn_like(parameter)
        with new_rows.faster():
            optimizer.step()
        return {name: (start[name], parameters[name].detach()) for name in parameters}

    files = read_model(tiny.write_base_model(tmp_path / "base"))
    plain, fast, own = trained(1e-4, 1.0), trained(1e-3, 1.0), trained(1e-4, 10.0)
    tables = {"gpt.text_embedding.weight", "gpt.text_head.weight", "gpt.text_head.bias"}
    assert tables < plain.keys()
    for name, (start, now) in own.items():
        new = slice(255, None) if name in tables else slice(0, 0)
        torch.testing.assert_close(now[new], fast[name][1][new], rtol=1e-5, atol=1e-7)
        assert torch.equal(
            now[:255] if name in tables else now, plain[name][1][:255] if name in tables else plain[name][1]
        )
        assert not torch.equal(start, now)


def test_weight_decay_is_on_matrices_only(tmp_path):
    model = CompactGPT(load_gpt(read_model(tiny.write_base_model(tmp_path / "base"))))
    decayed, free = build_optimizer(model, PretrainConfig()).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    assert decayed["weight_decay"] > 0 and free["weight_decay"] == 0
    assert all(p.ndim >= 2 and "embedding" not in names[id(p)] for p in decayed["params"])
    assert {"gpt.text_embedding.weight", "gpt.mel_head.bias", "gpt.final_norm.weight"} <= {
        names[id(p)] for p in free["params"]
    }
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_the_average_follows_slowly_and_forgets_the_first_weights():
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(100.0)
    average, expected = RunningAverage(layer, 0.9), 100.0
    for step in range(200):
        layer.weight.data.fill_(float(step % 2))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step % 2)
    assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-4)
    assert average.weights["weight"].item() == pytest.approx(0.5, abs=0.05)
    saved = {name: tensor.clone() for name, tensor in average.weights.items()}
    again = RunningAverage(layer, 0.9)
    again.load(saved)
    assert torch.equal(again.weights["weight"], saved["weight"])


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (8, 24, 1), (24, 16), (16, 24)])
def test_muon_turns_a_matrix_by_its_rate_in_all_directions(shape):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(shape))
    other = torch.nn.Parameter(torch.zeros(shape))
    optimizer = Muon([{"params": [weight, other], "muon": True}], lr=1e-2, weight_decay=0.0)
    weight.grad, other.grad = torch.randn(shape) * 100, None
    optimizer.step()
    lengths = torch.linalg.svdvals(weight.detach().flatten(1)) / (1e-2 * 0.2 * 24**0.5)
    assert float(lengths.min()) > 0.6 and float(lengths.max()) < 1.3
    assert float((weight.detach() * weight.grad).sum()) < 0  # downhill
    assert not other.any()


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (24, 24)])
def test_muon_is_as_exact_in_float32_as_a_step_needs(shape):
    torch.manual_seed(0)
    gradient = torch.randn(shape[0], 4) @ torch.randn(4, shape[1])  # of rank 4, where rounding grows most
    weights = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    for weight in weights:
        weight.grad = gradient.to(weight.dtype)
        Muon([{"params": [weight], "muon": True}], lr=1.0, weight_decay=0.0).step()
    narrow, wide = (weight.detach().double() for weight in weights)
    assert float((narrow - wide).norm() / wide.norm()) < 1e-3


def test_beside_muon_embeddings_heads_and_vectors_learn_by_adamw(tmp_path):
    files = read_model(tiny.write_base_model(tmp_path / "base"))

    def trained(name):
        torch.manual_seed(0)
        model = CompactGPT(load_gpt(files))
        optimizer = build_optimizer(model, PretrainConfig(learning_rate=1e-3, training={"optimizer": name}))
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        return dict(model.named_parameters())

    adamw, muon = trained("adamw"), trained("muon")
    same = {name for name, value in adamw.items() if torch.equal(value, muon[name])}
    assert {"gpt.text_head.weight", "gpt.mel_embedding.weight", "gpt.final_norm.bias"} < same
    assert not same & {"gpt.gpt.h.0.attn.c_attn.weight", "gpt.conditioning_encoder.init.weight"}


def test_muon_cannot_share_its_matrices_among_processes():
    with pytest.raises(UserError, match="muon needs whole matrices"):
        config = PretrainConfig(training={"optimizer": "muon", "sharding": True})
        build_optimizer(torch.nn.Linear(2, 2), config)
