"""Operating points: chosen by rules, frozen, applied unchanged."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from kderm.errors import UserError
from kderm.evaluation.decisions.operating_points import (
    RULES,
    Rule,
    choose_threshold,
    target_named,
    targets_of,
)
from kderm.evaluation.decisions.points import (
    PREVALENCES,
    FrozenPoint,
    apply_points,
    choose_points,
    operating_report,
)
from kderm.evaluation.predictions import make_predictions
from kderm.labels import BINARY, HAM10000, LabelSpace

FEW = 50


def scores(n=400, seed=0, digits=8):
    random = np.random.default_rng(seed)
    y = random.random(n) < 0.25
    return y, np.round(np.clip(0.3 * y + 0.7 * random.random(n), 0, 1), digits)


def predictions_of(n=300, seed=0, folds=3, space=HAM10000, y=None):
    random = np.random.default_rng(seed)
    k = len(space)
    y = random.integers(0, k, n) if y is None else np.asarray(y)
    probabilities = random.dirichlet(np.ones(k), len(y)) + 0.3 * np.eye(k)[y]
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(len(y))],
            "group_id": [f"g{i // 2}" for i in range(len(y))],
            "label": [space.codes[j] for j in y],
        }
    )
    if folds:
        frame["fold"] = (np.arange(len(y)) // 2) % folds
    frame[space.columns] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return make_predictions(frame, space)


def rates(y, score, threshold):
    """Sensitivity and specificity, counted by scikit-learn."""
    (clear, alarm), (missed, hit) = confusion_matrix(y, score >= threshold, labels=[False, True])
    return hit / (hit + missed), clear / (clear + alarm)


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 1.0])
def test_a_wanted_specificity_is_kept_with_the_highest_sensitivity_of_the_roc_curve(level, digits):
    y, score = scores(digits=digits)
    false, true, _ = roc_curve(y, score, drop_intermediate=False)
    best = true[false <= 1 - level + 1e-12].max()
    threshold = choose_threshold(y, score, Rule("specificity", level))
    if threshold is None:
        assert best == 0
    else:
        sensitivity, specificity = rates(y, score, threshold)
        assert specificity >= level - 1e-12
        assert sensitivity == pytest.approx(best)


@pytest.mark.parametrize("digits", [1, 2, 8])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 1.0])
def test_a_wanted_sensitivity_is_kept_with_the_highest_specificity_of_the_roc_curve(level, digits):
    y, score = scores(digits=digits)
    false, true, _ = roc_curve(y, score, drop_intermediate=False)
    best = 1 - false[true >= level - 1e-12].min()
    sensitivity, specificity = rates(
        y, score, choose_threshold(y, score, Rule("sensitivity", level))
    )
    assert sensitivity >= level - 1e-12
    assert specificity == pytest.approx(best)


@pytest.mark.parametrize("price", [0.2, 1, 10, 1000])
def test_no_other_threshold_costs_less(price):
    y, score = scores()

    def cost(threshold):
        flagged = score >= threshold
        return price * (y & ~flagged).sum() + (~y & flagged).sum()

    chosen = choose_threshold(y, score, Rule("cost", price))
    assert cost(chosen) == min(cost(threshold) for threshold in [*score, 2.0])


def test_shares_that_floats_cannot_hold_are_still_reached():
    # 9 of 10 positives is a sensitivity of 0.9, though 0.9 * 10 is no whole number in binary.
    y = np.repeat([True, False], 10)
    score = np.concatenate([np.linspace(0.5, 0.9, 10), np.linspace(0.1, 0.45, 10)])
    threshold = choose_threshold(y, score, Rule("sensitivity", 0.9))
    assert rates(y, score, threshold) == (0.9, 1.0)


def test_constant_scores_leave_a_wanted_specificity_without_a_threshold():
    y, _ = scores()
    constant = np.full(len(y), 0.3)
    assert choose_threshold(y, constant, Rule("specificity", 0.95)) is None
    assert choose_threshold(y, constant, Rule("sensitivity", 0.95)) == 0.3
    # A quarter is positive: flagging all pays from a price of three false alarms a miss.
    assert choose_threshold(y, constant, Rule("cost", 0.1)) is None
    assert choose_threshold(y, constant, Rule("cost", 100)) == 0.3


def test_melanoma_and_malignant_are_told_apart_where_they_differ():
    assert [target.name for target in targets_of(HAM10000)] == ["malignant", "mel"]
    assert [target.name for target in targets_of(BINARY)] == ["malignant"]
    alone = LabelSpace("custom", ("mel", "nv"), ("mel", "nv"), malignant=("mel",))
    assert [target.name for target in targets_of(alone)] == ["malignant"]
    unflagged = LabelSpace("custom", ("mel", "nv"), ("mel", "nv"))
    assert [target.name for target in targets_of(unflagged)] == ["mel"]


def test_every_rule_has_a_name_and_words_of_its_own():
    assert [rule.name for rule in RULES] == [
        "youden",
        "specificity_90",
        "specificity_95",
        "sensitivity_80",
        "sensitivity_90",
        "sensitivity_95",
        "cost_10",
    ]
    assert len({rule.words for rule in RULES}) == len(RULES)


def test_a_frozen_point_says_what_it_gives_where_it_was_chosen():
    predictions = predictions_of()
    points = choose_points(predictions, resamples=FEW)
    assert len(points) == 2 * len(RULES)
    for point in points:
        target = target_named(point.target, HAM10000)
        score = target.score(predictions.probabilities)
        expected = rates(target.truth(predictions.y), score, point.value)
        assert (point.sensitivity["value"], point.specificity["value"]) == pytest.approx(expected)
        assert point.sensitivity["low"] <= point.sensitivity["value"] <= point.sensitivity["high"]
        assert FrozenPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point


def test_frozen_points_are_applied_unchanged():
    points = choose_points(predictions_of(seed=0), resamples=FEW)
    elsewhere = predictions_of(seed=1, folds=0)
    for point, found in zip(points, apply_points(points, elsewhere, resamples=FEW), strict=True):
        assert found["threshold"] == point.value
        target = target_named(point.target, HAM10000)
        truth, score = target.truth(elsewhere.y), target.score(elsewhere.probabilities)
        flagged = score >= point.value
        expected = rates(truth, score, point.value)
        assert (found["sensitivity"]["value"], found["specificity"]["value"]) == pytest.approx(
            expected
        )
        assert found["ppv"]["value"] == pytest.approx(truth[flagged].mean())
        assert found["npv"]["value"] == pytest.approx((~truth[~flagged]).mean())
        assert found["flagged"] == flagged.sum()
        assert found["flagged_share"]["value"] == pytest.approx(flagged.mean())
        needed = found["number_needed_to_biopsy"]
        assert needed["value"] == pytest.approx(flagged.sum() / (flagged & truth).sum())
        assert needed["low"] <= needed["value"] <= needed["high"]


def test_at_the_tables_own_prevalence_bayes_rule_gives_the_counted_values():
    predictions = predictions_of(n=2000, space=BINARY, y=np.repeat([0, 0, 0, 0, 1], 400))
    (found, *_) = operating_report(predictions, resamples=FEW)["points"]
    assert PREVALENCES[2] == 0.2  # one in five above
    at = found["at_prevalence"][2]
    assert at["ppv"] == pytest.approx(found["ppv"]["value"])
    assert at["npv"] == pytest.approx(found["npv"]["value"])
    rare = found["at_prevalence"][0]
    assert rare["number_needed_to_biopsy"] > at["number_needed_to_biopsy"]


def test_an_external_table_of_benign_images_alone_has_specificity_only():
    points = choose_points(predictions_of(), resamples=FEW)
    nevi = predictions_of(folds=0, y=np.full(40, HAM10000.index("nv")))
    for found in apply_points(points, nevi, resamples=FEW):
        assert found["sensitivity"] == {"value": None, "low": None, "high": None}
        assert found["specificity"]["value"] is not None
        assert found["at_prevalence"] == []
        if found["flagged"]:
            assert found["ppv"]["value"] == 0
            assert found["number_needed_to_biopsy"]["value"] is None
    json.dumps(apply_points(points, nevi, resamples=FEW), allow_nan=False)


def test_points_of_another_label_space_are_refused():
    points = choose_points(predictions_of(), resamples=FEW)
    with pytest.raises(UserError, match="mel"):
        apply_points(points, predictions_of(space=BINARY, folds=0), resamples=FEW)
    harmless = LabelSpace("custom", ("a", "b"), ("a", "b"))
    with pytest.raises(UserError, match="malignant"):
        apply_points(points, predictions_of(space=harmless, folds=0), resamples=FEW)


def test_perfect_answers_have_no_misses_and_an_interval_that_admits_some():
    y = np.arange(70) % 7
    predictions = predictions_of(y=y)
    perfect = predictions.table.assign(
        **dict(zip(HAM10000.columns, np.eye(7)[predictions.y].T, strict=True))
    )
    report = operating_report(make_predictions(perfect, HAM10000), resamples=FEW)
    for found in report["points"]:
        assert found["sensitivity"]["value"] == found["specificity"]["value"] == 1
        assert found["number_needed_to_biopsy"]["value"] == 1
        assert found["sensitivity"]["low"] < 1


def test_thresholds_chosen_here_come_with_cross_fitted_numbers():
    predictions = predictions_of()
    report = operating_report(predictions, resamples=FEW)
    assert report["chosen_here"]
    rules = {rule.name: rule for rule in RULES}
    for found in report["points"]:
        target = target_named(found["target"], HAM10000)
        truth, score = target.truth(predictions.y), target.score(predictions.probabilities)
        flagged = np.zeros(len(truth), dtype=bool)
        for fold in range(3):
            inside = predictions.folds == fold
            threshold = choose_threshold(truth[~inside], score[~inside], rules[found["rule"]])
            flagged[inside] = score[inside] >= threshold
        honest = found["cross_fitted"]
        assert honest["sensitivity"]["value"] == pytest.approx(flagged[truth].mean())
        assert honest["specificity"]["value"] == pytest.approx((~flagged[~truth]).mean())
        assert honest["ppv"]["value"] == pytest.approx(truth[flagged].mean())
        assert honest["npv"]["value"] == pytest.approx((~truth[~flagged]).mean())
        assert honest["flagged_share"]["value"] == pytest.approx(flagged.mean())
        needed = honest["number_needed_to_biopsy"]
        assert needed["value"] == pytest.approx(flagged.sum() / (flagged & truth).sum())
        assert needed["low"] == pytest.approx(1 / honest["ppv"]["high"])
        assert needed["high"] == pytest.approx(1 / honest["ppv"]["low"])


def test_a_class_in_one_fold_only_has_no_cross_fitted_numbers():
    predictions = predictions_of(y=np.repeat([5, 4, 5, 5], [100, 2, 100, 98]))
    inside = predictions.y == 4
    table = predictions.table.assign(fold=np.where(inside, 0, predictions.table["fold"]))
    report = operating_report(make_predictions(table, HAM10000), resamples=FEW)
    assert {point["name"]: point["cross_fitted"] for point in report["points"]}[
        "mel_youden"
    ] is None


def test_with_frozen_points_nothing_is_chosen():
    points = choose_points(predictions_of(), resamples=FEW)
    elsewhere = predictions_of(seed=1)
    report = operating_report(elsewhere, points, resamples=FEW)
    assert not report["chosen_here"]
    assert report["points"] == apply_points(points, elsewhere, resamples=FEW)
    assert all("cross_fitted" not in point for point in report["points"])


def test_a_rule_of_a_users_own_is_chosen_by_and_told_by_its_name():
    predictions = predictions_of()
    points = choose_points(predictions, [Rule("cost", 3.0)], resamples=FEW)
    assert [point.name for point in points] == ["malignant_cost_3", "mel_cost_3"]
    report = operating_report(predictions, points, resamples=FEW)
    assert report["rules"] == {"cost_3": "cost_3"}
    assert operating_report(predictions, resamples=FEW)["rules"]["youden"] == RULES[0].words


def test_what_could_not_be_chosen_is_named_with_the_reason():
    nevi = predictions_of(y=np.full(20, HAM10000.index("nv")))
    report = operating_report(nevi, resamples=FEW)
    assert report["points"] == []
    assert report["not_chosen"] == [
        {"target": name, "rule": None, "reason": "no image is positive"}
        for name in ("malignant", "mel")
    ]
    constant = predictions_of().table.assign(**dict.fromkeys(HAM10000.columns, 1 / 7))
    report = operating_report(make_predictions(constant, HAM10000), resamples=FEW)
    told = {(row["target"], row["rule"]) for row in report["not_chosen"]}
    assert ("mel", "specificity_95") in told
    assert {point["rule"] for point in report["points"]} >= {"youden", "sensitivity_95"}


@pytest.mark.parametrize("y", [[5, 4], [5], [4, 4]])
def test_one_or_two_images_give_an_answer(y):
    found = operating_report(predictions_of(y=y, folds=0), resamples=FEW)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_order_of_the_rows_changes_no_value():
    predictions = predictions_of()
    shuffled = make_predictions(predictions.table.sample(frac=1, random_state=3), HAM10000)
    before = choose_points(predictions, resamples=FEW)
    after = choose_points(shuffled, resamples=FEW)
    assert before == after


def test_copies_of_every_group_leave_the_threshold_and_narrow_the_interval():
    table = predictions_of(n=100, folds=0).table
    copies = [
        table.assign(image_id=table["image_id"] + f"_{i}", group_id=table["group_id"] + f"_{i}")
        for i in range(4)
    ]
    once = choose_points(make_predictions(table, HAM10000), resamples=200)
    many = choose_points(make_predictions(pd.concat(copies), HAM10000), resamples=200)
    for one, four in zip(once, many, strict=True):
        assert one.value == four.value
        assert one.specificity["value"] == pytest.approx(four.specificity["value"])

    def width(found):
        return found["high"] - found["low"]

    assert width(many[0].specificity) < 0.75 * width(once[0].specificity)
