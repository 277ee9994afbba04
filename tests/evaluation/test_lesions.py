import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score

from kderm.errors import UserError
from kderm.evaluation.lesions import (
    POOLINGS,
    contradictory_lesions,
    lesion_ids,
    lesion_report,
    pool,
)
from kderm.evaluation.predictions import make_predictions
from kderm.labels import BINARY, HAM10000


def photos(counts, seed=0, noise=1.0, **columns):
    """`counts[i]` photos of lesion i, labels in turn, probabilities that lean to the truth."""
    rng = np.random.default_rng(seed)
    lesion = np.repeat(np.arange(len(counts)), counts)
    y = lesion % len(HAM10000)
    logits = noise * rng.normal(size=(len(lesion), len(HAM10000)))
    logits[np.arange(len(y)), y] += 1
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(p, columns=HAM10000.columns).assign(
        image_id=[f"i{i:04d}" for i in range(len(lesion))],
        group_id=[f"l{i}" for i in lesion],
        lesion_id=[f"l{i}" for i in lesion],
        label=[HAM10000.codes[j] for j in y],
        fold=lesion % 3,
        **columns,
    )
    return make_predictions(table, HAM10000)


def binary(rows):
    """Rows (image_id, lesion_id, label, p_malignant)."""
    table = pd.DataFrame(rows, columns=["image_id", "lesion_id", "label", "p_malignant"])
    return make_predictions(table.assign(p_benign=1 - table["p_malignant"]), BINARY)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_pooling_agrees_with_a_loop_over_lesions_and_ignores_the_order_of_photos(counts, seed):
    images = photos(counts, seed)
    lesion, p = images.table["lesion_id"].str[1:].astype(int).to_numpy(), images.probabilities
    formulas = {
        "mean": lambda rows: rows.mean(axis=0),
        "max": lambda rows: rows.max(axis=0),
        "noisy_or": lambda rows: 1 - np.prod(1 - rows, axis=0),
    }
    turned = np.random.default_rng(seed).permutation(len(p))
    for how, formula in formulas.items():
        rows = np.array([formula(p[lesion == i]) for i in range(len(counts))])
        expected = rows / rows.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(pool(p, lesion, how), expected, atol=1e-12)
        np.testing.assert_allclose(pool(p[turned], lesion[turned], how), expected, atol=1e-12)


@pytest.mark.parametrize("how", POOLINGS)
def test_a_lesion_with_one_photo_keeps_its_row(how):
    probabilities = photos([1, 1, 1, 1]).probabilities * (1 + 1e-7)  # as rounding leaves it
    np.testing.assert_array_equal(pool(probabilities, np.arange(4), how), probabilities)


@pytest.mark.parametrize("how", POOLINGS)
def test_certain_and_impossible_classes_pool_to_a_row_that_sums_to_one(how):
    p = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(pool(p, np.array([0, 0, 1]), how), [[0.5, 0.5, 0], [0, 0, 1]])


def test_noisy_or_of_two_photos_is_worked_out_by_hand():
    pooled = pool(np.array([[0.5, 0.5], [0.8, 0.2]]), np.array([0, 0]), "noisy_or")
    malignant, benign = 1 - 0.5 * 0.8, 1 - 0.5 * 0.2
    assert pooled[0, 1] == pytest.approx(malignant / (malignant + benign))


def test_an_unknown_way_of_pooling_names_the_known_ones():
    with pytest.raises(UserError, match="noisy_or"):
        pool(np.full((2, 2), 0.5), np.array([0, 0]), "noisy-or")


def test_lesions_with_different_labels_are_left_out_and_counted():
    rows = [("a", "x", "benign", 0.1), ("b", "x", "malignant", 0.9), ("c", "y", "benign", 0.3)]
    images = binary([*rows, ("d", "y", "benign", 0.4), ("e", "z", "malignant", 0.8)])
    assert contradictory_lesions(images) == ["x"]
    report = lesion_report(images, resamples=5)
    assert report["left_out"] == {"lesions": 1, "images": 2, "named": ["x"]}
    assert (report["n_images"], report["n_lesions"]) == (3, 2)


def test_a_table_with_nothing_but_contradictions_says_so():
    images = binary([("a", "x", "benign", 0.1), ("b", "x", "malignant", 0.9)])
    assert "different labels" in lesion_report(images)["reason"]


def test_an_image_of_a_patient_without_a_lesion_id_stands_for_itself():
    table = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d", "e"],
            "group_id": ["patient", "patient", "patient", "pair", "pair"],
            "lesion_id": ["l", None, None, None, None],
            "patient_id": ["p", "p", "p", None, None],
            "label": "benign",
            "p_benign": 0.5,
            "p_malignant": 0.5,
        }
    )
    assert lesion_ids(make_predictions(table, BINARY)).tolist() == ["l", "b", "c", "pair", "pair"]


