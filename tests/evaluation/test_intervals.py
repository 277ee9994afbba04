"""Group-bootstrap intervals: what is resampled, how wide, and where none can be had."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from kderm.evaluation import intervals
from kderm.evaluation.intervals import (
    Interval,
    batched,
    difference_ends,
    exact_shares,
    group_intervals,
)
from kderm.evaluation.metrics import Scorecard
from kderm.labels import BINARY, HAM10000


def mean_of(values):
    return lambda weights: {"mean": float(values @ weights / weights.sum())}


def test_a_resample_is_a_whole_number_of_draws_of_whole_groups():
    groups = np.array(["a", "b", "a", "c", "c", "c"])
    seen = []

    def statistic(weights):
        seen.append(weights)
        return {"n": weights.sum()}

    group_intervals(statistic, groups, resamples=50)
    for weights in seen[1:]:
        assert weights[0] == weights[2]
        assert weights[3] == weights[4] == weights[5]
        assert weights[0] + weights[1] + weights[3] == 3
        assert (weights == weights.round()).all()
    assert len({tuple(weights) for weights in seen}) > 5


def test_copies_of_images_in_one_group_leave_the_interval_as_it_was():
    random = np.random.default_rng(0)
    values = random.normal(size=120)
    once = group_intervals(mean_of(values), np.arange(120), resamples=400)["mean"]
    copied = np.repeat(values, 4)
    grouped = group_intervals(mean_of(copied), np.repeat(np.arange(120), 4), resamples=400)["mean"]
    by_image = group_intervals(mean_of(copied), np.arange(480), resamples=400)["mean"]
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    # Taking copies for independent images halves the interval.
    assert (by_image.high - by_image.low) / (once.high - once.low) == pytest.approx(0.5, abs=0.1)


def test_the_interval_of_a_mean_is_close_to_the_textbook_one():
    values = np.random.default_rng(1).normal(size=500)
    found = group_intervals(mean_of(values), np.arange(500), resamples=2000)["mean"]
    half = 1.96 * values.std(ddof=1) / np.sqrt(500)
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_auc_intervals_equal_those_of_an_explicit_bootstrap():
    """Oracle: repeat the rows of each resample and let scikit-learn do the rest."""
    random = np.random.default_rng(2)
    groups = np.sort(random.integers(10, 50, 150)).astype(str)
    y = random.integers(0, 2, 150)
    score = np.round(np.clip(0.3 * y + 0.7 * random.random(150), 0, 1), 1)
    card = Scorecard(y, np.stack([1 - score, score], axis=1), BINARY)
    found = group_intervals(card, groups, resamples=200, seed=7)["auc/malignant"]
    names = np.unique(groups)
    draw = np.random.default_rng(7)
    values = []
    for _ in range(200):
        drawn = draw.integers(0, len(names), len(names))
        rows = np.concatenate([np.flatnonzero(groups == names[g]) for g in drawn])
        values.append(roc_auc_score(y[rows], score[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(3).normal(size=60)
    first, again, other = (
        group_intervals(mean_of(values), np.arange(60), resamples=100, seed=seed)["mean"]
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_a_wider_level_gives_a_wider_interval():
    values = np.random.default_rng(4).normal(size=60)
    narrow, wide = (
        group_intervals(mean_of(values), np.arange(60), resamples=300, level=level)["mean"]
        for level in (0.5, 0.95)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_group_carries_no_interval():
    found = group_intervals(mean_of(np.arange(9.0)), np.full(9, "only"), resamples=20)["mean"]
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_a_class_in_a_single_group_has_no_interval_but_the_rest_has():
    random = np.random.default_rng(5)
    y = np.zeros(60, int)
    y[:3] = 1
    groups = np.concatenate([[0, 0, 0], np.arange(1, 58)])
    score = random.random(60)
    found = group_intervals(
        Scorecard(y, np.stack([1 - score, score], axis=1), BINARY), groups, resamples=200
    )
    assert np.isnan(found["auc/malignant"].low)
    assert found["accuracy"].low < found["accuracy"].high


MEANS = ("macro_auc", "balanced_accuracy", "macro_f1", "macro_average_precision")


@pytest.mark.parametrize("rare_groups", [1, 2])
def test_a_mean_over_classes_has_no_interval_where_one_of_them_has_none(rare_groups):
    """Without the rare class, which is always wrong, the mean of the others is far above."""
    y = np.append(np.repeat(np.arange(6), 60), [6, 6])
    odds = np.exp(np.random.default_rng(0).normal(size=(362, 7)) + 1.8 * np.eye(7)[y])
    odds[y == 6, 6] = 0
    card = Scorecard(y, odds / odds.sum(axis=1, keepdims=True), HAM10000)
    groups = np.append(np.arange(360), [900, 900 + rare_groups - 1])
    value, found = card(np.ones(362)), group_intervals(card, groups, resamples=200)
    assert value["sensitivity/vasc"] == 0
    for name in (*MEANS, "macro_auc_sens_80", "macro_pauc_80", "sensitivity/vasc"):
        assert np.isnan(found[name].low), name
        assert np.isnan(found[name].high), name
    for name in ("accuracy", "weighted_f1", "kappa", "malignant_auc", "log_loss", "auc/nv"):
        assert found[name].low < value[name] < found[name].high, name


def test_a_mean_over_classes_that_all_draws_hold_has_the_interval_of_its_definition():
    """Oracle: the classes' own values in the same draws, added up."""
    y = np.arange(120) % 7
    odds = np.exp(np.random.default_rng(1).normal(size=(120, 7)) + np.eye(7)[y])
    card = Scorecard(y, odds / odds.sum(axis=1, keepdims=True), HAM10000)

    def means(weights):
        own = card(weights)
        parts = {"macro_auc": "auc", "balanced_accuracy": "sensitivity", "macro_f1": "f1"}
        return {
            name: np.mean([own[f"{part}/{code}"] for code in HAM10000.codes])
            for name, part in parts.items()
        }

    expected = group_intervals(means, np.arange(120), resamples=60)
    found = group_intervals(card, np.arange(120), resamples=60)
    for name, interval in expected.items():
        assert (found[name].low, found[name].high) == pytest.approx(
            (interval.low, interval.high), abs=1e-12
        )


