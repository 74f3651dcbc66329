"""The neural grapheme-to-phoneme model: a small convolutional tagger that gives each letter its chunk of phones.

It is trained on the CPU with one thread, so that the same lexicon and seed give the same weights whatever the number
of cores; a lexicon of 14,000 words takes a minute or two.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xtts_ka.core.config import PhonemesConfig
from xtts_ka.core.console import progress
from xtts_ka.core.errors import UserError
from xtts_ka.core.torch_settings import one_thread
from xtts_ka.georgian.g2p_alignment import Chunk, ContextTable, align, error_rates, share

FORMAT = 1  # of the facts that rebuild a saved model
DEV_FRACTION = 0.05  # of the training words: they decide when to stop, and are never reported
PATIENCE = 6  # epochs without a better dev score before training stops
DROPOUT = 0.1
EMA_DECAY = 0.98  # the model kept is the moving average of the last ~50 steps
CLIP_NORM = 1.0
_KERNEL = 5  # letters that one convolution sees; with dilations 1 and 3 two layers see 8 to either side
_PAD, _START, _END = 0, 1, 2  # ids before those of the letters


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

    `letters` is the alphabet the model knows, `chunks` its output classes, `allowed[letter]` the classes possible for
    that letter. `before_silence` are the classes that a silent letter may follow, `only_before_silence` those that a
    silent letter must follow (kʼʷ and its absorbed ვ): letters are classified one by one, and this keeps two neighbours
    from both dropping a sound, or both giving it.
    """

    def __init__(
        self,
        letters: Sequence[str],
        chunks: Sequence[Chunk],
        allowed: Mapping[str, Sequence[int]],
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
        impossible[:3, 0] = False  # padding and the word's ends are never read; one class keeps their softmax finite
        self.register_buffer("impossible", impossible, persistent=False)
        silent = torch.tensor([not chunk for chunk in self.chunks])
        sounding_first = torch.ones(len(chunks), dtype=torch.bool)
        sounding_first[self.before_silence] = False
        silence_next = torch.zeros(len(chunks), dtype=torch.bool)
        silence_next[self.only_before_silence] = True
        # (class, next class) → True where training never saw such neighbours
        clash = (sounding_first[:, None] & silent[None]) | (silence_next[:, None] & ~silent[None])
        self.register_buffer("clash", clash, persistent=False)

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

    def letter_ids(self, words: Sequence[str]) -> Tensor:
        """(words, longest + 2) letter ids, padded. Raises UserError for a letter that training never saw."""
        width = max(map(len, words), default=0) + 2
        try:
            rows = [
                [_START, *(self._ids[letter] for letter in word), _END] + [_PAD] * (width - len(word) - 2)
                for word in words
            ]
        except KeyError as missing:
            raise UserError(
                f"the G2P model never saw the letter {missing.args[0]!r}: add words with it to the "
                "lexicon and run the phonemes stage again"
            ) from None
        return torch.tensor(rows, dtype=torch.long).reshape(len(words), width)

    @torch.inference_mode()
    def predict(self, words: Sequence[str], batch_size: int = 1024) -> list[list[str]]:
        """The phones of each word (Mkhedruli letters), in the order given; words of like length share a batch."""
        was_training = self.training
        self.eval()
        results: list[list[str]] = [[]] * len(words)
        order = sorted(range(len(words)), key=lambda i: len(words[i]))
        with one_thread():
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                rows = self._classes([words[i] for i in batch])
                for i, row in zip(batch, rows, strict=True):
                    results[i] = [phone for c in row for phone in self.chunks[c]]
        self.train(was_training)
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
        """Viterbi: the likeliest classes of `word` in which no neighbours clash; empty where they do in every sequence.

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
        """Everything besides the weights that `rebuild` needs, as JSON-able builtins."""
        return {
            "format": FORMAT,
            "letters": self.letters,
            "chunks": [list(chunk) for chunk in self.chunks],
            "allowed": self.allowed,
            "before_silence": self.before_silence,
            "only_before_silence": self.only_before_silence,
            "dim": self.dim,
            "layers": self.layers,
        }

    @classmethod
    def rebuild(cls, facts: Mapping[str, Any], weights: Mapping[str, Tensor]) -> GraphemeToPhoneme:
        """A saved model from its facts and state dict. Raises UserError when they do not fit each other."""
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}")
            blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
            if weights["output.weight"].shape != (len(facts["chunks"]), facts["dim"]) or len(blocks) != facts["layers"]:
                raise ValueError("other sizes")  # said before anything of a size that a stranger chose is built
            model = cls(
                facts["letters"],
                facts["chunks"],
                facts["allowed"],
                facts["before_silence"],
                facts["only_before_silence"],
                dim=facts["dim"],
                layers=facts["layers"],
            )
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
    """A trained model, how it and the table did on the held-out words, and what it got wrong there."""

    model: GraphemeToPhoneme
    report: dict[str, Any]
    mistakes: list[tuple[str, list[str], list[str]]]  # (word, expected, got)


@contextlib.contextmanager
def _reproducibly(seed: int) -> Iterator[None]:
    """One thread and a forked random state: the caller's are as before on the way out."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_g2p(
    lexicon: Mapping[str, Sequence[str]],
    config: PhonemesConfig,
    seed: int,
    *,
    always: Mapping[str, Sequence[str]] | None = None,
) -> TrainedG2P:
    """Train on `lexicon` (Mkhedruli word → phones) and measure on its held-out share beside the context table.

    Words are held out by a hash of their letters. `always` are entries that are trained on and never held out (the
    letters by themselves). Raises UserError when no word can be aligned.
    """
    started = time.monotonic()
    held = sorted(word for word in lexicon if share(word, "g2p heldout") < config.heldout_fraction)
    training = {**(always or {}), **lexicon}
    for word in held:
        del training[word]
    fitted = fit_g2p(training, config, seed)
    got = dict(zip(held, fitted.transcribe(held), strict=True))
    table = ContextTable(fitted.aligned)
    expected = [list(lexicon[word]) for word in held]
    wer, per = error_rates(expected, list(got.values()))
    table_wer, table_per = error_rates(expected, [table.phonemes(word) for word in held])
    report = {
        "words": len(lexicon),
        "heldout": len(held),
        "unaligned": len(training) - len(fitted.aligned),
        "epochs": fitted.epochs,
        "wer": wer,
        "per": per,
        "table_wer": table_wer,
        "table_per": table_per,
        "seconds": round(time.monotonic() - started, 2),
    }
    mistakes = [(word, list(lexicon[word]), phones) for word, phones in got.items() if phones != list(lexicon[word])]
    return TrainedG2P(fitted.model, report, mistakes)


