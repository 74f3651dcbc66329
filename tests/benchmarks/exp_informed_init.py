"""Measures how the initial values of the new text rows change the losses in training.

A small XTTS GPT is trained on espeak-ng speech of six languages that XTTS has, extended to Georgian with each start
(random, mean, informed) and three seeds, and trained the same steps on Georgian speech. Printed: validation text and
audio loss at 0, 50, 150 and 500 steps, mean ± spread over the seeds.

    python tests/benchmarks/exp_informed_init.py --work /tmp/informed --base_steps 3000
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tqdm import tqdm

from data_loader import CollateFunction, Draw, XTTSDataset
from xtts_ka.core.config import PretrainConfig, StarterConfig
from xtts_ka.core.files import write_json
from xtts_ka.corpus.tables import Clip, Row
from xtts_ka.model.checkpoint import XttsFiles, grow_text_rows, load_gpt, read_model
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.features import FeatureExtractor, load_speech
from xtts_ka.model.text_rows import new_rows
from xtts_ka.model.vocabulary import count_words, encode_batch, extend_vocabulary, load_tokenizer
from xtts_ka.starter.base_model import make_base_model, starter_vocabulary
from xtts_ka.starter.speech import VOICES, read_sentences, synthesise, voices_for
from xtts_ka.training import feature_cache
from xtts_ka.training.batch_plan import plan_epoch
from xtts_ka.training.clip_index import build_index
from xtts_ka.training.feature_cache import FeatureCache, clip_key
from xtts_ka.training.feature_filling import Tools, fill
from xtts_ka.training.optimizer import build_optimizer

# Subjects | verbs with objects | closing words: every combination is a plain sentence.
GRAMMAR = {
    "en": """
        the boy; my sister; our teacher; the old man; a young doctor; the little girl; their neighbour | reads a long
        letter; buys fresh bread; opens the window; washes a big cup; draws the garden; hears a strange voice; finds
        the yellow key; brings six chairs | today; at night; in the village; very slowly; with joy
    """,
    "de": """
        der Junge; meine Schwester; unser Lehrer; die alte Frau; ein junger Arzt; das kleine Kind; der Nachbar | liest
        einen langen Brief; kauft frisches Brot; öffnet das Fenster; wäscht eine große Tasse; zeichnet den Garten;
        hört eine fremde Stimme; findet den gelben Schlüssel; bringt sechs Stühle | heute; in der Nacht; im Dorf; sehr
        langsam; mit Freude
    """,
    "es": """
        el chico; mi hermana; nuestro maestro; la señora mayor; un médico joven; la niña pequeña; el vecino | lee una
        carta larga; compra pan fresco; abre la ventana; lava una taza grande; dibuja el jardín; oye una voz extraña;
        encuentra la llave amarilla; trae seis sillas | hoy; por la noche; en el pueblo; muy despacio; con alegría
    """,
    "it": """
        il ragazzo; mia sorella; il nostro maestro; la vecchia signora; un giovane medico; la bambina; il vicino |
        legge una lunga lettera; compra il pane fresco; apre la finestra; lava una grande tazza; disegna il giardino;
        sente una voce strana; trova la chiave gialla; porta sei sedie | oggi; di notte; nel villaggio; molto piano;
        con gioia
    """,
    "pl": """
        chłopiec; moja siostra; nasz nauczyciel; stara kobieta; młody lekarz; mała dziewczynka; sąsiad | czyta długi
        list; kupuje świeży chleb; otwiera okno; myje duży kubek; rysuje ogród; słyszy dziwny głos; znajduje żółty
        klucz; przynosi sześć krzeseł | dzisiaj; w nocy; na wsi; bardzo powoli; z radością
    """,
    "tr": """
        çocuk; kız kardeşim; öğretmenimiz; yaşlı kadın; genç doktor; küçük kız; komşu | uzun bir mektup okuyor; taze
        ekmek alıyor; pencereyi açıyor; büyük bardağı yıkıyor; bahçeyi çiziyor; garip bir ses duyuyor; sarı anahtarı
        buluyor; altı sandalye getiriyor | bugün; geceleyin; köyde; çok yavaş; sevinçle
    """,
}
MARKS = (0, 50, 150, 500)


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def base_sentences(per_language: int) -> list[tuple[str, str]]:
    """(language, sentence) pairs, evenly over the languages."""
    pairs = []
    for language, lines in GRAMMAR.items():
        parts = [part.split("; ") for part in " ".join(lines.split()).split(" | ")]
        every = [f"{' '.join(words)}." for words in itertools.product(*parts)]
        chosen = random.Random(language).sample(every, min(per_language, len(every)))
        pairs += [(language, text.lower()) for text in chosen]
    return pairs


def speak(folder: Path, pairs: list[tuple[str, str]], longest: float) -> list[tuple[str, Clip]]:
    """One clip a sentence, voices in turn, those over `longest` seconds left out."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, (language, text) in enumerate(tqdm(pairs, desc="espeak")):
        voices = VOICES if language == "ka" else voices_for(language)
        voice, file = voices[number % len(voices)], folder / f"{language}{number:05d}.wav"
        if not file.exists():
            soundfile.write(file, synthesise(text, voice.voice, voice.rate, voice.pitch), 22050)
        seconds = soundfile.info(file).duration
        if seconds <= longest:
            clips.append((language, Clip(file.stem, text, voice.speaker_id, seconds, file, None)))
    return clips


