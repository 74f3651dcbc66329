"""The real pipeline on the smallest starter: one run for the whole suite, then questions about what it left."""

import json
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline_run import MODEL_FILES, run_here, statuses, write_config
from small_project import here

import run_pretrain


def test_the_stages_stand_in_the_order_of_their_needs_and_no_two_write_the_same_file(tmp_path):
    from pretrain_xtts_model import STAGE_CLASSES
    from xtts_ka.core.config import STAGES, PretrainConfig

    names = [stage.name for stage in STAGE_CLASSES]
    assert tuple(names) == STAGES
    assert PretrainConfig().stages() == tuple(name for name in STAGES if name not in ("dvae", "decoder", "evaluation"))
    assert all(set(stage.after or ()) <= set(names[:place]) for place, stage in enumerate(STAGE_CLASSES))
    for enabled in (True, False):
        config = PretrainConfig(dvae={"enabled": enabled}, decoder={"enabled": enabled})
        written = [f for stage in STAGE_CLASSES if stage.name in config.stages() for f in stage(config).outputs()]
        assert len(written) == len(set(written))
        assert config.dvae_file in written or not enabled


def test_stopped_and_killed_it_carries_on_and_ends(finished):
    config, result = finished
    assert set(statuses(config).values()) == {"done"}
    assert "── full_pretrain: was interrupted" in result.stdout and "embeddings up to date" in result.stdout


def test_every_promised_file_is_there(finished):
    model = finished[0].parent / "models/xtts_v2_ka"
    assert [name for name in MODEL_FILES if not (model / name).is_file()] == []
    assert not list(finished[0].parent.rglob("*.partial"))


def test_what_killed_writers_left_is_swept_at_the_next_start(project):
    import run_pretrain

    left = [
        project / place
        for place in (
            "data/.starter_recordings.1.partial",
            "data/split/.drop_report.csv.1.partial",
            "data/split/val/.val_metadata.csv.1.partial",
            "models/.base_xtts_v2.1.partial",
            "models/xtts_v2_ka/.vocab.json.1.partial",
            "logs/.metrics.csv.1.partial",
        )
    ]
    for file in left:
        file.touch()
    assert run_pretrain.main(["--config", str(project / "config.json")]) == 0
    assert [file for file in left if file.exists()] == []


def test_ended_before_its_first_checkpoint_a_run_begins_again_in_its_own_log(project, monkeypatch):
    from pretrain_xtts_model import XTTSPretrainer
    from xtts_ka.core.config import load_config
    from xtts_ka.core.jsonl import read_jsonl
    from xtts_ka.training.metrics_log import MetricsLog

    logs = project / "new_logs"
    folders = {"checkpoint_dir": str(project / "new"), "log_dir": str(logs)}
    config = load_config(project / "config.json").model_copy(update=folders)
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "log", lambda *_, **__: (_ for _ in ()).throw(OSError("died")))
        with pytest.raises(OSError, match="died"):
            XTTSPretrainer(config).run()
    XTTSPretrainer(config).run()
    assert [file.name for file in logs.glob("*.jsonl")] == ["metrics.jsonl"]
    assert [line["resumed"] for line in read_jsonl(logs / "metrics.jsonl") if line.get("event") == "start"] == [
        False,
        False,
    ]


def test_a_run_made_before_the_model_card_exports_again_without_training(project):
    import run_pretrain

    record, card = project / "models/xtts_v2_ka/pretrain_progress.json", project / "models/xtts_v2_ka/README.md"
    written, config = card.read_bytes(), project / "config.json"
    card.unlink()
    stages = json.loads(record.read_text("utf-8"))
    del stages["stages"]["full_pretrain"]["fingerprint"]["outputs"]["README.md"]
    record.unlink()  # it may be linked to the original
    record.write_text(json.dumps(stages), "utf-8")
    again = here(run_pretrain.main, "--config", config)
    assert again.code == 0 and "full_pretrain: output README.md is missing" in again.out, again.err
    assert "carrying on from step 6" in again.out and "nothing left to train: step 6 of 6 is reached" in again.out
    assert "  train  " not in again.out and "device      CPU, " in again.out
    assert card.read_bytes() == written


def test_training_again_writes_the_same_model_card(project):
    import run_pretrain

    card = project / "models/xtts_v2_ka/README.md"
    written = card.read_bytes()
    again = here(run_pretrain.main, "--config", project / "config.json", "--only", "full_pretrain")
    assert again.code == 0 and "step      6/6  train" in again.out, again.err
    assert card.read_bytes() == written


