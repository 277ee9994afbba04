"""Drawn effects are as often and as strong as they are told to be; targets mix as pictures do."""

import numpy as np
import pytest

from kderm.config.schema import AugmentConfig
from kderm.data.augment import (
    EFFECTS,
    draw_effects,
    identity_effects,
    mix_rows,
    uses_effects,
)
from kderm.errors import UserError

OFF = {
    "blur": 0.0,
    "blur_sigma": 1.5,
    "noise": 0.0,
    "noise_sd": 0.06,
    "cutout": 0.0,
    "cutout_side": 0.4,
    "mixup": 0.0,
    "mixup_alpha": 0.2,
    "cutmix": 0.0,
    "cutmix_alpha": 1.0,
}
EDGES = ["box_left", "box_top", "box_right", "box_bottom"]


def drawn(n=4000, **amounts):
    """Columns of a draw by name."""
    effects = draw_effects(np.random.default_rng(5), n, **{**OFF, **amounts})
    return dict(zip(EFFECTS, effects.T, strict=True))


def effects_of(n, **columns):
    effects = identity_effects(n)
    for name, values in columns.items():
        effects[:, EFFECTS.index(name)] = values
    return effects


def one_hot(labels, k=3):
    return np.eye(k, dtype=np.float32)[labels]


def test_with_every_share_at_zero_nothing_is_changed():
    row = drawn(50)
    for name, column in zip(EFFECTS, identity_effects(50).T, strict=True):
        if not name.startswith("cutout_") or name == "cutout_side":
            np.testing.assert_array_equal(row[name], column, err_msg=name)


def test_the_default_config_needs_no_effects():
    assert not uses_effects(AugmentConfig().model_dump())


@pytest.mark.parametrize("switch", ["blur", "noise", "cutout", "mixup", "cutmix", "randaugment"])
def test_each_switch_of_the_config_needs_the_layer(switch):
    value = 1 if switch == "randaugment" else 0.1
    assert uses_effects(AugmentConfig(**{switch: value}).model_dump())


@pytest.mark.parametrize("switch", ["blur", "noise", "cutout", "mixup", "cutmix"])
def test_a_share_is_the_share_of_images_that_are_changed(switch):
    column = {"cutout": "cutout_side", "cutmix": "box_right"}.get(switch, switch)
    assert abs((drawn(**{switch: 0.3})[column] > 0).mean() - 0.3) < 0.03
    assert (drawn(**{switch: 1.0})[column] > 0).all()


@pytest.mark.parametrize(("switch", "limit"), [("blur", "blur_sigma"), ("noise", "noise_sd")])
def test_strength_is_uniform_up_to_its_limit(switch, limit):
    strength = drawn(**{switch: 1.0, limit: 0.4})[switch]
    assert 0 < strength.min() < 0.01
    assert 0.39 < strength.max() <= 0.4
    assert abs(strength.mean() - 0.2) < 0.01


def test_the_square_of_cutout_lies_anywhere_and_has_the_side_that_was_asked_for():
    row = drawn(cutout=1.0, cutout_side=0.25)
    assert np.unique(row["cutout_side"]).tolist() == [0.25]
    for name in ("cutout_x", "cutout_y"):
        assert row[name].min() < 0.01
        assert row[name].max() > 0.99
    assert abs(np.corrcoef(row["cutout_x"], row["cutout_y"])[0, 1]) < 0.05


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixups_share_has_the_moments_of_a_beta_distribution(alpha):
    share = drawn(20_000, mixup=1.0, mixup_alpha=alpha)["mixup"]
    assert 0 <= share.min() <= share.max() <= 1
    assert abs(share.mean() - 0.5) < 0.01
    assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.005


def test_a_cutmix_box_lies_in_the_picture_and_is_square_where_it_is_not_cut_off():
    row = drawn(cutmix=1.0)
    left, top, right, bottom = (row[name] for name in EDGES)
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= 1).all()
    assert (bottom <= 1).all()
    inside = (left > 0) & (top > 0) & (right < 1) & (bottom < 1)
    assert 0.1 < inside.mean() < 0.5
    np.testing.assert_allclose((right - left)[inside], (bottom - top)[inside], atol=1e-6)
    whole = (right - left)[inside] ** 2
    assert whole.min() < 0.01


def test_an_image_is_mixed_in_one_way_and_both_shares_are_kept():
    row = drawn(mixup=0.3, cutmix=0.5)
    by_mixup, by_cutmix = row["mixup"] > 0, row["box_right"] > 0
    assert not (by_mixup & by_cutmix).any()
    assert abs(by_mixup.mean() - 0.3) < 0.03
    assert abs(by_cutmix.mean() - 0.5) < 0.03


@pytest.mark.parametrize("n", [2, 3, 32])
def test_every_image_is_partner_once_and_never_of_itself(n):
    for seed in range(20):
        effects = draw_effects(np.random.default_rng(seed), n, **{**OFF, "mixup": 1.0})
        partner = effects[:, EFFECTS.index("partner")].astype(int)
        assert sorted(partner) == list(range(n))
        assert (partner != np.arange(n)).all()


def test_an_image_alone_in_its_batch_is_its_own_partner():
    effects = draw_effects(np.random.default_rng(0), 1, **{**OFF, "mixup": 1.0})
    target = one_hot([2])
    np.testing.assert_allclose(mix_rows(target, effects), target, atol=1e-6)


def test_more_mixing_than_there_are_images_is_refused():
    with pytest.raises(UserError, match=r"augment\.mixup \+ augment\.cutmix.*Received: 0\.7 \+ 0"):
        drawn(mixup=0.7, cutmix=0.5)


def test_switching_one_effect_on_leaves_the_others_draws_as_they_were():
    alone, together = drawn(blur=0.5), drawn(blur=0.5, noise=0.5, cutout=1.0, mixup=0.5, cutmix=0.5)
    np.testing.assert_array_equal(alone["blur"], together["blur"])


def test_a_draw_is_float32_and_repeats_itself():
    amounts = {**OFF, "blur": 0.5, "cutmix": 0.5}
    first, second = (draw_effects(np.random.default_rng(1), 9, **amounts) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == (9, len(EFFECTS))
    np.testing.assert_array_equal(first, second)


def test_targets_of_images_that_are_not_mixed_stay_bit_for_bit():
    targets = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    effects = effects_of(5, partner=[1, 2, 3, 4, 0])
    np.testing.assert_array_equal(mix_rows(targets, effects), targets)


def test_mixup_mixes_targets_by_its_share_and_cutmix_by_its_area():
    targets = one_hot([0, 1, 2])
    effects = effects_of(
        3,
        partner=[1, 2, 0],
        mixup=[0.25, 0, 0],
        box_left=[0, 0.5, 0],
        box_right=[0, 1.0, 0],
        box_top=[0, 0.2, 0],
        box_bottom=[0, 1.0, 0],
    )
    mixed = mix_rows(targets, effects)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, [[0.75, 0.25, 0], [0, 0.6, 0.4], [0, 0, 1]], atol=1e-6)


def test_each_class_keeps_its_own_weight_in_a_mixed_target():
    weighted = one_hot([0, 1], 2) * np.array([0.5, 8.0], np.float32)
    mixed = mix_rows(weighted, effects_of(2, partner=[1, 0], mixup=[0.25, 0.0]))
    np.testing.assert_allclose(mixed, [[0.375, 2.0], [0, 8.0]])
