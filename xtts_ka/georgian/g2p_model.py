"""The neural grapheme-to-phoneme model: a small convolutional tagger that gives each letter its chunk of phones.

It is trained on the CPU with one thread, so that the same lexicon and seed give the same weights on any number of
cores; a lexicon of 14,000 words takes a minute or two.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from xtts_ka.core.config import PhonemesConfig
from xtts_ka.core.console import progress
from xtts_ka.core.errors import UserError
from xtts_ka.core.torch_settings import one_thread
from xtts_ka.georgian.g2p_alignment import ContextTable, align, error_rates, share
from xtts_ka.georgian.phonology import Chunk

FORMAT = 1  # version of what `facts` returns
DEV_FRACTION = 0.05  # of the training words: their score decides when to stop
PATIENCE = 6  # epochs without a better dev score before training stops
DROPOUT = 0.1
EMA_DECAY = 0.98  # the model kept is the moving average of the last ~50 steps
CLIP_NORM = 1.0
_KERNEL = 5  # letters that one convolution sees; with dilations 1 and 3 two layers see 8 to either side
_PAD, _START, _END = 0, 1, 2  # ids before those of the letters
_FACTS = ("letters", "chunks", "allowed", "before_silence", "only_before_silence", "dim", "layers")


class _ConvBlock(nn.Module):
    """Pre-norm residual convolution over letters, (batch, letters, dim) → the same."""

    def __init__(self, dim: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, dim, _KERNEL, padding=_KERNEL // 2 * dilation, dilation=dilation)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # Padding is zeroed before the convolution, so a word's result does not depend on its batch.
        hidden = self.conv((self.norm(x) * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.dropout(F.gelu(hidden))


class GraphemeToPhoneme(nn.Module):
    """Letters → phones by tagging: every letter is classified into one of the chunks that training saw for it.

    letters: the alphabet that the model knows. chunks: its output classes. allowed: the classes possible for a letter.
    before_silence: the classes that a silent letter may follow; only_before_silence: those that a silent letter must
    follow (kʼʷ and its absorbed ვ). Letters are classified one by one, and this prevents that two neighbours both drop
    a sound, or both give it.
    """

    impossible: Tensor
    clash: Tensor

    def __init__(
        self,
        letters: Sequence[str],
        chunks: Sequence[Chunk],
        allowed: Mapping[str, Collection[int]],
        before_silence: Sequence[int],
        only_before_silence: Sequence[int],
        *,
        dim: int,
        layers: int,
    ):
        super().__init__()
        self.letters, self.chunks = list(letters), [tuple(chunk) for chunk in chunks]
        self.allowed = {letter: sorted(allowed[letter]) for letter in letters}
        self.before_silence, self.only_before_silence = sorted(before_silence), sorted(only_before_silence)
        self.dim, self.layers = dim, layers
        self._ids = {letter: i for i, letter in enumerate(letters, 3)}
        self.embedding = nn.Embedding(len(letters) + 3, dim, padding_idx=_PAD)
        self.blocks = nn.ModuleList(_ConvBlock(dim, 1 if i % 2 == 0 else 3) for i in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, len(chunks))
        impossible = torch.ones(len(letters) + 3, len(chunks), dtype=torch.bool)
        for letter, classes in self.allowed.items():
            impossible[self._ids[letter], classes] = False
        impossible[:3, 0] = False  # padding and the word's ends are not read; one class keeps their softmax finite
        self.register_buffer("impossible", impossible, persistent=False)
        # (class, next class) → True where training never saw such neighbours
        clash = [
            [c in self.only_before_silence if following else c not in self.before_silence for following in self.chunks]
            for c in range(len(chunks))
        ]
        self.register_buffer("clash", torch.tensor(clash, dtype=torch.bool), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Letter ids (batch, letters + 2), with the word's ends → logits (batch, letters + 2, classes)."""
        mask = (ids != _PAD).unsqueeze(-1)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x)).masked_fill(self.impossible[ids], float("-inf"))

    def knows(self, word: str) -> bool:
        """True when training saw every letter of `word`."""
        return all(letter in self._ids for letter in word)

    def known_phones(self, words: Sequence[str]) -> dict[str, list[str]]:
        """Word → phones, without the words that have a letter that training never saw."""
        known = [word for word in words if self.knows(word)]
        return dict(zip(known, self.predict(known), strict=True))

    def letter_ids(self, words: Sequence[str]) -> Tensor:
        """(words, longest + 2) padded letter ids of one or more words. Raises UserError for an unknown letter."""
        unknown = {letter for word in words for letter in word if letter not in self._ids}
        if unknown:
            raise UserError(
                f"the G2P model never saw the letter {min(unknown)!r}: add words with it to the lexicon and run the "
                "phonemes stage again"
            )
        rows = [torch.tensor([_START, *(self._ids[letter] for letter in word), _END]) for word in words]
        return pad_sequence(rows, batch_first=True, padding_value=_PAD)

    @torch.inference_mode()
    def predict(self, words: Sequence[str], batch_size: int = 1024) -> list[list[str]]:
        """The phones of each word (Mkhedruli letters), in the order given; words of similar length share a batch."""
        self.eval()
        results: list[list[str]] = [[]] * len(words)
        order = sorted(range(len(words)), key=lambda i: len(words[i]))
        with one_thread():
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                rows = self._classes([words[i] for i in batch])
                for i, row in zip(batch, rows, strict=True):
                    results[i] = [phone for c in row for phone in self.chunks[c]]
        return results

    def _classes(self, words: Sequence[str]) -> list[list[int]]:
        """The class of each letter of each word; a word whose likeliest classes clash is decoded as a whole."""
        logits = self(self.letter_ids(words))
        best = logits.argmax(-1)
        inside = torch.arange(best.shape[1] - 1)[None] < torch.tensor([len(word) for word in words])[:, None]
        clashing = (self.clash[best[:, :-1], best[:, 1:]] & inside)[:, 1:].any(1)
        rows = [row[1 : len(word) + 1] for row, word in zip(best.tolist(), words, strict=True)]
        for i in clashing.nonzero().flatten().tolist():
            rows[i] = self._without_clash(words[i], logits[i, 1 : len(words[i]) + 1].log_softmax(-1)) or rows[i]
        return rows

    def _without_clash(self, word: str, scores: Tensor) -> list[int]:
        """Viterbi: the likeliest classes of `word` in which no neighbours clash; empty where all sequences clash.

        `scores` are log-probabilities (letters, classes).
        """
        clash, log_probability = self.clash.tolist(), scores.tolist()
        paths = {c: (log_probability[0][c], [c]) for c in self.allowed[word[0]]}
        for letter, row in zip(word[1:], log_probability[1:], strict=True):
            paths = {
                c: max((score + row[c], [*path, c]) for score, path in before)
                for c in self.allowed[letter]
                if (before := [paths[b] for b in paths if not clash[b][c]])
            }
        return max(paths.values())[1] if paths else []

    def facts(self) -> dict[str, Any]:
        """Everything besides the weights that `rebuild` needs, as builtins that JSON can hold."""
        return {"format": FORMAT} | {name: getattr(self, name) for name in _FACTS}

    @classmethod
    def rebuild(cls, facts: Mapping[str, Any], weights: Mapping[str, Tensor]) -> GraphemeToPhoneme:
        """A saved model from its facts and state dict. Raises UserError when they do not fit each other."""
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}")
            blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
            if weights["output.weight"].shape != (len(facts["chunks"]), facts["dim"]) or len(blocks) != facts["layers"]:
                raise ValueError("other sizes")  # checked before a network of a size that the file chose is allocated
            model = cls(**{name: facts[name] for name in _FACTS})
            model.load_state_dict(weights)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = str(error).splitlines()[0][:160]
            raise UserError(
                f"g2p_model.pt and g2p_config.json do not fit together ({reason}): "
                "run the phonemes stage again with --force"
            ) from None
        return model.eval()


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TrainedG2P:
    """A trained model, its error rates and the table's on the held-out words, and its mistakes there."""

    model: GraphemeToPhoneme
    report: dict[str, Any]
    mistakes: list[tuple[str, list[str], list[str]]]  # (word, expected, got)


