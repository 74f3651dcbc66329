"""The G2P network against the context table on a narrow lexicon of inflected Georgian words, some of them irregular.

    python tests/benchmarks/bench_g2p.py                    # 5,000 words, held out by word
    python tests/benchmarks/bench_g2p.py --words 14000
    python tests/benchmarks/bench_g2p.py --split stem       # whole stems are held out: nothing can be remembered

The words are real stems (georgian_stems.txt) with Georgian's case, number and verb endings. Their transcription is the
narrow rules', but for one word in twenty: an inflected form of an international word, whose stem, for this test, keeps
consonant + ვ as two sounds and ლ clear before every vowel. So the irregularity is lexical but systematic. Held out by
word, other forms of the same loan are in training; held out by stem, a loan can only be recognised from its spelling,
so regular and irregular words are reported apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from xtts_ka.core.console import say
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.georgian.g2p_alignment import error_rates
from xtts_ka.georgian.phonology import CONVENTION, narrow_chunks

STEMS = Path(__file__).with_name("georgian_stems.txt")
LOAN_SHARE = 0.05

# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_PLURAL_ENDINGS = "ი მა ს ის ით ად ო ში ზე თან ისთვის იდან ამდე იც ია ივით".split()


def _plural(stem: str) -> list[str]:
    return [stem + "ებ" + ending for ending in _PLURAL_ENDINGS]


def decline(kind: str, stem: str) -> list[str]:
    """The case, number and postposition forms of a noun or adjective, or the person forms of a verb."""
    if kind == "verb":
        persons = [stem, stem + "ს", stem + "თ", stem + "ენ", stem + "დი", stem + "და", stem + "დით", stem + "დნენ"]
        first = ["ვ" + stem, "ვ" + stem + "თ", "ვ" + stem + "დი", "ვ" + stem + "დით"]
        return persons + first + ["და" + form for form in persons + first]
    full, _, short = stem.partition("/")
    short = short or full
    if kind in ("consonant", "syncope"):
        singular = [full + e for e in ("ი", "მა", "ს", "ო", "ში", "ზე", "თან", "ივით", "ია", "იც", "მაც")]
        return singular + [short + e for e in ("ის", "ით", "ად", "ისთვის", "იდან", "ამდე", "ისა")] + _plural(short)
    singular = [stem + e for e in ("", "მ", "ს", "ში", "ზე", "სთან", "სავით", "ც", "მდე", "სა")]
    if kind == "vowel-o":
        return singular + [stem + e for e in ("თი", "დ", "სთვის", "დან", "სი")] + _plural(stem)
    cut = stem[:-1]
    return (
        singular
        + [cut + e for e in ("ის", "ით", "ისთვის", "იდან")]
        + [stem + "დ"]
        + _plural(cut if kind == "vowel-a" else stem)
    )


def read_stems() -> Iterator[tuple[bool, str, str]]:
    """(is a loan, inflection, stem) of every stem in the file."""
    section = ""
    for line in STEMS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif not line.startswith("#"):
            for stem in line.split():
                yield section.startswith("loan "), section.removeprefix("loan "), stem


def loan_phonemes(word: str, stem: str) -> list[str]:
    """The irregular transcription: within the stem, ვ does not round the consonant before it and ლ is always clear."""
    phones: list[str] = []
    for i, (letter, chunk) in enumerate(zip(word, narrow_chunks(word), strict=True)):
        if i < len(stem):
            if letter == "ვ" and not chunk:
                phones[-1] = phones[-1].removesuffix("ʷ")
                chunk = CONVENTION["ვ"]
            chunk = tuple(phone.replace("ɫ", "l") for phone in chunk)
        phones += chunk
    return phones


def narrow_lexicon(size: int) -> tuple[dict[str, list[str]], set[str], dict[str, str]]:
    """(word → phones, the irregular words, word → stem): `size` words chosen by hash, LOAN_SHARE of them irregular."""
    stem_of: dict[str, str] = {}
    loans: dict[str, list[str]] = {}
    natives: dict[str, list[str]] = {}
    for is_loan, kind, stem in read_stems():
        for word in decline(kind, stem):
            stem_of.setdefault(word, stem)
            regular = [phone for chunk in narrow_chunks(word) for phone in chunk]
            if not is_loan:
                natives[word] = regular
            elif (irregular := loan_phonemes(word, stem)) != regular:
                loans[word] = irregular
    loans = {word: phones for word, phones in loans.items() if word not in natives}
    wanted_loans = round(size * LOAN_SHARE)
    if len(loans) < wanted_loans or len(natives) < size - wanted_loans:
        sys.exit(f"{STEMS.name} gives {len(natives)} regular and {len(loans)} irregular words: too few for {size}")
    chosen_loans = sorted(loans, key=lambda word: hash_to_unit(f"bench\0{word}"))[:wanted_loans]
    chosen = sorted(natives, key=lambda word: hash_to_unit(f"bench\0{word}"))[: size - wanted_loans]
    return {**{w: natives[w] for w in chosen}, **{w: loans[w] for w in chosen_loans}}, set(chosen_loans), stem_of


# ── the measurement ──────────────────────────────────────────────────────────────────────────────────────────────────


def _rates(lexicon: dict, words: list[str], got: dict[str, list[str]]) -> str:
    wer, per = error_rates([lexicon[w] for w in words], [got[w] for w in words])
    return "   none   " if wer is None else f"{100 * wer:5.2f} % WER {100 * per:5.3f} % PER"


def measure(size: int, split: str, seed: int, config) -> None:
    from xtts_ka.georgian.g2p_alignment import ContextTable
    from xtts_ka.georgian.g2p_model import fit_g2p

    lexicon, irregular, stem_of = narrow_lexicon(size)
    key = (lambda word: stem_of[word]) if split == "stem" else (lambda word: word)
    held = [word for word in lexicon if hash_to_unit(f"g2p heldout\0{key(word)}") < config.heldout_fraction]
    training = {word: phones for word, phones in lexicon.items() if word not in set(held)}
    say(f"{size} words, {len(irregular)} irregular; held out by {split}: {len(held)} words; seed {seed}")
    started = time.monotonic()
    model, aligned, epochs = fit_g2p(training, config, seed)
    seconds = time.monotonic() - started
    table = ContextTable(aligned)
    network = model.known_phones(held)  # the first call warms up
    begun, cpu, many = time.monotonic(), time.process_time(), 20000 // len(held) * len(held)
    for _ in range(many // len(held)):
        model.known_phones(held)
    speed, cpu_speed = many / (time.monotonic() - begun), many / (time.process_time() - cpu)
    by_table = {word: table.phonemes(word) for word in held}
    say(
        f"  trained {epochs} epochs in {seconds:.1f} s; {speed:,.0f} words/s in batches "
        f"({cpu_speed:,.0f} per CPU second)"
    )
    for name, words in (
        ("all", held),
        ("regular", [w for w in held if w not in irregular]),
        ("irregular", [w for w in held if w in irregular]),
    ):
        say(
            f"  {name:9} {len(words):5} words   network {_rates(lexicon, words, network)}"
            f"   table {_rates(lexicon, words, by_table)}"
        )
    wrong = [w for w in held if network[w] != lexicon[w]]
    for word in wrong[:12]:
        say(f"    {word}\t{' '.join(lexicon[word])}\t{' '.join(network[word])}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=5000, help="words in the lexicon (default 5000)")
    parser.add_argument("--split", choices=("word", "stem"), default="word", help="what is held out together")
    parser.add_argument("--seeds", type=int, default=1, help="seeds to run, from 1")
    parser.add_argument("--dim", type=int, default=None)
    parser.add_argument("--layers", type=int, default=None)
    args = parser.parse_args(argv)
    from xtts_ka.core.config import PhonemesConfig

    config = PhonemesConfig(level="narrow")
    config.dim, config.layers = args.dim or config.dim, args.layers or config.layers
    for seed in range(1, args.seeds + 1):
        measure(args.words, args.split, seed, config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
