"""Georgian words to phonemes: by rule, by lexicon, and by a network that learns from either.

    python phoneme_processor.py --config xtts_pretrain_config.json                      the stage: dictionary and model
    python phoneme_processor.py --config xtts_pretrain_config.json --words words.txt    word<TAB>p h o n e s, by rule
    ... --words words.txt --narrow                                                      with the allophones
    ... --words words.txt --model                                                       by the trained model

The rules are in `xtts_ka/georgian/phonology.py`, the network in `xtts_ka/georgian/g2p_model.py`. This file joins them:
`PhonemeProcessor` (rules and lexicons), `PhonemeVocab` (symbols and ids), `PhonemeEncoder` (reads what the stage
wrote), and the stage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtts_ka.core import files, tensor_files
from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PhonemesConfig, PretrainConfig, ValidationError, load_config
from xtts_ka.core.console import say, warn
from xtts_ka.core.errors import UserError
from xtts_ka.georgian import phonology
from xtts_ka.georgian.alphabet import georgian_letters, is_all_georgian, words
from xtts_ka.georgian.lexicon import Lexicon, read_lexicon
from xtts_ka.georgian.reading import Reading
from xtts_ka.georgian.text import normalise

if TYPE_CHECKING:
    from xtts_ka.corpus.tables import Clip
    from xtts_ka.georgian.g2p_model import GraphemeToPhoneme, TrainedG2P

__all__ = ["GraphemeToPhoneme", "Lexicon", "PhonemeEncoder", "PhonemeProcessor", "PhonemeVocab", "run_phonemes_stage"]

MODEL, FACTS, DICTIONARY, VOCAB = "g2p_model.pt", "g2p_config.json", "phoneme_dict_ka.json", "phoneme_vocab.pkl"
MISTAKES = "g2p_mistakes.tsv"
OUTPUTS = (MODEL, FACTS, DICTIONARY, VOCAB, MISTAKES)

# A lexicon of this many words teaches a network every letter, so the network learns from it alone, in its convention. A
# smaller one is a list of exceptions to the rules, and the network learns from both together.
OWN_CONVENTION_WORDS = 1000
_RERUN = "run the phonemes stage again (python phoneme_processor.py --config CONFIG)"


def __getattr__(name: str) -> Any:
    if name == "GraphemeToPhoneme":  # imported when used: it needs torch, and --help and the rules do not
        from xtts_ka.georgian.g2p_model import GraphemeToPhoneme

        return GraphemeToPhoneme
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class PhonemeProcessor:
    """Transcription by rule in the config's convention, and the config's lexicons beside it.

    Raises UserError for a convention or a lexicon that cannot be used.
    """

    def __init__(self, config: PhonemesConfig | None = None):
        self.config = config or PhonemesConfig()
        self.convention = phonology.convention_with(self.config.convention)
        self.user_lexicon = Lexicon()
        for path in self.config.lexicon_paths:
            read_lexicon(path, self.user_lexicon)

    def phonemes(self, word: str, narrow: bool = False) -> list[str]:
        """The rules' transcription of `word`. Anything but Georgian letters is silent: normalise text before.

        Mtavruli and the church scripts are read as Mkhedruli.
        """
        letters = georgian_letters(word)
        if narrow:
            chunks = phonology.narrow_chunks(letters, self.convention, self.config.allophones)
        else:
            chunks = phonology.broad_chunks(letters, self.convention)
        return [phone for chunk in chunks for phone in chunk]

    def lexicon(self, words: Iterable[str], narrow: bool = False) -> dict[str, list[str]]:
        """Sorted word (Mkhedruli) → phones: the user's lexicons where they have the word, else the rules.

        Words with no Georgian letter are left out.
        """
        letters = sorted({georgian_letters(word) for word in words} - {""})
        return {word: list(self.user_lexicon.entries.get(word) or self.phonemes(word, narrow)) for word in letters}

    def inventory(self, narrow: bool = False) -> list[str]:
        """The symbols that the rules give, in the order of the alphabet, then the allophones with `narrow`."""
        return phonology.inventory(self.convention, narrow=narrow)


class PhonemeVocab:
    """Phoneme symbols ↔ ids; the specials come first, so that padding is 0 in every vocabulary."""

    PAD, UNKNOWN, START, END, BOUNDARY = "<pad>", "<unk>", "<s>", "</s>", "#"
    SPECIALS = (PAD, UNKNOWN, START, END, BOUNDARY)

    def __init__(self, symbols: Iterable[str]):
        self.symbols = list(dict.fromkeys([*self.SPECIALS, *symbols]))
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def id(self, symbol: str) -> int:
        """The id of `symbol`, or that of <unk>."""
        return self._ids.get(symbol, self._ids[self.UNKNOWN])

    def encode(self, phonemes: Iterable[str]) -> list[int]:
        """Ids of a phoneme sequence."""
        return [self.id(symbol) for symbol in phonemes]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The symbols of `ids`."""
        return [self.symbols[i] for i in ids]

    def save(self, path: Path | str) -> None:
        """Write the vocabulary as a pickle of builtins."""
        tensor_files.write_pickle(path, {"format": 1, "symbols": self.symbols})

    @classmethod
    def load(cls, path: Path | str) -> PhonemeVocab:
        """Read what `save` wrote. Raises UserError for anything else."""
        saved = tensor_files.read_pickle(path)
        symbols = saved.get("symbols") if isinstance(saved, dict) else None
        strings = isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols)
        # Without the specials, or with a symbol twice, the ids would be others than were saved.
        if symbols is None or not strings or (vocab := cls(symbols)).symbols != symbols:
            raise UserError(f"{path} is no phoneme vocabulary: {_RERUN}")
        return vocab


