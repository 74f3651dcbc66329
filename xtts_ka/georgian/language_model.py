"""The language stage: Georgian tokens for the base vocabulary, and small language models that judge transcripts.

Two models of the same sentences stand beside each other: a causal transformer over the new tokens, and an interpolated
modified Kneser–Ney n-gram over characters. Both predict every sentence with its end, and both are measured in bits per
character on sentences that neither they nor the tokenizer have seen. The better one lists the transcripts that surprise
it most (wrong language, broken encoding), each scored by a model that was not trained on it. How often each new token
occurs goes on to `xtts_init`, for the biases of the text head.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtts_ka.core.files import tensors_from_bytes, tensors_to_bytes, write_json, write_pickle
from xtts_ka.georgian.character_ngram import ALPHABET, BOUNDARY, MAX_CHARACTERS, UNKNOWN, UNKNOWN_BITS, CharacterNgram
from xtts_ka.core.console import UserError, progress, say
from xtts_ka.georgian.text import ARCHAIC_LETTERS, GEORGIAN_LETTERS, is_georgian, normalise
from xtts_ka.corpus.tables import Clip, replace_suspects
from xtts_ka.core.config import LanguageModelConfig, PretrainConfig
from xtts_ka.model.vocabulary import (VocabularyExtension, count_words, coverage_report, encode_batch, extend_vocabulary,
                                 measured_character_limit, open_vocabulary)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCHEMA = 1
SUSPECT_REASON = "surprising_transcript"
SUSPECTS_LISTED = 200  # at most: more than a person reads
SUSPECT_DEVIATIONS = 3.5  # robust standard deviations above the median (Iglewicz & Hoaglin 1993)
NGRAM_ORDERS = (3, 4, 5, 6, 7)  # the development sentences choose
MIN_SENTENCES = 3  # one each to learn from, to stop by and to measure on
MEASURED_AT_MOST = 1000  # held-out sentences
SEGMENTATIONS = 32  # random ones added to the network's probability of a held-out sentence
SCORED_TOGETHER = 64  # sequences per batch
MAX_SENTENCES = 100_000  # what the models learn from at most; the tokenizer sees every sentence
PATIENCE = 6  # passes without gain on the development sentences before training stops
SMALL_CORPUS = 200_000  # characters: up to here a corpus is worth learning in many segmentations
SEGMENTATION_DROPOUT = (0.1, 0.2, 0.3, 0.5)  # drawn for each sentence and pass of a small corpus
WEIGHT_DECAY = (0.5, 0.1)  # of a small corpus, of a larger one


def held_out_split(texts: Iterable[str], fraction: float) -> tuple[list[str], list[str], list[str]]:
    """Distinct `texts` as (training, development, held-out) sentences, by a hash of each: more text moves none.

    `fraction` of them is held out and as much again is for development (early stopping, the n-gram's order); each part
    has a sentence at least if there are three.
    """
    def place(text: str) -> float:
        return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:6], "big") / 2**48

    ordered = sorted(set(texts), key=lambda text: (place(text), text))
    third = len(ordered) // 3
    held_out = min(max(1, sum(place(text) < fraction for text in ordered)), third)
    development = min(max(1, sum(fraction <= place(text) < 2 * fraction for text in ordered)), third)
    return ordered[held_out + development:], ordered[held_out: held_out + development], ordered[:held_out]


# ── segmentation ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Segmenter:
    """Normalised text → tokens, as the tokenizer does it, or at random with BPE-dropout.

    BPE-dropout (Provilkov et al. 2020) skips each merge with some probability, so that a small corpus is seen in many
    segmentations. The tokenizers library has it too, but without a seed.
    """

    def __init__(self, tokenizer: Tokenizer):
        import json

        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        pairs = (tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges)
        self._rank = {pair: rank for rank, pair in enumerate(pairs) if "ა" <= pair[0][0] <= "ჵ"}
        self._tokenizer = tokenizer
        self._whole: dict[str, list[str]] = {}  # words, and what stands between them, as the tokenizer has them

    def tokens(self, text: str, dropout: float = 0.0, draw: random.Random | None = None) -> list[str]:
        """The tokens of `text`, without the language token; `draw` decides which merges are skipped."""
        tokens: list[str] = []
        for piece in re.findall("[ა-ჵ]+|[^ა-ჵ]+", text):
            if dropout and "ა" <= piece[0] <= "ჵ":
                tokens += self._merge(list(piece), dropout, draw)
                continue
            if piece not in self._whole:
                if len(self._whole) > 200_000:
                    self._whole.clear()
                self._whole[piece] = self._tokenizer.encode(piece.replace(" ", "[SPACE]")).tokens
            tokens += self._whole[piece]
        return tokens

    def _merge(self, symbols: list[str], dropout: float, draw: random.Random) -> list[str]:
        rank, never = self._rank, len(self._rank) + 10**6
        while len(symbols) > 1:
            best, at = never, -1
            for i, pair in enumerate(zip(symbols, symbols[1:])):
                r = rank.get(pair, never)
                if r < best and draw.random() >= dropout:
                    best, at = r, i
            if at < 0:
                break
            symbols[at: at + 2] = [symbols[at] + symbols[at + 1]]
        return symbols


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Block(nn.Module):
    """Pre-norm transformer block: causal attention, then a four times wider feed-forward part."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + F.dropout(self.out(seen.transpose(1, 2).reshape(batch, length, dim)), self.dropout, self.training)
        return x + F.dropout(self.narrow(F.gelu(self.widen(self.norm_feed(x)))), self.dropout, self.training)


class CausalLanguageModel(nn.Module):
    """Small causal transformer over a compact vocabulary, input and output embeddings tied.

    tokens: the vocabulary; the first two are the sentence boundary and the unknown token. Two things help it learn
    from little text: a token's vector is its own plus what its first, last and all its letters say, and besides
    attention each position sees the three tokens before it directly. It needs no position embedding for that reason.
    """

    def __init__(self, tokens: Sequence[str], dim: int, layers: int, heads: int, dropout: float):
        super().__init__()
        self.tokens, self.dropout = list(tokens), dropout
        self.own = nn.Embedding(len(tokens), dim)
        spelling = _spelling(tokens)
        self.register_buffer("spelling", spelling, persistent=False)
        self.letters = nn.Linear(spelling.shape[1], dim, bias=False)
        self.before = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(len(tokens)))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) token numbers → (batch, length, vocabulary) logits for the token that follows each."""
        table = self.own.weight + self.letters(self.spelling)
        vectors = F.embedding(ids, table)
        x = vectors
        for distance, project in enumerate(self.before, start=1):
            x = x + F.pad(project(vectors), (0, 0, distance, 0))[:, : ids.shape[1]]
        x = F.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ table.T + self.bias


def _spelling(tokens: Sequence[str]) -> Tensor:
    """(tokens, 3 · letters): first letter, last letter, share of each letter. Zero for what is not spelt: `[SPACE]`."""
    letters = {letter: i for i, letter in enumerate(GEORGIAN_LETTERS + ARCHAIC_LETTERS)}
    spelling = torch.zeros(len(tokens), 3, len(letters))
    for row, token in enumerate(tokens):
        if token and all(letter in letters for letter in token):
            spelling[row, 0, letters[token[0]]] = spelling[row, 1, letters[token[-1]]] = 1
            for letter in token:
                spelling[row, 2, letters[letter]] += 1 / len(token)
    return spelling.flatten(1)


@dataclass
class TokenModel:
    """A trained network with what it needs to read text."""

    network: CausalLanguageModel
    segmenter: Segmenter
    epochs: int = 0  # passes after which the kept weights were reached

    def __post_init__(self) -> None:
        self._numbers = {token: i for i, token in enumerate(self.network.tokens)}

    def numbers(self, text: str, dropout: float = 0.0, draw: random.Random | None = None) -> list[int]:
        """Vocabulary numbers of `text`, the first MAX_CHARACTERS of it."""
        tokens = self.segmenter.tokens(text[:MAX_CHARACTERS], dropout, draw)
        return [self._numbers.get(token, UNKNOWN) for token in tokens]

    def bits(self, texts: Sequence[str], samples: int = 0) -> np.ndarray:
        """−log₂ p of each text with its end, (len(texts),) float64, in the tokenizer's own segmentation.

        That is an upper bound, as other segmentations of the same text have some probability too. With `samples` the
        probabilities of so many random ones (as far as they differ) are added, which gives a closer bound.
        """
        sequences, owner = [], []
        for number, text in enumerate(texts):
            draw = random.Random(text)
            drawn = {tuple(self.numbers(text)), *(tuple(self.numbers(text, 0.1, draw)) for _ in range(samples))}
            sequences += sorted(drawn)
            owner += [number] * len(drawn)
        bits, owner = self._sequence_bits(sequences), np.array(owner, int)
        least = np.full(len(texts), np.inf)
        np.minimum.at(least, owner, bits)
        return least - np.log2(np.bincount(owner, np.exp2(least[owner] - bits), minlength=len(texts)))

    @torch.no_grad()
    def _sequence_bits(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """−log₂ p of each sequence of vocabulary numbers with its end."""
        self.network.eval()
        found = np.zeros(len(sequences))
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        for start in range(0, len(order), SCORED_TOGETHER):
            chosen = order[start: start + SCORED_TOGETHER]
            inputs, targets = _padded([sequences[i] for i in chosen], self.network.bias.device)
            losses = F.cross_entropy(self.network(inputs).transpose(1, 2), targets, reduction="none", ignore_index=-100)
            losses = losses.double().sum(dim=1) / math.log(2) + UNKNOWN_BITS * (targets == UNKNOWN).sum(dim=1)
            found[chosen] = losses.cpu().numpy()
        return found


def _padded(sequences: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """(batch, longest + 1) inputs that start with the boundary, and targets that end with it (−100: nothing there)."""
    width = max(map(len, sequences)) + 1
    inputs = torch.full((len(sequences), width), BOUNDARY)
    targets = torch.full((len(sequences), width), -100)
    for row, sequence in enumerate(sequences):
        inputs[row, 1: len(sequence) + 1] = targets[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        targets[row, len(sequence)] = BOUNDARY
    return inputs.to(device), targets.to(device)


def bits_per_character(bits: np.ndarray, texts: Sequence[str]) -> float:
    """Total bits, ends included, over total characters."""
    return float(bits.sum() / sum(min(len(text), MAX_CHARACTERS) for text in texts))


def is_small(texts: Sequence[str]) -> bool:
    """True for a corpus that is learnt in many segmentations, and with more restraint."""
    return sum(map(len, texts)) <= SMALL_CORPUS


def train_network(train: Sequence[str], development: Sequence[str], segmenter: Segmenter, tokens: Sequence[str],
                  settings: LanguageModelConfig, seed: int, device: str = "cpu") -> TokenModel:
    """Train a network on sentences, keeping the weights that do best on `development`.

    tokens: the vocabulary, boundary and unknown token first. Stops after PATIENCE passes without gain. The result
    depends on the arguments alone (on a CPU): weights, order, dropout and segmentations are all drawn from `seed`.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        network = CausalLanguageModel(tokens, settings.dim, settings.layers, settings.heads, settings.dropout)
        model = TokenModel(network.to(device), segmenter)
        matrices = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim < 2]
        decay = WEIGHT_DECAY[not is_small(train)]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        total = settings.max_epochs * math.ceil(len(train) / settings.batch_size)
        shape = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))
        best_bits, best = math.inf, {}
        bar = progress(range(1, settings.max_epochs + 1), what="language model", unit="epoch")
        for epoch in bar:
            _one_pass(model, train, settings, optimizer, shape, random.Random(f"{seed} {epoch}"))
            bits = bits_per_character(model.bits(development), development)
            bar.set_postfix(bits_per_character=f"{bits:.3f}")
            if bits < best_bits:
                best_bits, best = bits, {name: tensor.clone() for name, tensor in network.state_dict().items()}
                model.epochs = epoch
            elif epoch - model.epochs >= PATIENCE:
                break
        bar.close()
        network.load_state_dict(best)
    return model


