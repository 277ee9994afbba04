"""RandAugment's operations as plain numbers: how many, how strong, and composed after the rest."""

import numpy as np
import pytest

from kderm.data.augment import (
    EFFECTS,
    draw_colours,
    draw_transforms,
    identity_effects,
    plain_colours,
    plain_transform,
)
from kderm.data.rand_augment import OPERATIONS, draw_levels, rand_augment

SQUARE = (64, 64)


def plain(n, frame=SQUARE):
    return np.repeat(plain_transform(frame)[None], n, axis=0), plain_colours(n), identity_effects(n)


def augmented(n=4000, operations=1, magnitude=0.5, seed=3):
    rng = np.random.default_rng(seed)
    return rand_augment(rng, *plain(n), operations=operations, magnitude=magnitude)


def levels(n=4000, operations=1, magnitude=0.5, seed=3):
    return draw_levels(np.random.default_rng(seed), n, operations, magnitude)


def changed(n=4000, **amounts):
    """Which images' transforms, colours and effects are not plain any more: three bool (n,)."""
    transforms, colours, effects = augmented(n, **amounts)
    before = plain(n)
    return [
        (after != was).reshape(n, -1).any(axis=1)
        for after, was in zip((transforms, colours, effects), before, strict=True)
    ]


@pytest.mark.parametrize("operations", [1, 2, 4])
def test_each_image_gets_that_many_different_operations(operations):
    counts = sum((level != 0).astype(int) for level in levels(operations=operations).values())
    assert (counts == operations).all()


def test_every_operation_is_as_likely_as_the_others():
    for name, level in levels(20_000, operations=2).items():
        assert abs((level != 0).mean() - 2 / len(OPERATIONS)) < 0.01, name


def test_operations_of_two_directions_go_both_ways_and_the_others_one():
    for name, level in levels(20_000, magnitude=0.3).items():
        values = sorted(set(level.tolist()))
        if name in ("identity", "solarize", "posterize", "autocontrast"):
            assert values == [0, 1], name
        else:
            assert values == [-0.3, 0, 0.3], name
            assert abs((level[level != 0] > 0).mean() - 0.5) < 0.06, name


def test_one_operation_changes_one_of_the_three_arrays_or_none():
    seen = np.stack(changed(operations=1), axis=-1)
    assert seen.sum(axis=-1).max() == 1
    shares = seen.mean(axis=0) * len(OPERATIONS)
    np.testing.assert_allclose(shares, [5, 3, 4], atol=0.4)  # the identity is the thirteenth


def test_at_magnitude_zero_only_autocontrast_is_left():
    transforms, colours, effects = augmented(500, operations=4, magnitude=0.0)
    was = plain(500)
    np.testing.assert_allclose(transforms, was[0], atol=1e-7)
    np.testing.assert_allclose(colours, was[1], atol=1e-5)
    at = EFFECTS.index("autocontrast")
    np.testing.assert_array_equal(np.delete(effects, at, 1), np.delete(was[2], at, 1))
    assert set(effects[:, at]) == {0.0, 1.0}


@pytest.mark.parametrize("magnitude", [0.5, 1.0])
def test_strengths_are_the_magnitudes_share_of_each_range(magnitude):
    transforms, colours, effects = augmented(6000, operations=1, magnitude=magnitude)
    level = levels(6000, operations=1, magnitude=magnitude)
    turned = transforms[level["rotate"] > 0]
    np.testing.assert_allclose(
        np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])), 30 * magnitude, atol=1e-3
    )
    sheared = transforms[level["shear_x"] < 0]
    np.testing.assert_allclose(sheared[:, 0, 1], -0.3 * magnitude, atol=1e-6)
    moved = transforms[level["translate_y"] > 0]
    np.testing.assert_allclose(moved[:, 1, 2], 2 * 0.45 * magnitude, atol=1e-6)
    np.testing.assert_allclose(moved[:, :, :2], np.broadcast_to(np.eye(2), (len(moved), 2, 2)))
    brighter = colours[level["brightness"] > 0]
    np.testing.assert_allclose(brighter[:, 1, 1], 1 + 0.9 * magnitude, rtol=1e-6)
    np.testing.assert_allclose(brighter[:, :, 3], 0, atol=1e-5)
    column = dict(zip(EFFECTS, effects.T, strict=True))
    assert set(column["solarize"]) == {256.0, 256 - 256 * magnitude}
    assert set(column["posterize"]) == {0.0, 2.0 ** (4 * magnitude)}
    np.testing.assert_allclose(
        sorted(set(column["sharpness"])), [1 - 0.9 * magnitude, 1, 1 + 0.9 * magnitude], rtol=1e-6
    )


