"""One document, three ways of writing it: the same words and numbers in each."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from kderm.evaluation.report.document import (
    Beside,
    Bullets,
    Code,
    Document,
    Estimate,
    Figure,
    Gallery,
    Heading,
    Note,
    Section,
    Share,
    Shown,
    Spread,
    Table,
    Text,
    Tiles,
)
from kderm.evaluation.report.markdown import to_markdown
from kderm.evaluation.report.page import inline_svg, panels, to_html
from kderm.evaluation.report.style import drawn, drawn_panels
from kderm.evaluation.report.tables import to_frame, write_tables
from kderm.evaluation.report.wording import percent, rule_name, said


def draw(path, colour="#222222"):
    with drawn(path, (2, 2)) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=colour)
        axes.set_title("words")


def document():
    pixels = np.full((12, 16, 3), 90, np.uint8)
    shown = [Shown("seen", pixels), Shown("both", pixels, pixels), Shown("gone")]
    rows = [["a|b", 1234, Estimate(0.5, 0.4, 0.6), Share(0.25), Spread(0.5, 0.1)]]
    return Document(
        "A <title>",
        [Note("bad", "**Leak.** Look out.")],
        [
            Section("One", [Text("Some `code` & words."), Tiles([(0.9, "AUC")])]),
            Section("Nothing", []),
            Section(
                "Two",
                [
                    Heading("Below"),
                    Bullets(["first", "second"]),
                    Table(["x", "n", "metric", "share", "folds"], rows, "numbers"),
                    Figure("line", "A line", draw),
                    Gallery(shown),
                    Code("The config", "a: 1\nb: <2>", "yaml"),
                ],
            ),
        ],
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("written")
    draw(directory / "figures" / "line.png")
    return to_markdown(document(), directory), to_html(document(), directory)


def test_both_pages_say_the_same_numbers(written):
    for text in written:
        for words in ("1,234", "0.500 (0.400 to 0.600)", "25.0 %", "0.500 ± 0.100", "A line"):
            assert words in text.replace("\u00a0", " ")


def test_a_section_without_blocks_is_left_out(written):
    assert all("Nothing" not in text for text in written)


def test_a_bar_in_a_cell_does_not_break_the_markdown_table(written):
    assert "| a\\|b | 1,234 |" in written[0]


def test_what_comes_from_the_data_is_escaped_on_the_page(written):
    assert "A &lt;title&gt;" in written[1]
    assert "b: &lt;2&gt;" in written[1]
    assert "<strong>Leak.</strong>" in written[1]


def test_the_page_fetches_nothing_and_runs_nothing(written):
    assert "<script" not in written[1]
    assert "http" not in written[1].replace("http://www.w3.org/", "")


def test_images_that_are_gone_are_named_all_the_same(written):
    assert written[1].count("<img ") == 3
    assert all("gone" in text for text in written)


def test_a_drawing_follows_the_inks_of_the_page(tmp_path):
    draw(tmp_path / "line.png")
    svg = inline_svg(tmp_path / "line.svg", "line")
    assert svg.startswith("<svg ")
    assert svg.endswith("</svg>")
    assert "var(--ink)" in svg
    assert "#222222" not in svg
    assert "<metadata" not in svg


def test_a_drawing_of_panels_is_cut_into_parts_of_equal_width(tmp_path):
    with drawn_panels(tmp_path / "two.png", 2, (2, 1)) as parts:
        for part in parts:
            part.subplots().plot([0, 1])
    first, second = panels(inline_svg(tmp_path / "two.svg", "two"), "two", 2)
    assert 'viewBox="0 0 144 72"' in first
    assert 'viewBox="144 0 144 72"' in second
    assert '<use href="#two-figure_1"/>' in second
    assert 'id="two-figure_1"' in first
    assert " width=" not in first.split(">")[0]


def test_figures_beside_one_another_are_written_in_every_form(tmp_path):
    figures = [Figure(name, f"Caption {name}", draw) for name in ("one", "two")]
    document = Document("A", [], [Section("Both", [Beside(figures)])])
    assert document.blocks() == figures
    for figure in figures:
        figure.draw(tmp_path / "figures" / f"{figure.name}.png")
    text, page = to_markdown(document, tmp_path), to_html(document, tmp_path)
    for name in ("one", "two"):
        assert f"![Caption {name}](figures/{name}.png)" in text
        assert page.count(f"<figcaption>Caption {name}") == 1


def test_a_tile_sets_its_interval_apart_and_the_markdown_keeps_both_in_a_row(tmp_path):
    tiles = Document("A", [Tiles([(Estimate(0.5, 0.4, 0.6), "AUC")])])
    assert "| AUC | 0.500 (0.400 to 0.600) |" in to_markdown(tiles, tmp_path)
    expected = "<b>0.500</b><span>AUC</span><small>0.400\u00a0to\u00a00.600</small>"
    assert expected in to_html(tiles, tmp_path)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("sensitivity_90", "sensitivity ≥ 90 %"),
        ("specificity_95", "specificity ≥ 95 %"),
        ("cost_10", "a miss = 10 false alarms"),
        ("youden", "balance (Youden)"),
        ("of_my_own", "of my own"),
    ],
)
def test_a_rule_has_one_short_name(rule, words):
    assert rule_name(rule) == words


def test_two_drawings_on_a_page_share_no_id(tmp_path):
    ids = []
    for name in ("one", "two"):
        draw(tmp_path / f"{name}.png")
        svg = inline_svg(tmp_path / f"{name}.svg", name)
        ids.append({part.split('"')[0] for part in svg.split(' id="')[1:]})
        wanted = {part.split('"')[0] for part in svg.split('href="#')[1:]}
        assert wanted <= ids[-1]
    assert ids[0].isdisjoint(ids[1])


def test_tables_on_disk_keep_all_digits_and_take_intervals_apart(tmp_path):
    rows = [["a", Estimate(1 / 3, 0.1, 0.9, digits=1)], ["b", None]]
    assert said(rows[0][1]) == "0.3 (0.1 to 0.9)"
    frame = to_frame(Table(["x", "value"], rows))
    assert list(frame.columns) == ["x", "value", "value low", "value high"]
    assert frame["value"].tolist()[0] == 1 / 3
    assert frame["value low"].isna().tolist() == [False, True]


def test_tables_of_an_earlier_report_do_not_stay_behind(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "old.csv").write_text("x\n1\n")
    assert write_tables(document(), tmp_path) == ["numbers"]
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["numbers.csv"]
    assert pd.read_csv(tmp_path / "tables" / "numbers.csv")["n"].tolist() == [1234]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (Estimate(None), "–"),
        (Estimate(0.25), "0.250"),
        (Share(None), "–"),
        (Spread(0.5, None), "0.500"),
        (True, "yes"),
        (12345, "12,345"),
        ("as it is", "as it is"),
    ],
)
def test_values_are_told_with_a_dash_for_nothing(value, words):
    assert said(value) == words


def test_percent_tells_the_interval_where_there_is_one():
    assert percent(Estimate(0.816, 0.80, 0.83)) == "82 % (80 to 83)"
    assert percent(Estimate(0.816)) == "82 %"
    assert percent(Estimate(None)) == "an unknown share"


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        partial(draw, colour="#0072B2")(tmp_path / name / "line.png")
    for ending in ("png", "svg"):
        first, second = (tmp_path / name / f"line.{ending}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
