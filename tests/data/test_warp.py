"""The warp layer against numpy, against its second implementation and on every backend."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kderm.data import warp
from kderm.data.augment import draw_colours, draw_transforms, plain_colours, plain_transform
from kderm.data.views import VIEWS, view_transforms
from kderm.data.warp import Warp

FRAMES = [(16, 16), (12, 20), (22, 14)]
TOLERANCE = 1e-3 * 255


def pictures(n, frame, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *frame, 3), dtype=np.uint8)


def centre_square(images):
    side = min(images.shape[1:3])
    top, left = ((length - side) // 2 for length in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def warped(images, transforms, colours=None, size=None):
    n = len(images)
    transforms = np.broadcast_to(transforms, (n, 2, 3))
    colours = plain_colours(n) if colours is None else colours
    layer = Warp(size or min(images.shape[1:3]))
    return keras.ops.convert_to_numpy(layer(images, transforms, colours))


def wild_draws(n, frame, seed=3):
    """Transforms that look far outside of the frame, and strong colours."""
    rng = np.random.default_rng(seed)
    transforms = draw_transforms(rng, n, frame, flip=True, rotation=180.0, zoom=0.8, shift=1.5)
    return transforms, draw_colours(rng, n, brightness=0.3, contrast=0.5, saturation=0.5, hue=0.2)


def reference(images, transforms, colours, size):
    """The same in plain numpy, pixel by pixel, in float64."""
    n, height, width, _ = images.shape
    out = np.zeros((n, size, size, 3))

    def fold(position, length):
        position %= 2 * length
        return min(max(min(position, 2 * length - position) - 0.5, 0), length - 1)

    for k, row, column in np.ndindex(n, size, size):
        target = np.array([(2 * column + 1) / size - 1, (2 * row + 1) / size - 1, 1.0])
        x, y = transforms[k].astype(float) @ target
        x, y = fold((x + 1) / 2 * width, width), fold((y + 1) / 2 * height, height)
        x0, y0 = int(x), int(y)
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        fx, fy = x - x0, y - y0
        picture = images[k].astype(float)
        rgb = (1 - fy) * ((1 - fx) * picture[y0, x0] + fx * picture[y0, x1])
        rgb += fy * ((1 - fx) * picture[y1, x0] + fx * picture[y1, x1])
        out[k, row, column] = np.clip(colours[k, :, :3] @ rgb + colours[k, :, 3], 0, 255)
    return out


@pytest.mark.parametrize("frame", FRAMES)
def test_the_plain_view_at_the_frames_size_keeps_every_pixel(frame):
    images = pictures(3, frame)
    out = warped(images, plain_transform(frame))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, centre_square(images), atol=1e-3)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("size", [9, 16])
def test_any_warp_equals_a_resample_written_out_in_numpy(frame, size):
    images, draws = pictures(4, frame), wild_draws(4, frame)
    np.testing.assert_allclose(
        warped(images, *draws, size=size), reference(images, *draws, size), atol=TOLERANCE
    )


@pytest.mark.parametrize("frame", FRAMES)
def test_the_portable_resample_equals_torchs_kernel(frame):
    if keras.backend.backend() != "torch":
        pytest.skip("compares with torch")
    images, (transforms, _) = pictures(16, frame), wild_draws(16, frame)
    x, y = warp._sampling_points(keras.ops.convert_to_tensor(transforms), 16)
    arguments = keras.ops.convert_to_tensor(images), x, y
    portable, native = (
        keras.ops.convert_to_numpy(keras.ops.stack(list(sample(*arguments)), axis=-1))
        for sample in (warp._sample_ops, warp._sample_torch)
    )
    np.testing.assert_allclose(portable, native, atol=TOLERANCE)


@pytest.mark.parametrize("frame", FRAMES)
def test_the_flips_are_numpys_flips(frame):
    image = pictures(1, frame)
    plain, horizontal, vertical = warped(
        np.repeat(image, 3, axis=0), view_transforms("flips", frame)
    )
    np.testing.assert_allclose(plain, centre_square(image)[0], atol=1e-3)
    np.testing.assert_allclose(horizontal, plain[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(vertical, plain[::-1], atol=1e-3)


@pytest.mark.parametrize("frame", FRAMES)
def test_d4_views_are_the_eight_turned_and_mirrored_pictures(frame):
    image = pictures(1, frame)
    views = warped(np.repeat(image, 8, axis=0), view_transforms("d4", frame))
    square = centre_square(image)[0].astype(np.float32)
    expected = [np.rot90(picture, k) for picture in (square, square[:, ::-1]) for k in range(4)]
    for picture in expected:
        distances = np.abs(views - picture).reshape(8, -1).max(axis=1)
        assert (distances < 1e-3).sum() == 1


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("angle", [90.0, -90.0, 180.0])
def test_a_drawn_quarter_turn_is_exact_on_rectangular_frames(frame, angle):
    class AlwaysTheMost:
        def random(self, shape):
            return np.ones(shape)

    transforms = draw_transforms(
        AlwaysTheMost(), 2, frame, flip=False, rotation=angle, zoom=0.0, shift=0.0
    )
    images = pictures(2, frame)
    turned = np.rot90(centre_square(images), round(angle / 90), axes=(1, 2))
    np.testing.assert_allclose(warped(images, transforms), turned, atol=0.01)


def test_a_corner_crop_shows_the_corner():
    image = np.zeros((1, 20, 30, 3), np.uint8)
    image[:, :2, -5:] = 200
    views = warped(np.repeat(image, 5, axis=0), view_transforms("multi_crop", (20, 30)))
    assert views[:, 0, -1, 0].round().tolist() == [0, 0, 200, 0, 0]


def test_what_lies_outside_of_the_frame_is_its_mirror_image():
    images = pictures(1, (16, 16))
    transform = plain_transform((16, 16))
    transform[0, 2] = 2.0  # one whole frame to the right
    np.testing.assert_allclose(warped(images, transform), images[:, :, ::-1], atol=1e-2)


def test_colours_are_clipped_to_the_range_of_pixels():
    colours = plain_colours(2)
    colours[0, :, 3], colours[1, :, 3] = 300, -300
    out = warped(pictures(2, (16, 16)), plain_transform((16, 16)), colours)
    assert np.unique(out[0]).tolist() == [255]
    assert np.unique(out[1]).tolist() == [0]


def test_the_answer_for_an_image_does_not_depend_on_its_batch():
    images, (transforms, colours) = pictures(5, (12, 20)), wild_draws(5, (12, 20))
    alone = warped(images[3:4], transforms[3:4], colours[3:4])
    np.testing.assert_array_equal(warped(images, transforms, colours)[3:4], alone)


def test_float_images_give_the_same_as_uint8():
    images, draws = pictures(2, (12, 20)), wild_draws(2, (12, 20))
    np.testing.assert_array_equal(warped(images.astype(np.float64), *draws), warped(images, *draws))


def test_a_mixed_precision_policy_does_not_reach_the_layer():
    images, draws = pictures(2, (12, 20)), wild_draws(2, (12, 20))
    expected = warped(images, *draws)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        out = Warp(12)(images, *draws)
        assert keras.backend.standardize_dtype(out.dtype) == "float32"
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(out), expected)
    finally:
        keras.config.set_dtype_policy("float32")


def functional_model(frame, size):
    inputs = (
        keras.Input((*frame, 3), dtype="uint8"),
        keras.Input((2, 3)),
        keras.Input((3, 4)),
    )
    return keras.Model(inputs, Warp(size)(*inputs))


def test_a_functional_model_holds_the_layer_and_survives_saving(tmp_path):
    model = functional_model((12, 20), 9)
    assert model.output_shape == (None, 9, 9, 3)
    assert model.outputs[0].dtype == "float32"
    model.save(tmp_path / "warp.keras")
    images, draws = pictures(5, (12, 20)), wild_draws(5, (12, 20))
    expected = warped(images, *draws, size=9)
    for network in (model, keras.models.load_model(tmp_path / "warp.keras")):
        out = network.predict([images, *draws], batch_size=2, verbose=0)
        np.testing.assert_allclose(out, expected, atol=1e-3)


def test_the_layer_has_no_weights_and_passes_no_gradient():
    layer = Warp(9)
    images, draws = pictures(2, (12, 20)), wild_draws(2, (12, 20))
    out = layer(images, *draws)
    assert layer.weights == []
    if keras.backend.backend() == "torch":
        assert not out.requires_grad


ON_A_BACKEND = """
import sys
import numpy as np
import keras
sys.path.insert(0, sys.argv[1])
from kderm.data.warp import Warp
data = np.load(sys.argv[2])
inputs = (
    keras.Input(data["images"].shape[1:], dtype="uint8"), keras.Input((2, 3)), keras.Input((3, 4))
)
model = keras.Model(inputs, Warp(9)(*inputs))
arrays = [data["images"], data["transforms"], data["colours"]]
np.savez(
    sys.argv[3],
    backend=keras.backend.backend(),
    eager=keras.ops.convert_to_numpy(Warp(9)(*arrays)),
    compiled=model.predict(arrays, batch_size=3, verbose=0),
)
"""


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_every_backend_gives_the_same_pixels(backend, tmp_path, request):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    images, (transforms, colours) = pictures(5, (12, 20)), wild_draws(5, (12, 20))
    np.savez(tmp_path / "in.npz", images=images, transforms=transforms, colours=colours)
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
    expected = reference(images, transforms, colours, 9)
    np.testing.assert_allclose(out["eager"], expected, atol=TOLERANCE)
    np.testing.assert_allclose(out["compiled"], expected, atol=TOLERANCE)


def test_every_view_set_fits_the_layer():
    for name in VIEWS:
        views = view_transforms(name, (12, 20))
        out = warped(np.repeat(pictures(1, (12, 20)), len(views), axis=0), views)
        assert np.isfinite(out).all()