@dataclass(frozen=True, slots=True)
class FittedG2P:
    """A trained model, the alignment it learned from and how many epochs it took."""

    model: GraphemeToPhoneme
    aligned: dict[str, list[Chunk]]
    epochs: int

    def transcribe(self, words: Sequence[str]) -> list[list[str]]:
        """The model's phones; none for a word with a letter that training never saw."""
        known = [word for word in words if self.model.knows(word)]
        got = dict(zip(known, self.model.predict(known), strict=True))
        return [got.get(word, []) for word in words]


def fit_g2p(training: Mapping[str, Sequence[str]], config: PhonemesConfig, seed: int) -> FittedG2P:
    """Train a model on all of `training`; a twentieth of it, chosen by hash, only decides when to stop.

    Raises UserError when no word can be aligned.
    """
    aligned = align(dict(sorted(training.items())))
    if not aligned:
        raise UserError(
            "no word of the lexicon can be aligned with its phones (at most 3 phones a letter): check its columns"
        )
    dev = [word for word in aligned if len(word) > 1 and share(word, "g2p dev") < DEV_FRACTION]
    with _reproducibly(seed):
        model = _new_model(aligned, config)
        epochs = _fit(model, aligned, dev, config, seed)
    return FittedG2P(model, aligned, epochs)


def _new_model(aligned: Mapping[str, Sequence[Chunk]], config: PhonemesConfig) -> GraphemeToPhoneme:
    letters = sorted({letter for word in aligned for letter in word})
    chunks = sorted({chunk for word_chunks in aligned.values() for chunk in word_chunks})
    index = {chunk: i for i, chunk in enumerate(chunks)}
    allowed: dict[str, set[int]] = {letter: set() for letter in letters}
    for word, word_chunks in aligned.items():
        for letter, chunk in zip(word, word_chunks, strict=True):
            allowed[letter].add(index[chunk])
    next_is_silent: dict[int, set[bool]] = {}
    for word_chunks in aligned.values():
        for chunk, following in zip(word_chunks, word_chunks[1:], strict=False):
            next_is_silent.setdefault(index[chunk], set()).add(not following)
    before_silence = [c for c, seen in next_is_silent.items() if True in seen]
    only_before_silence = [c for c, seen in next_is_silent.items() if seen == {True}]
    return GraphemeToPhoneme(
        letters, chunks, allowed, before_silence, only_before_silence, dim=config.dim, layers=config.layers
    )


def _targets(
    model: GraphemeToPhoneme, words: Sequence[str], aligned: Mapping[str, Sequence[Chunk]], width: int
) -> Tensor:
    """(words, width) chunk classes at the letters' positions, -100 (ignored by the loss) elsewhere."""
    index = {chunk: i for i, chunk in enumerate(model.chunks)}
    rows = [[-100, *(index[chunk] for chunk in aligned[word])] for word in words]
    return torch.tensor([row + [-100] * (width - len(row)) for row in rows], dtype=torch.long)


def _fit(
    model: GraphemeToPhoneme,
    aligned: Mapping[str, Sequence[Chunk]],
    dev: Sequence[str],
    config: PhonemesConfig,
    seed: int,
) -> int:
    """Train `model` in place and leave it with its best averaged weights; returns the epochs run."""
    in_dev = set(dev)
    words = [word for word in aligned if word not in in_dev] or list(aligned)
    ids = model.letter_ids(words)
    targets = _targets(model, words, aligned, ids.shape[1])
    lengths = torch.tensor([len(word) + 2 for word in words])
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    steps = config.max_epochs * len(list(_batches(lengths, config.batch_size, torch.Generator())))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    average = copy.deepcopy(model).eval()
    best, best_score, waited, step = None, (float("inf"), float("inf")), 0, 0
    with progress(total=config.max_epochs, what="G2P epochs", unit="epoch", leave=False, mininterval=1) as bar:
        for epoch in range(1, config.max_epochs + 1):
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
            bar.update()
            bar.set_postfix(dev_errors=int(score[0]), loss=f"{score[1]:.4f}")
            waited += 1
            if score < best_score or not dev:
                best, best_score, waited = copy.deepcopy(average.state_dict()), score, 0
            if waited >= PATIENCE or (dev and score == (0.0, 0.0)):  # one chunk a letter: nothing is left to learn
                break
    model.load_state_dict(best)
    model.eval()
    return epoch


def _batches(lengths: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in random batches of words of like length: padding would be a third of the work."""
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
    targets = _targets(model, dev, aligned, ids.shape[1])
    logits = model(ids)
    wrong = ((logits.argmax(-1) != targets) & (targets != -100)).any(1).sum()
    return float(wrong), float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100))