def base_tokenizer(path: Path, pairs: list[tuple[str, str]]) -> None:
    """A 600-token BPE over the six languages in XTTS's form."""
    learner = Tokenizer(models.BPE(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    learner.train_from_iterator([text for _, text in pairs], trainers.BpeTrainer(vocab_size=600, show_progress=False))
    vocabulary = starter_vocabulary()
    specials = {token["content"]: token["id"] for token in vocabulary["added_tokens"]}
    learned = sorted(learner.get_vocab().items(), key=lambda pair: pair[1])
    free = (i for i in itertools.count(3) if i not in specials.values())
    ids = {**specials, **{token: next(free) for token, _ in learned}}
    merges = json.loads(learner.to_str())["model"]["merges"]
    vocabulary["model"]["vocab"] = ids
    vocabulary["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in merges]
    write_json(path, vocabulary)


def key_of(clip: Clip) -> int:
    status = clip.audio_path.stat()
    return clip_key(clip.file_id, status.st_size, status.st_mtime_ns)


def dataset(name: str, clips: list[tuple[str, Clip]], tokenizer, cache: FeatureCache, args) -> XTTSDataset:
    def encode(texts: list[str]) -> list[np.ndarray]:
        parts = (text.partition("\t") for text in texts)
        return [np.array(encode_batch(tokenizer, [text], language)[0], "<u4") for language, _, text in parts]

    rows = [
        (
            Row(c.file_id, f"{language}\t{c.text}", c.speaker_id, c.duration, str(c.audio_path), "", c.audio_path.name),
            key_of(c),
        )
        for language, c in clips
    ]
    index = build_index(cache.folder, name, {"table": name}, rows, cache.find, encode, args)
    return XTTSDataset(index, cache, "same_speaker", seed=1)


def plan(data: XTTSDataset, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    samples = data.index.records["samples"].astype(np.int64)
    return plan_epoch(data.index.positions, samples, int(size * np.median(samples)), seed, epoch)


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def batches(data: XTTSDataset, collate: CollateFunction, size: int, seed: int):
    for epoch in itertools.count():
        for batch in plan(data, size, seed, epoch):
            yield collate([data[Draw(int(clip), epoch, 130)] for clip in batch])


@torch.no_grad()
def losses(model: CompactGPT, data: XTTSDataset, collate: CollateFunction) -> tuple[float, float]:
    """Mean text and audio cross-entropy, nats a token, over all of `data`."""
    model.eval()
    sums = np.zeros(4)
    for batch in plan(data, 16, 0, 0):
        made = collate([data[Draw(int(clip), 0, 130)] for clip in batch])
        text, audio = model(made)
        sums += [float(text), len(made["text_target"]), float(audio), len(made["audio_target"])]
    model.train()
    return sums[0] / sums[1], sums[2] / sums[3]


def train(
    model: CompactGPT,
    data: XTTSDataset,
    collate: CollateFunction,
    steps: int,
    rate: float,
    seed: int,
    marks=(),
    val=None,
    text_weight: float = 0.1,
):
    """Train `steps` steps; returns {mark: (text, audio)} measured on `val`."""
    optimizer = build_optimizer(model, PretrainConfig(learning_rate=rate))
    source, curve = batches(data, collate, 8, seed), {}
    for step in tqdm(range(steps + 1), desc="steps", leave=False):
        if step in marks:
            curve[step] = losses(model, val, collate)
        if step == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50)
        batch = next(source)
        text, audio = model(batch)
        (text_weight * text / len(batch["text_target"]) + audio / len(batch["audio_target"])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return curve


def base_clips(work: Path, args) -> list[tuple[str, Clip]]:
    """The six languages as speech, with the untrained model and the vocabulary beside it."""
    pairs = base_sentences(args.per_language)
    clips = speak(work / "base_wavs", pairs, args.longest)
    if not (work / "base").exists():
        make_base_model(
            work / "base",
            StarterConfig(layers=args.layers, model_dim=args.dim, heads=args.dim // 64),
            [clip.audio_path for _, clip in clips[:: max(1, len(clips) // 120)]],
            seed=0,
        )
    base_tokenizer(work / "vocab.json", pairs)
    return clips


class Material:
    """Clips of the six languages and of Georgian, their features, and the base model and its tokenizer."""

    def __init__(self, args: argparse.Namespace):
        self.work = args.work
        self.base_clips = base_clips(args.work, args)
        sentences = read_sentences(Path(__file__).parents[2] / "data/starter_sentences_ka.txt")
        repeated = [("ka", sentence) for sentence in sentences for _ in range(args.voices)]
        self.georgian = speak(args.work / f"ka_wavs_{args.voices}", repeated, args.longest)
        self.files = read_model(args.work / "base")
        self.cache = FeatureCache(args.work / "features", "0" * 16)
        clips = [feature_cache.Clip(key_of(c), c.audio_path, c.duration) for _, c in self.base_clips + self.georgian]
        fill(self.cache, clips, Tools(load_speech, lambda: FeatureExtractor(self.files.folder, self.files.config)))
        self.args = self.files.config.model_args
        self.collate = CollateFunction(self.args)
        self.tokenizer = load_tokenizer(args.work / "vocab.json")

    def dataset(self, name: str, clips: list[tuple[str, Clip]], tokenizer: Tokenizer) -> XTTSDataset:
        return dataset(name, clips, tokenizer, self.cache, self.args)


def trained_base(material: Material, args: argparse.Namespace) -> XttsFiles:
    """The starter's tiny model with a text table of the base vocabulary's size, trained on the six languages."""
    files, trained = material.files, args.work / f"base_{args.base_steps}.pt"
    rows = max(material.tokenizer.get_vocab().values()) + 1 - files.text_rows
    torch.manual_seed(0)
    embedding, head = (0.02 * torch.randn(rows, args.dim) for _ in range(2))
    gpt = load_gpt(XttsFiles(files.config, grow_text_rows(files, embedding, head, torch.zeros(rows)), files.folder))
    if trained.exists():
        gpt.load_state_dict(torch.load(trained, weights_only=True))
    else:
        held = -len(material.base_clips) // 12
        train_data = material.dataset("base_train", material.base_clips[:held], material.tokenizer)
        val_data = material.dataset("base_val", material.base_clips[held:], material.tokenizer)
        marks = (0, args.base_steps)
        curve = train(CompactGPT(gpt, 0.1), train_data, material.collate, args.base_steps, 1e-3, 0, marks, val_data)
        print("base model, validation (text, audio):", rounded(curve, 3))
        torch.save(gpt.state_dict(), trained)
    return XttsFiles(files.config, {f"gpt.{n}": t for n, t in gpt.state_dict().items()}, files.folder)


def rounded(curve: dict[int, tuple[float, float]], digits: int) -> dict[int, tuple[float, ...]]:
    return {step: tuple(round(float(loss), digits) for loss in pair) for step, pair in curve.items()}


def experiment(args: argparse.Namespace) -> None:
    """Train with each start and seed, and print a table of the validation losses."""
    material = Material(args)
    base = trained_base(material, args)
    held = len(material.georgian) // 8
    extension = extend_vocabulary(
        args.work / "vocab.json",
        count_words(c.text for _, c in material.georgian[held:]),
        new_tokens=args.new_tokens,
        min_pair_count=2,
    )
    write_json(args.work / "vocab_ka.json", extension.vocabulary)
    extended = load_tokenizer(args.work / "vocab_ka.json")
    train_data = material.dataset("ka_train", material.georgian[held:], extended)
    val_data = material.dataset("ka_val", material.georgian[:held], extended)
    print(
        f"{len(material.base_clips)} base clips, {len(train_data)} + {len(val_data)} Georgian clips, "
        f"{len(extension.new_ids)} new tokens"
    )
    counts = np.bincount(train_data.index.tokens, minlength=extension.size)[extension.new_ids]
    frequencies = np.log((counts + 0.5) / (counts + 0.5).sum()).tolist()
    results = {}
    for method, seed in itertools.product(args.methods, range(args.seeds)):
        start = new_rows(method, extension.new_tokens, base.gpt_state(), material.tokenizer, frequencies, seed)
        torch.manual_seed(seed)
        state = grow_text_rows(base, start.embedding, start.head, start.bias)
        model = CompactGPT(load_gpt(XttsFiles(base.config, state, base.folder)), 0.1)
        curve = train(model, train_data, material.collate, MARKS[-1], args.rate, seed, MARKS, val_data)
        results[method, seed] = curve
        print(method, seed, rounded(curve, 4), flush=True)

    print(f"\n| start | loss | {' | '.join(f'{mark} steps' for mark in MARKS)} |\n|---|---|{'---|' * len(MARKS)}")
    for method, (kind, name) in itertools.product(args.methods, enumerate(("text", "audio"))):
        cells = [[results[method, seed][mark][kind] for seed in range(args.seeds)] for mark in MARKS]
        shown = [f"{statistics.mean(c):.3f} ± {statistics.stdev(c) if len(c) > 1 else 0:.3f}" for c in cells]
        print(f"| {method} | {name} | {' | '.join(shown)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--base_steps", type=int, default=3000)
    parser.add_argument("--per_language", type=int, default=160)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--longest", type=float, default=3.0)
    parser.add_argument("--new_tokens", type=int, default=500)
    parser.add_argument("--voices", type=int, default=3, help="voices that speak each Georgian sentence")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=["random", "mean", "informed"])
    args = parser.parse_args()
    began = time.time()
    experiment(args)
    print(f"\n{(time.time() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
