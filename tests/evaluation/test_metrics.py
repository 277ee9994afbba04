"""Metrics against scikit-learn, against the ISIC scorers' reference values, and at the edges."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from kderm.evaluation import metrics
from kderm.labels import BINARY, HAM10000, LabelSpace

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


def partial_auc_of_isic_2024(positive, score, weights, min_tpr):
    """As its organisers define it: labels and scores flipped, integrated up to 1 - min_tpr."""
    false, true, _ = oracle.roc_curve(
        ~positive, -score, sample_weight=weights, drop_intermediate=False
    )
    stop = np.searchsorted(false, 1 - min_tpr, side="right")
    last = np.interp(1 - min_tpr, false[stop - 1 : stop + 1], true[stop - 1 : stop + 1])
    return oracle.auc(np.append(false[:stop], 1 - min_tpr), np.append(true[:stop], last))


def auc_above_of_isic_2018(positive, score, weights, min_tpr):
    """As its scorer defines it: the curve from the interpolated point at min_tpr onwards."""
    false, true, _ = oracle.roc_curve(
        positive, score, sample_weight=weights, drop_intermediate=False
    )
    first = np.searchsorted(true, min_tpr, side="left")
    start = np.interp(min_tpr, true[first - 1 : first + 1], false[first - 1 : first + 1])
    return oracle.auc(np.append(start, false[first:]), np.append(min_tpr, true[first:]))


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("min_tpr", [0.5, 0.8, 0.88])
def test_weighted_partial_areas_equal_the_challenges_definitions(digits, min_tpr):
    y, probabilities = sample(digits=digits)
    weights = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    for j in range(K):
        positive, score = y == j, probabilities[:, j]
        found = metrics.RankedScores(positive, score).scores(weights, min_tpr)
        for name, definition in (
            ("partial_auc", partial_auc_of_isic_2024),
            ("auc_above", auc_above_of_isic_2018),
        ):
            expected = definition(positive, score, weights, min_tpr)
            assert found[name] == pytest.approx(expected, abs=1e-12), (name, j)


def test_a_curve_that_runs_level_at_the_sensitivity_counts_from_where_it_is_reached():
    """Five positives, the fourth reached before a run of negatives: 0.8 is met at its start."""
    positive = np.array([1, 1, 1, 1, 0, 0, 1, 0], bool)
    score = np.arange(8.0)[::-1]
    assert metrics.auc_sens_80(positive, score) == pytest.approx(0.8 * 2 / 3 + 1 / 3, abs=1e-12)
    assert metrics.partial_auc(positive, score) == pytest.approx(0.2 / 3, abs=1e-12)


def test_a_partial_area_needs_a_sensitivity_below_one():
    with pytest.raises(ValueError, match=r"min_tpr in \[0, 1\). Received: 1"):
        metrics.partial_auc(*isic_reference(), 1)


@pytest.mark.parametrize("digits", [1, 8])
def test_agreement_equals_scikit_learns_with_ties_as_an_answer_of_their_own(digits):
    y, probabilities = sample(digits=digits)
    weights = np.random.default_rng(3).integers(0, 4, len(y)).astype(float)
    decided = metrics.decided_class(probabilities)
    assert (decided == metrics.UNDECIDED).any() == (digits == 1)
    counts = metrics.decision_counts(y, decided, K, weights)
    of = {"sample_weight": weights}
    assert float(metrics.cohen_kappa(counts)) == pytest.approx(
        oracle.cohen_kappa_score(y, decided, **of), abs=1e-12
    )
    assert float(metrics.matthews_correlation(counts)) == pytest.approx(
        oracle.matthews_corrcoef(y, decided, **of), abs=1e-12
    )


def test_quadratic_kappa_equals_scikit_learns():
    y, probabilities = sample(digits=8)
    weights = np.random.default_rng(3).integers(0, 4, len(y)).astype(float)
    decided = metrics.decided_class(probabilities)
    found = metrics.quadratic_kappa(metrics.decision_counts(y, decided, K, weights))
    expected = oracle.cohen_kappa_score(y, decided, weights="quadratic", sample_weight=weights)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_an_undecided_image_is_as_far_off_as_the_farthest_class():
    counts = np.array([[5.0, 0, 0, 1], [0, 5, 0, 0], [0, 0, 5, 0]])
    as_far = np.array([[5.0, 0, 1, 0], [0, 5, 0, 0], [0, 0, 5, 0]])
    near = np.array([[5.0, 1, 0, 0], [0, 5, 0, 0], [0, 0, 5, 0]])
    found, far, close = (float(metrics.quadratic_kappa(table)) for table in (counts, as_far, near))
    assert found == pytest.approx(far, abs=0.02)
    assert found < close - 0.1


def test_quadratic_kappa_is_told_only_where_the_order_of_classes_can_mean_something():
    y, probabilities = sample()
    three = probabilities[:, :3] / probabilities[:, :3].sum(axis=1, keepdims=True)
    nominal = LabelSpace("registered", ("x", "y", "z"), ("X", "Y", "Z"))
    assert "quadratic_kappa" in metrics.summarise(y, probabilities, SPACE)
    assert "quadratic_kappa" not in metrics.summarise(np.minimum(y, 2), three, nominal)
    two = metrics.summarise((y > 0).astype(int), np.eye(2)[(three[:, 0] < 0.6).astype(int)], BINARY)
    assert two["quadratic_kappa"] == pytest.approx(two["kappa"], abs=1e-12)


def test_truth_and_decisions_of_one_class_have_no_kappa_and_no_correlation():
    summary = metrics.summarise(np.zeros(3, int), np.eye(K)[[0, 0, 0]], SPACE)
    assert np.isnan(summary["kappa"])
    assert np.isnan(summary["mcc"])
    assert summary["accuracy"] == 1


def test_a_batch_of_weights_gives_what_each_gives_alone():
    y, probabilities = sample()
    weights = np.random.default_rng(4).integers(0, 3, (5, len(y))).astype(float)
    weights[2, y == 3] = 0  # a resample without one class
    card = metrics.Scorecard(y, probabilities, SPACE)
    together = card(weights)
    for row, alone in enumerate(map(card, weights)):
        assert set(alone) == set(together)
        for name, value in alone.items():
            assert isinstance(value, float)
            assert together[name].shape == (5,)
            assert together[name][row] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert np.isnan(together["auc/d"][2])
    # The mean of the other classes would be another quantity than that of the other resamples.
    for name in ("macro_auc", "balanced_accuracy", "macro_f1", "macro_average_precision"):
        assert np.isnan(together[name]).tolist() == [False, False, True, False, False]


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
    assert metrics.partial_auc(y, score, 0.80) == pytest.approx(0.1331122533576521, abs=1e-12)
    assert metrics.partial_auc(y, score, 0.88) == pytest.approx(0.07194826728569059, abs=1e-12)
    assert metrics.partial_auc(y, y.astype(float), 0.8) == pytest.approx(0.2, abs=1e-12)
    assert metrics.partial_auc(y, np.ones(len(y)), 0.8) == pytest.approx(0.02, abs=1e-12)


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
