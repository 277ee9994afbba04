import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kderm.errors import UserError
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.uncertainty.conformal import (
    METHODS,
    ConformalSets,
    aps_scores,
    cross_conformal,
    fit_conformal,
    fit_sets,
    images_needed,
    lac_scores,
)
from kderm.evaluation.uncertainty.conformal_report import conformal_report
from kderm.labels import label_space

FOUR = label_space("custom", ["a", "b", "c", "d"], ["c", "d"])


def answers(n, seed=7, shares=(0.6, 0.25, 0.12, 0.03), push=1.5):
    """Truth and probabilities of n independent images, right more often than not."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), n, p=shares)
    logits = rng.normal(size=(n, len(shares)))
    logits[np.arange(n), y] += push
    return y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def table(y, p, folds=5, groups=None):
    n = len(y)
    rows = pd.DataFrame(p, columns=FOUR.columns).assign(
        image_id=[f"i{i:05d}" for i in range(n)],
        group_id=[f"g{i}" for i in (range(n) if groups is None else groups)],
        label=[FOUR.codes[j] for j in y],
    )
    if folds:
        rows["fold"] = np.arange(n) % folds
    return make_predictions(rows, FOUR)


def p_value_sets(y, p, new, scores, coverage):
    """Slow definition: a class is in the set if its p-value among its own images is over alpha."""
    held, fresh, k = scores(p), scores(new), p.shape[1]
    sets = np.zeros(new.shape, dtype=bool)
    for i in range(len(new)):
        for j in range(k):
            own = held[y == j, j]
            at_least = int((own >= fresh[i, j]).sum()) + 1
            sets[i, j] = at_least > (len(own) + 1) * (1 - coverage) + 1e-9
    return sets


# crepes 0.9.1, ConformalClassifier fitted with hinge(p[:400], classes, y[:400]) and bins=y[:400],
# predict_p(hinge(p[400:]), bins=c, smoothing=False) > 1 - coverage, on answers(600).
CREPES = {
    0.8: ([102, 66, 25, 35], [3, 166, 31, 0, 0], 0.755),
    0.9: ([128, 77, 42, 39], [0, 120, 74, 6, 0], 0.865),
    0.95: ([143, 99, 77, 200], [0, 2, 93, 89, 16], 0.94),
}


@pytest.mark.parametrize("coverage", CREPES)
def test_sets_are_those_of_crepes(coverage):
    y, p = answers(600)
    sets = fit_sets(y[:400], p[:400], FOUR, coverage, "lac").sets(p[400:])
    of_class, of_size, covered = CREPES[coverage]
    assert sets.sum(axis=0).tolist() == of_class
    assert np.bincount(sets.sum(axis=1), minlength=5).tolist() == of_size
    assert sets[np.arange(200), y[400:]].mean() == pytest.approx(covered)


def test_sets_are_those_of_the_crepes_that_is_installed():
    crepes, extras = pytest.importorskip("crepes"), pytest.importorskip("crepes.extras")
    y, p = answers(600, seed=3)
    held, new = extras.hinge(p[:400], np.arange(4), y[:400]), extras.hinge(p[400:])
    peer = crepes.ConformalClassifier().fit(held, bins=y[:400], seed=0)
    expected = np.stack(
        [peer.predict_p(new, bins=np.full(200, c), smoothing=False)[:, c] > 0.15 for c in range(4)],
        axis=1,
    )
    np.testing.assert_array_equal(
        fit_sets(y[:400], p[:400], FOUR, 0.85, "lac").sets(p[400:]), expected
    )


@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.95])
@pytest.mark.parametrize("name", METHODS)
def test_sets_are_those_of_the_p_values(name, coverage):
    scores = {"lac": lac_scores, "aps": aps_scores}[name]
    y, p = answers(260)
    # Rounded, so that scores tie within and between the classes.
    p = np.round(p, 1) / np.round(p, 1).sum(axis=1, keepdims=True)
    sets = fit_sets(y[:200], p[:200], FOUR, coverage, name).sets(p[200:])
    np.testing.assert_array_equal(sets, p_value_sets(y[:200], p[:200], p[200:], scores, coverage))


def test_aps_scores_are_the_probability_above_each_class():
    scores = aps_scores(np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]))
    np.testing.assert_allclose(scores, [[0, 0.5, 0.8], [0, 0, 0.8]])


@pytest.mark.parametrize("name", METHODS)
def test_every_class_is_covered_as_promised_on_average_over_many_fits(name):
    covered = np.zeros((60, 4))
    for seed in range(len(covered)):
        y, p = answers(900, seed=seed, shares=(0.4, 0.3, 0.2, 0.1), push=0.5)
        sets = fit_sets(y[:450], p[:450], FOUR, 0.8, name).sets(p[450:])
        right = sets[np.arange(450), y[450:]]
        covered[seed] = [right[y[450:] == j].mean() for j in range(4)]
    standard_error = covered.std(axis=0) / math.sqrt(len(covered))
    assert (covered.mean(axis=0) > 0.8 - 3 * standard_error).all()
    # One over the images of the rarest class is what the rank may add.
    assert (covered.mean(axis=0) < 0.8 + 1 / 45 + 3 * standard_error).all()


@given(st.integers(0, 10_000), st.sampled_from(METHODS))
@settings(deadline=None, max_examples=30)
def test_a_higher_coverage_never_takes_a_class_out_and_the_order_of_rows_changes_nothing(
    seed, name
):
    y, p = answers(120, seed=seed)
    less = fit_sets(y, p, FOUR, 0.7, name)
    more = fit_sets(y, p, FOUR, 0.9, name)
    assert (less.sets(p) <= more.sets(p)).all()
    turned = np.random.default_rng(seed).permutation(len(y))
    assert fit_sets(y[turned], p[turned], FOUR, 0.7, name) == less


@pytest.mark.parametrize("name", METHODS)
def test_the_promise_is_kept_on_the_very_images_of_the_fit(name):
    y, p = answers(500)
    sets = fit_sets(y, p, FOUR, 0.9, name).sets(p)
    right = sets[np.arange(500), y]
    assert all(right[y == j].mean() >= 0.9 for j in range(4))


def test_aps_sets_always_hold_the_most_probable_class():
    y, p = answers(300, push=3)
    sets = fit_sets(y, p, FOUR, 0.6, "aps").sets(p)
    assert sets[np.arange(300), p.argmax(axis=1)].all()


def test_a_class_with_too_few_images_is_in_every_set_and_one_without_in_none():
    assert images_needed(0.9) == 9
    y = np.array([0] * 9 + [1] * 8 + [2] * 3)
    p = answers(20)[1]
    fitted = fit_sets(y, p, FOUR, 0.9, "lac")
    assert np.isfinite(fitted.thresholds[0])
    assert fitted.thresholds[1:] == (math.inf, math.inf, -math.inf)
    sets = fitted.sets(p)
    assert sets[:, 1].all()
    assert not sets[:, 3].any()


def test_thresholds_survive_the_bundle():
    y = np.array([0] * 30 + [1] * 30 + [2] * 3)
    p = answers(63)[1]
    for name in METHODS:
        fitted = fit_sets(y, p, FOUR, 0.9, name)
        assert ConformalSets.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_a_bundle_with_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="aps"):
        ConformalSets.from_dict({"method": "raps", "coverage": 0.9, "classes": {}})


def test_a_set_is_told_with_its_most_probable_class_first():
    fitted = ConformalSets("lac", 0.9, FOUR.codes, (0.9, 0.9, 0.5, 0.5), (9, 9, 9, 9))
    p = np.array([[0.2, 0.7, 0.1, 0.0], [0.05, 0.05, 0.45, 0.45]])
    assert fitted.named(p) == ["b a", ""]


@pytest.mark.parametrize("coverage", [0, 1, 1.2, -0.1])
def test_a_coverage_that_cannot_be_is_refused(coverage):
    y, p = answers(20)
    with pytest.raises(UserError, match=r"such as 0\.9"):
        fit_conformal(table(y, p), coverage)


def test_an_image_does_not_see_the_scores_of_its_own_fold():
    y, p = answers(400)
    predictions = table(y, p)
    sets = cross_conformal(predictions, 0.9)
    own = predictions.folds == 2
    expected = fit_sets(y[~own], p[~own], FOUR, 0.9, "lac").sets(p[own])
    np.testing.assert_array_equal(sets[own], expected)


def test_a_table_without_folds_is_divided_by_its_groups():
    y, p = answers(300)
    predictions = table(y, p, folds=0, groups=np.arange(300) // 3)
    sets = cross_conformal(predictions, 0.9, seed=3)
    np.testing.assert_array_equal(sets, cross_conformal(predictions, 0.9, seed=3))
    turned = predictions.table.sample(frac=1, random_state=0)
    again = cross_conformal(make_predictions(turned, FOUR), 0.9, seed=3)
    np.testing.assert_array_equal(again, sets[turned.index])


def test_the_report_counts_what_the_sets_do():
    y, p = answers(1500)
    predictions = table(y, p)
    sets = cross_conformal(predictions, 0.8, "lac")
    right, size = sets[np.arange(1500), y], sets.sum(axis=1)
    numbers = conformal_report(predictions, 0.8, resamples=50)["methods"]["lac"]
    assert numbers["coverage"]["value"] == pytest.approx(right.mean())
    assert numbers["mean_size"]["value"] == pytest.approx(size.mean())
    assert numbers["single_right"]["value"] == pytest.approx(right[size == 1].mean())
    assert numbers["sizes"] == np.bincount(size, minlength=5).tolist()
    worst = min(range(4), key=lambda j: right[y == j].mean())
    assert numbers["least_coverage"]["code"] == FOUR.codes[worst]
    for j, code in enumerate(FOUR.codes):
        own = numbers["per_class"][code]
        assert own["n"] == (y == j).sum()
        assert own["coverage"]["value"] == pytest.approx(right[y == j].mean())
        assert own["coverage"]["low"] <= own["coverage"]["value"] <= own["coverage"]["high"]
        assert own["in_sets"] == pytest.approx(sets[:, j].mean())
    cleared = ~sets[:, [2, 3]].any(axis=1)
    assert numbers["cleared"]["share"]["value"] == pytest.approx(cleared.mean())
    missed = cleared[np.isin(y, [2, 3])].mean()
    assert numbers["cleared"]["malignant_missed"]["value"] == pytest.approx(missed)


def test_the_order_of_rows_changes_no_number_of_the_report():
    predictions = table(*answers(300))
    turned = make_predictions(predictions.table.sample(frac=1, random_state=5), FOUR)
    one, other = (conformal_report(each, resamples=1)["methods"] for each in (predictions, turned))
    for name in METHODS:
        assert one[name]["sizes"] == other[name]["sizes"]
        assert one[name]["thresholds"] == other[name]["thresholds"]


def test_frozen_sets_are_applied_unchanged_to_another_table():
    frozen = fit_conformal(table(*answers(600)), 0.9, "aps")
    y, p = answers(200, seed=1)
    report = conformal_report(table(y, p, folds=0), frozen=frozen, resamples=20)
    assert report["how"].startswith("frozen")
    assert list(report["methods"]) == ["aps"]
    numbers = report["methods"]["aps"]
    assert numbers["coverage"]["value"] == frozen.sets(p)[np.arange(200), y].mean()
    assert ConformalSets.from_dict(numbers["thresholds"]) == frozen


def test_frozen_sets_over_other_classes_are_refused():
    frozen = ConformalSets("lac", 0.9, ("x", "y"), (0.5, 0.5), (20, 20))
    with pytest.raises(UserError, match="x, y"):
        conformal_report(table(*answers(20)), frozen=frozen)


def test_an_absent_class_has_no_coverage_and_the_report_is_json_without_nan():
    y, p = answers(100, shares=(0.5, 0.3, 0.2, 0.0))
    report = conformal_report(table(y, p), resamples=20)
    text = json.dumps(report, allow_nan=False)
    assert "NaN" not in text
    absent = report["methods"]["lac"]["per_class"]["d"]
    assert absent["coverage"] == {"value": None, "low": None, "high": None}
    assert absent["never"]
    assert absent["in_sets"] == 0


@pytest.mark.parametrize("folds", [0, 1])
def test_one_group_or_one_fold_leaves_nothing_to_fit_on_and_says_so(folds):
    y, p = answers(12)
    report = conformal_report(table(y, p, folds=folds, groups=np.zeros(12, dtype=int)))
    assert "two folds or groups" in report["reason"]
    assert report["methods"] == {}


def test_constant_scores_put_every_class_in_every_set():
    y = np.arange(200) % 4
    report = conformal_report(table(y, np.full((200, 4), 0.25)), resamples=5)
    for numbers in report["methods"].values():
        assert numbers["mean_size"]["value"] == 4
        assert numbers["coverage"]["value"] == 1


def test_two_images_get_an_answer():
    report = conformal_report(table(np.array([0, 1]), answers(2)[1], folds=2), resamples=5)
    numbers = report["methods"]["lac"]
    # Each class is in one fold only, so the other fold's thresholds have no image of it.
    assert numbers["coverage"]["value"] == 0
    assert numbers["per_class"]["a"]["always"]


def test_a_class_that_is_always_covered_has_the_exact_interval_over_groups():
    """Two images a group; every set of class a holds it, none of the sets is empty."""
    y = np.arange(200) // 2 % 4
    p = np.full((200, 4), 0.1)
    p[np.arange(200), y] = 0.7
    report = conformal_report(table(y, p, folds=0, groups=np.arange(200) // 2), resamples=50)
    for own in report["methods"].values():
        of_class, of_all = 0.025 ** (1 / 25), 0.025 ** (1 / 100)
        coverage = own["per_class"]["a"]["coverage"]
        assert coverage == {"value": 1, "low": pytest.approx(of_class), "high": 1}
        assert own["coverage"] == {"value": 1, "low": pytest.approx(of_all), "high": 1}
        assert own["empty"] == {"value": 0, "low": 0, "high": pytest.approx(1 - of_all)}
        missed = own["cleared"]["malignant_missed"]
        assert missed["high"] == pytest.approx(1 - 0.025 ** (1 / 50))
        # A mean size is no share: all sets have one class, and that is all there is to say.
        assert own["per_class"]["a"]["mean_size"] == {"value": 1, "low": 1, "high": 1}