def test_contrast_is_about_mid_grey_and_saturation_about_luma():
    _, colours, _ = augmented(2000, operations=1, magnitude=1.0)
    level = levels(2000, operations=1, magnitude=1.0)
    rgb = np.array([200.0, 80, 40])
    out = colours[:, :, :3] @ rgb + colours[:, :, 3]
    for row in out[level["contrast"] > 0]:
        np.testing.assert_allclose(row, 127.5 + 1.9 * (rgb - 127.5), atol=1e-3)
    luma = rgb @ [0.299, 0.587, 0.114]
    for row in out[level["saturation"] < 0]:
        np.testing.assert_allclose(row, luma + 0.1 * (rgb - luma), atol=1e-3)


def test_geometry_is_seen_through_the_transform_that_was_drawn_before():
    # A point of the output goes through the operation first and through the older transform then.
    frame = (150, 200)
    rng = np.random.default_rng(0)
    older = draw_transforms(rng, 300, frame, flip=True, rotation=90.0, zoom=0.3, shift=0.1)
    amounts = {"operations": 3, "magnitude": 0.7}
    alone, _, _ = rand_augment(np.random.default_rng(9), *plain(300), **amounts)
    both, _, _ = rand_augment(
        np.random.default_rng(9), older, plain_colours(300), identity_effects(300), **amounts
    )
    assert both.dtype == np.float32
    point = np.array([0.3, -0.8])
    inner = alone[:, :, :2] @ point + alone[:, :, 2]
    expected = np.einsum("nij,nj->ni", older[:, :, :2], inner) + older[:, :, 2]
    np.testing.assert_allclose(both[:, :, :2] @ point + both[:, :, 2], expected, atol=1e-5)


def test_colours_come_after_those_that_were_drawn_before():
    rng = np.random.default_rng(0)
    older = draw_colours(rng, 300, brightness=0.2, contrast=0.2, saturation=0.3, hue=0.1)
    amounts = {"operations": 3, "magnitude": 0.7}
    transforms, _, effects = plain(300)
    _, alone, _ = rand_augment(np.random.default_rng(9), *plain(300), **amounts)
    _, both, _ = rand_augment(np.random.default_rng(9), transforms, older, effects, **amounts)
    rgb = np.array([200.0, 80, 40])
    inner = older[:, :, :3] @ rgb + older[:, :, 3]
    expected = np.einsum("nij,nj->ni", alone[:, :, :3], inner) + alone[:, :, 3]
    np.testing.assert_allclose(both[:, :, :3] @ rgb + both[:, :, 3], expected, atol=1e-3)


def test_blur_noise_and_mixing_that_were_drawn_before_are_kept():
    n = 400
    transforms, colours, effects = plain(n)
    effects[:, EFFECTS.index("blur")] = 1.2
    effects[:, EFFECTS.index("mixup")] = 0.3
    rng = np.random.default_rng(1)
    _, _, after = rand_augment(rng, transforms, colours, effects, operations=4, magnitude=1.0)
    kept = [EFFECTS.index(name) for name in EFFECTS if name not in OPERATIONS]
    np.testing.assert_array_equal(after[:, kept], effects[:, kept])
    assert (effects[:, EFFECTS.index("sharpness")] == 1).all()  # the argument is left alone
