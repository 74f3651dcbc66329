import re

import pytest

from xtts_ka.core.web_page import document, histogram


def test_a_page_has_its_title_its_style_and_its_parts_in_order():
    page = document("Clips", ["<h1>one</h1>", "<p>two</p>"], "p { color: red }")
    assert page.startswith("<!doctype html>\n<html") and page.endswith("</html>\n")
    assert "<title>Clips</title>" in page and "p { color: red }</style>" in page
    assert page.index("<h1>one</h1>") < page.index("<p>two</p>")


def bars(figure: str) -> list[tuple[float, float, int]]:
    """(left edge, height, count) of each."""
    found = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)".*?and more: ([\d,]+)<', figure)
    return [(float(x), float(height), int(count.replace(",", ""))) for x, height, count in found]


def test_a_histogram_counts_every_value_and_those_outside_in_the_outermost_bars():
    found = bars(histogram([-5.0, 0.01, 0.51, *[0.76] * 2000, 3.0, 10.0], 0.0, 1.0))
    assert [(x, count) for x, _, count in found] == [(0.0, 2), (300.0, 1), (450.0, 2000), (585.0, 2)]
    assert max(height for _, height, _ in found) == found[2][1] == pytest.approx(1000 * found[0][1], rel=0.2)


def test_a_histogram_shows_its_limit_and_reads_its_title_as_text():
    figure = histogram([3.0], 2.0, 6.0, "a < b", limit=5.0)
    assert 'd="M450.0 0V' in figure and "a &lt; b" in figure
    assert "<path" not in histogram([1.0], 0.0, 4.0) and "figcaption" not in histogram([1.0], 0.0, 4.0)
