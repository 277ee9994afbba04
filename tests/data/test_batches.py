"""Training batches: what comes when, from which draws, with which targets."""

import numpy as np
import pandas as pd
import pytest

from kderm.config.schema import AugmentConfig, BalanceConfig
from kderm.data.augment import EFFECTS, draw_colours, draw_transforms, mix_rows
from kderm.data.balance import plan_balance
from kderm.data.batches import RowsOf, TrainBatches
from kderm.data.metadata import fit_metadata
from kderm.errors import UserError
from kderm.runtime import rng_for

FRAME = (12, 16)
CODES = ("mel", "nv", "df")
N = 22
ROWS = np.arange(N) * 2 + 1  # every second image of the store
LABELS = np.repeat([0, 1, 2], [6, 12, 4])
GEOMETRY = ("flip", "rotation", "zoom", "shift")
COLOUR = ("brightness", "contrast", "saturation", "hue")


def store():
    """Images that tell their row."""
    return np.broadcast_to(
        np.arange(2 * N + 2, dtype=np.uint8)[:, None, None, None], (2 * N + 2, *FRAME, 3)
    )


def batches(batch_size=5, augment=None, balance=None, fold=1, **more):
    plan = plan_balance(LABELS, CODES, **BalanceConfig(**(balance or {})).model_dump())
    return TrainBatches(
        store(),
        ROWS,
        LABELS,
        classes=3,
        plan=plan,
        batch_size=batch_size,
        augment=AugmentConfig(**(augment or {})).model_dump(),
        seed=42,
        fold=fold,
        **more,
    )


