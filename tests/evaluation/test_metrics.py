"""Metrics against scikit-learn, against the ISIC scorers' reference values, and at the edges."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from kderm.evaluation import metrics
from kderm.labels import HAM10000, LabelSpace

K = 4
SPACE = LabelSpace("custom", ("a", "b", "c", "d"), ("A", "B", "C", "D"), malignant=("b", "d"))


def sample(n=400, seed=0, digits=2):
    """Imbalanced truth and probabilities with many ties between images."""
    random = np.random.default_rng(seed)
    y = random.choice(K, size=n, p=[0.7, 0.15, 0.1, 0.05])
    logits = random.normal(size=(n, K)) + 1.5 * np.eye(K)[y]
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), digits)
    return y, probabilities / probabilities.sum(1, keepdims=True)


def isic_reference():
    random = np.random.default_rng(0)
    y = random.random(200) < 0.2
    return y, np.clip(0.35 * y + random.random(200) * 0.65, 0, 1)


@pytest.mark.parametrize("digits", [1, 8])
def test_weighted_areas_equal_scikit_learns_with_and_without_ties(digits):
    y, probabilities = sample(digits=digits)
    weights = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    for j in range(K):
        auc, precision = metrics.RankedScores(y == j, probabilities[:, j]).areas(weights)
        of = {"y_true": y == j, "y_score": probabilities[:, j], "sample_weight": weights}
        assert auc == pytest.approx(oracle.roc_auc_score(**of), abs=1e-12)
        assert precision == pytest.approx(oracle.average_precision_score(**of), abs=1e-12)


def test_the_weighted_scorecard_equals_scikit_learn_throughout():
    y, probabilities = sample(digits=8)
    weights = np.random.default_rng(2).integers(0, 4, len(y)).astype(float)
    card = metrics.Scorecard(y, probabilities, SPACE)(weights)
    predicted = probabilities.argmax(axis=1)
    of = {"y_true": y, "y_pred": predicted, "sample_weight": weights}
    mel = np.isin(y, [1, 3])
    expected = {
        "accuracy": oracle.accuracy_score(**of),
        "balanced_accuracy": oracle.balanced_accuracy_score(**of),
        "macro_f1": oracle.f1_score(**of, average="macro"),
        "weighted_f1": oracle.f1_score(**of, average="weighted"),
        "log_loss": oracle.log_loss(y, probabilities, sample_weight=weights),
        "brier": np.average(((probabilities - np.eye(K)[y]) ** 2).sum(1), weights=weights),
        "macro_auc": np.mean(
            [
                oracle.roc_auc_score(y == j, probabilities[:, j], sample_weight=weights)
                for j in range(K)
            ]
        ),
        "malignant_auc": oracle.roc_auc_score(
            mel, probabilities[:, [1, 3]].sum(1), sample_weight=weights
        ),
    }
    recall = oracle.recall_score(**of, average=None)
    precision = oracle.precision_score(**of, average=None)
    for j, code in enumerate(SPACE.codes):
        expected[f"sensitivity/{code}"] = recall[j]
        expected[f"ppv/{code}"] = precision[j]
        binary = {"y_true": y != j, "y_pred": predicted != j, "sample_weight": weights}
        expected[f"specificity/{code}"] = oracle.recall_score(**binary)
        expected[f"npv/{code}"] = oracle.precision_score(**binary)
    for name, value in expected.items():
        assert card[name] == pytest.approx(value, abs=1e-12), name


def test_epoch_metrics_are_those_of_the_summary():
    y, probabilities = sample()
    summary = metrics.summarise(y, probabilities, SPACE)
    for name, value in metrics.epoch_metrics(y, probabilities).items():
        assert value == pytest.approx(summary[name], abs=1e-12)


def test_the_summary_is_plain_numbers():
    summary = metrics.summarise(*sample(), SPACE)
    assert list(summary["per_class"]) == list(SPACE.codes)
    assert sum(own["n"] for own in summary["per_class"].values()) == summary["n"] == 400
    flat = [v for v in summary.values() if not isinstance(v, dict | list)]
    flat += [value for own in summary["per_class"].values() for value in own.values()]
    assert {type(value) for value in flat} == {int, float}


def test_isic_reference_values():
    y, score = isic_reference()
    assert metrics.binary_auc(y, score) == pytest.approx(0.9164317691925054, abs=1e-12)
    assert metrics.auc_sens_80(y, score) == pytest.approx(0.7809650140938484, abs=1e-12)
    assert metrics.auc_sens_80(y, y.astype(float)) == pytest.approx(1.0)
    assert metrics.auc_sens_80(y, np.ones(len(y))) == pytest.approx(0.18)


def test_a_tied_top_class_counts_as_wrong():
    """The tie case of the ISIC 2018 scorer: MEL, NV, BCC, NV."""
    y = np.array([0, 1, 2, 1])
    rows = np.array([[0.5, 0.5, 0], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.2, 0.7, 0.1]])
    assert metrics.balanced_accuracy(y, rows) == pytest.approx(2 / 3)
    assert metrics.decided_class(rows).tolist() == [metrics.UNDECIDED, 1, 2, 1]
    assert metrics.confusion_matrix(y, rows).tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 1]]


def test_the_confusion_matrix_equals_scikit_learns():
    y, probabilities = sample(digits=8)
    np.testing.assert_array_equal(
        metrics.confusion_matrix(y, probabilities),
        oracle.confusion_matrix(y, probabilities.argmax(1), labels=range(K)),
    )


@pytest.mark.parametrize("shape", ["roc", "pr"])
def test_curves_pass_through_scikit_learns_points(shape):
    y, probabilities = sample(digits=1)
    positive, score = y == 0, probabilities[:, 0]
    if shape == "roc":
        ours = metrics.roc_curve(positive, score)
        theirs = oracle.roc_curve(positive, score, drop_intermediate=False)[:2]
    else:
        thresholds, true, false = metrics.threshold_counts(positive, score)
        ours = (true / (true + false), true / true[-1], thresholds)
        precision, recall, theirs_at = oracle.precision_recall_curve(positive, score)
        theirs = (precision[:-1][::-1], recall[:-1][::-1], theirs_at[::-1])
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, other)


def test_an_absent_class_is_undefined_and_left_out_of_the_macro_means():
    y, probabilities = sample(digits=8)
    keep = y != 2
    y, probabilities = y[keep], probabilities[keep]
    summary = metrics.summarise(y, probabilities, SPACE)
    own = summary["per_class"]
    assert summary["absent"] == ["c"]
    assert own["c"]["n"] == 0
    for name in ("auc", "average_precision", "sensitivity", "f1", "auc_sens_80"):
        assert np.isnan(own["c"][name])
    present = [own[code] for code in "abd"]
    assert summary["macro_auc"] == pytest.approx(np.mean([o["auc"] for o in present]))
    assert summary["macro_f1"] == pytest.approx(np.mean([o["f1"] for o in present]))
    assert summary["balanced_accuracy"] == pytest.approx(
        np.mean([o["sensitivity"] for o in present])
    )


def test_constant_scores_are_chance_and_decide_nothing():
    y, _ = sample()
    summary = metrics.summarise(y, np.full((len(y), K), 1 / K), SPACE)
    assert summary["macro_auc"] == 0.5
    assert summary["malignant_auc"] == 0.5
    assert summary["accuracy"] == summary["balanced_accuracy"] == summary["macro_f1"] == 0
    assert summary["undecided"] == len(y)


def test_one_class_alone_has_no_auc_but_the_rest_stands():
    summary = metrics.summarise(np.zeros(3, int), np.eye(K)[[0, 0, 1]], SPACE)
    assert np.isnan(summary["macro_auc"])
    assert np.isnan(summary["malignant_auc"])
    assert summary["accuracy"] == summary["balanced_accuracy"] == pytest.approx(2 / 3)


def test_two_images_are_enough():
    summary = metrics.summarise(np.array([0, 1]), np.eye(K)[[0, 1]], SPACE)
    assert summary["macro_auc"] == summary["accuracy"] == 1
    assert summary["log_loss"] == pytest.approx(0)


def test_a_certain_mistake_has_a_finite_log_loss():
    assert np.isfinite(metrics.summarise(np.array([0]), np.eye(K)[[1]], SPACE)["log_loss"])


def test_a_diverged_epoch_has_no_metrics_rather_than_wrong_ones():
    y, probabilities = sample()
    probabilities[5] = np.nan
    assert all(np.isnan(v) for v in metrics.epoch_metrics(y, probabilities).values())


def test_a_label_space_without_malignant_classes_has_no_malignant_auc():
    space = LabelSpace("custom", SPACE.codes, SPACE.names)
    assert "malignant_auc" not in metrics.summarise(*sample(), space)


def test_float32_probabilities_give_the_same_ranking():
    y, probabilities = sample(digits=8)
    narrow = probabilities.astype(np.float32)
    assert metrics.epoch_metrics(y, narrow)["macro_auc"] == pytest.approx(
        metrics.epoch_metrics(y, probabilities)["macro_auc"], abs=1e-4
    )


def test_shapes_that_do_not_belong_together_are_refused():
    y, probabilities = sample()
    with pytest.raises(ValueError, match=r"Received: \(399,\) and \(400, 4\)"):
        metrics.epoch_metrics(y[1:], probabilities)
    with pytest.raises(ValueError, match="n >= 1"):
        metrics.summarise(y[:0], probabilities[:0], HAM10000)
