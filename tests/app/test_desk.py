import base64
import io
import re
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.api import loaded
from kderm.app.about import facts_markdown
from kderm.app.cautions import cautions
from kderm.app.desk import Desk
from kderm.app.examples import draw_examples
from kderm.app.limits import Limits
from kderm.app.points import points_of

URI = re.compile(r"data:image/jpeg;base64,([\w+/=]+)")


@pytest.fixture
def desk(ensemble, workroom):
    return Desk(ensemble, workroom, Limits(photos=4, images=10))


@pytest.fixture
def send(workroom, jpeg):
    """send(name, **about): put a JPEG where the server would, and give its path."""

    def put(name, data=None, **about):
        path = workroom.path / f"upload {len(list(workroom.path.iterdir()))}" / name
        path.parent.mkdir()
        path.write_bytes(jpeg(**about) if data is None else data)
        return str(path)

    return put


def pictures_in(html):
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in URI.findall(html)]


def test_photos_get_the_rows_that_python_gives(desk, send, ensemble, jpeg):
    found = desk.photos([send("a.jpg"), send("b.jpg", seed=1)], {})
    expected = ensemble.predict([jpeg(), jpeg(seed=1)])
    rows = pd.DataFrame([photo.row for photo in found.photos])
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False)
    assert desk.photos([send("a.jpg"), send("bad.jpg", data=b"x")], {}).lesion is None


def test_photos_of_one_lesion_are_answered_together_and_alone(desk, send, ensemble, jpeg):
    found = desk.photos([send("a.jpg"), send("b.jpg", seed=1)], {})
    expected = ensemble.predict_lesions([jpeg(), jpeg(seed=1)], "x").iloc[0]
    for column in ("predicted", "p_malignant", "malignant", "images", "p_mel"):
        assert found.lesion.row[column] == expected[column]
    assert len(found.photos) == 2
    assert "from 2 pictures together" in desk.photos_html(found, None, True)
    assert "together" not in desk.photos_html(found, None, False)


def test_a_bad_file_costs_itself_alone(desk, send, ensemble, jpeg):
    cut = jpeg(seed=2)[:-200]
    paths = [send("bad.jpg", data=b"nothing"), send("a.jpg"), send("cut.jpg", data=cut)]
    bad, good, short = desk.photos(paths, {}).photos
    assert "not a picture" in bad.error
    assert "truncated" in short.error
    assert good.row["predicted"] == ensemble.predict([jpeg()])["predicted"][0]


def test_photos_are_decoded_two_at_a_time_and_tables_by_all_cores(desk, send, monkeypatch):
    asked, decode = [], loaded.decoded_chunks

    def noted(chunks, spec, *, threads=None):
        asked.append(threads)
        return decode(chunks, spec, threads=threads)

    monkeypatch.setattr(loaded, "decoded_chunks", noted)
    desk.photos([send("a.jpg")], {})
    desk.many([send("b.jpg")], lambda done, count: None)
    assert asked == [2, None]


def test_nothing_is_left_of_what_was_sent(desk, send, workroom):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.jpg", b"x")
    desk.photos([send("a.jpg"), send("b.jpg", data=b"bad")], {})
    desk.many([send("a.zip", data=archive.getvalue())], lambda done, count: None)
    desk.photos([send(f"{number}.jpg") for number in range(5)], {})  # too many
    desk.predict([send("c.jpg")], False)
    assert list(workroom.path.iterdir()) == []


def test_pictures_come_back_upright_and_without_exif(desk, send):
    found = desk.photos([send("turned.jpg", shape=(60, 80), orientation=6)], {})
    straight = desk.photos([send("straight.jpg", shape=(60, 80))], {})
    pictures = pictures_in(desk.photos_html(found, None))
    assert len(pictures) == 2  # the picture and its map
    assert all(not picture.getexif() for picture in pictures)
    turned = np.asarray(pictures[0].convert("L"), float)
    other = np.asarray(pictures_in(desk.photos_html(straight, None))[0].convert("L"), float)
    assert turned.shape == other.shape
    assert np.abs(turned - other).mean() > 5  # it was turned before it was cut to the frame