def test_the_phonemes_stage_writes_the_same_bytes_again(finished):
    from pretrain_xtts_model import PhonemeModelProcessor
    from xtts_ka.core.config import load_config

    config = load_config(finished[0])
    before = {file.name: file.read_bytes() for file in Path(config.output_model_path).glob("*phoneme*")}
    PhonemeModelProcessor(config).run()
    assert before and all(
        (Path(config.output_model_path) / name).read_bytes() == content for name, content in before.items()
    )


def test_pickles_hold_builtins_that_plain_pickle_reads(finished):
    model = finished[0].parent / "models/xtts_v2_ka"
    from xtts_ka.core.tensor_files import read_pickle, tensors_from_bytes

    for name in MODEL_FILES:
        if name.endswith(".pkl"):
            assert pickle.loads((model / name).read_bytes()) == read_pickle(model / name)
    combined = read_pickle(model / "xtts_v2_ka_combined.pkl")
    weights = torch.load(model / "model.pth", weights_only=True)["model"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in tensors_from_bytes(combined["model"]).items())


def test_the_starter_is_named_as_what_it_is(finished):
    config, result = finished
    assert "STARTER" in result.stderr and "STARTER" in (config.parent / "models/xtts_v2_ka/REPORT.md").read_text(
        "utf-8"
    )
    assert (config.parent / "models/base_xtts_v2/STARTER.json").is_file()


def test_the_starter_says_that_its_length_replaces_max_steps(finished, tmp_path):
    config, result = finished
    rule = "starter.max_steps (20) and starter.learning_rate (0.001) replace epochs, max_steps, learning_rate"
    assert rule in result.stdout and "steps       20 by starter.max_steps, " in result.stdout
    settings = json.loads(config.read_text("utf-8"))
    longer = config.with_name("longer.json")
    longer.write_text(json.dumps({**settings, "max_steps": 90_000}), "utf-8")
    result = run_here(longer, "--dry-run")
    assert rule in result.stdout and "no stage would run" in result.stdout
    longer.write_text(json.dumps({**settings, "starter": settings["starter"] | {"max_steps": 24}}), "utf-8")
    assert "full_pretrain  runs  max_steps 20 → 24" in run_here(longer, "--dry-run").stdout
    longer.unlink()


def test_stock_coqui_loads_the_model_and_speaks_georgian(finished):
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.layers.xtts.xtts_manager import SpeakerManager
    from TTS.tts.models.xtts import Xtts

    from xtts_ka.model.coqui_georgian import register

    folder = finished[0].parent / "models/xtts_v2_ka"
    before = (folder / "model.pth").read_bytes()
    register()
    config = XttsConfig()
    config.load_json(str(folder / "config.json"))
    model = Xtts(config)
    model.load_checkpoint(config, checkpoint_dir=str(folder), strict=True)
    assert "ka" in config.languages
    speakers = SpeakerManager(str(folder / "speakers_xtts.pth"))
    voice = speakers.speakers[speakers.speaker_names[0]]
    assert voice["speaker_embedding"].shape == (1, 512, 1) and voice["gpt_cond_latent"].shape == (1, 32, 64)
    assert float(voice["speaker_embedding"].norm()) == pytest.approx(1, abs=1e-4)
    torch.manual_seed(0)
    wav = model.inference("გამარჯობა, 5 მეგობარო!", "ka", voice["gpt_cond_latent"], voice["speaker_embedding"])["wav"]
    assert wav.ndim == 1 and len(wav) >= 1024 and np.isfinite(wav).all() and np.abs(wav).max() > 0
    assert (folder / "model.pth").read_bytes() == before


def test_synthesize_writes_a_wav(finished, tmp_path):
    import soundfile

    import synthesize

    said = here(synthesize.main, "--config", finished[0], "--text", "დილა მშვიდობისა!", "--output", tmp_path / "a.wav")
    assert said.code == 0, said.err
    wave, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 24000 and len(wave) >= 1024 and np.isfinite(wave).all()


def test_an_unknown_voice_is_refused(finished, capsys):
    import synthesize

    flags = ["--config", str(finished[0]), "--text", "დილა", "--speaker", "nobody"]
    code = synthesize.main(flags)
    refused(subprocess.CompletedProcess(flags, code, *capsys.readouterr()), "nobody", "espeak_f1")


