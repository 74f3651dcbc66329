import pytest
import tiny
import torch

from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.model.checkpoint import load_gpt, read_model
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.optimizer import RunningAverage, build_optimizer, learning_rate


def test_learning_rate_warms_up_and_falls_to_its_floor():
    config = PretrainConfig(learning_rate=1e-3, training=TrainingConfig(warmup_steps=10, final_learning_rate=0.1))
    rates = [learning_rate(step, 1000, config) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(1e-3) and rates[1000] == pytest.approx(1e-4)
    assert rates[505] == pytest.approx((1e-3 + 1e-4) / 2, rel=1e-3)  # half way down the cosine
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_weight_decay_is_on_matrices_only(tmp_path):
    model = CompactGPT(
        load_gpt(read_model(tiny.write_base_model(tmp_path / "base", tiny.write_recordings(tmp_path / "wavs"))))
    )
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
