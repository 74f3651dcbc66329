"""How long a text may take."""

import json

import numpy as np
import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.tables import Clip
from xtts_ka.speech.lengths import fewest_codes, folder_rates, letter_rates, longest, most_codes


def test_a_voices_rate_is_its_letters_over_its_seconds():
    clips = [Clip(f"c{n}", "დილა მშვიდობისა", "ეკა", 2.0 + n, None, None) for n in range(2)]
    clips.append(Clip("x", "დილა", "ვიღაც", 1.0, None, None, speaker_known=False))
    assert letter_rates(clips) == {"ეკა": 28 / 5}


def test_the_bounds_grow_with_the_text_and_with_a_slow_voice():
    text = "დილა მშვიდობისა."  # 14 letters: a second at the usual rate, 21.5 codes
    assert np.isclose(longest(text, 14), 2.5) and abs(most_codes(text, 14) - 2.5 * 21.5) < 1
    assert most_codes("დილა", 7) > most_codes("დილა", 14)
    assert fewest_codes(text, 14) == 8 and fewest_codes(text, 7) == 17 and fewest_codes("ი", 14) == 0


def test_an_exported_folder_knows_its_speakers_rates_and_an_older_one_does_not(tmp_path):
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"letters_per_second": {"ეკა": 12}}))
    assert folder_rates(facts) == {"ეკა": 12.0}
    facts.write_text("{}")
    assert folder_rates(facts) == {}


@pytest.mark.parametrize("rates", [[], {"ეკა": 0}, {"ეკა": "12"}, {"ეკა": None}], ids=["list", "zero", "text", "null"])
def test_rates_that_cannot_be_are_refused(tmp_path, rates):
    (tmp_path / "facts.json").write_text(json.dumps({"letters_per_second": rates}))
    with pytest.raises(UserError, match=r"facts.json: letters_per_second must"):
        folder_rates(tmp_path / "facts.json")
