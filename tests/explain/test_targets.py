import numpy as np
import pytest

from kderm.explain.targets import PREDICTED, RUNNER_UP, WATCHED, questions, watched_class
from kderm.labels import BINARY, HAM10000, LABEL_SPACES, label_space


def test_melanoma_is_watched_wherever_the_label_space_has_it():
    for space in LABEL_SPACES.values():
        if "mel" in space.codes:
            assert watched_class(space).code == "mel"
            assert watched_class(space).classes == (space.codes.index("mel"),)


def test_without_melanoma_the_malignant_classes_are_watched():
    assert watched_class(BINARY).code == BINARY.malignant[0]
    space = label_space("custom", ["a", "b", "c"], ["b", "c"])
    assert (watched_class(space).code, watched_class(space).classes) == ("malignant", (1, 2))


def test_a_space_without_malignancy_watches_nothing():
    assert watched_class(label_space("custom", ["a", "b"])) is None


def answer(**known):
    row = np.full(7, (1 - sum(known.values())) / (7 - len(known)))
    for code, value in known.items():
        row[HAM10000.index(code)] = value
    return row


def test_the_second_map_is_for_melanoma_and_for_the_runner_up_where_melanoma_is_the_answer():
    rows = np.stack([answer(nv=0.7, mel=0.05), answer(mel=0.6, bkl=0.3)])
    asked, weights = questions(rows, HAM10000)
    found = [[(one.role, one.code, round(one.probability, 6)) for one in pair] for pair in asked]
    assert found == [
        [(PREDICTED, "nv", 0.7), (WATCHED, "mel", 0.05)],
        [(PREDICTED, "mel", 0.6), (RUNNER_UP, "bkl", 0.3)],
    ]
    nv, mel, bkl = (np.eye(7)[HAM10000.index(code)] - 1 / 7 for code in ("nv", "mel", "bkl"))
    assert weights == pytest.approx(np.array([[nv, mel], [mel, bkl]]), abs=1e-6)


def test_what_is_added_to_all_logits_is_no_evidence():
    rng = np.random.default_rng(0)
    _, weights = questions(rng.dirichlet(np.ones(7), 20), HAM10000)
    assert weights.sum(axis=2) == pytest.approx(np.zeros((20, 2)), abs=1e-6)


def test_several_malignant_classes_count_by_their_probabilities():
    space = label_space("custom", ["a", "b", "c"], ["b", "c"])
    asked, weights = questions(np.array([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0]]), space)
    assert (asked[0][1].code, asked[0][1].probability) == ("malignant", pytest.approx(0.4))
    assert weights[0, 1] == pytest.approx(np.array([0, 0.75, 0.25]) - 1 / 3, abs=1e-6)
    assert weights[1, 1] == pytest.approx(np.array([0, 0.5, 0.5]) - 1 / 3, abs=1e-6)


def test_a_malignant_answer_in_a_space_of_several_asks_for_the_runner_up():
    space = label_space("custom", ["a", "b", "c"], ["b", "c"])
    asked, _ = questions(np.array([[0.1, 0.3, 0.6]]), space)
    assert [one.code for one in asked[0]] == ["c", "b"]
