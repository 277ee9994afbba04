import numpy as np
import pytest
from PIL import Image

from kderm.explain import sheet
from kderm.explain.explained import Explained
from kderm.explain.sheet import Card, draw_card, draw_sheet, overlay
from kderm.explain.targets import PREDICTED, WATCHED, Question

SEEN = np.ones((12, 16), bool)
SEEN[:, :2] = SEEN[:, 14:] = False


def explained(image_id="ISIC_1", label="nv", flags="", empty=False):
    maps = np.zeros((2, 12, 16), np.float32)
    maps[0, 4:8, 6:10] = 1
    if not empty:
        maps[1, 2:5, 3:6] = 1
    asked = [Question(PREDICTED, "nv", "Nevus", 0.9), Question(WATCHED, "mel", "Melanoma", 0.05)]
    return Explained(image_id, label, 0, asked, maps, SEEN, [{"flags": flags}, {"flags": ""}])


def card(**facts):
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[...] = (200, 100, 50)
    return Card(explained(**facts), picture)


def same(one, other):
    return one.size == other.size and np.array_equal(np.asarray(one), np.asarray(other))


def test_the_overlay_keeps_the_evidence_greys_the_rest_and_fades_what_was_not_seen():
    picture = card().picture
    drawn = overlay(picture, explained().maps[0], SEEN)
    assert drawn.shape == picture.shape
    assert np.array_equal(drawn[44, 60], picture[44, 60])
    dark = drawn[5, 30]
    assert dark[0] == dark[1] == dark[2] < 100
    assert drawn[44, 3] == pytest.approx(0.25 * picture[44, 3] + 191.25, abs=1)


def test_a_white_line_runs_around_half_of_the_maximum():
    drawn = overlay(card().picture, explained().maps[0], SEEN)
    white = (drawn == 255).all(axis=-1)
    rows, columns = np.nonzero(white)
    assert white.any()
    assert 25 < rows.min() < rows.max() < 65
    assert 40 < columns.min() < columns.max() < 80


def test_a_map_without_evidence_has_no_line_and_says_so():
    drawn = overlay(card().picture, np.zeros((12, 16)), SEEN)
    assert not (drawn == 255).all(axis=-1).any()
    assert not same(draw_card(card()), draw_card(card(empty=True)))


def test_a_card_tells_the_image_its_label_and_its_flags():
    plain = draw_card(card())
    for other in (card(image_id="ISIC_2"), card(label="mel"), card(flags="look twice")):
        assert not same(plain, draw_card(other))
        assert plain.size == draw_card(other).size


def test_a_long_id_stays_within_its_card():
    drawn = np.asarray(draw_card(card(image_id="x" * 200)))
    assert drawn.shape[1] == draw_card(card()).size[0]


def test_cards_across_are_wide_and_cards_down_are_high():
    wide, high = draw_card(card(), 120, across=True), draw_card(card(), 120)
    assert wide.size[0] > 3 * 120
    assert high.size[0] == 120
    assert high.size[1] > wide.size[1]


def test_a_sheet_grows_with_its_sections_and_names_the_empty_ones(tmp_path):
    few, more = tmp_path / "few.png", tmp_path / "more.png"
    draw_sheet(few, "Sheet", [("Right", [card()]), ("Missed", [])], columns=3)
    draw_sheet(more, "Sheet", [("Right", [card()] * 4), ("Missed", [card()])], columns=3)
    small, large = Image.open(few), Image.open(more)
    assert small.size[0] == large.size[0]
    assert large.size[1] > 2 * small.size[1] - 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.png", "more.png"]


def test_the_end_of_the_view_is_not_drawn_as_an_edge_of_the_evidence():
    everywhere = np.where(SEEN, 1.0, 0.0)
    drawn = overlay(card().picture, everywhere, SEEN)
    assert not (drawn[:, 25:95] == 255).all(axis=-1).any()
    assert not (drawn == 255).all(axis=-1).any()


def test_a_sheet_opens_with_a_key_that_shows_every_colour(tmp_path):
    draw_sheet(tmp_path / "sheet.png", "Sheet", [("", [card()])], columns=3)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    key = pixels[40:110]
    skin, red, amber = (150, 88, 60), (0xB3, 0x26, 0x1E), (0x9A, 0x5B, 0x00)
    for colour in (skin, red, amber):
        assert (np.abs(key.astype(int) - colour).sum(axis=-1) < 12).any()


def test_the_keys_entries_wrap_and_none_runs_off_the_edge():
    narrow, wide = sheet._key(420), sheet._key(1600)
    assert narrow.height > wide.height
    for block in (narrow, wide):
        assert (np.asarray(block)[:, -10:] == 255).all()


def test_the_legend_says_that_maps_are_coarse():
    assert "coarse" in sheet.LEGEND
    assert "4 × 4 cells" in sheet.LEGEND