def test_training_and_synthesis_tokenize_alike(finished):
    from tiny import encode
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer

    from xtts_ka.georgian.text import normalise
    from xtts_ka.model.coqui_georgian import register
    from xtts_ka.model.vocabulary import load_tokenizer

    register()
    vocab = finished[0].parent / "models/xtts_v2_ka/vocab.json"
    theirs, ours = VoiceBpeTokenizer(str(vocab)), load_tokenizer(vocab)
    for text in (
        "2026 წლის 12 მარტს, XIX საუკუნე — 3%-ით!",
        "ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ",
        "hello მსოფლიო",
        "ჭიჭყინა ბაყაყი წყალში ყიყინებს.",
    ):
        ids = theirs.encode(text.lower(), "ka")  # Xtts.inference lower-cases first
        assert ids == encode(ours, normalise(text)) and 1 not in ids


def test_the_base_languages_read_text_as_before(finished):
    from xtts_ka.model.vocabulary import load_tokenizer

    root = finished[0].parent / "models"
    before, after = (load_tokenizer(root / name / "vocab.json") for name in ("base_xtts_v2", "xtts_v2_ka"))
    for text in ("[en]the[SPACE]old[SPACE]man", "[ru]добрый[SPACE]день"):
        assert before.encode(text).ids == after.encode(text).ids


@pytest.mark.parametrize("method, token_biases", [(None, None), ("random", False)], ids=["default", "other"])
def test_training_begins_with_the_base_model_as_it_is_and_the_configured_new_rows(
    project, monkeypatch, method, token_biases
):
    """The weights that the loop is handed are compared with the base model's file, not with the stage's own proof."""
    from pretrain_xtts_model import XTTSModelInitializer, XTTSPretrainer
    from xtts_ka.core.config import InitConfig, load_config
    from xtts_ka.core.tensor_files import read_pickle
    from xtts_ka.training import gpt_trainer

    class Begun(Exception):
        pass

    def begin(*handed):
        raise Begun(*handed)

    config = load_config(project / "config.json")
    if method:
        config = config.model_copy(update={"xtts_init": InitConfig(method=method, token_biases=token_biases)})
    XTTSModelInitializer(config).run()
    monkeypatch.setattr(gpt_trainer, "PretrainLoop", begin)
    with pytest.raises(Begun) as begun:
        XTTSPretrainer(config).run()
    model, _, _, _, _, _, total, old_rows = begun.value.args
    assert model.dropout == 0.1 and total == 6

    base = torch.load(project / "models/base_xtts_v2/model.pth", weights_only=True)["model"]
    begins = {f"gpt.{name}": tensor for name, tensor in model.gpt.state_dict().items()}
    assert begins.keys() == {name for name in base if name.startswith("gpt.")}
    assert all(torch.equal(tensor[: len(base[name])], base[name]) for name, tensor in begins.items())
    tables = {"gpt.text_embedding.weight", "gpt.text_head.weight", "gpt.text_head.bias"}
    assert {name for name, tensor in begins.items() if len(tensor) > len(base[name])} == tables

    language = read_pickle(project / "models/xtts_v2_ka/language_model_results.pkl")
    assert language["new_ids"] == list(range(old_rows, len(begins["gpt.text_head.bias"])))
    base_tokens = json.loads((project / "models/base_xtts_v2/vocab.json").read_text("utf-8"))
    trained = sorted({*base_tokens["model"]["vocab"].values(), *(t["id"] for t in base_tokens["added_tokens"])})
    head, embedding = "gpt.text_head.weight", "gpt.text_embedding.weight"
    likeness = torch.cosine_similarity(begins[head][old_rows:], base[head][trained].mean(dim=0), dim=1)
    assert likeness.min() > 0.99 if method is None else likeness.mean() < 0.5
    tokens = json.loads((project / "models/xtts_v2_ka/vocab.json").read_text("utf-8"))["model"]["vocab"]
    spelled = [(tokens[georgian], tokens[latin]) for georgian, latin in zip("აბგდევ", "abgdev")]
    near = [torch.cosine_similarity(begins[embedding][new], base[embedding][old], dim=0) for new, old in spelled]
    assert min(near) > 0.99 if method is None else max(near) < 0.9
    for name in (head, embedding):
        assert len(begins[name][old_rows:].unique(dim=0)) == len(language["new_ids"])
    biases = base["gpt.text_head.bias"][trained].mean().expand(len(language["new_ids"])).clone()
    if token_biases is not False:
        shares = torch.tensor(language["log_frequencies"])
        biases += shares - shares.mean()
        assert shares.std() > 0.1
    torch.testing.assert_close(begins["gpt.text_head.bias"][old_rows:], biases)


