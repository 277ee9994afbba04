import numpy as np

from kderm.ensemble.early_exit import FEWEST_PASSES, can_leave, settled

MALIGNANT = (0, 1)


def answers(spread, passes, seed=0):
    """One image, one member: the probability of the last class is about 0.9."""
    rng = np.random.default_rng(seed)
    others = np.array([0.04, 0.03, 0.03]) + rng.uniform(-spread, spread, (passes, 3))
    probabilities = np.column_stack([others, 1 - others.sum(axis=1)])
    return probabilities[None, None]  # (1, 1, passes, 4)


def test_answers_that_agree_are_settled_and_those_that_do_not_are_not():
    assert settled(answers(0.0, 5), MALIGNANT, 0.03, left=0.5).all()
    assert not settled(answers(0.3, 5), MALIGNANT, 0.03, left=0.5).any()


def test_more_passes_settle_the_same_spread():
    few, many = answers(0.06, 4), answers(0.06, 30)
    assert not settled(few, MALIGNANT, 0.02, left=0.9).any()
    assert settled(many, MALIGNANT, 0.02, left=0.9).all()


def test_few_passes_settle_nothing_and_those_of_several_members_count_together():
    for passes in range(1, FEWEST_PASSES):
        assert not settled(answers(0.0, passes), MALIGNANT, 0.4, left=0.9).any()
    assert settled(answers(0.0, FEWEST_PASSES), MALIGNANT, 0.4, left=0.5).all()
    members = answers(0.0, FEWEST_PASSES).reshape(1, FEWEST_PASSES, 1, 4)
    assert settled(members, MALIGNANT, 0.4, left=0.5).all()


def test_passes_that_agree_by_chance_are_not_taken_for_certain():
    undecided = np.full((1, 1, 4, 4), 0.25)
    assert not settled(undecided, MALIGNANT, 0.02, left=0.75).any()
    sure = np.array([0.0, 0.0, 0.001, 0.999])
    assert settled(np.tile(sure, (1, 1, 4, 1)), MALIGNANT, 0.02, left=0.75).all()


def test_what_only_moves_between_malignant_classes_still_counts():
    swap = np.array([[0.5, 0.1, 0.2, 0.2], [0.1, 0.5, 0.2, 0.2]] * 3)
    assert not settled(swap[None, None], MALIGNANT, 0.05, left=1.0).any()


def test_with_nothing_left_to_ask_everything_is_settled():
    assert settled(answers(0.3, 5), MALIGNANT, 0.001, left=0.0).all()


def test_an_image_is_judged_by_itself():
    sure, unsure = answers(0.0, 5), answers(0.3, 5)
    together = settled(np.concatenate([unsure, sure, unsure]), MALIGNANT, 0.03, left=0.5)
    assert together.tolist() == [False, True, False]


def test_leaving_takes_enough_passes_before_the_last_view():
    assert can_leave(members=1, views=FEWEST_PASSES + 1)
    assert not can_leave(members=1, views=FEWEST_PASSES)
    assert can_leave(members=FEWEST_PASSES, views=2)
    assert not can_leave(members=5 * FEWEST_PASSES, views=1)
