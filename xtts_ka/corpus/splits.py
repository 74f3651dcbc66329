"""Decides which clips train, validate and test, so that recordings that are added later move none.

A hash of the sentence decides, so that no sentence stands in two splits. Where there are many speakers, a hash of the
name holds some out of training altogether: their clips tell how well the model speaks after voices it has not heard.
The shares are chosen when the tables are made first, by how many clips there are, recorded beside them, and reused.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xtts_ka.core.console import say
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.corpus.tables import SPLITS, SPLITS_RECORD, Clip, split_csv
from xtts_ka.georgian.alphabet import words

MIN_SPEAKERS = 50  # known ones; with fewer, none is held out
HELD_OUT_SHARE = 0.2  # of the clips of validation and test that are to be of held-out speakers, about
MOST_HELD_OUT = 0.05  # of the known speakers, and of the clips: no more is kept from training


@dataclass(frozen=True)
class Asked:
    """The options that the shares were chosen by."""

    val_fraction: float
    test_fraction: float
    eval_clips: float


@dataclass(frozen=True)
class SplitPlan:
    """The shares of the sentences that validate and test, and of the speakers that do not train."""

    val_fraction: float
    test_fraction: float
    held_out_fraction: float
    asked: Asked
    official_val: float = 1.0  # share kept of the sentences that corpora state as validation; old records lack these
    official_test: float = 1.0

    def of_sentence(self, sentence: str) -> str:
        """The split of what `sentence_of` gives.

        Validation takes the low end of the hashes and test the high end, so that a change of one's share does not move
        the other.
        """
        place = hash_to_unit(sentence)
        if place < self.val_fraction:
            return "val"
        return "test" if place >= 1 - self.test_fraction else "train"

    def holds_out(self, clip: Clip) -> bool:
        """Whether the clip's speaker is kept from training."""
        return clip.speaker_known and _place_of_speaker(clip) < self.held_out_fraction

    def spares(self, sentence: str, stated: str | None) -> bool:
        """Whether a sentence of an official validation or test split is left out: `eval_clips` are enough."""
        share = {"val": self.official_val, "test": self.official_test}.get(stated or "", 1.0)
        return hash_to_unit(f"official: {sentence}") >= share

    def assign(
        self, clips: Sequence[Clip], stated: Mapping[str, str] | None = None
    ) -> tuple[dict[str, list[Clip]], list[Clip]]:
        """(the clips by split, clips left out). stated: sentence → split, where the corpus itself says so.

        A clip of a held-out speaker validates or tests. It is left out if a training speaker says the same sentence.
        """
        sentences = [sentence_of(clip.text) for clip in clips]
        of_sentence = [(stated or {}).get(sentence) or self.of_sentence(sentence) for sentence in sentences]
        rows = list(zip(clips, sentences, of_sentence))
        trained = {sentence for clip, sentence, split in rows if split == "train" and not self.holds_out(clip)}
        splits: dict[str, list[Clip]] = {split: [] for split in SPLITS}
        left_out = []
        for clip, sentence, split in rows:
            if split == "train" and self.holds_out(clip):
                if sentence in trained:
                    left_out.append(clip)
                    continue
                split = self._other_than_train(sentence)
            splits[split].append(clip)
        return splits, left_out

    def _other_than_train(self, sentence: str) -> str:
        share = self.val_fraction / (self.val_fraction + self.test_fraction)
        return "val" if hash_to_unit(f"held out: {sentence}") < share else "test"


def sentence_of(text: str) -> str:
    """What two clips of one sentence have in common: its words, whatever the punctuation."""
    return " ".join(words(text))


def _place_of_speaker(clip: Clip) -> float:
    return hash_to_unit(f"speaker: {clip.speaker_id}")


def find_plan(
    data_dir: Path | str, clips: Sequence[Clip], asked: Asked, stated: Mapping[str, str] | None = None
) -> SplitPlan:
    """The recorded plan of the tables in `data_dir`; a new one where there is none, or by other options.

    stated: sentence → split, where the corpora say so.
    """
    record = Path(data_dir) / SPLITS_RECORD
    if record.is_file():
        plan = _read(record)
        if plan.asked == asked:
            return plan
        changed = [name for name, value in asdict(asked).items() if value != getattr(plan.asked, name)]
        say(f"the splits are chosen anew, since {', '.join(changed)} changed: clips may move between them")
    elif split_csv(data_dir, "train").is_file():
        say("the tables there are from before shares were recorded: their clips stay where they are, without a limit")
        return SplitPlan(asked.val_fraction, asked.test_fraction, 0.0, asked)
    return choose_plan(clips, asked, stated)


def _read(record: Path) -> SplitPlan:
    remedy = "restore it, or delete it to have the splits chosen anew"
    content = read_json(record, "the record of the splits", remedy)
    try:
        plan = SplitPlan(**{**content, "asked": Asked(**content["asked"])})
    except (TypeError, KeyError) as error:
        raise UserError(f"{record} does not hold the shares of the splits ({error}): {remedy}") from None
    shares = [plan.val_fraction, plan.test_fraction, plan.held_out_fraction]
    official = [plan.official_val, plan.official_test]
    numbers = all(type(share) in (int, float) and 0 <= share <= 1 for share in shares + official)
    if not numbers or 1 in shares or sum(shares[:2]) >= 1:
        raise UserError(f"{record} holds shares that are none ({shares}): {remedy}")
    return plan


def choose_plan(clips: Sequence[Clip], asked: Asked, stated: Mapping[str, str] | None = None) -> SplitPlan:
    """The plan for tables that are made for the first time: about `eval_clips` in validation and in test at most."""
    most = asked.eval_clips / max(1, len(clips))
    val, test = min(asked.val_fraction, most), min(asked.test_fraction, most)
    wanted = HELD_OUT_SHARE * (val + test) * len(clips)
    official = Counter((stated or {}).get(sentence_of(clip.text)) for clip in clips)
    kept = (min(1.0, asked.eval_clips / max(1, official[split])) for split in ("val", "test"))
    return SplitPlan(val, test, _held_out_fraction(clips, wanted), asked, *kept)


def _held_out_fraction(clips: Sequence[Clip], wanted: float) -> float:
    """The share of the hashes that holds out speakers with about `wanted` clips of sentences that no one else says."""
    known = [clip for clip in clips if clip.speaker_known]
    places = sorted({_place_of_speaker(clip) for clip in known})
    if len(places) < MIN_SPEAKERS:
        return 0.0
    sayers = Counter(sentence for sentence, _ in {(sentence_of(clip.text), clip.speaker_id) for clip in clips})
    all_of = Counter(_place_of_speaker(clip) for clip in known)
    alone_of = Counter(_place_of_speaker(clip) for clip in known if sayers[sentence_of(clip.text)] == 1)
    fraction, clips_out, alone = 0.0, 0, 0
    for speakers, (place, following) in enumerate(itertools.pairwise(places), 1):
        clips_out += all_of[place]
        if alone >= wanted or speakers > MOST_HELD_OUT * len(places) or clips_out > MOST_HELD_OUT * len(clips):
            break
        alone += alone_of[place]
        fraction = (place + following) / 2
    return fraction
