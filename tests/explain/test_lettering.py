import pytest

from kderm.explain.lettering import font, shortened, wrapped


def test_words_that_fit_are_left_alone():
    assert shortened("ISIC_0000001", 220, 12, keep="end") == "ISIC_0000001"
    assert shortened("", 220, 12, keep="start") == ""


@pytest.mark.parametrize(("keep", "told"), [("start", "abcdef"), ("end", "uvwxyz")])
def test_the_end_that_tells_most_is_kept_within_the_width(keep, told):
    cut = shortened("abcdefghijklmnopqrstuvwxyz", 90, 13, keep=keep)
    assert told in cut
    assert cut.startswith("…") == (keep == "end")
    assert cut.endswith("…") == (keep == "start")
    assert font(13).getlength(cut) <= 90
    assert font(13).getlength(cut + "mm") > 90  # no more is left out than must be


def test_no_room_at_all_leaves_the_mark():
    assert shortened("abc", 1, 13, keep="start") == "…"


def test_wrapped_lines_hold_every_word():
    words = "what speaks for the class named there, and a few words on how sure it is"
    lines = wrapped(words, 150, 12)
    assert len(lines) > 2
    assert " ".join(lines) == words