def with_metadata(augment=None, share=0.0):
    table = pd.DataFrame(
        {"age": np.arange(N) + 20.0, "sex": ["female", "male"] * (N // 2), "site": ["back"] * N}
    )
    spec = fit_metadata(table, ("age", "sex"))
    encoded = spec.encode(table)
    return encoded, batches(
        augment=augment, metadata=encoded, metadata_spec=spec, metadata_dropout=share
    )


def visited(sequence, epoch=0):
    """Positions in ROWS, in the order in which the images come."""
    sequence.epoch = epoch
    rows = [sequence[i][0]["images"][:, 0, 0, 0] for i in range(len(sequence))]
    return np.searchsorted(ROWS, np.concatenate(rows))


@pytest.mark.parametrize("augment", [{}, {"blur": 0.5, "cutmix": 0.5}])
def test_order_transforms_and_colours_are_the_draws_that_they_always_were(augment):
    sequence = batches(augment=augment)
    amounts = AugmentConfig().model_dump()
    for epoch in (0, 3):
        sequence.epoch = epoch
        order = rng_for(42, 1, "shuffle", epoch).permutation(N)
        for number in range(4):
            inputs, _ = sequence[number]
            rng = rng_for(42, 1, "augment", epoch, number)
            transforms = draw_transforms(rng, 5, FRAME, **{key: amounts[key] for key in GEOMETRY})
            colours = draw_colours(rng, 5, **{key: amounts[key] for key in COLOUR})
            expected = ROWS[order[number * 5 : number * 5 + 5]]
            np.testing.assert_array_equal(inputs["images"][:, 0, 0, 0], expected)
            np.testing.assert_array_equal(inputs["transforms"], transforms)
            np.testing.assert_array_equal(inputs["colours"], colours)


def test_the_default_batch_holds_three_inputs_and_no_effects():
    inputs, targets = batches()[0]
    assert set(inputs) == {"images", "transforms", "colours"}
    assert inputs["images"].dtype == np.uint8
    assert inputs["images"].shape == (5, *FRAME, 3)
    assert targets.dtype == np.float32
    assert targets.shape == (5, 3)


@pytest.mark.parametrize("balance", [{}, {"scheme": "balanced"}, {"by": ()}])
def test_a_target_is_the_class_weight_in_the_column_of_the_class(balance):
    sequence = batches(balance=balance)
    _, targets = sequence[1]
    labels = LABELS[visited(sequence)[5:10]]
    np.testing.assert_array_equal(targets.argmax(axis=1), labels)
    np.testing.assert_array_equal(targets.max(axis=1), sequence.plan.weights[labels])
    assert (np.count_nonzero(targets, axis=1) == 1).all()


def test_the_last_smaller_batch_is_dropped():
    sequence = batches(batch_size=5)
    assert len(sequence) == 4
    assert len(np.unique(visited(sequence))) == 20


def test_fewer_images_than_a_batch_make_one_batch():
    sequence = batches(batch_size=64)
    assert len(sequence) == 1
    np.testing.assert_array_equal(np.sort(visited(sequence)), np.arange(N))


def test_each_epoch_and_fold_has_draws_of_its_own_and_repeats_them():
    sequence = batches()
    np.testing.assert_array_equal(visited(sequence, 2), visited(batches(), 2))
    assert (visited(sequence, 2) != visited(sequence, 3)).any()
    assert (visited(sequence, 2) != visited(batches(fold=0), 2)).any()


def test_repetition_makes_the_epoch_longer_and_keeps_the_counts():
    sequence = batches(balance={"by": ("repeat",), "repeat": {"df": 5, "mel": 2}})
    assert len(sequence) == (12 + 12 + 20) // 5
    times = np.bincount(sequence.order(0), minlength=N)
    np.testing.assert_array_equal(times, np.array([2, 1, 5])[LABELS])


def test_the_sampler_shows_rare_classes_as_often_as_others():
    sequence = batches(batch_size=11, balance={"by": ("sampler",), "scheme": "balanced"})
    labels = np.concatenate([LABELS[visited(sequence, epoch)] for epoch in range(100)])
    np.testing.assert_allclose(np.bincount(labels) / len(labels), 1 / 3, atol=0.04)


def test_effects_come_with_the_batch_and_mix_its_targets():
    plain, mixed = batches(), batches(augment={"mixup": 0.5, "cutmix": 0.5, "blur": 0.5})
    _, alone = plain[2]
    inputs, targets = mixed[2]
    assert inputs["effects"].shape == (5, len(EFFECTS))
    np.testing.assert_array_equal(targets, mix_rows(alone, inputs["effects"]))
    assert np.abs(targets - alone).max() > 0.01


def test_rand_augment_alone_changes_what_was_drawn_and_mixes_nothing():
    plain, augmented = batches(batch_size=22), batches(22, {"randaugment": 2})
    (before, targets), (after, same) = plain[0], augmented[0]
    np.testing.assert_array_equal(targets, same)
    assert after["transforms"].dtype == after["colours"].dtype == np.float32
    for name in ("transforms", "colours"):
        changed = (before[name] != after[name]).reshape(22, -1).any(axis=1)
        assert 2 < changed.sum() < 22
    assert (after["effects"][:, EFFECTS.index("blur")] == 0).all()


def test_effects_of_an_epoch_repeat_themselves_and_differ_between_batches():
    augment = {"blur": 1.0, "randaugment": 1}
    first, again = batches(augment=augment), batches(augment=augment)
    np.testing.assert_array_equal(first[1][0]["effects"], again[1][0]["effects"])
    assert (first[0][0]["effects"] != first[1][0]["effects"]).any()


def test_switching_blur_on_leaves_the_draws_of_rand_augment_as_they_were():
    one, other = batches(augment={"randaugment": 2}), batches(augment={"randaugment": 2, "blur": 1})
    np.testing.assert_array_equal(one[0][0]["transforms"], other[0][0]["transforms"])


def test_too_much_mixing_is_refused_before_the_first_batch():
    with pytest.raises(UserError, match=r"augment\.mixup"):
        batches(augment={"mixup": 0.8, "cutmix": 0.4})


def test_metadata_follow_their_images():
    encoded, sequence = with_metadata()
    np.testing.assert_array_equal(sequence[1][0]["metadata"], encoded[visited(sequence)[5:10]])


def test_metadata_are_hidden_at_random_by_a_draw_of_their_own():
    encoded, sequence = with_metadata(share=0.3)
    before = encoded.copy()
    _, whole = with_metadata()
    for number in range(4):
        shown = whole[number][0]["metadata"]
        expected = sequence.metadata_spec.hide(shown, rng_for(42, 1, "metadata", 0, number), 0.3)
        np.testing.assert_array_equal(sequence[number][0]["metadata"], expected)
        assert (expected != shown).any()
        assert (expected == shown).any()
    np.testing.assert_array_equal(encoded, before)


def test_metadata_are_mixed_as_the_pictures_are():
    _, plain = with_metadata()
    _, mixed = with_metadata(augment={"mixup": 1.0})
    inputs, _ = mixed[0]
    expected = mix_rows(plain[0][0]["metadata"], inputs["effects"])
    np.testing.assert_array_equal(inputs["metadata"], expected)
    assert np.abs(expected - plain[0][0]["metadata"]).max() > 0.01


def test_rows_of_the_store_are_read_slice_by_slice():
    images = store()
    rows = RowsOf(images, ROWS)
    assert len(rows) == N
    np.testing.assert_array_equal(rows[3:6][:, 0, 0, 0], ROWS[3:6])
