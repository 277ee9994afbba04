import numpy as np
import pytest

from kderm.data.views import view_transforms
from kderm.ensemble.view_answers import view_answers, view_pool
from kderm.errors import UserError

FRAME = (8, 10)


class Fake:
    """Answers with numbers that tell image and view; counts what it is asked."""

    batch_size = 2

    def __init__(self):
        self.asked = []

    def __call__(self, images, transforms, metadata=None):
        self.asked.append((len(images), len(transforms)))
        views = np.asarray(transforms).sum(axis=(1, 2))
        rows = images.reshape(len(images), -1)[:, 0].astype(np.float32)
        return np.stack([rows[:, None] + views, rows[:, None] - views], axis=2).astype(np.float32)


def frames(count):
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, *FRAME, 3), np.uint8)


@pytest.fixture
def ask(tmp_path):
    """ask(pool, ids, digest): the answers and the fake that was asked."""

    def asked(pool, ids=("a", "b", "c"), digest="d" * 64):
        fake, told = Fake(), []

        def chunks():
            images = frames(len(ids))
            yield from ((images[start : start + 2], None) for start in range(0, len(ids), 2))

        path = tmp_path / "fold_0.npz"
        found = view_answers(path, digest, ids, pool, lambda: fake, chunks, told.append)
        assert told[-1] == len(ids)
        return found, fake.asked

    return asked


def test_a_view_that_several_sets_share_is_in_the_pool_once():
    pool = view_pool(["flips", "d4", "multi_scale"], FRAME)
    assert list(pool.sets) == ["none", "flips", "d4", "multi_scale"]
    assert len(pool.transforms) == len(set(pool.keys)) == len(pool.names) == 8 + 4
    for name, of in pool.sets.items():
        np.testing.assert_allclose(
            pool.transforms[list(of)], view_transforms(name, FRAME), atol=1e-6
        )


def test_all_view_sets_are_taken_by_default_and_unknown_ones_are_refused():
    assert len(view_pool(None, FRAME).transforms) == 16
    assert len(view_pool([], FRAME).transforms) == 1
    with pytest.raises(UserError, match="d4"):
        view_pool(["d5"], FRAME)


def test_the_second_call_asks_the_member_nothing(ask):
    pool = view_pool(["flips"], FRAME)
    first, asked = ask(pool)
    assert asked == [(2, 3), (1, 3)]
    again, asked = ask(pool)
    assert asked == []
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    assert again.seconds == first.seconds


def test_only_views_that_are_missing_are_run(ask):
    flips, _ = ask(view_pool(["flips"], FRAME))
    pool = view_pool(["flips", "d4"], FRAME)
    found, asked = ask(pool)
    assert asked == [(2, 5), (1, 5)]
    np.testing.assert_array_equal(
        found.probabilities[:, list(pool.sets["flips"])], flips.probabilities
    )
    back, asked = ask(view_pool(["flips"], FRAME))
    assert asked == []
    np.testing.assert_array_equal(back.probabilities, flips.probabilities)


def test_answers_of_a_part_of_the_images_are_found_among_all(ask):
    pool = view_pool([], FRAME)
    whole, _ = ask(pool)
    part, asked = ask(pool, ids=("c", "a"))
    assert asked == []
    np.testing.assert_array_equal(part.probabilities, whole.probabilities[[2, 0]])


def test_answers_of_another_member_of_other_images_or_cut_off_are_not_used(ask, tmp_path):
    pool = view_pool([], FRAME)
    ask(pool)
    assert ask(pool, digest="e" * 64)[1] != []
    assert ask(pool, ids=("a", "x"), digest="e" * 64)[1] != []
    path = tmp_path / "fold_0.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert ask(pool, ids=("a", "x"), digest="e" * 64)[1] != []
