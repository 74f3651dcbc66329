import json
import pickle
import shutil

import pytest
import torch

from xtts_ka.core.config import STARTER_MARK
from xtts_ka.core.errors import UserError
from xtts_ka.model.checkpoint import (
    XttsFiles,
    base_languages,
    extended_config,
    grow_text_rows,
    load_vocoder,
    missing_base_files,
    read_model,
    refuse_pointers,
    write_model,
)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_languages_of_a_model_are_its_config_s_without_georgian(base_folder, georgian_folder):
    assert base_languages(base_folder) == base_languages(georgian_folder)
    assert {"en", "zh-cn", "hi"} <= set(base_languages(georgian_folder)) and "ka" not in base_languages(georgian_folder)


def test_reading_changes_nothing_in_the_folder(base_folder):
    before = content(base_folder)
    model = read_model(base_folder)
    assert content(base_folder) == before
    assert model.text_rows == 410 and model.config.model_args.gpt_start_text_token == 261


def test_a_checkpoint_with_a_pickled_config_is_read_and_not_rewritten(copied_base, monkeypatch):
    """The released model.pth holds an XttsConfig, two of its classes under their former module path."""
    from TTS.tts.configs import xtts_config

    model = read_model(copied_base)
    state = {name: tensor.clone() for name, tensor in model.state.items()}
    for cls in (xtts_config.XttsArgs, xtts_config.XttsAudioConfig):
        monkeypatch.setattr(cls, "__module__", "TTS.tts.models.xtts")
    torch.save(
        {
            "model": {f"xtts.{name}": tensor for name, tensor in state.items()} | {"xtts.dvae.x": torch.ones(1)},
            "config": model.config,
        },
        copied_base / "model.pth",
    )
    monkeypatch.undo()
    before = content(copied_base)
    again = read_model(copied_base)
    assert again.state.keys() == state.keys() and all(torch.equal(again.state[name], state[name]) for name in state)
    assert content(copied_base) == before


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_code_in_model_pth_is_refused_and_not_run(copied_base, tmp_path):
    marker = tmp_path / "executed"
    torch.save({"model": Evil(marker)}, copied_base / "model.pth")
    with pytest.raises(UserError, match="model.pth"):
        read_model(copied_base)
    (copied_base / "model.pth").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(UserError, match="model.pth"):
        read_model(copied_base)
    assert not marker.exists()


def test_damage_is_mended_where_the_model_came_from(copied_base):
    (copied_base / "model.pth").write_bytes(b"")
    with pytest.raises(UserError, match="remove the folder .*starter mode makes it again"):
        read_model(copied_base)
    (copied_base / STARTER_MARK).unlink()
    with pytest.raises(UserError, match="fetch it again with: hf download coqui/XTTS-v2"):
        read_model(copied_base)


def test_each_fault_of_a_base_folder_is_one_sentence(copied_base, tmp_path):
    assert missing_base_files(tmp_path / "nowhere") == [
        "config.json",
        "model.pth",
        "vocab.json",
        "dvae.pth",
        "mel_stats.pth",
    ]
    with pytest.raises(UserError, match="hf download coqui/XTTS-v2"):
        read_model(tmp_path / "nowhere")
    raw = json.loads((copied_base / "config.json").read_text())
    for change, words in (
        ({"model": "vits"}, "'vits'"),
        ({"model_args": {**raw["model_args"], "gpt_n_model_channels": 128}}, "another architecture"),
        ({"model_args": {**raw["model_args"], "gpt_use_perceiver_resampler": False}}, "XTTS v1"),
    ):
        (copied_base / "config.json").write_text(json.dumps({**raw, **change}))
        with pytest.raises(UserError, match=words):
            read_model(copied_base)
    (copied_base / "config.json").write_text(json.dumps(raw))
    vocabulary = json.loads((copied_base / "vocab.json").read_text("utf-8"))
    for content in (
        "{}",
        "[]",
        "null",
        '{"model": 3}',
        '{"model": {"vocab": {"[START]": "1", "[STOP]": 0}}}',
        json.dumps({"model": {"vocab": vocabulary["model"]["vocab"] | {"ა": 2**31}}}),
    ):
        (copied_base / "vocab.json").write_text(content)
        with pytest.raises(UserError, match="vocab.json"):
            read_model(copied_base)