def train_g2p(
    lexicon: Mapping[str, Sequence[str]],
    config: PhonemesConfig,
    seed: int,
    *,
    always: Mapping[str, Sequence[str]] | None = None,
) -> TrainedG2P:
    """Train on `lexicon` (Mkhedruli word → phones) and measure on its held-out words, beside the context table.

    Words are held out by a hash of their letters. `always` are entries that are trained on and never held out (the
    letters by themselves). Raises UserError when no word can be aligned.
    """
    held = sorted(word for word in lexicon if share(word, "g2p heldout") < config.heldout_fraction)
    training = {**(always or {}), **lexicon}
    for word in held:
        del training[word]
    model, aligned, epochs = fit_g2p(training, config, seed)
    known = model.known_phones(held)
    results = [(word, list(lexicon[word]), known.get(word, [])) for word in held]
    expected = [wanted for _, wanted, _ in results]
    wer, per = error_rates(expected, [got for _, _, got in results])
    table = ContextTable(aligned)
    table_wer, table_per = error_rates(expected, [table.phonemes(word) for word in held])
    report = {
        "heldout": len(held),
        "heldout_wer": wer,
        "heldout_per": per,
        "table_wer": table_wer,
        "table_per": table_per,
        "unaligned": len(training) - len(aligned),
        "epochs": epochs,
    }
    return TrainedG2P(model, report, [(word, wanted, got) for word, wanted, got in results if got != wanted])


