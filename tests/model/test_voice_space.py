"""Vectors alone: one space or two, a map between them, and utterances with a wrong label."""

import numpy as np
import pytest

from xtts_ka.model.voice_space import find_suspects, fit_ridge, judge_space, ridge_maps, unit


def clouds(speakers: int, takes: int, width: int, spread: float, seed: int = 0):
    """Voices as a trained encoder sees them, a common, a speaker's and a take's part; and whose they are."""
    draw = np.random.default_rng(seed)
    common, own = draw.standard_normal(width), draw.standard_normal((speakers, width))
    vectors = np.repeat(own, takes, axis=0) + common
    speaker_ids = [f"s{speaker:02}" for speaker in range(speakers) for _ in range(takes)]
    return unit(vectors + spread * draw.standard_normal(vectors.shape)), speaker_ids


def test_ridge_by_hand():
    # After normalising: (±1, 0). Standardised: the first column ±1, the second constant.
    x = np.array([[2.0, 0.0], [-3.0, 0.0]])
    y = np.zeros((2, 512))
    y[:, 0], y[:, 1] = [1, -1], 1
    (ridge,) = ridge_maps(x, y, [1.0])
    # ZᵀZ = diag(2, 0), mean eigenvalue 1, ZᵀY = 2: w = 2 / (2 + 1)
    assert ridge.weights[0, 0] == pytest.approx(2 / 3)
    assert ridge(x)[0, :2] == pytest.approx(np.array([2 / 3, 1]) / np.hypot(2 / 3, 1))


@pytest.mark.parametrize("rows, width", [(40, 12), (12, 40)])
def test_ridge_both_forms_solve_the_normal_equations(rows, width):
    draw = np.random.default_rng(3)
    x, y = draw.standard_normal((rows, width)), draw.standard_normal((rows, 512))
    (ridge,) = ridge_maps(x, y, [0.1])
    z = (unit(x) - unit(x).mean(0)) / unit(x).std(0)
    penalty = 0.1 * (z**2).sum() / min(rows, width)
    direct = np.linalg.solve(z.T @ z + penalty * np.eye(width), z.T @ (y - y.mean(0)))
    np.testing.assert_allclose(ridge.weights * unit(x).std(0)[:, None], direct, atol=1e-9)


@pytest.mark.parametrize("width", [192, 700])
def test_linear_image_is_recovered_on_held_out_speakers(width):
    draw = np.random.default_rng(width)
    low, speakers = clouds(13, 6, 30, 0.7)  # voices vary in 30 directions of the 512
    target = unit(low @ draw.standard_normal((30, 512)))
    image = target @ draw.standard_normal((512, width)) * 3
    report, ridge = fit_ridge(image[:72], target[:72], speakers[:72])
    assert report.useful and report.held_out == "speakers" and report.pairs == 72
    assert report.cosine > 0.95 > report.chance + 0.2
    assert (ridge(image[72:]) * target[72:]).sum(axis=1).min() > 0.95  # a speaker never seen


def test_unrelated_vectors_are_of_no_use():
    target, speakers = clouds(12, 6, 512, 0.7)
    draw = np.random.default_rng(1)
    noise, _ = fit_ridge(draw.standard_normal((72, 192)), target, speakers)
    assert not noise.useful and "mean voice" in noise.reason
    codes = np.repeat(draw.standard_normal((12, 192)), 6, axis=0)  # of no use for new ones
    assert not fit_ridge(codes, target, speakers)[0].useful


def test_few_speakers_hold_out_utterances_and_few_pairs_refuse():
    target, speakers = clouds(3, 12, 512, 0.7)
    report, ridge = fit_ridge(target @ np.random.default_rng(0).standard_normal((512, 64)), target, speakers)
    assert report.held_out == "utterances" and report.useful and ridge is not None
    report, ridge = fit_ridge(target[:7], target[:7], speakers[:7])
    assert ridge is None and report.cosine is None and "7 vectors" in report.reason


def test_space_is_judged_against_other_speakers():
    target, speakers = clouds(6, 4, 512, 0.3)
    assert judge_space(target, target, speakers).in_space
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((512, 512)))[0]
    turned = judge_space(target @ turn, target, speakers)
    assert not turned.in_space and abs(turned.own) < 0.2
    # All voices nearly alike: cosines near 1 prove nothing where others' are as high.
    alike = unit(np.ones(512) + 0.02 * target)
    assert judge_space(alike, alike, speakers).in_space
    swapped = judge_space(np.roll(alike, 4, axis=0), alike, speakers)
    assert swapped.own > 0.99 and not swapped.in_space
    assert judge_space(target[:4], target[:4], ["s"] * 4).other is None


def test_suspects_are_exactly_the_swapped_labels():
    vectors, speakers = clouds(8, 12, 256, 0.8)
    named = {f"u{i:03}": vector for i, vector in enumerate(vectors)}
    labels = dict(zip(named, speakers))
    assert find_suspects(named, labels) == ({}, 1.0)
    labels |= {"u005": "s03", "u050": "s00", "u051": "s00"}  # two of them go to one speaker
    suspects, told_apart = find_suspects(named, labels)
    assert suspects.keys() == {"u005", "u050", "u051"} and 0.95 < told_apart < 1
    assert "to s03, whose others reach" in suspects["u005"] and "closer to s00" in suspects["u005"]
    assert "closer to s04" in suspects["u050"] and "closer to s04" in suspects["u051"]


def test_no_suspects_where_they_cannot_be_told():
    vectors, speakers = clouds(2, 4, 256, 0.5)
    named, labels = dict(zip("abcdefgh", vectors)), dict(zip("abcdefgh", speakers))
    assert find_suspects(named, labels | {"a": "s01", "e": "s00"})[0] == {}  # four of each are too few
    assert find_suspects(named, labels | {"a": "s01"})[0].keys() == {"a"}
    noise = {str(i): v for i, v in enumerate(np.random.default_rng(0).standard_normal((60, 64)))}
    suspects, told_apart = find_suspects(noise, {i: f"s{int(i) % 6}" for i in noise})
    assert suspects == {} and told_apart < 0.7
    assert find_suspects({}, {}) == ({}, None)


def test_stranger_in_a_single_voice():
    vectors, _ = clouds(1, 20, 256, 0.5)
    named = {f"u{i:02}": vector for i, vector in enumerate(vectors)}
    assert find_suspects(named, dict.fromkeys(named, "s")) == ({}, None)
    named["u03"] = unit(np.random.default_rng(5).standard_normal(256))
    suspects, _ = find_suspects(named, dict.fromkeys(named, "s"))
    assert suspects.keys() == {"u03"} and "closer" not in suspects["u03"]