def test_a_second_run_skips_everything_and_dry_run_says_so(finished):
    config, _ = finished
    listing = run_here(config, "--dry-run")
    assert listing.returncode == 0 and listing.stdout.count("skip  up to date") == 5


def test_a_changed_key_reruns_what_reads_it_and_says_why(finished, tmp_path):
    from xtts_ka.core.config import STAGES

    config, _ = finished
    changed = json.loads(config.read_text("utf-8"))
    changed["text"]["new_tokens"] = 90
    other = config.with_name("changed.json")
    other.write_text(json.dumps(changed), "utf-8")
    listing = run_here(other, "--dry-run").stdout
    assert "text.new_tokens 100 → 90" in listing
    decisions = [line.split()[1] for line in listing.splitlines() if line.split(" ")[0] in STAGES]
    assert decisions == ["skip", "skip", "runs", "runs", "runs"]


def test_only_runs_one_stage(finished):
    config, _ = finished
    result = run_here(config, "--only", "xtts_init")
    assert result.returncode == 0 and "xtts_init: --only" in result.stdout
    assert run_here(config, "--dry-run").stdout.count("skip  up to date") == 5  # it wrote the same bytes


@pytest.mark.parametrize("name", ["g2p_model.pt", "vocab.json", "model.pth"])
def test_an_altered_output_is_noticed(finished, name):
    config, _ = finished
    file = config.parent / "models/xtts_v2_ka" / name
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-1])
        assert f"output {name} was altered" in run_here(config, "--dry-run").stdout
    finally:
        file.write_bytes(whole)


# ── bad input: one sentence, exit code 2, nothing half-written ──


def refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("error:") == 1
    for word in words:
        assert word in result.stderr


def test_missing_and_malformed_config(tmp_path):
    refused(run_here(tmp_path / "none.json"), "none.json")
    (tmp_path / "bad.json").write_text("{")
    refused(run_here(tmp_path / "bad.json"), "bad.json", "not valid JSON")
    refused(run_here(write_config(tmp_path / "c", epoch=3, seed="x")), "epochs", "seed")


def test_missing_base_model_with_starter_off(tmp_path):
    config = write_config(tmp_path, starter={"enabled": False})
    refused(
        run_here(config),
        "hf download coqui/XTTS-v2 --local-dir",
        "Coqui Public Model License",
        "create_metadata_files.py",
    )
    assert not (tmp_path / "models/base_xtts_v2").exists()


def test_starter_settings_over_stand_ins_that_are_there(finished, tmp_path):
    source = finished[0].parent
    for name in ("data", "models"):
        (tmp_path / name).symlink_to(source / name)
    config = write_config(
        tmp_path, starter={"enabled": False, "base": "untrained", "layers": 1, "model_dim": 64, "heads": 1, "clips": 30}
    )
    refused(run_here(config, "--dry-run"), "starter.enabled is false", "hf download", "models/base_xtts_v2")
    starter = json.loads(config.read_text())["starter"] | {"enabled": True}
    said = run_here(write_config(tmp_path, starter=starter), "--dry-run")
    assert said.returncode == 0 and "has no effect" not in said.stderr
    said = run_here(write_config(tmp_path, starter=starter | {"model_dim": 128, "clips": 90}), "--dry-run")
    assert "starter.model_dim 128 has no effect" in said.stderr and "starter.clips 90 has no effect" in said.stderr


def test_a_dry_run_says_where_training_begins_and_which_recordings_have_changed(project):
    config = project / "config.json"
    (project / "models/xtts_v2_ka/model.pth").unlink()
    said = run_here(config, "--dry-run").stdout
    assert "training would carry on from step 6" in said and "new, or changed" not in said
    recording = project / "wavs/clip03.wav"
    recording.write_bytes(recording.read_bytes())
    os.utime(recording, ns=(1, 1))
    (project / "checkpoints/step_00000006/manifest.json").unlink()
    before = sorted(project.rglob("*"))
    said = run_here(config, "--dry-run").stdout
    assert "recordings that are new, or changed since they were encoded: 1 (clip03)" in said
    assert "training would begin at step 0; the checkpoints up to step" in said
    assert sorted(project.rglob("*")) == before


def test_after_a_single_stage_the_model_is_not_said_to_be_there(project):
    shutil.rmtree(project / "models/xtts_v2_ka")
    result = here(run_pretrain.main, "--config", project / "config.json", "--only", "phonemes")
    assert result.code == 0, result.err
    assert "the model stands" not in result.out and "what is done so far stands in" in result.out


