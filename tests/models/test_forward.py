"""Forward passes: inputs by name, metadata, batches of one shape."""

import weakref

import keras
import numpy as np
import pytest

from kderm.data.augment import EFFECTS, identity_effects, plain_colours
from kderm.data.views import view_transforms
from kderm.models.classifier import build_classifier
from kderm.models.forward import Forward, warped

FRAME = (36, 40)
TINY = "keras_cv/efficientnetv2_tiny"


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (5, *FRAME, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def image_member():
    keras.utils.set_random_seed(0)
    return build_classifier(TINY, 32, 4, weights="none")


@pytest.fixture(scope="module")
def metadata_member(draw_weights):
    keras.utils.set_random_seed(0)
    return draw_weights(build_classifier(TINY, 32, 4, weights="none", metadata_width=6))


@pytest.fixture(scope="module")
def metadata():
    return np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)


def run(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def inputs_of(frames):
    view = np.repeat(view_transforms("none", FRAME), len(frames), axis=0)
    return {"images": frames, "transforms": view, "colours": plain_colours(len(frames))}


def test_the_inputs_of_a_warped_classifier_have_names(image_member, metadata_member):
    names = {"images", "transforms", "colours"}
    assert set(warped(image_member, FRAME).input) == names
    assert set(warped(image_member, FRAME, effects=True).input) == {*names, "effects"}
    with_all = warped(metadata_member, FRAME, effects=True)
    assert set(with_all.input) == {*names, "effects", "metadata"}
    assert with_all.input["effects"].shape == (None, len(EFFECTS))
    assert with_all.input["metadata"].shape == (None, 6)


def test_effects_that_change_nothing_change_no_logit(image_member, frames):
    inputs = inputs_of(frames)
    plain = run(warped(image_member, FRAME), inputs)
    with_effects = {**inputs, "effects": identity_effects(len(frames))}
    np.testing.assert_array_equal(
        run(warped(image_member, FRAME, effects=True), with_effects), plain
    )


def test_metadata_reach_the_member_image_by_image(metadata_member, frames, metadata):
    forward = Forward(metadata_member, FRAME, 2)
    views = view_transforms("flips", FRAME)
    found = forward(frames, views, metadata=metadata)
    assert found.shape == (5, len(views), 4)
    logits = run(warped(metadata_member, FRAME), {**inputs_of(frames), "metadata": metadata})
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, 0], softmax, atol=1e-5)

    other = metadata.copy()
    other[3] += 1
    changed = np.abs(forward(frames, views, metadata=other) - found).max(axis=(1, 2))
    assert changed[3] > 1e-3
    assert changed[[0, 1, 2, 4]].max() < 1e-6


def test_metadata_missing_of_another_width_or_too_many_are_refused(
    image_member, metadata_member, frames, metadata
):
    views = view_transforms("none", FRAME)
    for wrong in (None, metadata[:, :5], metadata[:4]):
        with pytest.raises(ValueError, match=r"metadata of shape \(5, 6\)"):
            Forward(metadata_member, FRAME, 2)(frames, views, metadata=wrong)
    with pytest.raises(ValueError, match=r"metadata of shape \(5, 0\)"):
        Forward(image_member, FRAME, 2)(frames, views, metadata=metadata)


def test_a_full_memory_halves_the_batch_and_loses_no_metadata(
    metadata_member, frames, metadata, monkeypatch
):
    views = view_transforms("none", FRAME)
    expected = Forward(metadata_member, FRAME, 1)(frames, views, metadata=metadata)
    forward = Forward(metadata_member, FRAME, 4)
    predict = forward.model.predict_on_batch

    def limited(inputs):
        if len(inputs["images"]) > 1:
            activation = np.zeros(3)
            kept.append(weakref.ref(activation))
            raise RuntimeError("CUDA out of memory")
        return predict(inputs)

    kept, gone = [], []
    monkeypatch.setattr(forward.model, "predict_on_batch", limited)
    monkeypatch.setattr(
        "kderm.models.forward.release_memory", lambda: gone.append(kept[-1]() is None)
    )
    found = forward(frames, views, metadata=metadata)
    assert forward.batch_size == 1
    assert gone == [True, True]
    np.testing.assert_array_equal(found, expected)
