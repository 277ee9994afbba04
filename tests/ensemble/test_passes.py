import numpy as np
import pytest

from kderm.data.views import view_transforms
from kderm.ensemble import passes as passes_module
from kderm.ensemble.engines.engine import Engine
from kderm.ensemble.passes import Exit, Passes

FRAME = (20, 26)


class Told(Engine):
    """Members whose answers follow from the pixels: the shares of light in the three channels."""

    def __init__(self, members=3, batch_size=4, workers=1, noise=False):
        super().__init__(members, 16, batch_size, workers)
        self.noise = noise  # by one pixel, of which members and views have others
        self.asked = []

    def ask(self, member, pixels, metadata):
        self.asked.append((member, len(pixels)))
        corner = pixels[:, 3 * member, 0] if self.noise else pixels.mean(axis=(1, 2))
        light = corner + 1.0 + member
        probabilities = (light / light.sum(axis=1, keepdims=True)).astype(np.float32)
        return probabilities, pixels[:, 8, 8]


def frames(count):
    return np.random.default_rng(1).integers(0, 256, (count, *FRAME, 3), dtype=np.uint8)


def uniform(count):
    """Frames that look the same in every view."""
    shades = np.random.default_rng(2).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return np.tile(shades, (1, *FRAME, 1))


def run(engine, images, views="d4", tolerance=0.0):
    made = Passes(engine, view_transforms(views, FRAME), 3, Exit(tolerance, (0,)))
    return made(images)


@pytest.mark.parametrize("views", ["none", "d4", "multi_scale", "multi_crop"])
def test_without_a_tolerance_every_member_sees_every_view_of_every_image(views):
    found = run(Told(), frames(5), views)
    count = len(view_transforms(views, FRAME))
    assert found.probabilities.shape == (5, 3, count, 3)
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, atol=1e-6)
    assert found.passes.tolist() == [3 * count] * 5


def test_blocks_batches_and_threads_change_no_answer(monkeypatch):
    images = frames(11)
    usual = run(Told(noise=True), images, "multi_scale")
    monkeypatch.setattr(passes_module, "MAX_PIXEL_BYTES", 1)
    other = run(Told(noise=True, batch_size=3, workers=4), images, "multi_scale")
    np.testing.assert_array_equal(other.probabilities, usual.probabilities)
    for own, same in zip(other.features, usual.features, strict=True):
        np.testing.assert_array_equal(own, same)


def test_views_of_few_images_share_a_batch_and_answer_as_one_by_one():
    images = frames(2)
    many, few = Told(members=1, batch_size=9, noise=True), Told(members=1, batch_size=2, noise=True)
    found, usual = run(many, images), run(few, images)
    assert [count for _, count in many.asked] == [8, 8]
    assert [count for _, count in few.asked] == [2] * 8
    np.testing.assert_array_equal(found.probabilities, usual.probabilities)
    np.testing.assert_array_equal(found.features[0], usual.features[0])
    assert found.rounds.tolist() == [8, 8]


def test_in_a_shared_batch_each_view_comes_with_its_images_metadata():
    class Asking(Told):
        def ask(self, member, pixels, metadata):
            probabilities, seen = super().ask(member, pixels, metadata)
            return probabilities * metadata, seen

    known = np.array([[1.0], [2.0]], np.float32)
    made = [
        Passes(Asking(batch_size=size), view_transforms("d4", FRAME), 3, Exit(0.0, (0,)))
        for size in (16, 2)
    ]
    together, alone = (one(frames(2), known) for one in made)
    np.testing.assert_array_equal(together.probabilities, alone.probabilities)


def test_where_images_may_leave_one_view_is_shown_at_a_time():
    engine = Told(members=1, batch_size=8, noise=True)
    run(engine, frames(1), tolerance=1e-9)
    assert {count for _, count in engine.asked} == {1}


def test_features_are_those_of_the_plain_view_of_each_member():
    images = frames(6)
    engine = Told()
    found = run(engine, images)
    plain = engine.look(images, view_transforms("none", FRAME)[0])
    assert len(found.features) == 3
    np.testing.assert_array_equal(found.features[0], plain[:, 8, 8])


def test_images_that_are_settled_leave_after_each_member_has_seen_them_once():
    images = np.concatenate([uniform(3), frames(3)])
    found = run(Told(members=5, noise=True), images, tolerance=0.03)
    assert found.rounds[:3].tolist() == [1, 1, 1]
    assert found.rounds[3:].max() > 1
    assert found.passes.tolist() == (5 * found.rounds).tolist()
    assert run(Told(members=5, noise=True), images).rounds.tolist() == [8] * 6


def test_the_views_that_were_seen_are_answered_as_without_an_exit():
    images = np.concatenate([frames(4), uniform(3)])
    early, all_views = run(Told(noise=True), images, tolerance=0.02), run(Told(noise=True), images)
    assert len(set(early.rounds.tolist())) > 1
    for row, rounds in enumerate(early.rounds):
        np.testing.assert_allclose(
            early.probabilities[row, :, :rounds], all_views.probabilities[row, :, :rounds]
        )


def test_an_image_leaves_at_the_same_time_alone_and_in_company():
    images = np.concatenate([frames(4), uniform(3)])
    together = run(Told(noise=True), images, tolerance=0.02)
    alone = [run(Told(noise=True), images[i : i + 1], tolerance=0.02).rounds[0] for i in range(7)]
    assert together.rounds.tolist() == alone


def test_a_full_memory_halves_the_batch_and_costs_no_answer(capsys):
    class Small(Told):
        def ask(self, member, pixels, metadata):
            if len(pixels) > 2:
                raise RuntimeError("CUDA out of memory")
            return super().ask(member, pixels, metadata)

    images = frames(5)
    engine = Small(batch_size=8)
    np.testing.assert_array_equal(
        run(engine, images).probabilities, run(Told(), images).probabilities
    )
    assert engine.batch_size == 2
    assert "memory is full" in capsys.readouterr().err


def test_blocks_are_whole_batches_so_that_little_is_padded(monkeypatch):
    monkeypatch.setattr(passes_module, "MAX_PIXEL_BYTES", 7 * 12 * 16**2)  # seven images
    engine = Told(members=1, batch_size=4)
    run(engine, frames(10), "none")
    assert [count for _, count in engine.asked] == [4, 4, 2]