def test_progress_is_told_until_the_end():
    told = []
    group_intervals(
        mean_of(np.arange(5.0)), np.arange(5), resamples=7, progress=lambda *a: told.append(a)
    )
    assert told[-1] == (7, 7)
    assert len(told) == 7


@pytest.mark.parametrize("chunk", [1, 170, 10_000])
def test_a_batched_statistic_gets_the_draws_of_a_plain_one_whatever_the_chunk(chunk, monkeypatch):
    monkeypatch.setattr(intervals, "CHUNK", chunk)
    values = np.random.default_rng(6).normal(size=80)
    groups = np.random.default_rng(7).integers(0, 30, 80)

    @batched
    def many_means(weights):
        return {"mean": weights @ values / weights.sum(axis=1)}

    one, many = (
        group_intervals(statistic, groups, resamples=101, seed=3)["mean"]
        for statistic in (mean_of(values), many_means)
    )
    assert (many.low, many.high) == pytest.approx((one.low, one.high), abs=1e-12)


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_no_interval_and_are_as_many_as_said(threads, monkeypatch):
    monkeypatch.setattr(intervals, "CHUNK", 160)
    monkeypatch.setattr(intervals, "MOST_THREADS", threads)
    monkeypatch.setattr(intervals, "core_count", lambda: 8)
    values, groups = np.random.default_rng(8).normal(size=80), np.arange(80) // 2
    lock, names, now, most, calls = threading.Lock(), set(), [0], [0], []

    @batched
    def slow_means(weights):
        with lock:
            calls.append(len(weights))
            turn = len(calls)
            now[0] += 1
            most[0] = max(most[0], now[0])
            if turn > 1:  # the first asks for the names
                names.add(threading.current_thread().name)
        time.sleep(0.006 if turn % 2 else 0.001)  # every other chunk overtakes the one before
        with lock:
            now[0] -= 1
        return {"mean": weights @ values / weights.sum(axis=1)}

    found = group_intervals(slow_means, groups, resamples=50, seed=4)["mean"]
    plain = group_intervals(mean_of(values), groups, resamples=50, seed=4)["mean"]
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    assert len(calls) == 26
    assert most[0] <= threads
    assert len(names) <= threads
    assert (len(names) > 1) == (threads > 1)