@dataclass
class PhonemeEncoder:
    """Text → phonemes and their ids by the files of the phonemes stage: the dictionary first, then the network.

    A word with a letter that the network was not trained on is transcribed by rule.
    """

    rules: PhonemeProcessor
    dictionary: dict[str, list[str]]
    model: GraphemeToPhoneme
    vocab: PhonemeVocab
    reading: Reading  # as the stage normalised text

    @classmethod
    def load(cls, model_dir: Path | str) -> PhonemeEncoder:
        """Load from a model folder. Raises UserError for a missing or damaged file."""
        model_dir = Path(model_dir)
        model, facts = load_g2p(model_dir)
        dictionary = files.read_json(model_dir / DICTIONARY, "phoneme dictionary", _RERUN)
        if not isinstance(dictionary, dict) or not all(isinstance(phones, str) for phones in dictionary.values()):
            raise UserError(f"phoneme dictionary {model_dir / DICTIONARY} is no object of word: phones: {_RERUN}")
        try:
            rules = PhonemeProcessor(
                PhonemesConfig(**{key: facts[key] for key in ("level", "convention", "allophones")})
            )
        except ValidationError:
            raise UserError(
                f"the level, convention or allophones in {model_dir / FACTS} cannot be used: {_RERUN}"
            ) from None
        reading = Reading.from_facts(facts)
        if reading is None:
            raise UserError(f"G2P model description {model_dir / FACTS} does not say how text is read: {_RERUN}")
        transcribed = {word: phones.split() for word, phones in dictionary.items()}
        return cls(rules, transcribed, model, PhonemeVocab.load(model_dir / VOCAB), reading)

    def phonemes(self, word: str) -> list[str]:
        """The phones of one word; none where it has no Georgian letter."""
        return self.transcribe([word])[0]

    def transcribe(self, words: Sequence[str]) -> list[list[str]]:
        """The phones of each word; those that the dictionary lacks go through the network in batches."""
        letters = [georgian_letters(word) for word in words]
        found = self.model.known_phones(word for word in letters if word not in self.dictionary)
        narrow = self.rules.config.level == "narrow"
        return [list(self.dictionary.get(w) or found.get(w) or self.rules.phonemes(w, narrow)) for w in letters]

    def encode(self, text: str, *, ends: bool = False) -> list[int]:
        """Phoneme ids of raw text: normalised, split into words with a boundary between; `ends` adds <s> and </s>."""
        symbols: list[str] = []
        for phones in self.transcribe(words(self.reading(text))):
            symbols += [PhonemeVocab.BOUNDARY] * bool(symbols) + phones
        return self.vocab.encode([PhonemeVocab.START, *symbols, PhonemeVocab.END] if ends else symbols)


