import torch
from TTS.vocoder.models.hifigan_discriminator import HifiganDiscriminator

from xtts_ka.model import discriminators as d


@torch.no_grad()
def test_at_full_width_they_are_coquis():
    theirs, ours = HifiganDiscriminator().eval(), d.Discriminators().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    wave = 0.1 * torch.randn(1, 1, 1501)
    (scores, features), (their_scores, their_features) = ours(wave), theirs(wave)
    torch.testing.assert_close(scores, their_scores)
    torch.testing.assert_close(features, their_features)


def test_a_narrow_one_learns_to_tell_noise_from_tones():
    torch.manual_seed(0)
    judges = d.Discriminators(width=4)
    optimizer = torch.optim.AdamW(judges.parameters(), lr=2e-3)
    tone = torch.sin(torch.arange(1024) * torch.tensor([[0.1], [0.3]]))[:, None]
    losses = []
    for _ in range(12):
        loss = d.discriminator_loss(judges(tone)[0], judges(torch.randn(2, 1, 1024))[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_losses_of_a_perfect_and_a_worst_judge():
    ones, zeros = [torch.ones(2, 3)], [torch.zeros(2, 3)]
    assert d.discriminator_loss(ones, zeros) == 0 and d.discriminator_loss(zeros, ones) == 2
    assert d.adversarial_loss(ones) == 0 and d.adversarial_loss(zeros) == 1
    assert d.feature_loss([ones], [ones]) == 0 and d.feature_loss([ones, ones], [zeros, ones]) == 1
