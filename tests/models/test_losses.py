"""The losses against NumPy in double precision, against Keras and torch, and at the edges."""

import json
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.losses import BinaryCrossEntropy, FocalLoss, LdamLoss, build_loss


def batch(n=64, k=7, scale=4.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, k, n), (scale * rng.normal(size=(n, k))).astype("float32")


def oracle(labels, logits, gamma, smoothing):
    """The definition, written out class by class in double precision; (n,)."""
    z = logits.astype("float64")
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    losses = np.zeros(len(labels))
    for image, label in enumerate(labels):
        for c in range(z.shape[1]):
            target = smoothing / z.shape[1] + (1 - smoothing) * (c == label)
            losses[image] -= target * (1 - p[image, c]) ** gamma * np.log(p[image, c])
    return losses


def value(loss, labels, logits, **more):
    return keras.ops.convert_to_numpy(loss(labels, logits, **more))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_its_definition(gamma, smoothing):
    labels, logits = batch()
    loss = FocalLoss(gamma, smoothing, reduction="none")
    found = value(loss, labels, logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, oracle(labels, logits, gamma, smoothing), rtol=1e-4, atol=1e-7
    )


def test_a_worked_example():
    # p = (0.25, 0.75), so the loss of class 0 is 0.75^2 * log 4.
    found = value(FocalLoss(2.0), np.array([0]), np.log(np.array([[1.0, 3.0]])))
    assert found == pytest.approx(0.5625 * np.log(4.0), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_focal_loss_is_that_of_keras_with_alpha_one(gamma, smoothing):
    labels, logits = batch(scale=1.0)
    peer = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=gamma, from_logits=True, label_smoothing=smoothing
    )
    expected = value(peer, np.eye(7, dtype="float32")[labels], logits)
    np.testing.assert_allclose(
        value(FocalLoss(gamma, smoothing), labels, logits), expected, rtol=1e-5
    )


def test_cross_entropy_is_that_of_keras():
    labels, logits = batch()
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(
        value(build_loss("cross_entropy"), labels, logits), value(plain, labels, logits), rtol=1e-6
    )
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    np.testing.assert_allclose(
        value(build_loss("cross_entropy", label_smoothing=0.1), labels, logits),
        value(smooth, np.eye(7, dtype="float32")[labels], logits),
        rtol=1e-6,
    )


def test_gamma_zero_is_cross_entropy_to_the_last_bit():
    labels, logits = batch()
    focal = FocalLoss(0.0, 0.1, reduction="none")
    cross = build_loss("cross_entropy", gamma=2.0, label_smoothing=0.1)
    cross.reduction = "none"
    np.testing.assert_array_equal(value(focal, labels, logits), value(cross, labels, logits))


def test_sample_weights_weigh_images_and_the_sum_is_over_n():
    labels, logits = batch()
    weights = np.linspace(0, 3, len(labels)).astype("float32")
    expected = (weights * oracle(labels, logits, 2.0, 0.0)).sum() / len(labels)
    found = value(FocalLoss(), labels, logits, sample_weight=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_loss_is_float32_whatever_comes_in(dtype):
    labels, logits = batch()
    found = value(FocalLoss(reduction="none"), labels.astype("uint8"), logits.astype(dtype))
    assert found.dtype == np.float32
    expected = oracle(labels, logits.astype(dtype), 2.0, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_labels_of_another_shape_are_refused():
    labels, logits = batch()
    for wrong in (labels[:, None], np.eye(5, dtype="float32")[labels % 5]):
        with pytest.raises(ValueError, match=r"labels \(n,\)"):
            FocalLoss()(wrong, logits)


@pytest.mark.parametrize(
    "loss",
    [
        FocalLoss(1.5, 0.05),
        BinaryCrossEntropy(0.05),
        LdamLoss([5, 50], 0.7),
    ],
    ids=lambda loss: loss.name,
)
def test_a_loss_survives_its_config(loss):
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(loss))))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    labels, logits = batch(k=2)
    np.testing.assert_array_equal(value(again, labels, logits), value(loss, labels, logits))


def test_an_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="cross_entropy"):
        build_loss("crossentropy")


# === Targets: shares times weights ===


