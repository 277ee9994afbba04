"""The HTML itself: whole, closed, escaped, and with nothing from outside."""

from html.parser import HTMLParser

import numpy as np
import pytest

from kderm import html_page as page
from kderm.html_page import Cell, Page

VOID = {"meta", "img", "source", "br"}


class Tags(HTMLParser):
    """Collects what does not close, and everything that is fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.fetched, self.count = [], [], [], {}

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.fetched += [value for key, value in attributes if key in ("src", "srcset", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def parsed(html):
    tags = Tags()
    tags.feed(html)
    assert (tags.open, tags.wrong) == ([], [])
    assert all(value.startswith(("data:image/", "#")) for value in tags.fetched)
    assert "script" not in tags.count
    return tags


def picture():
    return np.full((30, 40, 3), 120, np.uint8)


def test_a_page_is_whole_and_fetches_nothing():
    whole = Page("Title", page.facts([("images", "12")]))
    whole.section("One", page.text("words"), page.table(["a", "b"], [["x", Cell("1", 0.5)]]))
    whole.section("Two", "", page.grid([(picture(), "p")]), page.rows([[(picture(), "q")] * 3]))
    whole.section("Three", page.pairs([(picture(), picture(), "r")]), page.findings([("bad", "f")]))
    tags = parsed(whole.html())
    assert tags.count["section"] == 3
    assert tags.count["img"] == 6
    assert tags.fetched[:3] == ["#one", "#two", "#three"]


@pytest.mark.parametrize(
    "make",
    [
        page.text,
        page.heading,
        lambda words: page.table([words], [[words]]),
        lambda words: page.findings([("warn", words)]),
        lambda words: page.facts([(words, words)]),
        lambda words: page.grid([(picture(), words)]),
        lambda words: page.pairs([(picture(), picture(), words)]),
        lambda words: Page(words, "").html(),
    ],
)
def test_names_from_the_data_are_escaped(make):
    html = make('<b onload="x">&')
    assert "<b on" not in html
    assert "&lt;b onload=" in html
    parsed(html)


def test_columns_of_numbers_stand_right_and_words_left():
    html = page.table(["name", "count"], [["a", "1,200"], ["b", "–"], ["c", "< 0.001"]])
    assert html.count("<th class=n>count") == 1
    assert html.count('<td class="n">') == 3
    assert page.table(["name"], []) == ""


def test_large_pictures_are_embedded_small():
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3)).astype(np.uint8)
    assert len(page.grid([(noise, "")])) < 60_000
