import torch

from xtts_ka.model.checkpoint import Xtts
from xtts_ka.model.networks import build_dvae, build_gpt, tiny_config


def test_a_small_config_builds_networks_of_its_size_and_of_xttss_geometry():
    config = tiny_config(layers=2, model_dim=64, heads=2, text_rows=300)
    xtts = Xtts(config)
    gpt = build_gpt(config, 310)
    assert gpt.text_embedding.weight.shape == (310, 64) and len(gpt.gpt.h) == 2 and gpt.heads == 2
    assert gpt.mel_embedding.weight.shape == xtts.gpt.mel_embedding.weight.shape == (1026, 64)
    assert (gpt.start_audio_token, gpt.stop_audio_token) == (1024, 1025)
    assert gpt.text_pos_embedding.emb.num_embeddings == 402 + 2 and gpt.mel_pos_embedding.emb.num_embeddings == 605 + 3


def test_the_dvae_is_the_one_that_coquis_trainer_builds():
    dvae = build_dvae(1024)
    with torch.inference_mode():
        codes = dvae.eval().get_codebook_indices(torch.zeros(1, 80, 40))
    assert codes.shape == (1, 10) and int(codes.max()) < 1024
