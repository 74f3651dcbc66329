"""Georgian words to phonemes: by rule, by lexicon, and by a network that learns from either.

    python phoneme_processor.py --config xtts_pretrain_config.json                      the stage: dictionary and model
    python phoneme_processor.py --config xtts_pretrain_config.json --words words.txt    word<TAB>p h o n e s, by rule
    ... --words words.txt --narrow                                                      with the allophones
    ... --words words.txt --model                                                       what the trained model says

The rules are in `georgian_phonology.py`, the network in `g2p_model.py`. This file joins them: `PhonemeProcessor`
(rules and lexicons), `PhonemeVocab` (symbols and ids), `PhonemeEncoder` (what other stages use), and the stage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from xtts_ka.core import files, tensor_files
from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PhonemesConfig, PretrainConfig, load_config
from xtts_ka.core.console import note, say, warn
from xtts_ka.core.errors import UserError
from xtts_ka.georgian import alphabet, phonology
from xtts_ka.georgian import text as georgian_text

if TYPE_CHECKING:
    import numpy as np

    from xtts_ka.georgian.g2p_model import GraphemeToPhoneme, TrainedG2P

__all__ = [
    "GraphemeToPhoneme",
    "Lexicon",
    "PhonemeEncoder",
    "PhonemeProcessor",
    "PhonemeVocab",
    "read_lexicon",
    "run_phonemes_stage",
]

MODEL, FACTS, DICTIONARY, VOCAB = "g2p_model.pt", "g2p_config.json", "phoneme_dict_ka.json", "phoneme_vocab.pkl"
MISTAKES = "g2p_mistakes.tsv"
OUTPUTS = (MODEL, FACTS, DICTIONARY, VOCAB, MISTAKES)

# A lexicon of this many words teaches a network every letter, so it stands by itself, in its own convention. A
# smaller one is a list of exceptions to the rules, and is trained on together with them.
OWN_CONVENTION_WORDS = 1000
_RERUN = "run the phonemes stage again (python phoneme_processor.py --config CONFIG)"


def __getattr__(name: str) -> Any:
    if name == "GraphemeToPhoneme":  # on first use only: it imports torch, and --help and the rules do without
        from xtts_ka.georgian.g2p_model import GraphemeToPhoneme

        return GraphemeToPhoneme
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ── lexicons ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Lexicon:
    """Pronunciations from files: the first of each word, how many more there were, rows that are no Georgian word."""

    entries: dict[str, list[str]] = field(default_factory=dict)
    alternatives: int = 0
    not_georgian: int = 0


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """(line number, line) of a UTF-8 stream; a UserError names the first line that is not UTF-8."""
    for number, line in enumerate(stream, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"{name}, line {number}: not UTF-8; save the file as UTF-8") from None


def _open(path: Path | str, what: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror}") from None


def read_lexicon(path: Path | str, into: Lexicon | None = None) -> Lexicon:
    """Read a lexicon in WikiPron's form: `word<TAB>p h o n e s`, one pronunciation a line, blank lines passed over.

    A word listed again is another pronunciation: the first is kept. Words are folded to Mkhedruli; rows whose word
    holds anything but Georgian letters (affixes with hyphens, phrases) are counted and left out. Raises UserError
    naming file and line for a wrong number of columns, an empty column or bytes that are not UTF-8, and naming the file
    where no row is usable.
    """
    lexicon = into if into is not None else Lexicon()
    usable = 0
    with _open(path, "lexicon") as stream:
        for number, line in _lines(stream, f"lexicon {path}"):
            if not line.strip():
                continue
            columns = line.split("\t")
            where = f"lexicon {path}, line {number}"
            if len(columns) != 2:
                plural = "s" * (len(columns) != 1)
                raise UserError(f"{where}: {len(columns)} column{plural} where word<TAB>p h o n e s has 2")
            word, phones = columns[0].strip(), columns[1].split()
            if not word or not phones:
                empty = "pronunciation" if word else "word"
                raise UserError(f"{where}: the {empty} is empty; fill it in or delete the line")
            if not phonology.is_all_georgian(word):
                lexicon.not_georgian += 1
                continue
            usable += 1
            letters = alphabet.fold_letters(word)
            if lexicon.entries.setdefault(letters, phones) is not phones:
                lexicon.alternatives += 1
    if not usable:
        raise UserError(
            f"lexicon {path} has no Georgian word: give lines of word<TAB>p h o n e s, or take it out of "
            "phonemes.lexicon_paths"
        )
    return lexicon


# ── rules and lexicons together ──────────────────────────────────────────────────────────────────────────────────────


class PhonemeProcessor:
    """Transcription by rule in the config's convention, and the config's lexicons beside it.

    Raises UserError for a convention or a lexicon that cannot be used.
    """

    def __init__(self, config: PhonemesConfig | None = None):
        self.config = config or PhonemesConfig()
        self.convention = phonology.convention_with(self.config.convention)
        self._ipa = phonology.default_symbols(self.convention)
        self.user_lexicon = Lexicon()
        for path in self.config.lexicon_paths:
            read_lexicon(path, self.user_lexicon)

    def phonemes(self, word: str, narrow: bool = False) -> list[str]:
        """The rules' transcription of `word`. What is no Georgian letter is silent: normalise text before.

        Mtavruli and the church scripts are read as Mkhedruli.
        """
        chunks = phonology.narrow_chunks if narrow else phonology.broad_chunks
        return [phone for chunk in chunks(phonology.georgian_letters(word), self.convention) for phone in chunk]

    def lexicon(self, words: Iterable[str], narrow: bool = False) -> dict[str, list[str]]:
        """Sorted word (Mkhedruli) → phones: the user's lexicons where they have the word, else the rules.

        Words with no Georgian letter are left out.
        """
        letters = sorted({phonology.georgian_letters(word) for word in words} - {""})
        return {word: list(self.user_lexicon.entries.get(word) or self.phonemes(word, narrow)) for word in letters}

    def inventory(self, narrow: bool = False, archaic: bool = False) -> list[str]:
        """The symbols that the rules give, in the order of the alphabet; `archaic` adds those of ჱ ჲ ჳ ჴ ჵ."""
        return phonology.inventory(self.convention, narrow=narrow, archaic=archaic)

    def romanise(self, phonemes: Sequence[str]) -> str:
        """`georgian_phonology.romanise`, reading this convention's symbols."""
        return phonology.romanise([self._ipa.get(symbol, symbol) for symbol in phonemes])

    def features(self, symbol: str) -> np.ndarray:
        """`georgian_phonology.features`, reading this convention's symbols: float32 (len(FEATURES),)."""
        return phonology.features(self._ipa.get(symbol, symbol))


