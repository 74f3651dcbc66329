"""Recognisers of the transformers library: tiny ones with random weights, in the file layout of real ones."""

import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from xtts_ka.core.errors import RunError, UserError
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.recognition.listener import open_listener

WAVES = [np.random.default_rng(seed).normal(0, 0.1, size).astype(np.float32) for seed, size in ((0, 9000), (1, 5000))]


def write_ctc(folder, letters=GEORGIAN_LETTERS):
    """wav2vec 2.0 with a letter for each output, as MMS and XLS-R fine-tunes are saved."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    folder.mkdir()
    ids = {symbol: i for i, symbol in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    front = {"conv_dim": (8, 8), "conv_stride": (10, 8), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(ids), **sizes, **front, **positions)).save_pretrained(folder)
    return folder


def write_whisper(folder, text=GEORGIAN_LETTERS):
    """Whisper with a small byte-level vocabulary that ends in its special tokens, and a generation config."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    folder.mkdir()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bpe.train_from_iterator([text], trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet))
    saved = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in saved["merges"]]
    tokenizer = WhisperTokenizer(vocab=saved["vocab"], merges=merges)
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|ka|>", "<|translate|>", "<|transcribe|>"]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    WhisperProcessor(feature_extractor=WhisperFeatureExtractor(feature_size=8), tokenizer=tokenizer).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 8}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    end = {"eos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"]}
    start = {"bos_token_id": ids["<|endoftext|>"], "decoder_start_token_id": ids["<|startoftranscript|>"]}
    model = WhisperForConditionalGeneration(
        WhisperConfig(vocab_size=len(tokenizer), max_target_positions=448, **sizes, **end, **start)
    )
    model.generation_config = GenerationConfig(
        **end,
        **start,
        is_multilingual=True,
        lang_to_id={"<|en|>": ids["<|en|>"], "<|ka|>": ids["<|ka|>"]},
        task_to_id={"translate": ids["<|translate|>"], "transcribe": ids["<|transcribe|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        suppress_tokens=[],
        begin_suppress_tokens=[],
        max_length=448,
    )
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("write", [write_ctc, write_whisper])
def test_it_hears_georgian_letters(tmp_path, write):
    folder = write(tmp_path / "asr")
    listener = open_listener(str(folder), folder=tmp_path)
    heard = listener.hear(WAVES, 22_050)
    assert listener.name == f"transformers {folder}" and len(heard) == 2
    assert all(set(text) <= set(GEORGIAN_LETTERS + " ") for text in heard)
    assert heard == listener.hear(WAVES, 22_050)


def test_mms_is_asked_for_its_georgian_adapter(tmp_path):
    """MMS: one base, and for each language a vocabulary and the weights of adapters and output layer."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor

    folder = tmp_path / "mms"
    base = write_ctc(folder, "abc")
    common = ["<pad>", "<s>", "</s>", "<unk>", "|"]
    vocabulary = {"eng": [*common, *"abc"], "kat": [*common, *GEORGIAN_LETTERS]}
    tables = {language: {symbol: i for i, symbol in enumerate(symbols)} for language, symbols in vocabulary.items()}
    (base / "vocab.json").write_text(json.dumps(tables, ensure_ascii=False), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(base / "vocab.json"), target_lang="eng")
    Wav2Vec2Processor(feature_extractor=Wav2Vec2FeatureExtractor(), tokenizer=tokenizer).save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "adapter_attn_dim": 4}))
    from safetensors.torch import save_file

    georgian = Wav2Vec2ForCTC.from_pretrained(base, ignore_mismatched_sizes=True)
    adapters = {name: t.contiguous() for name, t in georgian._get_adapters().items()}
    adapters["lm_head.weight"], adapters["lm_head.bias"] = torch.randn(38, 16), torch.randn(38)
    save_file({name: tensor.detach() for name, tensor in adapters.items()}, base / "adapter.kat.safetensors")
    georgian.save_pretrained(base)
    heard = open_listener(str(base), folder=tmp_path).hear(WAVES, 16_000)
    assert set("".join(heard)) & set(GEORGIAN_LETTERS)


def test_whisper_is_told_the_language(tmp_path, monkeypatch):
    listener = open_listener(str(write_whisper(tmp_path / "asr")), folder=tmp_path)
    asked = {}
    generate = listener._model.generate
    monkeypatch.setattr(listener._model, "generate", lambda **options: asked.update(options) or generate(**options))
    listener.hear(WAVES[:1], 16_000)
    assert asked["language"] == "georgian" and asked["task"] == "transcribe"


def test_what_whisper_would_cut_off_is_an_error(tmp_path):
    listener = open_listener(str(write_whisper(tmp_path / "asr")), folder=tmp_path)
    with pytest.raises(RunError, match=r"hears 30 s at most, and one wave has 31\.0 s"):
        listener.hear([np.zeros(31 * 16_000, np.float32)], 16_000)


def empty_it(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def break_tokenizer(folder):
    for file in [*folder.glob("*token*"), *folder.glob("vocab*"), *folder.glob("merges*")]:
        file.unlink()


def break_weights(folder):
    (folder / "model.safetensors").write_bytes(b"no weights")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (empty_it, "no transformers folder"),
        (break_tokenizer, "has no tokenizer"),
        (break_weights, "no recogniser that transformers can load"),
    ],
    ids=["empty", "tokenizer", "weights"],
)
@pytest.mark.parametrize("write", [write_ctc, write_whisper])
def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path, write, damage, what):
    folder = write(tmp_path / "asr")
    damage(folder)
    with pytest.raises(UserError, match=rf"^--asr {folder}.* {what}") as caught:
        open_listener(str(folder), folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_recogniser_of_another_language_is_refused(tmp_path):
    with pytest.raises(UserError, match="no Georgian letters, so it is a recogniser of another language"):
        open_listener(str(write_ctc(tmp_path / "asr", "abcdefgh")), folder=tmp_path)


def test_a_language_model_is_no_recogniser(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = write_ctc(tmp_path / "asr")
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=50)).save_pretrained(folder)
    with pytest.raises(UserError, match="no recogniser that transformers can load"):
        open_listener(str(folder), folder=tmp_path)
