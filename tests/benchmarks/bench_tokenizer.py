"""Characters per token and tokens per second of speech for several numbers of Georgian tokens, on held-out sentences.

    python tests/benchmarks/bench_tokenizer.py --config xtts_pretrain_config.json
    python tests/benchmarks/bench_tokenizer.py --config xtts_pretrain_config.json --sizes 500 2000 8000

Reads the train and val tables of the config's data_dir; before there are any, the starter's sentences, which have no
seconds. The tokenizer extends the config's base vocabulary, or the starter's where there is no base model yet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from xtts_ka.core.command_line import run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError

SIZES = [500, 1000, 2000, 4000]


def read_sentences(config: PretrainConfig) -> tuple[list[tuple[str, float | None]], str]:
    """((normalised text, seconds or None) of every clip, where they come from)."""
    from xtts_ka.corpus.tables import has_metadata, read_split
    from xtts_ka.georgian.text import normalise

    if has_metadata(config.data_dir):
        clips = read_split(config.data_dir, "train") + read_split(config.data_dir, "val")
        texts = [(normalise(clip.text, archaic=config.text.archaic), clip.duration) for clip in clips]
        return [pair for pair in texts if pair[0]], config.data_dir
    try:
        lines = Path(config.starter.sentences).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config.starter.sentences} cannot be read ({error}): set starter.sentences") from None
    texts = [(normalise(line, archaic=config.text.archaic), None) for line in lines]
    return [pair for pair in texts if pair[0]], f"{config.starter.sentences} (no metadata yet)"


def base_vocabulary(config: PretrainConfig, scratch: Path) -> Path:
    """The base model's vocabulary, or the starter's, written to `scratch`."""
    from xtts_ka.core.files import write_json

    given = Path(config.base_model_path) / "vocab.json"
    if given.is_file():
        return given
    from xtts_ka.starter.base_model import starter_vocabulary

    write_json(scratch / "vocab.json", starter_vocabulary())
    return scratch / "vocab.json"


def table(config: PretrainConfig, sizes: list[int], scratch: Path) -> None:
    """Trains a tokenizer of each size on nine tenths of the distinct sentences, and measures it on the rest."""
    from xtts_ka.corpus.odd_transcripts import held_out_split
    from xtts_ka.model.vocabulary import count_words, coverage_report, extend_vocabulary, open_vocabulary

    pairs, source = read_sentences(config)
    train, development, held_out = held_out_split([text for text, _ in pairs], config.language_model.heldout_fraction)
    counts, unseen = count_words(train + development), set(held_out)
    measured = [pair for pair in pairs if pair[0] in unseen]
    texts = [text for text, _ in measured]
    seconds = [duration for _, duration in measured] if all(d is not None for _, d in measured) else None
    base = base_vocabulary(config, scratch)
    say(
        f"{len(train) + len(development)} sentences to learn from, {len(held_out)} held out ({len(texts)} clips); "
        f"{source}; base {base}"
    )
    say(
        f"{'asked':>6} {'added':>6} {'rows':>6} {'chars/token':>12} {'1 % block':>10} "
        f"{'tokens/s':>9} {'[UNK]':>6} {'seconds':>8}"
    )
    for size in sizes:
        started = time.perf_counter()
        made = extend_vocabulary(
            base,
            counts,
            new_tokens=size,
            min_pair_count=config.text.min_pair_count,
            archaic_letters=config.text.archaic == "keep",
        )
        spent = time.perf_counter() - started
        found = coverage_report(open_vocabulary(made.vocabulary), texts, seconds)
        rate = f"{found['tokens_per_second']:.2f}" if seconds else "–"
        say(
            f"{size:>6} {len(made.new_ids):>6} {made.size:>6} {found['characters_per_token']:>12.2f} "
            f"{found['low_characters_per_token']:>10.2f} {rate:>9} {found['unknown']:>6} {spent:>8.2f}"
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, help="config file whose metadata and base vocabulary to use"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="how many new tokens, several values")
    args = parser.parse_args(argv)

    def body() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            table(load_config(args.config), args.sizes, Path(scratch))

    return run_cli(body)


if __name__ == "__main__":
    sys.exit(main())
