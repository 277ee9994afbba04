"""An ensemble in memory answers as `ensemble-predict` does."""

import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.api.loaded import load_ensemble
from kderm.data.images import read_image
from kderm.ensemble.result_table import as_text
from kderm.errors import UserError


def read_text(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def ensemble(finished):
    return load_ensemble(finished.path)


@pytest.fixture(scope="module")
def written(finished, unseen, command, tmp_path_factory):
    """The folder that `ensemble-predict` writes for the unseen images."""
    out = tmp_path_factory.mktemp("written") / "out"
    place = finished.path.parents[1]
    command("ensemble-predict", unseen, "--run", "tiny", "--out", out, cwd=place)
    return out


@pytest.fixture(scope="module")
def written_photos(finished, photos, command, tmp_path_factory):
    """The table that `ensemble-predict` writes for twelve files and a broken one."""
    place = tmp_path_factory.mktemp("photos")
    broken = place / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 cut")
    words = ["ensemble-predict", *photos, broken, "--run", "tiny", "--out", place / "out"]
    command(*words, cwd=finished.path.parents[1])
    return [*photos, broken], read_text(place / "out" / "predictions.csv")


def test_the_answers_are_those_of_ensemble_predict_to_the_last_digit(ensemble, unseen, written):
    answers = ensemble.answer(unseen)
    pd.testing.assert_frame_equal(
        as_text(answers.table).astype(str), read_text(written / "predictions.csv").astype(str)
    )
    pd.testing.assert_frame_equal(
        as_text(answers.lesions).astype(str), read_text(written / "lesions.csv").astype(str)
    )
    assert answers.table["predicted"].nunique() > 1


def test_listed_files_are_answered_as_ensemble_predict_answers_them(ensemble, written_photos):
    files, table = written_photos
    pd.testing.assert_frame_equal(as_text(ensemble.predict(files)).astype(str), table.astype(str))
    assert table["error"].iloc[-1] == "truncated JPEG: it has no end marker"


@pytest.mark.parametrize("form", ["bytes", "pillow", "array", "one array"])
def test_images_in_memory_are_answered_as_their_files(ensemble, photos, form):
    forms = {
        "bytes": lambda: [path.read_bytes() for path in photos],
        "pillow": lambda: [Image.open(path) for path in photos],
        "array": lambda: [np.asarray(Image.open(path).convert("RGB")) for path in photos],
        "one array": lambda: np.stack([np.asarray(Image.open(path)) for path in photos]),
    }
    given, files = ensemble.predict(forms[form]()), ensemble.predict(photos)
    unlike = ["image_id", "path"]
    pd.testing.assert_frame_equal(given.drop(columns=unlike), files.drop(columns=unlike))
    assert given["image_id"].tolist() == [f"image_{number}" for number in range(len(photos))]
    assert (given["path"] == "").all()


def test_one_image_alone_gives_one_row(ensemble, photos):
    pixels = np.asarray(Image.open(photos[3]).convert("RGB"))
    alone = [ensemble.predict(one) for one in (photos[3], pixels, photos[3].read_bytes())]
    assert [len(table) for table in alone] == [1, 1, 1]
    columns = ensemble.labels.columns
    first = alone[0][columns].to_numpy()
    assert all((table[columns].to_numpy() == first).all() for table in alone)


def test_a_bad_image_gets_its_row_and_the_others_their_answers(ensemble, photos):
    bad = [b"", np.zeros((4, 4)), photos[0].parent, "no/such.jpg"]
    table = ensemble.predict([*photos[:2], *bad, *photos[2:]])
    errors = table["error"].iloc[2:6].tolist()
    assert errors[0] == "the file is empty"
    assert "Received: float64 of shape (4, 4)" in errors[1]
    assert errors[2:] == ["a folder, not a file", "the file does not exist"]
    columns = ensemble.labels.columns
    assert table[columns].iloc[2:6].isna().all(axis=None)
    kept = table.drop(index=range(2, 6))[columns].to_numpy()
    np.testing.assert_array_equal(kept, ensemble.predict(photos)[columns].to_numpy())


def test_probabilities_are_rows_in_label_space_order_and_sum_to_one(ensemble, photos):
    probabilities = ensemble.predict_proba(photos)
    assert probabilities.shape == (12, len(ensemble.classes))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    table = ensemble.predict(photos)
    np.testing.assert_allclose(probabilities, table[ensemble.labels.columns], atol=1e-6)


def test_probabilities_of_an_unreadable_image_are_refused_with_its_reason(ensemble, photos):
    with pytest.raises(UserError, match=r"1 of 2 that cannot, the first one image_1.*is empty"):
        ensemble.predict_proba([photos[0], b""])


def test_several_images_of_one_lesion_are_one_answer(ensemble, photos, written):
    lesion = ensemble.predict_lesions(photos[:3])
    table = ensemble.predict(photos[:3])
    assert lesion["images"].tolist() == [3]
    mean = table[ensemble.labels.columns].mean().to_numpy()
    np.testing.assert_allclose(lesion[ensemble.labels.columns].iloc[0], mean, rtol=1e-6)
    two = ensemble.predict_lesions(photos[:3], ["a", "b", "a"])
    assert two[["lesion_id", "images"]].to_numpy().tolist() == [["a", 2], ["b", 1]]


def test_answers_can_be_corrected_to_a_prevalence(ensemble, photos):
    plain, corrected = (ensemble.predict(photos, prevalence=text) for text in (None, "mel=0.001"))
    assert (corrected["p_mel"] < plain["p_mel"]).all()
    np.testing.assert_array_equal(corrected["p_malignant_uncorrected"], plain["p_malignant"])


def test_what_weakens_the_answers_is_said(ensemble, photos, finished):
    assert any("SYNTHETIC" in words for words in ensemble.answer(photos[:1]).cautions)
    seen = next((finished.path.parent / "_data").glob("demo-1*/*/*.jpg"))
    assert any("memory, not a test" in words for words in ensemble.answer([seen]).cautions)


def test_threads_get_the_answers_that_one_after_another_gets(ensemble, photos):
    found = {}

    def ask(number):
        found[number] = ensemble.predict_proba([photos[number]])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_array_equal(found[number], ensemble.predict_proba([photos[number]]))


def test_settings_are_the_bundles_unless_named(finished, photos):
    plain = load_ensemble(finished.path, views="none", early_exit=0)
    assert (plain.settings.views, plain.settings.combine) == ("none", "probability")
    assert (plain.predict(photos)["passes"] == 3).all()
    assert any("views none" in words for words in plain.answer(photos).cautions)
    with pytest.raises(UserError, match="engine"):
        load_ensemble(finished.path, engine="keas")


def test_a_run_is_found_by_its_name_or_as_the_newest(finished, monkeypatch):
    monkeypatch.setenv("KDERM_RUNS", str(finished.path.parent))
    for name in ("tiny", None, finished.path, finished.bundle):
        assert load_ensemble(name).bundle.facts.run == "tiny"
    with pytest.raises(UserError, match="tiny"):
        load_ensemble("tinny")


@pytest.mark.parametrize(
    ("images", "words"),
    [([], "empty list"), ([3], "number 0: int"), ("no/such/folder", "does not exist")],
)
def test_what_is_no_image_is_refused(ensemble, images, words):
    with pytest.raises(UserError, match=words):
        ensemble.predict(images)


def test_an_explanation_shows_where_the_evidence_lies(ensemble, photos):
    explained = ensemble.explain(photos[0])
    row = ensemble.predict(photos[:1]).iloc[0]
    assert explained.target == row["predicted"]
    assert explained.probability == row[f"p_{explained.target}"]
    assert explained.frame.dtype == np.uint8
    assert min(explained.frame.shape[:2]) == 480
    assert explained.heat.shape == explained.seen.shape == explained.frame.shape[:2]
    assert explained.heat.dtype == np.float32
    assert 0.9 < explained.heat.max() <= 1.0
    assert explained.heat.min() >= 0.0
    np.testing.assert_array_equal(explained.overlay(0), explained.frame)
    assert (explained.overlay(1) != explained.frame).any()


def test_an_explanation_can_be_asked_for_any_class_and_for_malignancy(ensemble, photos):
    row = ensemble.predict(photos[:1]).iloc[0]
    for target in (*ensemble.classes, "malignant"):
        explained = ensemble.explain(photos[0], target=target, answer=row)
        assert explained.target == target
        assert explained.probability == pytest.approx(row[f"p_{target}"], abs=1e-6)
    with pytest.raises(UserError, match="mel"):
        ensemble.explain(photos[0], target="mell", answer=row)


def test_an_image_that_cannot_be_read_cannot_be_explained(ensemble):
    with pytest.raises(UserError, match="the file is empty"):
        ensemble.explain(b"")


def test_the_frame_of_an_explanation_is_what_the_decoder_gives(ensemble, photos):
    explained = ensemble.explain(photos[0], side=1)
    np.testing.assert_array_equal(explained.frame, read_image(photos[0], ensemble.bundle.spec))
