"""The neural grapheme-to-phoneme model: a small convolutional tagger that gives each letter its chunk of phones.

It is trained on the CPU with one thread, so that the same lexicon and seed give the same weights on any number of
cores; a lexicon of 14,000 words takes a minute or two.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from xtts_ka.core.config import PhonemesConfig
from xtts_ka.core.console import progress
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.core.torch_settings import one_thread
from xtts_ka.georgian.g2p_alignment import ContextTable, align, error_rates
from xtts_ka.georgian.phonology import Chunk

FORMAT = 1  # version of what `facts` returns
DEV_FRACTION = 0.05  # of the training words: their score decides when to stop
PATIENCE = 6  # epochs without a better dev score before training stops
DROPOUT = 0.1
EMA_DECAY = 0.98  # the model kept is the moving average of the last ~50 steps
CLIP_NORM = 1.0
_KERNEL = 5  # letters that one convolution sees; with dilations 1 and 3 two layers see 8 to either side
_PAD, _START, _END = 0, 1, 2  # ids before those of the letters
_WORDS_TOGETHER = 1024  # in one batch of inference
_CLASH = 1e4  # taken from the log-probability of a sequence for each pair of neighbours that training never saw


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


@dataclass
class Tags:
    """What training saw: letters, the chunks (output classes), and the classes `allowed` for each letter.

    before_silence: the classes that a silent letter may follow; only_before_silence: those that a silent letter must
    follow (kʼʷ and its absorbed ვ).
    """

    letters: list[str]
    chunks: list[Chunk]
    allowed: dict[str, list[int]]
    before_silence: list[int]
    only_before_silence: list[int]

    @classmethod
    def seen_in(cls, aligned: Mapping[str, Sequence[Chunk]]) -> Tags:
        """The tags of aligned words."""
        chunks = sorted({chunk for word_chunks in aligned.values() for chunk in word_chunks})
        index = {chunk: i for i, chunk in enumerate(chunks)}
        allowed: dict[str, set[int]] = {letter: set() for letter in sorted(set().union(*aligned))}
        next_is_silent: dict[int, set[bool]] = {}
        for word, word_chunks in aligned.items():
            for letter, chunk in zip(word, word_chunks, strict=True):
                allowed[letter].add(index[chunk])
            for chunk, following in pairwise(word_chunks):
                next_is_silent.setdefault(index[chunk], set()).add(not following)
        before_silence = sorted(c for c, seen in next_is_silent.items() if True in seen)
        only_before_silence = sorted(c for c, seen in next_is_silent.items() if seen == {True})
        classes = {letter: sorted(possible) for letter, possible in allowed.items()}
        return cls(list(allowed), chunks, classes, before_silence, only_before_silence)


class GraphemeToPhoneme(nn.Module):
    """Letters → phones by tagging: every letter is classified into one of the chunks that training saw for it."""

    impossible: Tensor

    def __init__(self, tags: Tags, dim: int, layers: int):
        super().__init__()
        self.tags = tags
        self._ids = {letter: i for i, letter in enumerate(tags.letters, 3)}
        self.embedding = nn.Embedding(len(tags.letters) + 3, dim, padding_idx=_PAD)
        self.blocks = nn.ModuleList(_ConvBlock(dim, 1 if i % 2 == 0 else 3) for i in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, len(tags.chunks))
        impossible = torch.ones(len(tags.letters) + 3, len(tags.chunks), dtype=torch.bool)
        for letter, i in self._ids.items():
            impossible[i, tags.allowed[letter]] = False
        impossible[:3, 0] = False  # padding and the word's ends are not read; one class keeps their softmax finite
        self.register_buffer("impossible", impossible, persistent=False)
        before, only_before = set(tags.before_silence), set(tags.only_before_silence)
        # Neighbouring classes that training never saw: both letters drop a sound, or both give it.
        self._clashes = {
            (c, n)
            for c in range(len(tags.chunks))
            for n, following in enumerate(tags.chunks)
            if (c in only_before if following else c not in before)
        }

    def forward(self, ids: Tensor) -> Tensor:
        """Letter ids (batch, letters + 2), with the word's ends → logits (batch, letters + 2, classes)."""
        mask = (ids != _PAD).unsqueeze(-1)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x)).masked_fill(self.impossible[ids], float("-inf"))

    def letter_ids(self, words: Sequence[str]) -> Tensor:
        """(words, longest + 2) padded letter ids of one or more words."""
        rows = [torch.tensor([_START, *(self._ids[letter] for letter in word), _END]) for word in words]
        return pad_sequence(rows, batch_first=True, padding_value=_PAD)

    @torch.inference_mode()
    def known_phones(self, words: Iterable[str]) -> dict[str, list[str]]:
        """Word (Mkhedruli letters) → phones, without the words that have a letter that training never saw."""
        self.eval()
        known = sorted((word for word in set(words) if self._ids.keys() >= set(word)), key=len)
        found: dict[str, list[str]] = {}
        with one_thread():
            for start in range(0, len(known), _WORDS_TOGETHER):
                batch = known[start : start + _WORDS_TOGETHER]
                scores = self(self.letter_ids(batch)).log_softmax(-1)[:, 1:].tolist()
                found |= {word: self._decode(word, rows) for word, rows in zip(batch, scores, strict=True)}
        return found

    def _decode(self, word: str, scores: list[list[float]]) -> list[str]:
        """Viterbi: the phones of the likeliest classes of which no neighbours clash.

        `scores` are log-probabilities (letters or more, classes). Letters are classified one by one, so without this
        two neighbours could both drop a sound, or both give it.
        """
        paths: dict[int | None, tuple[float, list[int]]] = {None: (0.0, [])}
        for letter, row in zip(word, scores):
            paths = {
                c: max((s + row[c] - _CLASH * ((b, c) in self._clashes), [*path, c]) for b, (s, path) in paths.items())
                for c in self.tags.allowed[letter]
            }
        return [phone for c in max(paths.values())[1] for phone in self.tags.chunks[c]]

    def facts(self) -> dict[str, Any]:
        """Everything besides the weights that `rebuild` needs, as builtins that JSON can hold."""
        return {"format": FORMAT, **asdict(self.tags)}

    @classmethod
    def rebuild(cls, facts: Mapping[str, Any], weights: Mapping[str, Tensor]) -> GraphemeToPhoneme:
        """A saved model from its facts and state dict. Raises UserError when they do not fit each other."""
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}")
            blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
            tags = Tags(**{field.name: facts[field.name] for field in fields(Tags)})
            model = cls(tags, weights["output.weight"].shape[1], len(blocks))
            model.load_state_dict(weights)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = str(error).splitlines()[0][:160]
            raise UserError(
                f"g2p_model.pt and g2p_config.json do not fit together ({reason}): "
                "run the phonemes stage again with --force"
            ) from None
        return model.eval()