def _rate(step: int, total: int) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine down to nothing."""
    warm_up = max(1, total // 20)
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))


def _one_pass(model: TokenModel, train: Sequence[str], settings: LanguageModelConfig, optimizer, schedule,
              draw: random.Random) -> None:
    network = model.network.train()
    order = list(train)
    draw.shuffle(order)
    levels = SEGMENTATION_DROPOUT if is_small(train) else (0.0,)
    for start in range(0, len(order), settings.batch_size):
        batch = [model.numbers(text, draw.choice(levels), draw) for text in order[start: start + settings.batch_size]]
        inputs, targets = _padded(batch, network.bias.device)
        loss = F.cross_entropy(network(inputs).transpose(1, 2), targets, ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


# ── what the models are used for ─────────────────────────────────────────────────────────────────────────────────────


def cross_fitted_bits(texts: Sequence[str], fit: Callable[[list[str]], CharacterNgram | TokenModel],
                      folds: int) -> dict[str, float]:
    """−log₂ p of each distinct text under a model that `fit` made from the other folds' texts.

    A model remembers what it was trained on, oddities too: only one that has not seen a text can be surprised by it.
    """
    ordered = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode("utf-8")).digest())
    bits: dict[str, float] = {}
    for fold in range(folds):
        scored = ordered[fold::folds]
        model = fit([text for i, text in enumerate(ordered) if i % folds != fold][:MAX_SENTENCES])
        bits |= dict(zip(scored, model.bits(scored).tolist(), strict=True))
    return bits


def surprising_transcripts(bits: dict[str, float], clips: Sequence[Clip],
                           top: int = SUSPECTS_LISTED) -> list[tuple[Clip, float]]:
    """(clip, bits per character) of the transcripts that stand out, most surprising first, at most `top`.

    bits: −log₂ p by text. What stands out is measured in robust standard deviations (1.4826 × the median absolute
    deviation) of surprise above the median. As a mean over n characters scatters with 1/√n, the excess per character is
    multiplied by √n first: otherwise every two-letter reply would be listed.
    """
    texts = list(bits)
    if len(texts) < 2:
        return []
    length = np.array([min(len(text), MAX_CHARACTERS) + 1 for text in texts])
    rate = np.array([bits[text] for text in texts]) / length
    excess = (rate - np.median(rate)) * np.sqrt(length)
    deviation = 1.4826 * np.median(np.abs(excess - np.median(excess)))
    if deviation <= 1e-9:
        return []
    odd = {texts[i]: (excess[i], rate[i] * length[i] / max(1, length[i] - 1)) for i in range(len(texts))
           if excess[i] / deviation > SUSPECT_DEVIATIONS}
    listed = [(clip, float(odd[clip.text][1])) for clip in clips if clip.text in odd]
    return sorted(listed, key=lambda pair: (-odd[pair[0].text][0], pair[0].file_id))[:top]


def token_log_frequencies(counts: Counter[int], new_ids: Sequence[int]) -> dict[int, float]:
    """New id → natural log of its share of all text tokens, half a count added to each so that none is impossible."""
    total = sum(counts.values()) + 0.5 * len(new_ids)
    return {token: math.log((counts[token] + 0.5) / total) for token in new_ids}


def load_language_model(results: dict[str, Any], tokenizer: Tokenizer) -> TokenModel:
    """The network of `language_model_results.pkl`, ready to score; `tokenizer` is of the `vocab.json` beside it."""
    saved = results["network"]
    network = CausalLanguageModel(saved["tokens"], saved["dim"], saved["layers"], saved["heads"], saved["dropout"])
    network.load_state_dict(tensors_from_bytes(saved["weights"]))
    return TokenModel(network.eval(), Segmenter(tokenizer), saved["epochs"])


# ── the stage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_language_stage(config: PretrainConfig, clips: Sequence[Clip]) -> dict[str, Any]:
    """Write `vocab.json` and `language_model_results.pkl`, list surprising transcripts, and return the stage's metrics.

    clips: what may be learnt from (train and val). Tokens are trained on the distinct training sentences: a sentence
    that a hundred people have read counts once, and what the models are stopped by and measured on must be new to the
    tokenizer too (on the starter's text, tokens made of the development sentences flattered those by 0.2 bits per
    character). Token frequencies count every clip, as training will. Raises UserError for a broken base vocabulary
    and for transcripts that are too few or hold no Georgian.
    """
    # Normalising spells foreign words with Georgian letters, so the question is asked before.
    if clips and not any(is_georgian(clip.text) for clip in clips):
        raise UserError(f"the transcripts in {config.data_dir} hold no Georgian letter (the first is "
                        f"{clips[0].text[:40]!r}): check the text column and its encoding")
    clips = [replace(clip, text=text) for clip in clips if (text := normalise(clip.text, archaic=config.text.archaic))]
    parts = held_out_split([clip.text for clip in clips], config.language_model.heldout_fraction)
    train, development, held_out = parts
    if sum(map(len, parts)) < MIN_SENTENCES:
        raise UserError(f"the transcripts in {config.data_dir} hold {sum(map(len, parts))} different sentences, and "
                        f"the language stage needs {MIN_SENTENCES} at least: check the text column or add recordings")
    extension = extend_vocabulary(
        Path(config.base_model_path) / "vocab.json", count_words(train), new_tokens=config.text.new_tokens,
        min_pair_count=config.text.min_pair_count, language=config.language,
        archaic_letters=config.text.archaic == "keep")
    tokenizer = open_vocabulary(extension.vocabulary)
    coverage = _coverage(tokenizer, clips, held_out, config.language)
    sequences = encode_batch(tokenizer, [clip.text for clip in clips], config.language)
    counts = Counter(token for sequence in sequences for token in sequence)
    frequencies = token_log_frequencies(counts, extension.new_ids)

    segmenter = Segmenter(tokenizer)
    tokens = _compact_vocabulary(extension, segmenter, train)
    fit = _network_fitter(config, segmenter, tokens, development)
    with _one_thread():
        network, measured = _compare(fit, train[:MAX_SENTENCES], development, held_out[:MEASURED_AT_MOST])
        bits = _bits_of_all([text for part in parts for text in part], measured, fit)
    suspects = surprising_transcripts(bits, clips)
    _list_suspects(config, suspects, bits)

    metrics = {"new_tokens": len(extension.new_ids), "vocabulary_size": extension.size,
               "limited_by": extension.facts["limited_by"], "sentences": sum(map(len, parts)), **coverage,
               **measured, "suspects": len(suspects)}
    out = Path(config.output_model_path)
    write_json(out / "vocab.json", extension.vocabulary)
    write_pickle(out / "language_model_results.pkl", {
        "schema": SCHEMA, "language": config.language, "new_ids": extension.new_ids, "new_tokens": extension.new_tokens,
        "token_counts": [counts[i] for i in extension.new_ids],
        "log_frequencies": [frequencies[i] for i in extension.new_ids],
        "character_limit": coverage["character_limit"], "extension": extension.facts, "metrics": metrics,
        "suspects": [(clip.file_id, rate) for clip, rate in suspects],
        "network": _saved(network, config.language_model)})
    _report(metrics, extension)
    return metrics


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: on a shared machine, threads that wait for each other make so small a network 4 times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _coverage(tokenizer: Tokenizer, clips: Sequence[Clip], held_out: Sequence[str], language: str) -> dict[str, Any]:
    """Characters per token on sentences the tokenizer has not seen, and the character limit that follows from them."""
    unseen = coverage_report(tokenizer, held_out, language=language)
    spoken = coverage_report(tokenizer, [clip.text for clip in clips], [clip.duration for clip in clips], language)
    limit = measured_character_limit(unseen["low_characters_per_token"],
                                     chars_per_second=spoken["low_characters_per_second"])
    return {"characters_per_token": unseen["characters_per_token"], "tokens_per_second": spoken["tokens_per_second"],
            "characters_per_second": spoken["characters_per_second"], "unknown_tokens": spoken["unknown"],
            "longest_transcript_tokens": spoken["longest"], "character_limit": limit}


def _compact_vocabulary(extension: VocabularyExtension, segmenter: Segmenter, train: Sequence[str]) -> list[str]:
    """Boundary, unknown, every Georgian token, and the base tokens that normalised text or the training text needs."""
    georgian = [token for token in extension.vocabulary["model"]["vocab"] if re.fullmatch("[ა-ჵ]+", token)]
    others = {token for text in (ALPHABET, *ALPHABET, *train[:MAX_SENTENCES]) for token in segmenter.tokens(text)}
    return ["<s>", "<unk>", *georgian, *sorted(others - {*georgian, "[UNK]"})]


def _network_fitter(config: PretrainConfig, segmenter: Segmenter, tokens: Sequence[str],
                    development: Sequence[str]) -> Callable[[Sequence[str]], TokenModel]:
    device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    settings, seed = config.language_model, config.seed
    return lambda texts: train_network(texts, development, segmenter, tokens, settings, seed, device)


def _compare(fit: Callable[[Sequence[str]], TokenModel], train: Sequence[str], development: Sequence[str],
             held_out: Sequence[str]) -> tuple[TokenModel, dict[str, Any]]:
    """Train the network and n-grams on the same sentences; bits per character of both on the same held-out ones."""
    candidates = [CharacterNgram(train, order) for order in NGRAM_ORDERS]
    ngram = min(candidates, key=lambda candidate: candidate.bits(development).sum())
    network = fit(train)
    by_ngram = ngram.bits(held_out)
    by_network = network.bits(held_out, SEGMENTATIONS if is_small(train) else 0)
    lead = by_ngram - by_network
    return network, {
        "heldout_sentences": len(held_out), "ngram_order": ngram.order,
        "ngram_bits_per_character": bits_per_character(by_ngram, held_out),
        "network_bits_per_character": bits_per_character(by_network, held_out),
        "network_bits_per_character_one_segmentation": bits_per_character(network.bits(held_out), held_out),
        "network_lead": bits_per_character(lead, held_out),
        "network_lead_standard_error": bits_per_character(lead.std() * np.sqrt([float(len(lead))]), held_out),
        "network_epochs": network.epochs, "scorer": "network" if lead.sum() > 0 else "ngram",
    }


def _bits_of_all(texts: Sequence[str], measured: dict[str, Any],
                 fit: Callable[[Sequence[str]], TokenModel]) -> dict[str, float]:
    """Surprise of every sentence under the better model: n-grams are made in seconds, a network costs a training."""
    if measured["scorer"] == "network":
        return cross_fitted_bits(texts, fit, folds=2)
    return cross_fitted_bits(texts, lambda others: CharacterNgram(others, measured["ngram_order"]), folds=5)


def _list_suspects(config: PretrainConfig, suspects: Sequence[tuple[Clip, float]], bits: dict[str, float]) -> None:
    usual = float(np.median([total / min(len(text), MAX_CHARACTERS) for text, total in bits.items()]))
    replace_suspects(config.data_dir, SUSPECT_REASON, [
        (clip.file_id, f"{rate:.2f} bits per character where {usual:.2f} is usual", str(clip.audio_path), clip.text)
        for clip, rate in suspects])


def _saved(model: TokenModel, settings: LanguageModelConfig) -> dict[str, Any]:
    weights = {name: tensor.cpu() for name, tensor in model.network.state_dict().items()}
    return {**asdict(settings), "tokens": model.network.tokens, "epochs": model.epochs,
            "weights": tensors_to_bytes(weights)}


def _report(metrics: dict[str, Any], extension: VocabularyExtension) -> None:
    facts = extension.facts
    say(f"{facts['added']} new tokens (at most {facts['requested']} asked for, limited by {facts['limited_by']}), ids "
        f"{facts['base_size']} to {facts['size'] - 1}; {metrics['characters_per_token']:.2f} characters per token, "
        f"{metrics['tokens_per_second']:.1f} tokens per second of speech, {metrics['character_limit']} characters "
        "at once")
    lead, error = metrics["network_lead"], metrics["network_lead_standard_error"]
    say(f"held-out bits per character on {metrics['heldout_sentences']} sentences: network "
        f"{metrics['network_bits_per_character']:.3f}, Kneser–Ney {metrics['ngram_order']}-gram "
        f"{metrics['ngram_bits_per_character']:.3f}; the network is {'ahead' if lead > 0 else 'behind'} by "
        f"{abs(lead):.3f} ± {error:.3f}")
    if metrics["suspects"]:
        say(f"{metrics['suspects']} transcripts look odd to the {metrics['scorer']} model: see split/drop_report.csv")
