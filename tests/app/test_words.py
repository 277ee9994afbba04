from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from kderm.app.answers import Answer, Answered, image_ids
from kderm.app.cards import answers_html, problem_html
from kderm.app.cautions import unlike
from kderm.app.doubts import WORDS, doubts
from kderm.app.lay_names import LAY_NAMES, lay_name
from kderm.app.points import point_choice, point_named, point_rates, point_title, points_of
from kderm.counting import counted, percent
from kderm.labels import LABEL_SPACES, label_space


@pytest.mark.parametrize("space", LABEL_SPACES.values(), ids=LABEL_SPACES)
def test_every_class_of_a_registered_space_has_a_lay_name(space):
    assert set(LAY_NAMES[space.name]) == set(space.codes)
    names = [lay_name(space, code).name for code in space.codes]
    assert len(set(names)) == len(names)
    assert all(names)


def test_a_class_without_a_lay_name_is_called_by_its_full_name():
    space = label_space("custom", ["x", "y"])
    assert lay_name(space, "y").name == "y"
    assert lay_name(space, "y").about == ""


def test_percents_claim_no_certainty():
    shown = [percent(value) for value in (0.0, 0.0099, 0.01, 0.5, 0.99, 0.991, 1.0)]
    assert shown == ["< 1 %", "< 1 %", "1 %", "50 %", "99 %", "> 99 %", "> 99 %"]


def test_one_is_singular():
    assert [counted(n, "picture") for n in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]


def test_many_strange_pictures_are_told_and_what_chance_brings_is_not():
    table = pd.DataFrame({"unlike_training": [1.0, 1.0, 0.0, np.nan], "error": ["", "", "", "x"]})
    (told,) = unlike(table)
    assert told.startswith("2 of 3 pictures look unlike")
    assert unlike(table.assign(unlike_training=0.0)) == ()


def test_ids_are_stems_where_these_are_unique():
    assert image_ids(["a.jpg", "b/c.png"]) == ["a", "c"]
    assert image_ids(["a.jpg", "b/a.png", "b/a.png"]) == ["a.jpg", "b/a.png", "b/a.png (2)"]


def test_the_bundles_own_point_comes_first_and_an_unknown_name_means_it(ensemble):
    bundle = ensemble.bundle
    first = points_of(bundle)[0]
    assert (first.target, first.value) == ("malignant", bundle.threshold)
    assert point_named(bundle, None) == point_named(bundle, "nonsense") == first
    assert len(points_of(bundle)) == len(bundle.operating_points)
    last = points_of(bundle)[-1]
    assert point_named(bundle, last.name) == last


def test_every_point_is_told_apart_in_plain_words(ensemble):
    points, labels = points_of(ensemble.bundle), ensemble.labels
    titles = [point_title(point, labels) for point in points]
    assert len(set(titles)) == len(titles)
    share = points[0].sensitivity["value"]
    found = "over 99 of 100" if 0.99 < share < 1 else f"{100 * share:.0f} of 100"
    assert found in point_rates(points[0], labels)
    assert found in point_choice(points[0], labels)


def test_rates_claim_all_and_none_only_where_it_was_all_or_none(ensemble):
    point, labels = points_of(ensemble.bundle)[0], ensemble.labels

    def said(sensitivity, specificity):
        rates = {"sensitivity": {"value": sensitivity}, "specificity": {"value": specificity}}
        return point_rates(replace(point, **rates), labels)

    nearly = said(0.9961, 0.9961)
    assert "found over 99 of 100" in nearly
    assert "flagged under 1 of 100" in nearly
    assert "found 100 of 100" in said(1.0, 1.0)
    assert "flagged 0 of 100" in said(1.0, 1.0)
    assert "found 99 of 100" in said(0.99, 0.5)


def test_harmless_is_said_without_a_promise():
    assert "no sign" not in lay_name(LABEL_SPACES["binary"], "benign").about


def test_the_largest_group_of_networks_is_not_said_to_say_the_answer(ensemble, jpeg):
    """Three weakly for one kind and two surely for another: the mean follows the two."""
    row = ensemble.predict([jpeg()]).iloc[0].to_dict()
    members = len(ensemble.bundle.facts.members)
    row |= {"predicted": "mel", "vote_agreement": 1 / members, "fold_sd": 0.12}
    html = answers_html(Answered((Answer("a.jpg", row),), None), ensemble.bundle, None)
    assert f"networks that say the same by themselves: 1 of {members}." in html
    assert "say “Melanoma”" not in html
    assert "± 12 points before calibration" in html


def _skin(noise=14.0):
    rng = np.random.default_rng(0)
    frame = np.full((150, 200, 3), (214, 166, 150), float)
    frame[50:100, 70:130] = (120, 80, 70)
    return np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8)


def test_a_plain_picture_gives_no_doubts():
    assert doubts(_skin(), {"unlike_training": 0}) == ()


def test_each_doubt_is_found_and_has_words():
    corners = _skin()
    for rows in (slice(0, 20), slice(-20, None)):
        for columns in (slice(0, 26), slice(-26, None)):
            corners[rows, columns] = 0
    pictures = {
        "blurred": gaussian_filter(_skin(), (3, 3, 0)),
        "dark corners": corners,
        "too dark": _skin() // 6,
        "too bright": np.clip(_skin().astype(int) + 90, 0, 255).astype(np.uint8),
        "bluer than red": _skin()[..., ::-1],
    }
    for name, pixels in pictures.items():
        assert name in doubts(pixels, {}), name
    assert doubts(_skin(), {"unlike_training": 1.0}) == ("unlike",)
    assert set(pictures) | {"unlike", "hair"} == set(WORDS)


def test_names_from_outside_are_escaped(ensemble):
    evil = "<img src=x onerror=alert(1)>.jpg"
    answered = Answered((Answer(evil, {}, error="<b>no</b>"),), None, ("<i>note</i>",))
    html = answers_html(answered, ensemble.bundle, None) + problem_html("<u>x</u>")
    for tag in ("<img", "<b>no", "<i>", "<u>"):
        assert tag not in html
    assert "&lt;img" in html
