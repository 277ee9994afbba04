import numpy as np
import pytest

from kderm.ensemble.unlike import (
    FILE,
    expected_warnings,
    fit_gaussian,
    fit_unlike,
    read_unlike,
    unlike_facts,
    write_unlike,
)
from kderm.errors import UserError

DIGESTS = ("a" * 64, "b" * 64, "c" * 64)


def drawn(rng, n, c=30):
    """Features with a few strong directions, as a network's are."""
    return rng.normal(size=(n, 5)) @ rng_free_mixing(c) + 0.3 * rng.normal(size=(n, c)) + 1


def rng_free_mixing(c):
    return np.random.default_rng(99).normal(size=(5, c))


def three_members(seed=0, n=400):
    rng = np.random.default_rng(seed)
    features = [drawn(rng, n) for _ in DIGESTS]
    groups = [[f"{m}_{i // 2}" for i in range(n)] for m in range(3)]
    shared = [drawn(rng, 200) for _ in DIGESTS]
    return fit_unlike(features, groups, shared, DIGESTS)


def test_the_distance_is_mahalanobis_under_the_covariance_that_is_described():
    rng = np.random.default_rng(1)
    gaussian, _ = fit_gaussian(drawn(rng, 300, c=12), np.arange(300), directions=4)
    along = gaussian.directions.astype(float)
    rest = np.eye(12) - along.T @ along
    covariance = along.T @ np.diag(gaussian.variances) @ along + gaussian.residual * rest
    new = drawn(rng, 6, c=12) + 3
    away = new - gaussian.mean
    expected = np.log(np.einsum("nc,nc->n", away, np.linalg.solve(covariance, away.T).T) / 12)
    np.testing.assert_allclose(gaussian.log_distance(new), expected, rtol=1e-5)


@pytest.mark.parametrize(("n", "c"), [(300, 12), (40, 200)])
def test_directions_are_those_of_the_singular_value_decomposition(n, c):
    features = drawn(np.random.default_rng(2), n, c)
    gaussian, _ = fit_gaussian(features, np.arange(n), directions=3)
    _, singular, rows = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(gaussian.variances, singular[:3] ** 2 / (n - 1), rtol=1e-4)
    np.testing.assert_allclose(np.abs((gaussian.directions * rows[:3]).sum(axis=1)), 1, rtol=1e-4)
    left = (singular[3:] ** 2).sum() / (n - 1) / (c - 3)
    assert gaussian.residual == pytest.approx(left, rel=1e-4)


def test_about_one_in_a_hundred_images_like_those_of_training_is_warned_of():
    unlike = three_members()
    rng = np.random.default_rng(7)
    scores = unlike.score([drawn(rng, 4000) for _ in DIGESTS])
    assert abs(scores.mean()) < 0.2
    assert 0.001 < (scores >= unlike.threshold).mean() < 0.03


def test_images_elsewhere_in_feature_space_are_warned_of():
    unlike = three_members()
    rng = np.random.default_rng(8)
    moved = [drawn(rng, 50) + rng.normal(size=30) for _ in DIGESTS]
    assert (unlike.score(moved) >= unlike.threshold).all()


def test_members_that_agree_keep_their_spread_and_independent_ones_lose_it():
    rng = np.random.default_rng(3)
    one, groups = drawn(rng, 300), np.arange(300)
    same = fit_unlike([one] * 3, [groups] * 3, [one[:100]] * 3, DIGESTS)
    assert same.spread == pytest.approx(1)
    assert three_members().spread == pytest.approx(1 / np.sqrt(3), abs=0.12)


def test_an_image_alone_scores_as_among_others():
    unlike = three_members()
    features = [drawn(np.random.default_rng(m), 9) for m in range(3)]
    together = unlike.score(features)
    alone = [unlike.score([one[i : i + 1] for one in features])[0] for i in range(9)]
    np.testing.assert_allclose(alone, together, atol=1e-9)


def test_features_that_never_vary_and_repeated_images_give_finite_scores():
    features = drawn(np.random.default_rng(4), 60)
    features[:, 10:] = 0
    gaussian, own = fit_gaussian(features, np.arange(60))
    assert np.isfinite(own).all()
    assert np.isfinite(gaussian.score(features + 1)).all()
    constant, own = fit_gaussian(np.ones((25, 8)), np.arange(25))
    assert np.isfinite(own).all()
    assert constant.score(np.full((1, 8), 2.0)) > constant.score(np.ones((1, 8)))


def test_scores_of_its_own_images_come_from_fits_without_their_group():
    rng = np.random.default_rng(5)
    features = drawn(rng, 120)
    features[:2] += 40  # one lesion far from all others, photographed twice
    apart, own = fit_gaussian(features, np.repeat(np.arange(60), 2))
    _, blind = fit_gaussian(features, np.arange(120))
    assert own[:2].min() > 5
    assert blind[:2].max() < own[:2].min()
    assert np.isfinite(apart.score(features)).all()


def test_too_few_images_or_a_single_group_are_refused():
    features = drawn(np.random.default_rng(6), 30)
    with pytest.raises(ValueError, match="at least 20"):
        fit_gaussian(features[:19], np.arange(19))
    with pytest.raises(ValueError, match="several groups"):
        fit_gaussian(features, np.zeros(30))


def test_the_file_brings_back_the_same_scores(tmp_path):
    unlike = three_members()
    write_unlike(tmp_path / FILE, unlike)
    facts = unlike_facts(tmp_path, DIGESTS)
    again = read_unlike(tmp_path / FILE, facts["sha256"])
    features = [drawn(np.random.default_rng(m), 5) for m in range(3)]
    np.testing.assert_array_equal(again.score(features), unlike.score(features))
    assert facts["threshold"] == again.threshold == unlike.threshold
    assert again.digests == DIGESTS


def test_a_score_of_other_members_or_a_damaged_one_is_none(tmp_path):
    assert unlike_facts(tmp_path, DIGESTS) is None
    write_unlike(tmp_path / FILE, three_members())
    assert unlike_facts(tmp_path, DIGESTS[::-1]) is None
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-100])
    assert unlike_facts(tmp_path, DIGESTS) is None
    with pytest.raises(UserError, match="cannot be read"):
        read_unlike(tmp_path / FILE)


def test_a_file_that_the_bundle_does_not_speak_of_is_refused(tmp_path):
    write_unlike(tmp_path / FILE, three_members())
    with pytest.raises(UserError, match="SHA-256"):
        read_unlike(tmp_path / FILE, "0" * 64)
    with pytest.raises(UserError, match="Expected the score"):
        read_unlike(tmp_path / "gone.npz")


def test_single_images_are_told_and_the_few_that_chance_brings_are_not():
    assert [expected_warnings(images) for images in (0, 1, 5, 100, 10_000)] == [0, 0, 0, 3, 117]


@pytest.mark.parametrize("images", [1, 7, 100, 555, 400_000])
def test_expected_warnings_are_the_quantile_of_a_binomial(images):
    from scipy.stats import binom

    assert expected_warnings(images) == int(binom.ppf(0.95, images, 0.01))
