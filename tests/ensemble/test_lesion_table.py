"""lesions.csv: several photos of a lesion, one answer."""

import numpy as np
import pandas as pd
import pytest

from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.prevalence import stated_prevalence
from kderm.labels import HAM10000

LESIONS = ["A", "B", "A", "", "B", "B", "C", "", "C"]


def listed(folder, lesions=LESIONS, **columns):
    """A CSV beside the pictures that says which lesion each shows."""
    table = pd.DataFrame({"image_id": [f"lesion_{i}" for i in range(9)], "lesion_id": lesions})
    table.assign(**columns).to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def read(out):
    return pd.read_csv(out / "lesions.csv", keep_default_na=False).set_index("lesion_id")


def probabilities(table):
    return table[HAM10000.columns].to_numpy(dtype=np.float64)


def test_a_lesion_is_answered_by_the_mean_of_its_images(predict, trained, images, tmp_path):
    out = tmp_path / "out"
    summary, table = predict(trained, [listed(images)], out)
    lesions = read(out)
    assert lesions.index.tolist() == ["A", "B", "lesion_3", "C", "lesion_7"]
    assert lesions["images"].tolist() == [2, 3, 1, 2, 1]
    for name, row in lesions.iterrows():
        own = table[np.array(LESIONS) == name] if len(name) == 1 else table.loc[[name]]
        mean = probabilities(own).mean(axis=0)
        np.testing.assert_allclose(row[HAM10000.columns].astype(float), mean, atol=2e-7)
        code = HAM10000.codes[int(mean.argmax())]
        assert row["predicted"] == code
        assert row["predicted_name"] == HAM10000.names[int(mean.argmax())]
        assert row["images_agree"] == pytest.approx((own["predicted"] == code).mean())
        for column in ("vote_agreement", "disagreement"):
            assert row[column] == pytest.approx(own[column].astype(float).mean(), rel=1e-5)
        malignant = mean[HAM10000.malignant_indices].sum()
        assert row["p_malignant"] == pytest.approx(malignant, rel=1e-5)
        assert row["malignant"] == int(malignant >= read_bundle(trained.path).threshold)
    assert set(lesions["malignant"]) == {0, 1}  # so that the test can fail
    assert "label" not in lesions
    assert "5 lesions, the mean of each one's images" in str(summary)
    assert f"lesions flagged as malignant: {lesions['malignant'].sum()}" in str(summary)
    assert "2 images without a lesion id, each a lesion of its own" in str(summary)
    assert f"Lesions: {out / 'lesions.csv'}" in str(summary)


def test_a_lesion_of_one_image_has_the_very_answer_of_that_image(
    predict, trained, images, tmp_path
):
    out = tmp_path / "out"
    _, table = predict(trained, [listed(images, [f"L{i}" for i in range(9)])], out)
    shared = [*HAM10000.columns, "predicted", "p_malignant", "malignant", "vote_agreement"]
    lesions = read(out)
    for column in shared:
        assert lesions[column].tolist() == table[column].tolist()


def test_images_of_no_named_lesion_get_no_table_of_lesions(predict, trained, images, tmp_path):
    out = tmp_path / "out"
    predict(trained, [listed(images)], out)
    assert (out / "lesions.csv").exists()
    summary, _ = predict(trained, [images], out)
    assert summary.lesions is None
    assert "lesions, the" not in str(summary)
    assert not (out / "lesions.csv").exists()  # the former answers are gone with their table


def test_an_unreadable_image_is_left_out_of_its_lesion_and_counted(
    predict, trained, images, tmp_path
):
    for number in (0, 6, 8):
        (images / f"lesion_{number}.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    summary, table = predict(trained, [listed(images)], out)
    lesions = read(out)
    assert lesions.index.tolist() == ["B", "A", "lesion_3", "lesion_7"]
    assert lesions.loc["A", "images"] == 1
    assert lesions.loc["A", "p_mel"] == float(table.loc["lesion_2", "p_mel"])
    assert "3 unreadable images left out" in str(summary)
    assert "1 lesion without a readable image" in str(summary)


def test_nothing_but_unreadable_images_leaves_an_empty_table(predict, trained, images, tmp_path):
    for path in images.glob("*.png"):
        path.write_bytes(b"no picture")
    out = tmp_path / "out"
    summary, _ = predict(trained, [listed(images)], out)
    assert len(read(out)) == 0
    assert "0 lesions" in str(summary)


def test_an_image_called_as_a_lesion_is_another_lesion(predict, trained, images, tmp_path):
    out = tmp_path / "out"
    predict(trained, [listed(images, ["lesion_3", "", "", "", "", "", "", "", ""])], out)
    lesions = read(out)
    assert len(lesions) == 9
    assert lesions.index.is_unique
    assert {"lesion_3", "lesion_3#image"} <= set(lesions.index)


def test_a_lesion_has_the_label_that_its_images_share(predict, trained, images, tmp_path):
    labels = ["mel", "nv", "mel", "bcc", "", "nv", "nv", "", "bcc"]
    out = tmp_path / "out"
    summary, _ = predict(trained, [listed(images, label=labels)], out)
    assert read(out)["label"].tolist() == ["mel", "nv", "bcc", "", ""]
    assert "1 lesion of images with different labels" in str(summary)


def test_a_corrected_lesion_is_the_mean_of_corrected_images_and_keeps_its_flag(
    predict, trained, images, tmp_path
):
    source = [listed(images)]
    stated = stated_prevalence(read_bundle(trained.path), "malignant=0.02")
    predict(trained, source, tmp_path / "plain")
    _, table = predict(trained, source, tmp_path / "out", prevalence=stated)
    plain, lesions = read(tmp_path / "plain"), read(tmp_path / "out")
    mean = probabilities(table[np.array(LESIONS) == "B"]).mean(axis=0)
    np.testing.assert_allclose(lesions.loc["B", HAM10000.columns].astype(float), mean, atol=2e-7)
    assert lesions["malignant"].tolist() == plain["malignant"].tolist()
    assert lesions["p_malignant_uncorrected"].tolist() == plain["p_malignant"].tolist()
    assert (lesions["p_malignant"] < plain["p_malignant"]).all()
