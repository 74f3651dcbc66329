import re

import numpy as np
import pytest
import soundfile

from xtts_ka.corpus.quality_judging import Cost
from xtts_ka.corpus.quality_limits import MEASURES
from xtts_ka.corpus.recordings_report import write_page
from xtts_ka.corpus.screening import Checked
from xtts_ka.corpus.tables import Clip

BANDWIDTH, LOUDNESS = (next(m for m in MEASURES if m.column == name) for name in ("bandwidth", "loudness"))


@pytest.fixture
def page(tmp_path):
    """Of 25 clips, one of them dropped; the loudness of none is known."""
    clips = []
    for number in range(25):
        wav = tmp_path / f"c{number:02d}.wav"
        soundfile.write(wav, np.sin(np.arange(4000) / 10), 22_050)
        clips.append(Clip(wav.stem, f"დილა <{number}>", "ეკა", 60.0, wav, None))
    values = {clip.file_id: {"bandwidth": 3000.0 + 400 * n, "loudness": None} for n, clip in enumerate(clips)}
    lines = [("c00", "dropped", "narrow_band", "", "", "")]
    checked = Checked(clips=clips[1:], lines=lines, measured=values, gone=clips[:1])
    costs = [Cost(BANDWIDTH, 9500.0, False, 17, 1020.0, 25), Cost(LOUDNESS, -42.0, True, 0, 0.0, 0)]
    return write_page(tmp_path, checked, costs).read_text("utf-8")


def test_the_page_says_what_is_kept_and_what_each_limit_would_cost(page):
    assert "24 clips are kept, 0.40 hours" in page and "1 were dropped" in page
    assert "--min_bandwidth" in page and "9500 Hz" in page and "17 of 25" in page and "0.28" in page


def test_a_measure_that_no_clip_has_is_not_shown(page):
    assert "--min_loudness" not in page and "Loudness" not in page


def test_the_twenty_worst_come_first_with_players_and_reasons(page):
    rows = re.findall(r"<tr><td class=n>(\d+)</td><td><audio.*?</td><td>(c\d\d)<br>", page)
    assert rows == [(str(3000 + 400 * n), f"c{n:02d}") for n in range(20)]
    assert page.count("dropped: narrow_band") == 1 and "დილა &lt;3&gt;" in page


def test_titles_keep_their_capitals(page):
    assert "<h2>Bandwidth</h2><p>The highest frequency within 55 dB of the strongest (Hz).</p>" in page