def targets_of(labels, weights):
    """float32 (n, k): each row its class's weight at its place."""
    targets = np.zeros((len(labels), len(weights)), "float32")
    targets[np.arange(len(labels)), labels] = weights[labels]
    return targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_targets_of_one_class_are_labels_with_sample_weights_to_the_last_bit(gamma, smoothing):
    labels, logits = batch()
    weights = np.linspace(0, 3, 7).astype("float32")
    loss = FocalLoss(gamma, smoothing)
    np.testing.assert_array_equal(
        value(loss, targets_of(labels, weights), logits),
        value(loss, labels, logits, sample_weight=weights[labels]),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_targets_pay_each_class_by_its_share_and_weight(smoothing):
    labels, logits = batch()
    partners = np.roll(labels, 1)
    weights = np.linspace(0.2, 3, 7).astype("float32")
    share = np.random.default_rng(1).uniform(size=len(labels)).astype("float32")
    mixed = share[:, None] * targets_of(labels, weights)
    mixed += (1 - share[:, None]) * targets_of(partners, weights)
    loss = FocalLoss(2.0, smoothing, reduction="none")
    expected = share * weights[labels] * oracle(labels, logits, 2.0, smoothing)
    expected += (1 - share) * weights[partners] * oracle(partners, logits, 2.0, smoothing)
    np.testing.assert_allclose(value(loss, mixed, logits), expected, rtol=1e-4, atol=1e-6)


def test_an_image_of_no_weight_costs_nothing():
    labels, logits = batch()
    for loss in (FocalLoss(2.0, 0.1), LdamLoss([9] * 7)):
        assert value(loss, np.zeros((len(labels), 7), "float32"), logits) == 0


# === Two classes ===


def test_binary_cross_entropy_is_that_of_torch_with_pos_weight():
    torch = pytest.importorskip("torch")
    labels, logits = batch(k=2)
    difference = torch.tensor(logits[:, 1] - logits[:, 0])
    peer = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(6.5))
    expected = peer(difference, torch.tensor(labels, dtype=torch.float32)).item()
    targets = targets_of(labels, np.array([1.0, 6.5], "float32"))
    found = value(build_loss("binary_cross_entropy"), targets, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)

    soft = np.random.default_rng(2).uniform(size=len(labels)).astype("float32")
    expected = peer(difference, torch.tensor(soft)).item()
    targets = np.stack([1 - soft, 6.5 * soft], axis=1)
    found = value(build_loss("binary_cross_entropy"), targets, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_cross_entropy_of_two_logits(smoothing):
    labels, logits = batch(k=2)
    loss = BinaryCrossEntropy(smoothing, reduction="none")
    expected = oracle(labels, logits, 0.0, smoothing)
    np.testing.assert_allclose(value(loss, labels, logits), expected, rtol=1e-4, atol=1e-6)


def test_binary_cross_entropy_of_more_classes_is_refused():
    labels, logits = batch(k=3)
    with pytest.raises(UserError, match=r"two classes.*Received: 3"):
        build_loss("binary_cross_entropy")(labels, logits)


# === LDAM ===


def test_ldam_takes_a_margin_off_the_logit_of_the_label_alone():
    labels, logits = batch()
    counts = np.array([327, 514, 1099, 115, 1113, 6705, 142])
    margins = 0.8 * (counts / counts.min()) ** -0.25
    shifted = logits.astype("float64")
    shifted[np.arange(len(labels)), labels] -= margins[labels]
    loss = LdamLoss(counts, 0.8, reduction="none")
    np.testing.assert_allclose(
        value(loss, labels, logits), oracle(labels, shifted, 0.0, 0.0), rtol=1e-4, atol=1e-6
    )
    assert loss.margins.argmax() == counts.argmin()
    assert loss.margins.max() == pytest.approx(0.8)


def test_ldam_gives_the_rarest_class_with_images_the_largest_margin():
    assert LdamLoss([0, 1, 16]).margins == pytest.approx([0, 0.5, 0.25])


def test_ldam_refuses_smoothed_labels_and_needs_counts_that_fit():
    with pytest.raises(UserError, match="label_smoothing=0"):
        build_loss("ldam", label_smoothing=0.1, counts=[3, 4])
    with pytest.raises(UserError, match=r"loss\.margin"):
        build_loss("ldam", margin=0.0, counts=[3, 4])
    with pytest.raises(ValueError, match="counts"):
        build_loss("ldam")
    labels, logits = batch(k=3)
    with pytest.raises(ValueError, match="2 classes"):
        build_loss("ldam", counts=[3, 4])(labels, logits)


# === Ranges and edges ===


@pytest.mark.parametrize(
    "values", [{"gamma": -1.0}, {"gamma": float("nan")}, {"label_smoothing": 1.0}]
)
def test_values_out_of_range_are_refused(values):
    (name,) = values
    with pytest.raises(UserError, match=f"loss.{name}"):
        build_loss("focal", **values)


def test_values_and_gradients_are_right_and_at_the_edges_finite():
    here = runpy.run_path(str(Path(__file__).with_name("on_a_backend.py")))
    labels, logits = here["loss_batch"]()
    logits = logits.astype("float64")
    for case in here["losses"]():
        args = (case["gamma"], case["smoothing"])
        assert case["value"] == pytest.approx(oracle(labels, logits, *args).mean(), rel=1e-5)
        expected = finite_differences(labels, logits, *args)
        np.testing.assert_allclose(case["gradient"], expected, rtol=1e-3, atol=1e-6)
        assert np.isfinite(case["edge_value"]), args
        slope = np.array(case["edge_gradient"])
        assert np.isfinite(slope).all(), args
        assert case["smoothing"] or abs(slope[0]).max() < 1e-6, "nothing to learn: sure and right"
        assert slope[1, 0] < -0.1, "still learns where sure and wrong"
        assert slope[1, 1] > 0.1


def finite_differences(labels, logits, gamma, smoothing, width=1e-5):
    """Central differences of the mean loss in double precision, (n, k)."""
    slopes = np.zeros_like(logits)
    for c in range(logits.shape[1]):
        shift = np.zeros_like(logits)
        shift[:, c] = width
        above = oracle(labels, logits + shift, gamma, smoothing)
        below = oracle(labels, logits - shift, gamma, smoothing)
        slopes[:, c] = (above - below) / (2 * width * len(labels))
    return slopes
