"""Drawn transforms are what they are called, in pixels; colour matrices equal their definitions."""

import colorsys

import numpy as np
import pytest

from kderm.data.augment import draw_colours, draw_transforms, plain_colours, plain_transform

FRAMES = [(150, 200), (64, 64), (90, 40)]
NOTHING = {"flip": False, "rotation": 0.0, "zoom": 0.0, "shift": 0.0}
NO_COLOURS = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def transforms(n=2000, frame=(150, 200), **amounts):
    return draw_transforms(np.random.default_rng(7), n, frame, **{**NOTHING, **amounts})


def colours(n=2000, **amounts):
    return draw_colours(np.random.default_rng(7), n, **{**NO_COLOURS, **amounts})


def in_pixels(transforms, frame):
    """Input pixels per output pixel (n, 2, 2) and the offset of the centres in pixels (n, 2)."""
    half = np.array([frame[1], frame[0]]) / 2
    linear = transforms[..., :2] * half[:, None] / (min(frame) / 2)
    return linear, transforms[..., 2] * half


def apply(matrix, rgb):
    return matrix[:, :, :3] @ rgb + matrix[:, :, 3]


@pytest.mark.parametrize("frame", FRAMES)
def test_with_every_amount_at_zero_the_draw_is_the_plain_view(frame):
    drawn = transforms(5, frame)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, np.repeat(plain_transform(frame)[None], 5, axis=0))


@pytest.mark.parametrize("frame", FRAMES)
def test_the_plain_view_is_the_centre_square_at_full_shorter_side(frame):
    linear, offset = in_pixels(plain_transform(frame)[None], frame)
    np.testing.assert_allclose(linear[0], np.eye(2), atol=1e-6)
    np.testing.assert_array_equal(offset[0], 0)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_rotation_is_a_rotation_in_pixels_on_any_frame(frame):
    linear, offset = in_pixels(transforms(500, frame, rotation=90.0), frame)
    product = linear @ linear.transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(2), product.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-5)
    angle = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert -90 <= angle.min() < -85
    assert 85 < angle.max() <= 90
    assert not offset.any()


def test_flips_are_independent_and_each_has_probability_one_half():
    linear, _ = in_pixels(transforms(4000, flip=True), (150, 200))
    mirrored_x, mirrored_y = linear[:, 0, 0] < 0, linear[:, 1, 1] < 0
    for share in (mirrored_x.mean(), mirrored_y.mean(), (mirrored_x ^ mirrored_y).mean()):
        assert abs(share - 0.5) < 0.04


def test_zoom_is_as_often_in_as_out_and_stays_in_its_range():
    linear, _ = in_pixels(transforms(4000, zoom=0.5), (150, 200))
    magnification = 1 / linear[:, 0, 0]
    np.testing.assert_allclose(linear[:, 0, 0], linear[:, 1, 1], rtol=1e-5)
    assert 1 / 1.5 - 1e-5 <= magnification.min() < 0.68
    assert 1.48 < magnification.max() <= 1.5 + 1e-5
    assert abs((magnification > 1).mean() - 0.5) < 0.04


@pytest.mark.parametrize("frame", FRAMES)
def test_shift_is_a_share_of_the_shorter_side_in_both_directions(frame):
    _, offset = in_pixels(transforms(2000, frame, shift=0.1), frame)
    limit = 0.1 * min(frame)
    assert np.abs(offset).max() <= limit * (1 + 1e-5)
    assert (np.abs(offset).max(axis=0) > 0.95 * limit).all()
    assert abs(np.corrcoef(offset.T)[0, 1]) < 0.1


def test_switching_one_amount_on_leaves_the_other_draws_as_they_were():
    alone, _ = in_pixels(transforms(50, rotation=30.0), (150, 200))
    both, _ = in_pixels(transforms(50, rotation=30.0, zoom=0.3, shift=0.1), (150, 200))
    scale = np.sqrt(np.linalg.det(both))
    np.testing.assert_allclose(both / scale[:, None, None], alone, atol=1e-5)


def test_the_same_generator_state_draws_the_same_numbers():
    amounts = {"flip": True, "rotation": 20.0, "zoom": 0.2, "shift": 0.1}
    np.testing.assert_array_equal(transforms(9, **amounts), transforms(9, **amounts))


def test_with_every_amount_at_zero_colours_are_plain():
    drawn = colours(5)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, plain_colours(5))
    assert plain_colours(5).shape == (5, 3, 4)


def test_brightness_adds_the_same_to_every_channel_up_to_its_share_of_255():
    drawn = colours(brightness=0.2)
    np.testing.assert_array_equal(drawn[..., :3], plain_colours(2000)[..., :3])
    np.testing.assert_array_equal(drawn[:, 0, 3], drawn[:, 2, 3])
    assert 50 < np.abs(drawn[..., 3]).max() <= 51


def test_contrast_keeps_mid_grey_and_scales_the_distance_from_it():
    drawn = colours(contrast=0.3)
    np.testing.assert_allclose(apply(drawn, np.full(3, 127.5)), 127.5, atol=1e-3)
    factor = drawn[:, 0, 0]
    np.testing.assert_allclose(
        apply(drawn, np.array([200.0, 100, 0])),
        127.5 + factor[:, None] * (np.array([200.0, 100, 0]) - 127.5),
        atol=1e-3,
    )
    assert 0.7 <= factor.min() < 0.72
    assert 1.28 < factor.max() <= 1.3


def test_saturation_moves_every_colour_along_the_line_to_its_grey():
    rgb = np.array([200.0, 80, 40])
    luma = rgb @ [0.299, 0.587, 0.114]
    chroma = apply(colours(saturation=0.5), rgb) - luma
    factor = chroma[:, 0] / (rgb - luma)[0]
    np.testing.assert_allclose(chroma, factor[:, None] * (rgb - luma), atol=1e-3)
    assert 0.5 <= factor.min() < 0.52
    assert 1.48 < factor.max() <= 1.5


def test_hue_turns_the_chroma_plane_and_keeps_luma_and_greys():
    # Python's colorsys holds an independent YIQ, with coefficients of two digits.
    drawn = colours(500, hue=0.25)
    np.testing.assert_allclose(apply(drawn, np.full(3, 90.0)), 90, atol=1e-3)
    before = np.array([180.0, 120, 100])
    _, i, q = colorsys.rgb_to_yiq(*before)
    turned = np.array([colorsys.rgb_to_yiq(*after) for after in apply(drawn, before)])
    np.testing.assert_allclose(turned[:, 0], before @ [0.299, 0.587, 0.114], atol=0.5)
    np.testing.assert_allclose(np.hypot(turned[:, 1], turned[:, 2]), np.hypot(i, q), rtol=0.03)
    turns = (np.arctan2(turned[:, 2], turned[:, 1]) - np.arctan2(q, i)) / (2 * np.pi)
    turns = (turns + 0.5) % 1 - 0.5
    assert -0.255 < turns.min() < -0.24
    assert 0.24 < turns.max() < 0.255


def test_contrast_and_brightness_come_after_hue_and_saturation():
    rgb = np.array([200.0, 80, 40])
    amounts = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.1}
    first = apply(colours(50, saturation=0.3, hue=0.1), rgb)
    then = (
        np.stack([apply(colours(50, contrast=0.2)[k : k + 1], first[k])[0] for k in range(50)])
        + colours(50, brightness=0.1)[:, :, 3]
    )
    np.testing.assert_allclose(apply(colours(50, **amounts), rgb), then, atol=2e-3)
