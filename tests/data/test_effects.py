"""Each effect against Pillow, SciPy or numpy; identity bit for bit; the same on every backend."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from kderm.data.augment import EFFECTS, draw_effects, identity_effects, mix_rows
from kderm.data.effects import Effects

SIDE = 24
ON = {
    "sharpness": 1.7,
    "autocontrast": 1.0,
    "posterize": 16.0,
    "solarize": 128.0,
    "blur": 1.3,
    "noise": 0.05,
    "cutout_side": 0.4,
    "mixup": 0.3,
    "box_right": 0.6,
}


def pictures(n, side=SIDE, seed=0):
    """Integers in float32, as of a frame that was not resampled."""
    rng = np.random.default_rng(seed)
    return rng.integers(3, 240, (n, side, side, 3)).astype(np.float32)


def smooth_pictures(n, side=SIDE, seed=0):
    """Float pictures that are no integers anywhere."""
    return gaussian_filter(pictures(n, side, seed), (0, 1, 1, 0)) + np.float32(0.137)


def effects_of(n, **columns):
    effects = identity_effects(n)
    for name, values in columns.items():
        effects[:, EFFECTS.index(name)] = values
    return effects


def switched_on(n, name):
    """One effect at its value in ON, with all that it needs."""
    more = {"box_bottom": 0.5} if name == "box_right" else {}
    partner = np.roll(np.arange(n), 1)
    return effects_of(n, **{name: ON[name]}, partner=partner, **more)


def changed(images, effects, seed=5):
    return keras.ops.convert_to_numpy(Effects(seed=seed)(images, effects))


def by_pillow(images, change):
    return np.stack(
        [np.asarray(change(Image.fromarray(image.astype(np.uint8)))) for image in images]
    ).astype(np.float32)


def test_a_row_that_changes_nothing_returns_the_image_bit_for_bit():
    images = smooth_pictures(4)
    np.testing.assert_array_equal(changed(images, identity_effects(4)), images)


@pytest.mark.parametrize("name", ON)
def test_only_the_images_whose_row_says_so_are_changed(name):
    images, effects = smooth_pictures(4), switched_on(4, name)
    quiet = [0, 2, 3]
    effects[quiet] = identity_effects(3)
    effects[quiet, EFFECTS.index("partner")] = 1
    out = changed(images, effects)
    np.testing.assert_array_equal(out[quiet], images[quiet])
    assert np.abs(out[1] - images[1]).max() > 1


@pytest.mark.parametrize("name", ON)
def test_what_comes_out_is_float32_within_the_range_of_pixels(name):
    out = changed(smooth_pictures(3), switched_on(3, name))
    assert out.dtype == np.float32
    assert out.min() >= 0
    assert out.max() <= 255
    assert np.isfinite(out).all()


@pytest.mark.parametrize("name", sorted(set(ON) - {"noise", "mixup", "box_right"}))
def test_an_images_answer_does_not_depend_on_its_batch(name):
    images, effects = smooth_pictures(5), switched_on(5, name)
    np.testing.assert_allclose(
        changed(images, effects)[2:3], changed(images[2:3], effects[2:3]), atol=1e-3
    )


@pytest.mark.parametrize("factor", [0.1, 0.6, 1.9])
def test_sharpness_is_pillows(factor):
    images = pictures(3)
    expected = by_pillow(images, lambda image: ImageEnhance.Sharpness(image).enhance(factor))
    # Pillow rounds the smoothed picture and the result to integers.
    np.testing.assert_allclose(changed(images, effects_of(3, sharpness=factor)), expected, atol=1.5)


def test_autocontrast_is_pillows_and_leaves_a_flat_channel_alone():
    images = pictures(3) / 2 + 40
    images = np.floor(images)
    images[1, :, :, 2] = 77
    expected = by_pillow(images, ImageOps.autocontrast)
    np.testing.assert_allclose(changed(images, effects_of(3, autocontrast=1)), expected, atol=1.01)
    half = changed(images, effects_of(3, autocontrast=0.5))
    np.testing.assert_allclose(half, (images + expected) / 2, atol=0.6)


@pytest.mark.parametrize("bits", [7, 6, 4])
def test_posterize_is_pillows(bits):
    images = pictures(3)
    expected = by_pillow(images, lambda image: ImageOps.posterize(image, bits))
    out = changed(images, effects_of(3, posterize=2 ** (8 - bits)))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("threshold", [0, 100, 255])
def test_solarize_is_pillows(threshold):
    images = pictures(3)
    expected = by_pillow(images, lambda image: ImageOps.solarize(image, threshold))
    np.testing.assert_array_equal(changed(images, effects_of(3, solarize=threshold)), expected)


def test_blur_is_a_gaussian_of_each_images_own_sigma():
    images, sigmas = pictures(3, 40), [0.6, 1.5, 2.5]
    out = changed(images, effects_of(3, blur=sigmas))
    for image, blurred, sigma in zip(images, out, sigmas, strict=True):
        expected = gaussian_filter(image.astype(float), (sigma, sigma, 0), truncate=8)
        far = slice(12, -12)
        np.testing.assert_allclose(blurred[far, far], expected[far, far], atol=0.02)


def test_blur_keeps_a_flat_picture_up_to_its_border():
    images = np.full((2, SIDE, SIDE, 3), [10.0, 120.0, 250.0], np.float32)
    np.testing.assert_allclose(changed(images, effects_of(2, blur=[0.3, 6.0])), images, atol=1e-3)


def test_blur_along_both_axes_is_the_same_and_keeps_the_orientation():
    image = np.zeros((1, SIDE, SIDE, 3), np.float32)
    image[0, 11, 13] = 255
    out = changed(image, effects_of(1, blur=1.5))[0, :, :, 0]
    assert np.unravel_index(out.argmax(), out.shape) == (11, 13)
    np.testing.assert_allclose(out[11, 9:18], out[7:16, 13], atol=1e-3)


def test_noise_has_its_standard_deviation_and_no_mean():
    grey = np.full((2, 64, 64, 3), 128, np.float32)
    out = changed(grey, effects_of(2, noise=[0.02, 0.06])) - grey
    np.testing.assert_allclose(out.std(axis=(1, 2, 3)), [0.02 * 255, 0.06 * 255], rtol=0.05)
    assert np.abs(out.mean(axis=(1, 2, 3))).max() < 0.5
    assert abs(np.corrcoef(out[0, :, :, 0].ravel(), out[0, :, :, 1].ravel())[0, 1]) < 0.05


def test_noise_comes_from_the_layers_generator_and_from_nothing_else():
    images, effects = pictures(2), effects_of(2, noise=0.05)
    layer = Effects(seed=1)
    (state,) = [item for item in layer.variables if item.path.endswith("seed_generator_state")]
    first, second = (keras.ops.convert_to_numpy(layer(images, effects)) for _ in range(2))
    assert np.abs(first - second).max() > 1
    state.assign(np.array([1, 0], dtype=state.dtype))
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images, effects)), first)


def test_cutout_gives_a_square_the_mean_colour_and_leaves_the_rest():
    images = smooth_pictures(2, 20)
    out = changed(images, effects_of(2, cutout_x=0.5, cutout_y=0.25, cutout_side=0.2))
    expected = images.copy()
    expected[:, 3:7, 8:12] = images.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(out, expected, atol=1e-3)


def test_a_square_over_the_corner_is_cut_off():
    images = smooth_pictures(1, 20)
    out = changed(images, effects_of(1, cutout_x=0.0, cutout_y=1.0, cutout_side=0.4))
    touched = np.abs(out - images).max(axis=-1)[0] > 0
    assert touched[16:, :4].all()
    assert not touched[:16].any()
    assert not touched[:, 4:].any()


def test_mixup_is_the_weighted_mean_with_the_partner():
    images = smooth_pictures(3)
    share = np.array([0.25, 0.0, 1.0], np.float32)
    out = changed(images, effects_of(3, mixup=share, partner=[2, 0, 1]))
    share = share[:, None, None, None]
    np.testing.assert_allclose(out, (1 - share) * images + share * images[[2, 0, 1]], atol=1e-3)
    np.testing.assert_array_equal(out[1], images[1])


def test_cutmix_shows_the_partner_in_a_box():
    images = smooth_pictures(2, 20)
    box = {"box_left": 0.1, "box_top": 0.5, "box_right": 0.4, "box_bottom": 1.0}
    out = changed(images, effects_of(2, partner=[1, 0], **box))
    expected = images.copy()
    expected[:, 10:20, 2:8] = images[::-1, 10:20, 2:8]
    np.testing.assert_allclose(out, expected, atol=1e-3)


def test_partners_are_mixed_in_as_the_other_effects_left_them():
    images = smooth_pictures(2)
    effects = effects_of(2, solarize=[256, 0], mixup=[1, 0], partner=[1, 0])
    np.testing.assert_allclose(changed(images, effects)[0], 255 - images[1], atol=1e-3)


@pytest.mark.parametrize("side", [17, 32])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_share_in_the_picture_is_the_share_in_the_target(kind, side):
    # Pictures of one flat grey each tell how much of the partner is in them.
    off = {
        "blur": 0, "blur_sigma": 1, "noise": 0, "noise_sd": 0.1, "cutout": 0, "cutout_side": 0.4,
        "mixup": 0, "mixup_alpha": 1, "cutmix": 0, "cutmix_alpha": 1,
    }  # fmt: skip
    effects = draw_effects(np.random.default_rng(2), 8, **{**off, kind: 1.0})
    grey = np.arange(8, dtype=np.float32) * 30
    images = np.broadcast_to(grey[:, None, None, None], (8, side, side, 3)).copy()
    in_picture = changed(images, effects).mean(axis=(1, 2, 3))
    in_target = mix_rows(np.eye(8, dtype=np.float32), effects) @ grey
    np.testing.assert_allclose(in_picture, in_target, atol=0.01)
    assert np.abs(in_target - grey).max() > 5


def test_a_mixed_precision_policy_does_not_reach_the_layer():
    images, effects = smooth_pictures(3), switched_on(3, "blur")
    expected = changed(images, effects)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        np.testing.assert_array_equal(changed(images, effects), expected)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_functional_model_holds_the_layer_and_survives_saving(tmp_path):
    inputs = keras.Input((SIDE, SIDE, 3)), keras.Input((len(EFFECTS),))
    model = keras.Model(inputs, Effects(seed=3)(*inputs))
    assert model.output_shape == (None, SIDE, SIDE, 3)
    model.save(tmp_path / "effects.keras")
    loaded = keras.models.load_model(tmp_path / "effects.keras")
    arrays = [smooth_pictures(4), switched_on(4, "sharpness")]
    np.testing.assert_allclose(loaded.predict(arrays, verbose=0), changed(*arrays), atol=1e-3)


def test_the_layer_passes_no_gradient():
    layer = Effects(seed=1)
    assert layer.trainable_variables == []
    if keras.backend.backend() == "torch":
        images = keras.ops.convert_to_tensor(smooth_pictures(2)).requires_grad_()
        assert not layer(images, switched_on(2, "sharpness")).requires_grad


ON_A_BACKEND = """
import sys
import numpy as np
import keras
sys.path.insert(0, sys.argv[1])
from kderm.data.effects import Effects
data = np.load(sys.argv[2])
arrays = [data["images"], data["effects"]]
inputs = keras.Input(arrays[0].shape[1:]), keras.Input(arrays[1].shape[1:])
layer = Effects(seed=3)
pixels = layer(*inputs)
model = keras.Model(inputs, pixels)
pooled = keras.layers.GlobalAveragePooling2D()(pixels)
trained = keras.Model(inputs, keras.layers.Dense(1)(pooled))
trained.compile(optimizer="sgd", loss="mse")
eager = keras.ops.convert_to_numpy(Effects(seed=3)(*arrays))
compiled = model.predict(arrays, batch_size=len(arrays[0]), verbose=0)
noisy = [arrays[0], data["noisy"]]
before = keras.ops.convert_to_numpy(layer.seed_generator.state.value)
trained.fit(noisy, np.zeros((len(noisy[0]), 1)), batch_size=len(noisy[0]), epochs=2, verbose=0)
np.savez(
    sys.argv[3],
    backend=keras.backend.backend(),
    eager=eager,
    compiled=compiled,
    noise=keras.ops.convert_to_numpy(Effects(seed=3)(*noisy)) - arrays[0],
    advanced=keras.ops.convert_to_numpy(layer.seed_generator.state.value)[1] - before[1],
)
"""


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_every_backend_gives_the_same_pixels_eager_compiled_and_in_training(
    backend, tmp_path, request
):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    images = smooth_pictures(10)
    effects = np.concatenate(
        [switched_on(10, name)[i : i + 1] for i, name in enumerate(set_without_noise())]
        + [identity_effects(2)]
    )
    noisy = effects_of(10, noise=[0.05] * 5 + [0.0] * 5)
    np.savez(tmp_path / "in.npz", images=images, effects=effects, noisy=noisy)
    subprocess.run(
        [
            sys.executable,
            "-c",
            ON_A_BACKEND,
            str(request.config.rootpath),
            str(tmp_path / "in.npz"),
            str(tmp_path / "out.npz"),
        ],
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
    )
    out = np.load(tmp_path / "out.npz")
    assert out["backend"] == backend
    expected = changed(images, effects)
    np.testing.assert_allclose(out["eager"], expected, atol=0.01)
    np.testing.assert_allclose(out["compiled"], expected, atol=0.01)
    np.testing.assert_array_equal(out["eager"][-2:], images[-2:])
    np.testing.assert_array_equal(out["compiled"][-2:], images[-2:])
    np.testing.assert_allclose(out["noise"][:5].std(), 0.05 * 255, rtol=0.05)
    np.testing.assert_array_equal(out["noise"][5:], 0)
    assert out["advanced"] >= 2  # fit's two steps drew noise of their own


def set_without_noise():
    return [name for name in ON if name != "noise"]