def test_the_operating_point_decides_what_is_flagged(desk, send):
    found = desk.photos([send("a.jpg")], {})
    row = found.photos[0]
    for point in points_of(desk.ensemble.bundle):
        flagged = "⚑ Flagged" in desk.photos_html(found, point.name)
        assert flagged == (point.name in row.row["operating_points"].split())


def test_what_the_flag_is_at_the_default_point_is_the_column_malignant(desk, send):
    for seed in range(3):
        found = desk.photos([send("a.jpg", seed=seed)], {})
        flagged = "⚑ Flagged" in desk.photos_html(found, None)
        assert flagged == (found.photos[0].row["malignant"] == 1)


def test_the_table_and_its_csv_are_those_of_python(desk, send, ensemble, jpeg):
    done = []
    paths = [send("a.jpg"), send("bad.jpg", data=b"x"), send("b.jpg", seed=1)]
    found = desk.many(paths, lambda *progress: done.append(progress))
    html = desk.many_html(found, None)
    text = re.search(r'href="data:text/csv;base64,([\w+/=]+)"', html)[1]
    table = pd.read_csv(io.BytesIO(base64.b64decode(text)), keep_default_na=False)
    assert table["image_id"].tolist() == ["a", "bad", "b"]
    assert "not a picture" in table["error"][1]
    expected = ensemble.predict([jpeg(), jpeg(seed=1)])
    for column in [*ensemble.labels.columns, "predicted", "operating_points", "vote_agreement"]:
        assert table[column][[0, 2]].astype(str).tolist() == [
            f"{value:.7g}" if isinstance(value, float) else str(value) for value in expected[column]
        ]
    assert done[-1] == (3, 3)


def test_a_row_is_doubted_where_the_picture_looks_strange(desk, send):
    found = desk.many([send("a.jpg"), send("bad.jpg", data=b"x")], lambda done, count: None)
    for strange, columns in ((0.0, 6), (1.0, 7)):
        table = found.table.assign(unlike_training=[strange, np.nan])
        html = desk.many_html(replace(found, table=table), None)
        assert html.count("columnheader") == columns
        assert ("unlike the training data</td>" in html) == bool(strange)
        assert f"colspan={columns - 1}>" in html


def test_the_contact_sheet_has_no_exif(desk, send):
    found = desk.many([send("a.jpg", orientation=6)], lambda done, count: None)
    sheets = pictures_in(desk.many_html(found, None))
    assert sheets
    assert all(not sheet.getexif() for sheet in sheets)


def test_too_many_photos_are_told_in_a_sentence(desk, send):
    found = desk.photos([send(f"{number}.jpg") for number in range(5)], {})
    assert "at most 4" in desk.photos_html(found, None)


def test_a_fault_is_a_sentence_and_never_a_traceback(desk, send, monkeypatch, capsys):
    def broken(*args, **about):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(desk.ensemble, "answer", broken)
    html = desk.photos_html(desk.photos([send("a.jpg")], {}), None)
    assert "Something went wrong" in html
    assert "fire" not in html
    assert "the disk is on fire" in capsys.readouterr().err


def test_images_of_the_run_are_told_from_new_ones(desk, send, run):
    known = pd.read_csv(run.oof)["image_id"][0]
    assert "memory, not a test" in desk.photos_html(desk.photos([send(f"{known}.jpg")], {}), None)
    assert "memory" not in desk.photos_html(desk.photos([send("new.jpg")], {}), None)


def test_what_is_said_of_known_pictures_is_no_more_than_was_compared(desk, send, run):
    known = pd.read_csv(run.oof)["image_id"].tolist()
    one = desk.photos([send(f"{known[0]}.jpg"), send("new.jpg")], {}).notes[0]
    assert one.startswith(f"{known[0]}.jpg: A picture of this name was in the training data of")
    assert "If it is the same picture" in one
    assert "Only names are compared" in one
    many = [send(f"{name}.jpg") for name in known[:5]]
    several = desk.many(many, lambda done, count: None).notes[0]
    assert f"{known[2]}.jpg and 2 others: Pictures of these names were" in several


