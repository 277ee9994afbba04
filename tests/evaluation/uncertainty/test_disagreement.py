import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from kderm.evaluation.uncertainty import disagreement as d


@st.composite
def member_answers(draw):
    m, n, k = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    sharpness = draw(st.sampled_from([0.05, 1.0, 30.0]))
    return rng.dirichlet(np.full(k, sharpness), size=(m, n))


def sure(*classes, k=3):
    """One member a class, each sure of its own, for one image: (m, 1, k)."""
    return np.eye(k)[list(classes)][:, None, :]


@given(member_answers())
@settings(deadline=None, max_examples=60)
def test_entropy_is_scipys_over_that_of_a_uniform_answer(members):
    expected = scipy_entropy(members, axis=-1) / np.log(members.shape[-1])
    np.testing.assert_allclose(d.entropy(members), expected, atol=1e-12)


@given(member_answers())
@settings(deadline=None, max_examples=60)
def test_mutual_information_is_the_mean_divergence_of_members_from_their_mean(members):
    mean = members.mean(axis=0)
    divergence = np.mean([scipy_entropy(one, mean, axis=-1) for one in members], axis=0)
    expected = divergence / np.log(members.shape[-1])
    np.testing.assert_allclose(d.mutual_information(members), expected, atol=1e-9)


@given(member_answers())
@settings(deadline=None, max_examples=60)
def test_the_order_of_members_and_of_classes_changes_nothing(members):
    turned = members[::-1][:, :, ::-1]
    for measure in (d.mutual_information, d.disagreement, d.vote_agreement):
        np.testing.assert_allclose(measure(turned), measure(members), atol=1e-12)


@given(member_answers())
@settings(deadline=None, max_examples=60)
def test_an_image_answer_does_not_depend_on_its_neighbours(members):
    for measure in (d.mutual_information, d.disagreement, d.vote_agreement):
        whole, alone = measure(members), measure(members[:, :1])
        assert alone[0] == pytest.approx(whole[0], abs=1e-12)
        assert (whole >= 0).all()
        assert (whole <= 1).all()


@given(member_answers())
@settings(deadline=None, max_examples=60)
def test_members_that_all_say_the_same_do_not_disagree(members):
    same = np.repeat(members[:1], 4, axis=0)
    np.testing.assert_allclose(d.mutual_information(same), 0, atol=1e-12)
    np.testing.assert_array_equal(d.disagreement(same), 0)


def test_members_sure_of_different_classes_disagree_wholly():
    members = sure(0, 1, 2)
    assert d.entropy(members).max() == 0
    assert d.mutual_information(members)[0] == pytest.approx(1)
    assert d.disagreement(members)[0] == pytest.approx(1)


def test_an_answer_that_all_members_find_ambiguous_is_entropy_without_mutual_information():
    members = np.full((3, 1, 4), 0.25)
    assert d.entropy(d.mean_answer(members))[0] == pytest.approx(1)
    assert d.mutual_information(members)[0] == pytest.approx(0, abs=1e-12)


def test_two_against_one_is_two_of_three_pairs_apart():
    assert d.disagreement(sure(0, 0, 1))[0] == pytest.approx(2 / 3)


def test_votes_are_shares_and_a_tied_member_votes_for_none():
    members = np.concatenate([sure(0, 0, 1), np.array([[[0.4, 0.4, 0.2]]])])
    np.testing.assert_allclose(d.votes(members), [[0.5, 0.25, 0.0]])
    assert d.vote_agreement(members)[0] == 0.5


def test_a_single_member_has_entropy_but_nobody_to_disagree_with():
    members = np.array([[[0.5, 0.5], [1.0, 0.0]]])
    np.testing.assert_allclose(d.entropy(d.mean_answer(members)), [1, 0], atol=1e-12)
    np.testing.assert_array_equal(d.mutual_information(members), 0)
    np.testing.assert_array_equal(d.disagreement(members), 0)


def test_a_member_without_weight_does_not_count():
    members = sure(0, 0, 1)
    np.testing.assert_allclose(d.mutual_information(members, np.array([1.0, 1.0, 0.0])), 0)
    np.testing.assert_allclose(d.mean_answer(members, np.array([3.0, 0.0, 1.0])), [[0.75, 0.25, 0]])


@pytest.mark.parametrize("shape", [(2, 3), (0, 2, 3), (2, 2, 1)])
def test_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="members"):
        d.disagreement(np.ones(shape))


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_weights_that_are_no_weights_are_refused(weights):
    with pytest.raises(ValueError, match="2 weights"):
        d.mean_answer(sure(0, 1), np.array(weights))