def fit_g2p(
    training: Mapping[str, Sequence[str]], config: PhonemesConfig, seed: int
) -> tuple[GraphemeToPhoneme, dict[str, list[Chunk]], int]:
    """(a model trained on `training`, its alignment, the number of epochs).

    A twentieth of the words, chosen by hash, is not trained on: its score decides when to stop. The global random state
    is the same before and after. Raises UserError when no word can be aligned.
    """
    aligned = align(dict(sorted(training.items())))
    if not aligned:
        raise UserError(
            "no word of the lexicon can be aligned with its phones (at most 3 phones a letter): check its columns"
        )
    dev = [word for word in aligned if len(word) > 1 and share(word, "g2p dev") < DEV_FRACTION]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _new_model(aligned, config)
        epochs = _fit(model, aligned, dev, config, seed)
    return model, aligned, epochs


def _new_model(aligned: Mapping[str, Sequence[Chunk]], config: PhonemesConfig) -> GraphemeToPhoneme:
    letters = sorted({letter for word in aligned for letter in word})
    chunks = sorted({chunk for word_chunks in aligned.values() for chunk in word_chunks})
    index = {chunk: i for i, chunk in enumerate(chunks)}
    allowed: dict[str, set[int]] = {letter: set() for letter in letters}
    next_is_silent: dict[int, set[bool]] = {}
    for word, word_chunks in aligned.items():
        for letter, chunk in zip(word, word_chunks, strict=True):
            allowed[letter].add(index[chunk])
        for chunk, following in pairwise(word_chunks):
            next_is_silent.setdefault(index[chunk], set()).add(not following)
    before_silence = [c for c, seen in next_is_silent.items() if True in seen]
    only_before_silence = [c for c, seen in next_is_silent.items() if seen == {True}]
    return GraphemeToPhoneme(
        letters, chunks, allowed, before_silence, only_before_silence, dim=config.dim, layers=config.layers
    )


def _targets(model: GraphemeToPhoneme, words: Sequence[str], aligned: Mapping[str, Sequence[Chunk]]) -> Tensor:
    """(words, longest + 2) chunk classes at the letters' positions, −100 (ignored by the loss) elsewhere."""
    index = {chunk: i for i, chunk in enumerate(model.chunks)}
    rows = [torch.tensor([-100, *(index[chunk] for chunk in aligned[word]), -100]) for word in words]
    return pad_sequence(rows, batch_first=True, padding_value=-100)


def _fit(
    model: GraphemeToPhoneme,
    aligned: Mapping[str, Sequence[Chunk]],
    dev: Sequence[str],
    config: PhonemesConfig,
    seed: int,
) -> int:
    """Train `model` in place and leave it with its best averaged weights; returns the number of epochs."""
    in_dev = set(dev)
    words = [word for word in aligned if word not in in_dev] or list(aligned)
    ids = model.letter_ids(words)
    targets = _targets(model, words, aligned)
    lengths = torch.tensor([len(word) + 2 for word in words])
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    steps = config.max_epochs * len(list(_batches(lengths, config.batch_size, torch.Generator())))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    average = copy.deepcopy(model).eval()
    best, best_score, best_epoch, step = average.state_dict(), (math.inf, math.inf), 0, 0
    epochs = range(1, config.max_epochs + 1)
    with progress(epochs, what="G2P epochs", unit="epoch", leave=False, mininterval=1) as bar:
        for epoch in bar:
            model.train()
            for batch in _batches(lengths, config.batch_size, order):
                width = int(lengths[batch].max())
                logits = model(ids[batch, :width])
                loss = F.cross_entropy(logits.flatten(0, 1), targets[batch, :width].flatten(), ignore_index=-100)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                schedule.step()
                step += 1
                _average_into(average, model, min(EMA_DECAY, step / (step + 10)))
            score = _dev_score(average, dev, aligned)
            bar.set_postfix(dev_errors=int(score[0]), loss=f"{score[1]:.4f}", refresh=False)
            if score < best_score or not dev:
                best, best_score, best_epoch = copy.deepcopy(average.state_dict()), score, epoch
            if epoch - best_epoch >= PATIENCE or (dev and score == (0.0, 0.0)):  # zero: one chunk for each letter
                break
    model.load_state_dict(best)
    model.eval()
    return epoch


def _batches(lengths: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in random batches of words of similar length; otherwise padding would be a third of the work."""
    shuffled = torch.randperm(len(lengths), generator=order)
    batches = [
        batch
        for group in shuffled.split(batch_size * 16)
        for batch in group[lengths[group].argsort(stable=True)].split(batch_size)
    ]
    for i in torch.randperm(len(batches), generator=order).tolist():
        yield batches[i]


@torch.no_grad()
def _average_into(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, current in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)


@torch.inference_mode()
def _dev_score(
    model: GraphemeToPhoneme, dev: Sequence[str], aligned: Mapping[str, Sequence[Chunk]]
) -> tuple[float, float]:
    """(words wrong, mean cross-entropy) on the dev words; (0, 0) without any."""
    if not dev:
        return 0.0, 0.0
    ids = model.letter_ids(dev)
    targets = _targets(model, dev, aligned)
    logits = model(ids)
    wrong = ((logits.argmax(-1) != targets) & (targets != -100)).any(1).sum()
    return float(wrong), float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100))