def load_g2p(model_dir: Path) -> tuple[GraphemeToPhoneme, dict[str, Any]]:
    """The trained network and the facts beside it. Raises UserError for a missing or damaged file."""
    from xtts_ka.georgian.g2p_model import GraphemeToPhoneme

    facts = files.read_json(model_dir / FACTS, "G2P model description", _RERUN)
    weights = tensor_files.load_torch(model_dir / MODEL, remedy=_RERUN)
    if isinstance(facts, dict):
        facts.setdefault("allophones", [])  # models of before this setting
    expected = {"level": str, "archaic": str, "convention": dict, "allophones": list, "network": dict}
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), kind) for key, kind in expected.items()):
        raise UserError(f"G2P model description {model_dir / FACTS} lacks what rebuilds the model: {_RERUN}")
    return GraphemeToPhoneme.rebuild(facts["network"], weights), facts


def transcript_words(config: PretrainConfig, clips: Iterable[Clip]) -> Counter[str]:
    """How often each word occurs in the clips' normalised text, in which numbers and foreign words are spelt out."""
    reading = Reading.of(config.text)
    return Counter(word for clip in clips for word in words(reading(clip.text)))


def run_phonemes_stage(config: PretrainConfig, words: Counter[str]) -> dict[str, Any]:
    """Make the dictionary of `words`, train the G2P network, and write OUTPUTS to the model folder.

    With a user lexicon of OWN_CONVENTION_WORDS or more the network learns from it alone and transcribes the words that
    it lacks; otherwise it learns from the rules with the lexicon's exceptions. Returns the metrics: words, tokens,
    level, inventory, taught_by, the report of `train_g2p`, seconds. Raises UserError when there is no Georgian word.
    """
    from xtts_ka.georgian.g2p_model import train_g2p

    started = time.monotonic()
    processor = PhonemeProcessor(config.phonemes)
    narrow = config.phonemes.level == "narrow"
    dictionary = processor.lexicon(words, narrow)
    if not dictionary:
        raise UserError(f"there is no Georgian word in the transcripts of {config.data_dir}: check their text column")
    user = processor.user_lexicon
    if user.left_out:
        left_out = f"{user.left_out} rows left out (not one Georgian word, or a further pronunciation)"
        say(f"lexicons: {len(user.entries)} words; {left_out}")
    if len(user.entries) >= OWN_CONVENTION_WORDS:
        taught_by = "lexicon"
        trained = train_g2p(user.entries, config.phonemes, config.seed)
        dictionary |= trained.model.known_phones(dictionary.keys() - user.entries.keys())
    else:
        taught_by = "rules and lexicon" if user.entries else "rules"
        letters = processor.lexicon(phonology.CONVENTION, narrow)
        trained = train_g2p({**letters, **dictionary, **user.entries}, config.phonemes, config.seed)
    dictionary = dict(sorted({**dictionary, **user.entries}.items()))
    phones = {phone for word_phones in dictionary.values() for phone in word_phones}
    _write_outputs(config, dictionary, PhonemeVocab([*processor.inventory(narrow), *sorted(phones)]), trained)
    metrics = {
        "words": len(dictionary),
        "tokens": sum(words.values()),
        "level": config.phonemes.level,
        "inventory": len(phones),
        "taught_by": taught_by,
        **trained.report,
        "seconds": round(time.monotonic() - started, 2),
    }
    _report(metrics, Path(config.output_model_path))
    return metrics


def _write_outputs(
    config: PretrainConfig, dictionary: dict[str, list[str]], vocab: PhonemeVocab, g2p: TrainedG2P
) -> None:
    folder = Path(config.output_model_path)
    files.write_json(folder / DICTIONARY, {word: " ".join(phones) for word, phones in dictionary.items()})
    vocab.save(folder / VOCAB)
    rows = [("word", "expected", "got")] + [(word, " ".join(e), " ".join(g)) for word, e, g in g2p.mistakes]
    files.write_text(folder / MISTAKES, "".join("\t".join(row) + "\n" for row in rows))
    tensor_files.save_torch(folder / MODEL, g2p.model.state_dict())
    facts = {
        "level": config.phonemes.level,
        **Reading.of(config.text).facts(),
        "seed": config.seed,
        "convention": config.phonemes.convention,
        "allophones": config.phonemes.allophones,
        "report": g2p.report,
        "network": g2p.model.facts(),
    }
    files.write_json(folder / FACTS, facts)