@dataclass(frozen=True, slots=True)
class TrainedG2P:
    """A trained model, its error rates and the table's on the held-out words, and its mistakes there."""

    model: GraphemeToPhoneme
    report: dict[str, Any]
    mistakes: list[tuple[str, list[str], list[str]]]  # (word, expected, got)


def train_g2p(lexicon: Mapping[str, Sequence[str]], config: PhonemesConfig, seed: int) -> TrainedG2P:
    """Train on `lexicon` (Mkhedruli word → phones) and measure on its held-out words, beside the context table.

    Words are held out by a hash of their letters; letters by themselves never are. Raises UserError when no word can be
    aligned.
    """
    held = sorted(w for w in lexicon if len(w) > 1 and hash_to_unit(f"g2p heldout\0{w}") < config.heldout_fraction)
    training = {word: phones for word, phones in lexicon.items() if word not in set(held)}
    model, aligned, epochs = fit_g2p(training, config, seed)
    known, table = model.known_phones(held), ContextTable(aligned)
    results = [(word, list(lexicon[word]), known.get(word, [])) for word in held]
    expected = [wanted for _, wanted, _ in results]
    wer, per = error_rates(expected, [got for _, _, got in results])
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
    return TrainedG2P(model, report, [result for result in results if result[1] != result[2]])


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
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GraphemeToPhoneme(Tags.seen_in(aligned), config.dim, config.layers)
        epochs = _fit(model, aligned, config, seed)
    return model, aligned, epochs


def _fit(model: GraphemeToPhoneme, aligned: Mapping[str, Sequence[Chunk]], config: PhonemesConfig, seed: int) -> int:
    """Train `model` in place and leave it with its best averaged weights; returns the number of epochs."""
    every = list(aligned)
    dev = [word for word in every if len(word) > 1 and hash_to_unit(f"g2p dev\0{word}") < DEV_FRACTION] or every
    words = sorted(set(every) - set(dev)) or every
    ids, targets = _examples(model, words, aligned)
    dev_ids, dev_targets = _examples(model, dev, aligned)
    lengths = (ids != _PAD).sum(1)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    # OneCycleLR divides by zero where its warm-up is exactly one step, so 11 at least.
    steps = max(11, config.max_epochs * math.ceil(len(words) / config.batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    average = copy.deepcopy(model).eval()
    best, best_score, best_epoch, step = average.state_dict(), (math.inf, math.inf), 0, 0
    epochs = range(1, config.max_epochs + 1)
    with progress(epochs, what="G2P epochs", unit="epoch", leave=False, mininterval=1) as bar:
        for epoch in bar:
            model.train()
            for batch in _batches(lengths, config.batch_size, order):
                width = int(lengths[batch].max())
                optimizer.zero_grad(set_to_none=True)
                _loss(model(ids[batch, :width]), targets[batch, :width]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                schedule.step()
                step += 1
                with torch.no_grad():
                    for mean, current in zip(average.parameters(), model.parameters(), strict=True):
                        mean.lerp_(current, 1 - min(EMA_DECAY, step / (step + 10)))
            with torch.inference_mode():
                logits = average(dev_ids)
                wrong = ((logits.argmax(-1) != dev_targets) & (dev_targets != -100)).any(1).sum()
                score = float(wrong), float(_loss(logits, dev_targets))
            bar.set_postfix(dev_errors=int(score[0]), loss=f"{score[1]:.4f}", refresh=False)
            if score < best_score:
                best, best_score, best_epoch = copy.deepcopy(average.state_dict()), score, epoch
            if epoch - best_epoch >= PATIENCE or score == (0.0, 0.0):  # zero: one chunk for each letter
                break
    model.load_state_dict(best)
    model.eval()
    return epoch


def _examples(
    model: GraphemeToPhoneme, words: Sequence[str], aligned: Mapping[str, Sequence[Chunk]]
) -> tuple[Tensor, Tensor]:
    """(words, longest + 2) letter ids, and chunk classes, which are −100 (ignored by the loss) beside the letters."""
    index = {chunk: i for i, chunk in enumerate(model.tags.chunks)}
    rows = [torch.tensor([-100, *(index[chunk] for chunk in aligned[word]), -100]) for word in words]
    return model.letter_ids(words), pad_sequence(rows, batch_first=True, padding_value=-100)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def _batches(lengths: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in random batches of words of similar length; otherwise padding would be a third of the work."""
    shuffled = torch.randperm(len(lengths), generator=order)
    groups = shuffled.split(batch_size * 16)
    batches = [b for group in groups for b in group[lengths[group].argsort(stable=True)].split(batch_size)]
    for i in torch.randperm(len(batches), generator=order).tolist():
        yield batches[i]