class PhonemeVocab:
    """Phoneme symbols ↔ ids; the specials come first, so that padding is 0 in every vocabulary."""

    PAD, UNKNOWN, START, END, BOUNDARY = "<pad>", "<unk>", "<s>", "</s>", "#"
    SPECIALS = (PAD, UNKNOWN, START, END, BOUNDARY)

    def __init__(self, symbols: Iterable[str]):
        self.symbols = list(dict.fromkeys([*self.SPECIALS, *symbols]))
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._ids

    def id(self, symbol: str) -> int:
        """The id of `symbol`, or that of <unk>."""
        return self._ids.get(symbol, self._ids[self.UNKNOWN])

    def encode(self, phonemes: Iterable[str]) -> list[int]:
        """Ids of a phoneme sequence."""
        return [self.id(symbol) for symbol in phonemes]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The symbols of `ids`; an id outside the vocabulary is an IndexError."""
        return [self.symbols[i] if i >= 0 else self.symbols[len(self)] for i in ids]

    def save(self, path: Path | str) -> None:
        """Write the vocabulary as a pickle of builtins."""
        tensor_files.write_pickle(path, {"format": 1, "symbols": self.symbols})

    @classmethod
    def load(cls, path: Path | str) -> PhonemeVocab:
        """Read what `save` wrote. Raises UserError for anything else."""
        saved = tensor_files.read_pickle(path)
        symbols = saved.get("symbols") if isinstance(saved, dict) else None
        if (
            not isinstance(symbols, list)
            or tuple(symbols[: len(cls.SPECIALS)]) != cls.SPECIALS
            or not all(isinstance(symbol, str) for symbol in symbols)
            or len(set(symbols)) != len(symbols)
        ):
            raise UserError(f"{path} is no phoneme vocabulary: {_RERUN}")
        return cls(symbols)


# ── what other stages use ────────────────────────────────────────────────────────────────────────────────────────────


class PhonemeEncoder:
    """Text → phonemes and their ids, as the phonemes stage left them: the dictionary first, then the network.

    A word with a letter that the network never saw goes by rule. `rules` is the reference to compare with.
    """

    def __init__(
        self,
        rules: PhonemeProcessor,
        dictionary: dict[str, list[str]],
        model: GraphemeToPhoneme,
        vocab: PhonemeVocab,
        *,
        level: str,
        archaic: str,
    ):
        self.rules, self.dictionary, self.model, self.vocab = rules, dictionary, model, vocab
        self.level, self._archaic = level, archaic

    @classmethod
    def load(cls, model_dir: Path | str) -> PhonemeEncoder:
        """Load from a model folder. Raises UserError for a missing or damaged file."""
        model_dir = Path(model_dir)
        model, facts = load_g2p(model_dir)
        dictionary = files.read_json(model_dir / DICTIONARY, "phoneme dictionary", _RERUN)
        if not isinstance(dictionary, dict) or not all(isinstance(phones, str) for phones in dictionary.values()):
            raise UserError(f"phoneme dictionary {model_dir / DICTIONARY} is no object of word: phones: {_RERUN}")
        rules = PhonemeProcessor(PhonemesConfig(level=facts["level"], convention=facts["convention"]))
        return cls(
            rules,
            {word: phones.split() for word, phones in dictionary.items()},
            model,
            PhonemeVocab.load(model_dir / VOCAB),
            level=facts["level"],
            archaic=facts["archaic"],
        )

    def phonemes(self, word: str) -> list[str]:
        """The phones of one word; none where it has no Georgian letter."""
        return self.transcribe([word])[0]

    def transcribe(self, words: Sequence[str]) -> list[list[str]]:
        """The phones of each word; those that the dictionary lacks go through the network in batches."""
        letters = [phonology.georgian_letters(word) for word in words]
        missing = sorted({word for word in letters if word and word not in self.dictionary})
        known = [word for word in missing if self.model.knows(word)]
        found = dict(zip(known, self.model.predict(known), strict=True))
        return [
            list(self.dictionary.get(word) or found.get(word) or self.rules.phonemes(word, self.level == "narrow"))
            for word in letters
        ]

    def encode(self, text: str, *, ends: bool = False) -> list[int]:
        """Phoneme ids of raw text: normalised, split into words with a boundary between; `ends` adds <s> and </s>."""
        spoken = self.transcribe(georgian_text.words(georgian_text.normalise(text, archaic=self._archaic)))
        ids = [self.vocab.id(PhonemeVocab.START)] if ends else []
        for i, phones in enumerate(spoken):
            ids += ([self.vocab.id(PhonemeVocab.BOUNDARY)] if i else []) + self.vocab.encode(phones)
        return ids + ([self.vocab.id(PhonemeVocab.END)] if ends else [])

    def romanise(self, word: str) -> str:
        """The Latin spelling of `word`'s sound, as XTTS's other languages would read it."""
        return self.rules.romanise(self.phonemes(word))

    def features(self, symbol: str) -> np.ndarray:
        """Articulatory features of a symbol, float32 (len(georgian_phonology.FEATURES),); zeros for the specials."""
        if symbol in PhonemeVocab.SPECIALS:
            return self.rules.features("i") * 0
        return self.rules.features(symbol)


def load_g2p(model_dir: Path) -> tuple[GraphemeToPhoneme, dict[str, Any]]:
    """The trained network and the facts beside it. Raises UserError for a missing or damaged file."""
    from xtts_ka.georgian.g2p_model import GraphemeToPhoneme

    facts = files.read_json(model_dir / FACTS, "G2P model description", _RERUN)
    weights = tensor_files.load_torch(model_dir / MODEL, remedy=_RERUN)
    expected = {"level": str, "archaic": str, "convention": dict, "network": dict}
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), kind) for key, kind in expected.items()):
        raise UserError(f"G2P model description {model_dir / FACTS} lacks what rebuilds the model: {_RERUN}")
    return GraphemeToPhoneme.rebuild(facts["network"], weights), facts


# ── the stage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def transcript_words(config: PretrainConfig) -> Counter[str]:
    """How often each word occurs in the normalised transcripts of train and val."""
    from xtts_ka.corpus.tables import TRAINING_SPLITS, read_split

    counts: Counter[str] = Counter()
    for split in TRAINING_SPLITS:
        for clip in read_split(config.data_dir, split):
            counts.update(georgian_text.words(georgian_text.normalise(clip.text, archaic=config.text.archaic)))
    return counts


def run_phonemes_stage(config: PretrainConfig, words: Counter[str]) -> dict[str, Any]:
    """Make the dictionary of `words`, train the G2P network, and write OUTPUTS to the model folder.

    With a user lexicon of OWN_CONVENTION_WORDS or more the network learns from it alone and gives the words that it
    lacks; otherwise from the rules with the lexicon's exceptions. Returns the metrics: words, tokens, inventory, level,
    taught_by, heldout, heldout_wer, heldout_per, table_wer, table_per (fractions; None without held-out words), epochs,
    seconds.
    Raises UserError when there is no Georgian word.
    """
    from xtts_ka.georgian.g2p_model import train_g2p

    started = time.monotonic()
    processor = PhonemeProcessor(config.phonemes)
    narrow = config.phonemes.level == "narrow"
    dictionary = processor.lexicon(words, narrow)
    if not dictionary:
        raise UserError(f"there is no Georgian word in the transcripts of {config.data_dir}: check their text column")
    user = processor.user_lexicon
    if user.alternatives or user.not_georgian:
        say(
            f"lexicons: {len(user.entries)} words; {user.alternatives} further pronunciations and {user.not_georgian} "
            "rows that are not one Georgian word were left out"
        )
    own_convention = len(user.entries) >= OWN_CONVENTION_WORDS
    taught = dict(user.entries) if own_convention else {**dictionary, **user.entries}
    always = (
        {}
        if own_convention
        else {
            letter: processor.phonemes(letter, narrow) for letter in phonology.CONVENTION if letter not in user.entries
        }
    )
    trained = train_g2p(taught, config.phonemes, config.seed, always=always)
    if own_convention:
        guessed = [word for word in dictionary if word not in user.entries and trained.model.knows(word)]
        dictionary.update(zip(guessed, trained.model.predict(guessed), strict=True))
    dictionary = dict(sorted({**dictionary, **user.entries}.items()))
    _write_outputs(config, processor, dictionary, trained)
    report = trained.report
    return {
        "words": len(dictionary),
        "tokens": sum(words.values()),
        "level": config.phonemes.level,
        "inventory": len({phone for phones in dictionary.values() for phone in phones}),
        "taught_by": "lexicon" if own_convention else "rules and lexicon" if user.entries else "rules",
        "heldout": report["heldout"],
        "heldout_wer": report["wer"],
        "heldout_per": report["per"],
        "table_wer": report["table_wer"],
        "table_per": report["table_per"],
        "epochs": report["epochs"],
        "seconds": round(time.monotonic() - started, 2),
    }


def _write_outputs(
    config: PretrainConfig, processor: PhonemeProcessor, dictionary: dict[str, list[str]], trained: TrainedG2P
) -> None:
    folder = Path(config.output_model_path)
    symbols = processor.inventory(config.phonemes.level == "narrow", archaic=True)
    symbols += sorted({phone for phones in dictionary.values() for phone in phones} - set(symbols))
    files.write_json(folder / DICTIONARY, {word: " ".join(phones) for word, phones in dictionary.items()})
    PhonemeVocab(symbols).save(folder / VOCAB)
    rows = [("word", "expected", "got")] + [(word, " ".join(e), " ".join(g)) for word, e, g in trained.mistakes]
    files.write_text(folder / MISTAKES, "".join("\t".join(row) + "\n" for row in rows))
    tensor_files.save_torch(folder / MODEL, trained.model.state_dict())
    report = {key: value for key, value in trained.report.items() if key != "seconds"}  # a rerun gives the same bytes
    files.write_json(
        folder / FACTS,
        {
            "level": config.phonemes.level,
            "archaic": config.text.archaic,
            "seed": config.seed,
            "convention": dict(config.phonemes.convention),
            "report": report,
            "network": trained.model.facts(),
        },
    )


def _report(metrics: dict[str, Any], folder: Path) -> None:
    def percent(rate: float | None) -> str:
        return "not measured (no held-out words)" if rate is None else f"{100 * rate:.2f} %"

    say(
        f"{metrics['words']} words, {metrics['inventory']} symbols ({metrics['level']}), "
        f"taught by {metrics['taught_by']}"
    )
    say(
        f"held out {metrics['heldout']} words: word error rate {percent(metrics['heldout_wer'])}, phoneme error rate "
        f"{percent(metrics['heldout_per'])}; a table of ±3 letters: {percent(metrics['table_wer'])}"
    )
    say(f"{metrics['epochs']} epochs, {metrics['seconds']:.1f} s; written to {folder}: {', '.join(OUTPUTS)}")
    for name, value in metrics.items():
        say(f"  {name}: {value}", verbose=True)


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────

_BATCH_LINES = 1024  # lines that the model transcribes at once


def _spoken_words(line: str) -> list[str]:
    """The words of one line: Georgian letters as they stand, anything else as georgian_text reads it aloud."""
    if phonology.is_all_georgian(line):
        return [alphabet.fold_letters(line)]
    return georgian_text.words(georgian_text.normalise(line, archaic="keep"))


def print_words(config: PretrainConfig, source: str, *, narrow: bool, use_model: bool) -> None:
    """Print `word<TAB>p h o n e s` for each line of `source` (a file, or - for standard input), blank lines kept.

    Several words on a line are joined by the boundary #. A line that nothing can be read from keeps its place with an
    empty transcription and is counted in a warning; UserError where that is so of every line.
    """
    if use_model:
        model, facts = load_g2p(Path(config.output_model_path))
        if narrow and facts["level"] != "narrow":
            raise UserError(
                "the trained model is broad: drop --narrow, or set phonemes.level to narrow and run the "
                "phonemes stage again"
            )
    else:
        model, rules = None, PhonemeProcessor(PhonemesConfig(convention=config.phonemes.convention))
    stream = sys.stdin.buffer if source == "-" else _open(source, "word list")
    name = "standard input" if source == "-" else source
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    total, silent = 0, []
    with stream:
        lines = _lines(stream, name)
        while batch := list(islice(lines, _BATCH_LINES if model else 1)):
            spoken = [[] if not line.strip() else _spoken_words(line.strip()) for _, line in batch]
            words = [word for line_words in spoken for word in line_words]
            if model:
                known = [word for word in words if model.knows(word)]
                phones = dict(zip(known, model.predict(known), strict=True))
            else:
                phones = {word: rules.phonemes(word, narrow) for word in words}
            for (number, line), line_words in zip(batch, spoken, strict=True):
                text = " ".join(line.split())
                said = [" ".join(phones[word]) for word in line_words if phones.get(word)]
                total += bool(text)
                if text and not said:
                    silent.append((number, text))
                print(f"{text}\t{f' {PhonemeVocab.BOUNDARY} '.join(said)}" if text else "")
    sys.stdout.flush()
    note(
        f"{name}: lines with words: {total}, without a reading: {len(silent)}; by {'the trained model' if model else 'rule'}"
    )
    if total == len(silent):
        raise UserError(f"{name} has no word with a Georgian reading: give one Georgian word a line, as UTF-8")
    if silent:
        number, text = silent[0]
        warn(
            f"{name}: {len(silent)} of {total} lines have no reading and an empty transcription "
            f"(first: line {number}, {text[:40]!r})"
        )


def main(argv: list[str] | None = None) -> int:
    """See the module docstring."""
    parser = argparse.ArgumentParser(
        description="Train the Georgian phoneme dictionary and G2P model, or transcribe a list of words.",
        epilog="example: python phoneme_processor.py --config xtts_pretrain_config.json --words words.txt --narrow",
    )
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, metavar="FILE", help=f"the run's config (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument("--words", metavar="FILE", help="transcribe FILE, one word a line (- for standard input)")
    parser.add_argument("--narrow", action="store_true", help="with --words: narrow transcription, with allophones")
    parser.add_argument(
        "--model", action="store_true", help="with --words: what the trained model says instead of the rules"
    )
    add_verbosity_flags(parser, quiet="print warnings and errors only (with --words: the phones too)")
    args = parser.parse_args(argv)
    if (args.narrow or args.model) and not args.words:
        parser.error("--narrow and --model go with --words FILE; the stage's level is phonemes.level in the config")
    return run_cli(lambda: _run(args), args)


def _run(args: argparse.Namespace) -> None:
    config = load_config(args.config)
    if args.words:
        print_words(config, args.words, narrow=args.narrow, use_model=args.model)
        return
    _report(run_phonemes_stage(config, transcript_words(config)), Path(config.output_model_path))


if __name__ == "__main__":
    sys.exit(main())