def _report(m: dict[str, Any], folder: Path) -> None:
    rates = (m[name] for name in ("heldout_wer", "heldout_per", "table_wer"))
    wer, per, table = ("not measured" if rate is None else f"{100 * rate:.2f} %" for rate in rates)
    measured = f"word error rate {wer}, phoneme error rate {per}; a table of ±3 letters: {table}"
    say(f"{m['words']} words, {m['inventory']} symbols ({m['level']}), taught by {m['taught_by']}")
    say(f"held out {m['heldout']} words: {measured}")
    say(f"{m['epochs']} epochs, {m['seconds']:.1f} s; written to {folder}: {', '.join(OUTPUTS)}")


def print_words(config: PretrainConfig, source: str, *, narrow: bool, use_model: bool) -> None:
    """Print `word<TAB>p h o n e s` for each line of `source` (a file, or - for standard input), blank lines kept.

    A Georgian word is taken as it stands, anything else as `normalise` reads it aloud; several words on a line are
    joined by the boundary #. A line without a reading keeps its place with an empty transcription and is counted in a
    warning; UserError where no line has a reading.
    """
    lines = [" ".join(line.split()) for _, line in files.text_lines(source, "word list")]
    spoken = [
        [georgian_letters(line)] if is_all_georgian(line) else words(normalise(line, archaic="keep")) for line in lines
    ]
    phones = _transcribe(config, {word for line in spoken for word in line}, narrow, use_model)
    boundary = f" {PhonemeVocab.BOUNDARY} "
    readings = [boundary.join(" ".join(phones[word]) for word in line if phones.get(word)) for line in spoken]
    name = "standard input" if source == "-" else source
    if not any(readings):
        raise UserError(f"{name} has no word with a Georgian reading: give one Georgian word a line, as UTF-8")
    for line, reading in zip(lines, readings, strict=True):
        print(f"{line}\t{reading}" if line else "")
    sys.stdout.flush()
    total = sum(map(bool, lines))
    say(f"{name}: lines with words: {total}", verbose=True, stream=sys.stderr)
    if silent := [i for i, line in enumerate(lines) if line and not readings[i]]:
        first = f"first: line {silent[0] + 1}, {lines[silent[0]][:40]!r}"
        warn(f"{name}: {len(silent)} of {total} lines have no reading and an empty transcription ({first})")


def _transcribe(config: PretrainConfig, letters: set[str], narrow: bool, use_model: bool) -> dict[str, list[str]]:
    if not use_model:
        return PhonemeProcessor(PhonemesConfig(convention=config.phonemes.convention)).lexicon(letters, narrow)
    model, facts = load_g2p(Path(config.output_model_path))
    if narrow and facts["level"] != "narrow":
        raise UserError("the trained model is broad: drop --narrow, or set phonemes.level to narrow and " + _RERUN)
    return model.known_phones(letters)


def main(argv: list[str] | None = None) -> int:
    """See the module docstring."""
    parser = argparse.ArgumentParser(
        description="Train the Georgian phoneme dictionary and G2P model, or transcribe a list of words.",
        epilog="example: python phoneme_processor.py --config xtts_pretrain_config.json --words words.txt --narrow",
    )
    add = parser.add_argument
    add("--config", default=DEFAULT_CONFIG, metavar="FILE", help="the run's config (default: %(default)s)")
    add("--words", metavar="FILE", help="transcribe FILE, one word a line (- for standard input)")
    add("--narrow", action="store_true", help="with --words: narrow transcription, with allophones")
    add("--model", action="store_true", help="with --words: by the trained model instead of the rules")
    add_verbosity_flags(parser, quiet="print warnings and errors only (with --words: the phones too)")
    args = parser.parse_args(argv)
    if (args.narrow or args.model) and not args.words:
        parser.error("--narrow and --model go with --words FILE; the stage's level is phonemes.level in the config")
    return run_cli(lambda: _run(args), args)


def _run(args: argparse.Namespace) -> None:
    config = load_config(args.config)
    if args.words:
        print_words(config, args.words, narrow=args.narrow, use_model=args.model)
    else:
        from pretrain_xtts_model import PretrainPipeline

        PretrainPipeline(config).run("phonemes", only="phonemes")


if __name__ == "__main__":
    sys.exit(main())