def test_no_more_threads_than_the_process_may_use(monkeypatch):
    monkeypatch.setattr(intervals, "core_count", lambda: 2)
    made = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers):
            made.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(intervals, "ThreadPoolExecutor", Pool)
    weights_in = batched(lambda weights: {"n": weights.sum(axis=1)})
    group_intervals(weights_in, np.arange(9), resamples=5)
    assert made == [2]


@pytest.mark.parametrize("threads", [1, 4])
def test_what_a_statistic_raises_in_a_thread_is_raised_here(threads, monkeypatch):
    monkeypatch.setattr(intervals, "CHUNK", 20)
    monkeypatch.setattr(intervals, "MOST_THREADS", threads)
    monkeypatch.setattr(intervals, "core_count", lambda: 8)
    calls = []

    @batched
    def fails_later(weights):
        calls.append(len(weights))
        if len(calls) == 6:
            raise FloatingPointError("in the sixth")
        return {"n": weights.sum(axis=1)}

    before = threading.active_count()
    with pytest.raises(FloatingPointError, match="in the sixth"):
        group_intervals(fails_later, np.arange(20), resamples=30)
    assert threading.active_count() == before  # none is left behind


def test_no_more_weights_are_held_at_once_than_the_chunk_allows(monkeypatch):
    monkeypatch.setattr(intervals, "CHUNK", 1000)
    shapes, told = [], []

    @batched
    def statistic(weights):
        shapes.append(weights.shape)
        return {"n": weights.sum(axis=1)}

    group_intervals(
        statistic, np.arange(300), resamples=20, progress=lambda *done: told.append(done)
    )
    assert {shape[1] for shape in shapes} == {300}
    assert max(shape[0] for shape in shapes) == 3
    assert sum(shape[0] for shape in shapes[1:]) == 20
    assert told[-1] == (20, 20)


def test_a_table_larger_than_the_chunk_goes_one_resample_at_a_time(monkeypatch):
    monkeypatch.setattr(intervals, "CHUNK", 10)
    shapes = []

    @batched
    def statistic(weights):
        shapes.append(weights.shape)
        return {"n": weights.sum(axis=1)}

    found = group_intervals(statistic, np.arange(40), resamples=5)["n"]
    assert shapes == [(1, 40)] * 6
    assert (found.low, found.high) == (40, 40)


def test_the_difference_of_two_proportions_is_that_of_newcombe():
    """Reference: Newcombe 1998, table II, method 10, 56/70 - 48/80 and 10/10 - 0/20."""
    wilson = [Interval(0.6918, 0.8769), Interval(0.4904, 0.7003)]
    found = difference_ends(0.8, wilson[0], 0.6, wilson[1])
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=2e-4)
    certain = difference_ends(1.0, Interval(0.7225, 1.0), 0.0, Interval(0.0, 0.1611))
    assert (certain.low, certain.high) == pytest.approx((0.6791, 1.0), abs=2e-4)


def test_only_shares_of_all_or_none_get_exact_ends():
    values = {"all": 1.0, "none": 0.0, "some": 0.5, "mean": 1.0}
    found = exact_shares(
        values,
        dict.fromkeys(values, Interval(0.5, 0.5)),
        {"all": 10, "none": 10, "some": 10},
    )
    # scipy.stats.binomtest(10, 10).proportion_ci(method="exact").low
    for name, k in (("all", 10), ("none", 0)):
        exact = binomtest(k, 10).proportion_ci(method="exact")
        assert (found[name].low, found[name].high) == pytest.approx((exact.low, exact.high))
    assert found["some"] == found["mean"] == Interval(0.5, 0.5)
