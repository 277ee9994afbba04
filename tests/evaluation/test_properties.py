"""What must hold of every set of predictions, searched for counterexamples by hypothesis."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kderm.evaluation import metrics
from kderm.evaluation.intervals import group_intervals
from kderm.labels import LabelSpace

K = 3
SPACE = LabelSpace("custom", ("a", "b", "c"), ("A", "B", "C"), malignant=("b", "c"))
ORDINARY = settings(max_examples=60, deadline=None, derandomize=True)
SLOW = settings(max_examples=15, deadline=None, derandomize=True)


@st.composite
def predictions(draw, least=1, most=30):
    """Truth and probabilities of small fractions, so that ties of all kinds occur."""
    n = draw(st.integers(least, most))
    y = draw(st.lists(st.integers(0, K - 1), min_size=n, max_size=n))
    odds = draw(st.lists(st.tuples(*[st.integers(0, 4)] * K).filter(any), min_size=n, max_size=n))
    odds = np.array(odds, dtype=float)
    return np.array(y), odds / odds.sum(axis=1, keepdims=True)


@st.composite
def ranked(draw):
    """Positives, negatives and their scores, both sides present, with many ties."""
    n = draw(st.integers(2, 40))
    positive = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda s: len({*s}) > 1))
    score = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    return np.array(positive), np.array(score, dtype=float)


def scores_of(y, probabilities, weights=None):
    card = metrics.Scorecard(y, probabilities, SPACE)
    return card(np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float))


def assert_same(first, second, within=1e-12):
    assert set(first) == set(second)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, abs=within, nan_ok=True), name


@ORDINARY
@given(predictions(), st.randoms(use_true_random=False))
def test_permuting_the_images_changes_nothing(given_predictions, random):
    y, probabilities = given_predictions
    order = list(range(len(y)))
    random.shuffle(order)
    assert_same(scores_of(y, probabilities), scores_of(y[order], probabilities[order]))


@ORDINARY
@given(predictions(), st.permutations(range(K)))
def test_permuting_the_classes_permutes_their_numbers_and_no_others(given_predictions, order):
    y, probabilities = given_predictions
    codes = tuple(SPACE.codes[j] for j in order)
    moved = LabelSpace("registered", codes, codes, SPACE.malignant)
    before = scores_of(y, probabilities)
    del before["quadratic_kappa"]  # the one number for which the order counts
    after = metrics.Scorecard(np.argsort(order)[y], probabilities[:, order], moved)
    assert_same(before, after(np.ones(len(y))))


@ORDINARY
@given(predictions(), st.data())
def test_a_whole_weight_is_as_many_copies_of_the_image(given_predictions, data):
    y, probabilities = given_predictions
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    assume(weights.any())
    copies = np.repeat(np.arange(len(y)), weights)
    weighted = scores_of(y, probabilities, weights)
    copied = scores_of(y[copies], probabilities[copies])
    if set(y) != set(y[copies]):  # then a mean over classes is over fewer, which weights tell not
        means = [name for name in weighted if name == "balanced_accuracy" or "macro_" in name]
        assert len(means) == 6
        assert np.isnan([weighted.pop(name) for name in means]).all()
        copied = {name: value for name, value in copied.items() if name not in means}
    assert_same(weighted, copied)


@ORDINARY
@given(predictions(), st.floats(0.01, 100))
def test_the_scale_of_the_weights_does_not_matter(given_predictions, scale):
    y, probabilities = given_predictions
    scaled = scores_of(y, probabilities, np.full(len(y), scale))
    assert_same(scores_of(y, probabilities), scaled, within=1e-9)


@ORDINARY
@given(st.lists(st.integers(0, K - 1), min_size=2, max_size=30).filter(lambda y: len({*y}) > 1))
def test_a_perfect_classifier_scores_one_throughout(y):
    y = np.array(y)
    found = scores_of(y, np.eye(K)[y])
    for name, value in found.items():
        if name in ("log_loss", "brier"):
            assert value == pytest.approx(0, abs=1e-12), name
        elif "pauc_80" in name:
            assert np.isnan(value) or value == pytest.approx(0.2, abs=1e-12), name
        else:
            assert np.isnan(value) or value == pytest.approx(1, abs=1e-12), name
    assert not np.isnan(found["macro_auc"])
    assert not np.isnan(found["mcc"])


@ORDINARY
@given(predictions())
def test_every_score_lies_in_its_range(given_predictions):
    found = scores_of(*given_predictions)
    slack = 1e-12
    for name, value in found.items():
        if np.isnan(value) or name == "log_loss":
            continue
        low = -1 if name in ("kappa", "mcc", "quadratic_kappa") else 0
        high = 2 if name == "brier" else 0.2 if "pauc_80" in name else 1
        assert low - slack <= value <= high + slack, name


@ORDINARY
@given(ranked())
def test_turning_the_scores_around_turns_the_area_around(given_ranks):
    positive, score = given_ranks
    area = metrics.binary_auc(positive, score)
    assert metrics.binary_auc(positive, -score) == pytest.approx(1 - area, abs=1e-12)
    assert metrics.binary_auc(~positive, score) == pytest.approx(1 - area, abs=1e-12)


@ORDINARY
@given(ranked())
def test_only_the_order_of_the_scores_counts(given_ranks):
    positive, score = given_ranks
    ones = np.ones(len(score))
    found = metrics.RankedScores(positive, score).scores(ones)
    assert metrics.RankedScores(positive, np.exp(score / 3) - 7).scores(ones) == found


@ORDINARY
@given(ranked(), st.floats(0, 0.99))
def test_the_partial_area_falls_from_the_whole_one_as_more_sensitivity_is_asked(given_ranks, t):
    positive, score = given_ranks
    whole = metrics.partial_auc(positive, score, 0)
    part = metrics.partial_auc(positive, score, t)
    assert whole == pytest.approx(metrics.binary_auc(positive, score), abs=1e-12)
    assert -1e-12 <= part <= min(whole, 1 - t) + 1e-12
    assert metrics.partial_auc(positive, score, (1 + t) / 2) <= part + 1e-12


@SLOW
@given(predictions(least=4), st.integers(2, 6), st.randoms(use_true_random=False))
def test_permuting_the_images_leaves_every_interval_as_it_was(given_predictions, groups, random):
    y, probabilities = given_predictions
    of = np.arange(len(y)) % groups
    order = list(range(len(y)))
    random.shuffle(order)
    first = group_intervals(metrics.Scorecard(y, probabilities, SPACE), of, resamples=40)
    card = metrics.Scorecard(y[order], probabilities[order], SPACE)
    second = group_intervals(card, of[order], resamples=40)
    for name, interval in first.items():
        assert (second[name].low, second[name].high) == pytest.approx(
            (interval.low, interval.high), abs=1e-12, nan_ok=True
        ), name


@SLOW
@given(st.integers(0, 10_000))
def test_repeating_every_group_leaves_the_points_and_halves_the_intervals_four_times_as_many(seed):
    """Copies under names of their own: what a set four times as large would give."""
    random = np.random.default_rng(seed)
    y = np.arange(60) % K
    odds = random.random((60, K)) + 0.4 * np.eye(K)[y]
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    groups = np.arange(60) // 2
    many_y, many = np.tile(y, 4), np.tile(probabilities, (4, 1))
    names = np.concatenate([groups + 100 * copy for copy in range(4)])
    assert_same(scores_of(y, probabilities), scores_of(many_y, many))
    once = group_intervals(metrics.Scorecard(y, probabilities, SPACE), groups, resamples=300)
    four = group_intervals(metrics.Scorecard(many_y, many, SPACE), names, resamples=300)
    for name in ("macro_auc", "accuracy", "log_loss", "brier", "kappa", "mcc", "malignant_auc"):
        ratio = (four[name].high - four[name].low) / (once[name].high - once[name].low)
        assert 0.35 < ratio < 0.7, name
