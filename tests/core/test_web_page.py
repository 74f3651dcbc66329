from xtts_ka.core.web_page import document


def test_a_page_has_its_title_its_style_and_its_parts_in_order():
    page = document("Clips", ["<h1>one</h1>", "<p>two</p>"], "p { color: red }")
    assert page.startswith("<!doctype html>\n<html") and page.endswith("</html>\n")
    assert "<title>Clips</title>" in page and "p { color: red }</style>" in page
    assert page.index("<h1>one</h1>") < page.index("<p>two</p>")
