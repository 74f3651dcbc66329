import pytest
import torch

from xtts_ka.model import codebook as c
from xtts_ka.model.networks import build_dvae


@pytest.fixture
def dvae():
    torch.manual_seed(0)
    return build_dvae(32, hidden=8, codebook_dim=4)


@torch.no_grad()
def test_reconstruction_and_codes_are_coquis(dvae):
    mels = torch.randn(2, 80, 32)
    found = c.reconstruct(dvae, mels)
    assert torch.equal(found.codes, dvae.get_codebook_indices(mels))
    loss, commitment, out = dvae.eval()(mels)
    torch.testing.assert_close(found.mels, out)
    torch.testing.assert_close(found.commitment, commitment)
    assert loss.mean() > 0


def test_the_gradient_passes_through_the_codes(dvae):
    mels = torch.randn(1, 80, 16, requires_grad=True)
    c.reconstruct(dvae, mels).mels.sum().backward()
    assert mels.grad.abs().sum() > 0


def test_entries_follow_their_points_and_unused_ones_stay(dvae):
    book = dvae.codebook
    c.settle(book, torch.ones(32))
    before = book.embed.clone()
    points = book.embed[:, :3].T[None] + 0.01  # of three entries
    for _ in range(2000):  # long enough for coqui's update to pull the others to zero
        c.follow(book, points, torch.tensor([[0, 1, 2]]), decay=0.99)
    torch.testing.assert_close(book.embed[:, :3], points[0].T)
    torch.testing.assert_close(book.embed[:, 3:], before[:, 3:])


def test_dead_entries_are_put_on_points(dvae):
    book = dvae.codebook
    c.settle(book, torch.tensor([1.0] * 30 + [0.0] * 2))
    points = torch.randn(1, 10, 4)
    assert c.revive(book, points, share=0.1) == 2
    assert all(any(torch.equal(entry, point) for point in points[0]) for entry in book.embed[:, 30:].T)
    assert c.revive(book, points, share=0.1) == 0
    torch.testing.assert_close(book.embed_avg / book.cluster_size, book.embed)


def test_k_means_finds_the_clumps():
    torch.manual_seed(1)
    clumps = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = (clumps[:, None] + 0.1 * torch.randn(3, 40, 2)).flatten(0, 1)
    centres = c.k_means(points, 12)
    assert torch.cdist(clumps, centres).min(dim=1).values.max() < 0.2
    assert c.k_means(points[:5], 12).shape == (12, 2)  # fewer points than centres


def test_use_and_perplexity():
    assert c.codebook_use(torch.tensor([[0, 1], [2, 3]]), 10) == {"codes_used": 4, "perplexity": pytest.approx(4)}
    assert c.codebook_use(torch.tensor([7, 7]), 10)["perplexity"] == pytest.approx(1)