def test_numbers_that_would_fill_the_memory_are_refused_before_anything_is_built(copied_base):
    raw = json.loads((copied_base / "config.json").read_text())
    for name, value in (
        ("gpt_layers", 10**9),
        ("gpt_layers", 513),
        ("gpt_layers", 0),
        ("gpt_n_heads", 0),
        ("gpt_n_heads", 3),
        ("gpt_max_text_tokens", -1),
        ("gpt_max_audio_tokens", 10**12),
        ("gpt_num_audio_tokens", 1.5),
        ("gpt_n_model_channels", "64"),
        ("d_vector_dim", True),
        ("d_vector_dim", [1]),
        ("decoder_input_dim", 131072),
        ("gpt_code_stride_len", 10**30),
    ):
        (copied_base / "config.json").write_text(json.dumps(raw | {"model_args": raw["model_args"] | {name: value}}))
        with pytest.raises(UserError, match="config.json" if value else "config.json|model.pth"):
            read_model(copied_base)


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(base_folder, copied_base):
    model = read_model(base_folder)
    for hostile in (
        torch.zeros(1).expand(10**9, 64),
        torch.zeros(410, 64).to_sparse(),
        torch.zeros(410, 64, device="meta"),
    ):
        torch.save({"model": {**model.state, "gpt.text_embedding.weight": hostile}}, copied_base / "model.pth")
        with pytest.raises(UserError, match="model.pth"):
            read_model(copied_base)


def test_growing_touches_only_the_text_table_and_its_head(base_folder, tmp_path):
    model = read_model(base_folder)
    state = grow_text_rows(model, torch.ones(3, 64), torch.full((3, 64), 2.0), torch.full((3,), 3.0))
    changed = {name for name, tensor in state.items() if tensor is not model.state[name]}
    assert changed == {"gpt.text_embedding.weight", "gpt.text_head.weight", "gpt.text_head.bias"}
    for name, value in zip(sorted(changed), (1.0, 3.0, 2.0)):
        assert torch.equal(state[name][:-3], model.state[name]) and (state[name][-3:] == value).all()
    config = extended_config(model.config, "ka", 413)
    assert config.languages[-1] == "ka" and "ka" not in model.config.languages
    for name in ("dvae.pth", "mel_stats.pth"):
        shutil.copy(base_folder / name, tmp_path)
    vocabulary = json.loads((base_folder / "vocab.json").read_text("utf-8"))
    vocabulary["model"]["vocab"] |= {"ა": 410, "ბ": 411, "გ": 412}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    write_model(tmp_path, config, state)
    again = read_model(tmp_path)
    assert again.text_rows == 413 and all(torch.equal(again.state[name], state[name]) for name in state)


def test_gap_ids_need_rows_too(base_folder):
    vocabulary = json.loads((base_folder / "vocab.json").read_text())["model"]["vocab"]
    model = read_model(base_folder)
    assert isinstance(model, XttsFiles) and model.text_rows == max(vocabulary.values()) + 1 > len(vocabulary)


def test_the_vocoder_is_loaded_under_torchs_former_names_too(base):
    vocoder = load_vocoder(base)
    former = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in base.state.items()
    }
    assert former.keys() != base.state.keys()
    again = load_vocoder(XttsFiles(base.config, former, base.folder))
    for name, tensor in vocoder.state_dict().items():
        assert torch.equal(tensor, base.state[f"hifigan_decoder.waveform_decoder.{name}"])
        assert torch.equal(tensor, again.state_dict()[name])


def test_a_decoder_of_another_geometry_is_refused(base):
    name = "hifigan_decoder.waveform_decoder.conv_post.weight"
    other = XttsFiles(base.config, {**base.state, name: torch.zeros(1, 64, 7)}, base.folder)
    with pytest.raises(UserError, match=r"model.pth is damaged, or of another architecture"):
        load_vocoder(other)


def test_a_git_lfs_pointer_is_named_with_its_remedy(copied_base):
    refuse_pointers(copied_base)
    (copied_base / "model.pth").unlink()
    (copied_base / "model.pth").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1867929118\n"
    )
    with pytest.raises(UserError, match="model.pth is a Git LFS pointer.*git lfs pull.*hf download"):
        refuse_pointers(copied_base)


def test_a_hugging_face_cache_s_links_are_read(copied_base, tmp_path):
    snapshot, blobs = tmp_path / "models--coqui/snapshots/ab12", tmp_path / "models--coqui/blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in copied_base.iterdir() if path.is_file())):
        (blobs / f"{number:040d}").write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040d}")
    assert read_model(snapshot).state.keys() == read_model(copied_base).state.keys()
