from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from kderm.ensemble.combine import average_members
from kderm.ensemble.group_parts import group_parts, some_groups
from kderm.ensemble.selection import (
    MOST_MIXTURES,
    Truth,
    greedy_picks,
    greedy_rows,
    member_rows,
    nested_greedy,
    soup_rows,
    view_rows,
)
from kderm.labels import BINARY, HAM10000

K = len(HAM10000)


def truth_of(n, seed=0, k=K, labels=HAM10000):
    y = np.random.default_rng(seed).integers(0, k, n)
    y[:k] = np.arange(k)
    return Truth(y, np.arange(n) // 2, labels)


def noisy(truth, strength, seed):
    """Probabilities that know the truth, the more so the higher `strength`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(truth.y), len(truth.labels)))
    logits[np.arange(len(truth.y)), truth.y] += strength
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_rows_of_views_hold_scikit_learns_scores_and_the_gain_over_the_plain_view():
    truth = truth_of(120)
    answers = np.stack([noisy(truth, 1.5, seed) for seed in range(4)], axis=1)
    sets = {"none": (0,), "flips": (0, 1, 2), "all": (0, 1, 2, 3)}
    rows = view_rows(answers, sets, truth, "probability", 0.01, resamples=40)
    assert [row["views"] for row in rows] == ["none", "flips", "all"]
    for row in rows:
        mean = answers[:, list(sets[row["views"]])].mean(axis=1)
        auc = roc_auc_score(truth.y, mean, multi_class="ovr", average="macro")
        assert row["macro_auc"] == pytest.approx(auc, abs=1e-12)
        recall = balanced_accuracy_score(truth.y, mean.argmax(axis=1))
        assert row["balanced_accuracy"] == pytest.approx(recall, abs=1e-12)
        assert row["macro_auc_gain"] == pytest.approx(auc - rows[0]["macro_auc"], abs=1e-12)
        assert row["macro_auc_gain_low"] <= row["macro_auc_gain_high"]
        assert row["seconds_per_image"] == pytest.approx(0.01 * row["count"])
    assert rows[0]["macro_auc_gain"] == rows[0]["macro_auc_gain_low"] == 0
    assert rows[2]["macro_auc_gain"] > 0


def test_a_class_without_images_leaves_scores_and_a_single_class_leaves_none():
    truth = truth_of(40, k=3)
    answers = np.stack([noisy(truth, 1, 0), noisy(truth, 1, 1)], axis=1)
    rows = view_rows(answers, {"none": (0,), "two": (0, 1)}, truth, "logit", 1.0, resamples=10)
    assert 0.5 < rows[1]["macro_auc"] < 1
    alone = Truth(np.zeros(40, np.int64), truth.groups, HAM10000)
    rows = view_rows(answers, {"none": (0,), "two": (0, 1)}, alone, "logit", 1.0, resamples=10)
    assert rows[1]["macro_auc"] is None
    assert rows[1]["macro_auc_gain_low"] is None
    assert rows[1]["balanced_accuracy"] is not None


def test_rows_of_members_are_means_over_every_choice_of_them():
    truth = truth_of(60)
    answers = np.stack([noisy(truth, 1, seed) for seed in range(8)]).reshape(4, 2, 60, K)
    answers = answers.swapaxes(1, 2)  # (m, n, v, k)
    sets = {"none": (0,), "both": (0, 1)}
    rows = member_rows(answers, sets, truth, "probability", 0.5)
    assert [(row["members"], row["mixtures"]) for row in rows[:4]] == [
        (1, 4),
        (2, 6),
        (3, 4),
        (4, 1),
    ]
    pairs = next(row for row in rows if row["members"] == 2 and row["views"] == "both")
    each = answers.mean(axis=2)
    expected = [
        roc_auc_score(truth.y, each[list(pair)].mean(axis=0), multi_class="ovr")
        for pair in combinations(range(4), 2)
    ]
    assert pairs["macro_auc"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert pairs["macro_auc_lowest"] == pytest.approx(min(expected), abs=1e-12)
    assert pairs["macro_auc_highest"] == pytest.approx(max(expected), abs=1e-12)
    assert pairs["seconds_per_image"] == pytest.approx(0.5 * 2 * 2)


def test_members_are_mixed_as_the_bundle_mixes_them():
    truth = truth_of(30)
    answers = np.stack([noisy(truth, 1, seed) for seed in range(3)])[:, :, None]
    for how, plain in (("logit", "logit"), ("oof", "probability")):
        row = member_rows(answers, {"none": (0,)}, truth, how, 1.0)[-1]
        mean = average_members(answers[:, :, 0].swapaxes(0, 1), plain)
        assert row["macro_auc"] == pytest.approx(
            roc_auc_score(truth.y, mean, multi_class="ovr"), abs=1e-12
        )


def test_many_members_are_mixed_in_as_many_different_ways_as_are_affordable():
    truth = truth_of(14)
    answers = np.stack([noisy(truth, 1, seed) for seed in range(9)])[:, :, None]
    rows = member_rows(answers, {"none": (0,)}, truth, "probability", 1.0)
    assert [row["mixtures"] for row in rows] == [9, 36, *[MOST_MIXTURES] * 4, 36, 9, 1]


def test_greedy_selection_takes_what_helps_and_stops_when_nothing_does():
    truth = truth_of(200, k=2, labels=BINARY)
    half = np.arange(200) % 2 == 0
    good, bad = noisy(truth, 2.0, 0), noisy(truth, 0.0, 9)
    knows_even, knows_odd = np.full((2, 200, 2), 0.5)
    knows_even[half], knows_odd[~half] = good[half], good[~half]
    picks = greedy_picks(np.stack([bad, knows_even, knows_odd]), truth)
    assert sorted(set(picks)) == [1, 2]
    perfect = np.eye(2)[truth.y]
    assert greedy_picks(np.stack([bad, perfect, good]), truth) == [1]


def test_a_candidate_may_be_picked_again_and_no_more_than_asked():
    truth = truth_of(300)
    strengths = (2, 1, 1, 1)
    candidates = np.stack([noisy(truth, one, seed) for seed, one in enumerate(strengths)])
    picks = greedy_picks(candidates, truth)
    assert picks[0] == 0
    assert picks.count(0) > 1
    assert greedy_picks(candidates, truth, most=2) == picks[:2]


def test_the_order_of_the_images_changes_no_pick():
    truth = truth_of(90)
    candidates = np.stack([noisy(truth, 1, seed) for seed in range(4)])
    order = np.random.default_rng(1).permutation(90)
    other = Truth(truth.y[order], truth.groups[order], HAM10000)
    assert greedy_picks(candidates[:, order], other) == greedy_picks(candidates, truth)


def test_images_of_one_class_have_a_choice_without_scores():
    truth = Truth(np.zeros(20, np.int64), np.arange(20) // 2, HAM10000)
    candidates = np.stack([noisy(truth, 1, seed) for seed in range(3)])
    assert greedy_picks(candidates, truth) == [0]
    parts = group_parts(truth.groups)
    rows = greedy_rows(["a", "b", "c"], candidates, truth, parts, resamples=10)
    assert rows[-1]["macro_auc"] is None
    assert rows[-1]["balanced_accuracy"] is not None


def test_choosing_among_noise_looks_good_only_on_the_images_that_chose():
    truth = truth_of(200, k=2, labels=BINARY)
    candidates = np.stack([noisy(truth, 0.0, seed) for seed in range(30)])
    parts = group_parts(truth.groups)
    chosen = candidates[greedy_picks(candidates, truth)].mean(axis=0)
    nested, picks = nested_greedy(candidates, truth, parts)
    positive = truth.y == 1
    assert roc_auc_score(positive, chosen[:, 1]) > 0.62
    assert roc_auc_score(positive, nested[:, 1]) < 0.6
    assert len(picks) == 5


def test_each_part_is_answered_by_picks_that_its_own_images_had_no_say_in():
    truth = truth_of(100)
    candidates = np.stack([noisy(truth, 1, seed) for seed in range(4)])
    parts = np.arange(100) // 2 % 2
    _, picks = nested_greedy(candidates, truth, parts)
    spoilt = candidates.copy()
    spoilt[:, parts == 0] = np.random.default_rng(0).dirichlet(np.ones(K), (4, 50))
    again, others = nested_greedy(spoilt, truth, parts)
    assert others[0] == picks[0]
    expected = spoilt[picks[0]][:, parts == 0].mean(axis=0)
    np.testing.assert_allclose(again[parts == 0], expected)
    with pytest.raises(ValueError, match="two parts"):
        nested_greedy(candidates, truth, np.zeros(100))


def test_the_greedy_table_compares_with_the_best_single_candidate():
    truth = truth_of(100)
    names = ["weak", "strong", "middling"]
    candidates = np.stack([noisy(truth, strength, i) for i, strength in enumerate((0.2, 2, 1))])
    rows = greedy_rows(names, candidates, truth, group_parts(truth.groups), resamples=30)
    by_choice = {row["choice"]: row for row in rows}
    best = by_choice["best alone: strong"]
    assert best["macro_auc_gain"] == 0
    assert by_choice["alone: weak"]["macro_auc_gain_high"] < 0
    assert by_choice["all alike"]["of"] == "each of 3"
    assert by_choice["greedy, scored on the images that it chose by"]["macro_auc_gain"] >= 0
    short = greedy_rows(
        names, candidates, truth, group_parts(truth.groups), each=False, resamples=5
    )
    assert [row["choice"] for row in short] == [
        row["choice"] for row in rows if not row["choice"].startswith("alone: ")
    ]


def test_the_soup_stands_beside_the_ensemble_and_each_member():
    truth = truth_of(80)
    members = np.stack([noisy(truth, 1, seed) for seed in range(3)])
    rows = soup_rows(["a", "b", "c"], members, members.mean(axis=0), members[0], truth, 20)
    assert [(row["model"], row["passes"]) for row in rows] == [
        ("ensemble", 3),
        ("soup", 1),
        ("alone: a", 1),
        ("alone: b", 1),
        ("alone: c", 1),
    ]
    assert rows[1]["macro_auc"] == rows[2]["macro_auc"]
    assert rows[0]["macro_auc_gain"] == 0


def test_a_gain_that_no_draw_changes_has_no_interval_to_tell():
    truth = truth_of(80)
    right = np.eye(K)[truth.y] * 0.9 + 0.1 / K
    wrong = (1 - np.eye(K)[truth.y]) / (K - 1)
    rows = soup_rows(["a", "b"], np.stack([wrong, wrong]), wrong, right, truth, 20)
    assert rows[1]["macro_auc_gain"] == 1
    assert rows[1]["macro_auc_gain_low"] is None


def test_parts_keep_groups_whole_and_are_the_same_each_time():
    groups = np.random.default_rng(0).integers(0, 30, 100).astype(str)
    parts = group_parts(groups)
    assert sorted(np.unique(parts)) == [0, 1, 2, 3, 4]
    assert all(len(np.unique(parts[groups == group])) == 1 for group in np.unique(groups))
    np.testing.assert_array_equal(parts, group_parts(groups))
    assert group_parts(np.array(["a", "b", "b"])).max() == 1


def test_some_groups_are_whole_and_reach_the_number_that_was_asked_for():
    groups = np.repeat(np.arange(50), 3)
    chosen = some_groups(groups, 31)
    assert chosen.sum() == 33
    assert all(chosen[groups == group].all() for group in groups[chosen])
    assert some_groups(groups, 1000).all()