def test_both_levels_are_those_of_scikit_learn():
    images = photos([1, 2, 3, 1, 4] * 14)
    report = lesion_report(images, resamples=5)
    lesions = images.table.groupby("lesion_id")
    highest = lesions[HAM10000.columns].max().to_numpy()
    highest /= highest.sum(axis=1, keepdims=True)
    y = lesions["label"].first().map(HAM10000.index).to_numpy()
    weights = 1 / lesions["image_id"].transform("size")
    both = (
        (images.y, images.probabilities, report["images"]),
        (y, highest, report["lesions"]["max"]),
    )
    for truth, probabilities, block in both:
        auc = roc_auc_score(truth, probabilities, multi_class="ovr")
        assert block["macro_auc"]["value"] == pytest.approx(auc)
        accuracy = accuracy_score(truth, probabilities.argmax(axis=1))
        assert block["accuracy"]["value"] == pytest.approx(accuracy)
    one = accuracy_score(images.y, images.probabilities.argmax(axis=1), sample_weight=weights)
    assert report["one_photo"]["accuracy"]["value"] == pytest.approx(one)
    mel = roc_auc_score(images.y == 4, images.probabilities[:, 4])
    assert report["images"]["mel_auc"]["value"] == pytest.approx(mel)


def test_pooling_noisy_photos_brings_a_gain_whose_interval_excludes_zero():
    report = lesion_report(photos([4] * 70, noise=1.5), resamples=100)
    gain = report["difference"]["mean"]["macro_auc"]
    levels = report["lesions"]["mean"]["macro_auc"], report["one_photo"]["macro_auc"]
    assert gain["value"] == pytest.approx(levels[0]["value"] - levels[1]["value"])
    assert 0 < gain["low"] < gain["value"] < gain["high"]


def test_the_difference_is_paired_so_equal_photos_gain_exactly_nothing():
    one = photos([1] * 42)
    table = pd.concat([one.table, one.table.assign(image_id=one.table["image_id"] + "b")])
    report = lesion_report(make_predictions(table, HAM10000), resamples=20)
    gain = report["difference"]["mean"]["balanced_accuracy"]
    assert gain == {"value": 0, "low": 0, "high": 0}


def test_the_order_of_rows_changes_nothing():
    images = photos([1, 3, 2] * 14)
    turned = make_predictions(images.table.sample(frac=1, random_state=1), HAM10000)
    assert lesion_report(turned, resamples=10) == lesion_report(images, resamples=10)


def test_one_photo_a_lesion_leaves_nothing_to_compare():
    report = lesion_report(photos([1] * 8))
    assert "one image" in report["reason"]
    assert report["lesions"] == {}


@pytest.mark.parametrize("counts", [[3] * 14, [6] * 14, [7] * 21, [3, 6, 7] * 7])
def test_fractions_of_photos_add_up_to_an_accuracy_of_one(counts):
    """One photo of a lesion weighs a third, a sixth or a seventh, which binary cannot hold."""
    report = lesion_report(photos(counts, noise=0.05), resamples=20)
    reach = 0.025 ** (1 / len(counts))
    for level in (report["images"], report["one_photo"], *report["lesions"].values()):
        assert level["accuracy"] == {"value": 1, "low": pytest.approx(reach), "high": 1}
    for gains in report["difference"].values():
        assert gains["accuracy"]["value"] == 0
        assert gains["accuracy"]["high"] == pytest.approx(1 - reach)
        assert gains["accuracy"]["low"] == pytest.approx(reach - 1)


def test_a_gain_that_every_draw_repeats_is_not_certain():
    """Of three photos of every malignant lesion two are right alone, and the three together."""
    rows = []
    for i in range(12):
        label, scores = ("malignant", (0.9, 0.8, 0.3)) if i % 2 else ("benign", (0.1, 0.2, 0.6))
        rows += [(f"i{i}-{j}", f"l{i}", label, p) for j, p in enumerate(scores)]
    report = lesion_report(binary(rows), resamples=100)
    gain = report["difference"]["mean"]["accuracy"]
    assert gain["value"] == pytest.approx(1 / 3)
    # All draws say a third; but that 12 of 12 pooled lesions are right is not certain.
    assert gain["low"] == pytest.approx(1 / 3 - (1 - 0.025 ** (1 / 12)))
    assert gain["high"] == pytest.approx(1 / 3)
    area = report["difference"]["mean"]["malignant_auc"]
    assert area["value"] > 0
    assert (area["low"], area["high"]) == (None, None)


def test_an_accuracy_without_a_miss_has_exact_ends_at_every_level():
    sure = photos([2] * 14, noise=0.0)
    report = lesion_report(sure, resamples=50)
    for level in (report["images"], report["one_photo"], *report["lesions"].values()):
        assert level["accuracy"]["value"] == 1.0
        assert level["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 14))