def test_one_lay_word_for_networks_and_no_plural_in_brackets(desk, send, run):
    bundle = desk.ensemble.bundle
    known = pd.read_csv(run.oof)["image_id"][0]
    photos = [send(f"{known}.jpg"), send("b.jpg", seed=1), send("bad.jpg", data=b"x")]
    said = desk.photos_html(desk.photos(photos, {}), None, True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("a.jpg", "b.zip", "c.txt", "d.txt"):
            opened.writestr(name, b"x")
    sent = [send("a.zip", data=archive.getvalue()), send(f"{known}.jpg")]
    said += desk.many_html(desk.many(sent, lambda done, count: None), None)
    said += facts_markdown(bundle, desk.ensemble.settings)
    soup = (
        "one network of the averaged weights of 5 members (in 95% of the run's images its class is "
        "that of all of them together)"
    )
    for smaller in ("the members of folds 0, 1 alone", soup):
        facts = bundle.facts.model_copy(update={"smaller": smaller})
        few = replace(bundle, facts=facts)
        said += " ".join(cautions(few, desk.ensemble.settings, ["a.jpg"], {"a"}))
    left = replace(desk.ensemble.settings, views="d4", early_exit=0.1)
    said += " ".join(cautions(bundle, left, [], set()))
    assert "early exit at 0.1" in said
    words = re.sub(r"<[^>]+>", " ", said)
    assert "weights of 5 networks" in words
    for wrong in ("(s)", "member", "image"):
        assert wrong not in words


def test_where_the_ids_of_the_run_are_not_known_that_is_said(desk, send):
    desk._trained_on = None
    said = desk.photos_html(desk.photos([send("a.jpg")], {}), None)
    assert "unknown whether the ensemble was trained on these" in said


def test_a_map_that_cannot_be_drawn_costs_itself_alone(desk, send, monkeypatch, capsys):
    explain = desk.ensemble.explain

    def broken(*args, **about):
        monkeypatch.setattr(desk.ensemble, "explain", explain)
        raise RuntimeError("the layer is on fire")

    monkeypatch.setattr(desk.ensemble, "explain", broken)
    first, second = desk.photos([send("a.jpg"), send("b.jpg", seed=1)], {}).photos
    assert first.row["predicted"]
    assert first.shown is None
    assert "could not be drawn" in first.warnings[-1]
    assert second.shown is not None
    assert "on fire" in capsys.readouterr().err


def test_the_api_names_pictures_as_sent_where_it_tells_what_the_run_knew(desk, send, run):
    known = pd.read_csv(run.oof)["image_id"][0]
    said = " ".join(desk.predict([send(f"{known}.jpg")], False)["cautions"])
    assert "memory, not a test" in said
    assert "SYNTHETIC" in said
    assert "memory" not in " ".join(desk.predict([send("new.jpg")], False)["cautions"])


def test_the_api_takes_what_is_known_beside_the_picture(desk, send, monkeypatch):
    asked = []
    answer = desk.ensemble.answer
    monkeypatch.setattr(
        desk.ensemble, "answer", lambda images, **about: asked.append(about) or answer(images)
    )
    desk.predict([send("a.jpg")], False, {"age": 60, "sex": "", "site": "back"})
    desk.predict([send("b.jpg")], False, {"age": None, "sex": "", "site": ""})
    assert asked == [{"metadata": {"age": 60, "site": "back"}}, {"metadata": None}]


def test_every_drawn_example_is_answered(desk):
    for example in draw_examples():
        (answer,) = desk.example(example).photos
        assert answer.error == ""
        assert answer.shown is not None


def test_json_has_none_for_cells_without_a_value(desk, send):
    found = desk.predict([send("bad.jpg", data=b"x"), send("a.jpg")], True)
    table = pd.DataFrame(**found["images"])
    assert table["p_mel"].isna().tolist() == [True, False]
    assert found["images"]["data"][0][2] is None
    assert pd.DataFrame(**found["lesions"])["images"].tolist() == [1]