def test_base_model_that_lacks_a_file_or_is_another_architecture(finished, tmp_path):
    source = finished[0].parent
    for name in ("data", "models/base_xtts_v2"):
        shutil.copytree(source / name, tmp_path / name)
    config = write_config(tmp_path)
    base = tmp_path / "models/base_xtts_v2"
    raw = json.loads((base / "config.json").read_text("utf-8"))
    raw["model_args"]["gpt_layers"] = 2
    (base / "config.json").write_text(json.dumps(raw))
    refused(run_here(config), "another architecture", "gpt.h.1.")
    (base / "config.json").write_text(json.dumps({"model": "vits"}))
    refused(run_here(config), "'vits'")
    (base / "dvae.pth").unlink()
    refused(run_here(config), "dvae.pth")


def test_only_before_its_needs(tmp_path, finished):
    for name in ("data", "models/base_xtts_v2"):
        shutil.copytree(finished[0].parent / name, tmp_path / name)
    refused(run_here(write_config(tmp_path), "--only", "xtts_init"), "language", "--only language")


def test_the_files_that_the_model_card_calls_needed_are_enough_to_speak(project, tmp_path):
    import xtts_ka

    model, alone = project / "models/xtts_v2_ka", tmp_path / "alone"
    alone.mkdir()
    needed = re.search(r"Speaking needs (.+)\. All others", (model / "README.md").read_text("utf-8"))
    assert needed
    for name in re.findall(r"`(.+?)`", needed[1]):
        shutil.copy(model / name, alone)
    xtts = xtts_ka.load_xtts(alone, device="cpu")
    voice = next(iter(xtts.speaker_manager.speakers.values()))
    assert len(xtts.inference("კარგი.", "ka", voice["gpt_cond_latent"], voice["speaker_embedding"])["wav"])


def base_folder(folder, mark):
    """Files of a base model's names, without content, and the starter's mark."""
    from xtts_ka.core.config import BASE_FILES

    folder.mkdir()
    for name in BASE_FILES:
        (folder / name).write_bytes(b"")
    if mark is not None:
        (folder / "STARTER.json").write_text(json.dumps(mark), "utf-8")
    return str(folder)


@pytest.mark.parametrize("mark, evaluates", [({"base": "trained"}, True), ({"what": "tiny"}, False), (None, False)])
def test_what_follows_from_the_base_model_that_is_there(tmp_path, mark, evaluates):
    from pretrain_xtts_model import PretrainPipeline
    from xtts_ka.core.config import PretrainConfig

    own = {"base_model_path": base_folder(tmp_path / "base", mark), "output_model_path": str(tmp_path / "out")}
    starter = {"enabled": True, "base": "trained", "new_tokens": 77, "language_epochs": 3, "recogniser_steps": 50}
    starter |= {"max_steps": 9}
    config = PretrainConfig(**own, starter=starter)
    settled = PretrainPipeline(config).config
    assert ("evaluation" in settled.stages()) == evaluates
    found = (
        settled.text.new_tokens,
        settled.language_model.max_epochs,
        settled.recogniser.max_steps,
        settled.training.optimizer,
    )
    assert found == ((77, 3, 50, "muon") if evaluates else (2000, 20, 40000, "adamw"))
    assert (settled.max_steps, settled.epochs) == ((9, None) if mark else (None, 5))
    given = PretrainConfig(**own, starter=starter, text={"new_tokens": 500}, evaluation={"enabled": not evaluates})
    settled = PretrainPipeline(given).config
    assert settled.text.new_tokens == 500  # what the config gives stands
    assert ("evaluation" in settled.stages()) != evaluates


def test_before_a_trained_base_is_made_its_stages_are_planned(tmp_path):
    from pretrain_xtts_model import PretrainPipeline
    from xtts_ka.core.config import PretrainConfig

    folders = {"base_model_path": str(tmp_path / "base"), "output_model_path": str(tmp_path / "out")}
    for kind in ("trained", "untrained"):
        config = PretrainConfig(**folders, starter={"enabled": True, "base": kind})
        assert ("evaluation" in PretrainPipeline(config).config.stages()) == (kind == "trained")


def test_only_evaluation_is_refused_where_the_base_model_brings_none(tmp_path):
    base = base_folder(tmp_path / "base", None)
    config = write_config(tmp_path, base_model_path=base, starter={"enabled": True, "base": "trained"})
    result = run_here(config, "--only", "evaluation")
    assert result.returncode == 2 and "evaluation.enabled is false in the config: set it to true" in result.stderr
