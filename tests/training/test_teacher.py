import shutil

import numpy as np
import pandas as pd
import pytest

from kderm.commands.training import cross_validate
from kderm.config.reading import load_config
from kderm.data.prepare import prepare
from kderm.errors import UserError
from kderm.run_dir import RunDir, runs_root
from kderm.training.split import split
from kderm.training.teacher import freeze_teacher, soft_targets


def answers(data, rows=slice(None)):
    """An out-of-fold table that is always 60 % sure of the right class."""
    table = data.folds.table.iloc[rows]
    k = len(data.labels)
    right = table["label"].map(data.labels.index).to_numpy()
    probabilities = np.full((len(table), k), 0.4 / (k - 1))
    probabilities[np.arange(len(table)), right] = 0.6
    known = table[["image_id", "group_id", "label", "fold"]].reset_index(drop=True)
    return known.assign(**dict(zip(data.labels.columns, probabilities.T, strict=True)))


@pytest.fixture
def data(workplace, tiny_overrides):
    return prepare(load_config(None, tiny_overrides))


@pytest.fixture
def student(data, workplace):
    teacher = workplace / "runs" / "teacher"
    teacher.mkdir(parents=True)
    answers(data, slice(0, 50)).to_csv(teacher / "oof.csv", index=False)
    run = RunDir(workplace / "runs" / "student")
    run.path.mkdir()
    return run


def test_a_target_is_the_label_and_by_weight_the_teachers_answer(data, student):
    table = data.folds.table
    ids, k = table["image_id"].tolist(), len(data.labels)
    labels = table["label"].map(data.labels.index).to_numpy()
    unknown = freeze_teacher("teacher", student, data.labels, ids)
    assert unknown == len(ids) - 50
    mixed = soft_targets(student, data.labels, ids, labels, weight=0.5, temperature=1.0)
    rows = np.arange(50)
    np.testing.assert_allclose(mixed[rows, labels[:50]], 0.8, atol=1e-6)
    np.testing.assert_allclose(mixed.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(mixed[50:], np.eye(k, dtype=np.float32)[labels[50:]])
    softer = soft_targets(student, data.labels, ids, labels, weight=1.0, temperature=2.0)
    root = np.sqrt([0.6, 0.4 / (k - 1)])
    expected = root[0] / (root[0] + (k - 1) * root[1])
    np.testing.assert_allclose(softer[rows, labels[:50]], expected, atol=1e-6)


def test_answers_are_joined_by_image_not_by_row(data, student):
    table = data.folds.table
    ids = table["image_id"].tolist()
    labels = table["label"].map(data.labels.index).to_numpy()
    path = student.path.parent / "teacher" / "oof.csv"
    pd.read_csv(path, dtype=str).sample(frac=1, random_state=0).to_csv(path, index=False)
    freeze_teacher("teacher", student, data.labels, ids)
    mixed = soft_targets(student, data.labels, ids, labels, weight=1.0, temperature=1.0)
    assert (mixed.argmax(axis=1) == labels).all()


def test_the_shares_follow_the_images_into_their_folds(data):
    table = data.folds.table
    shares = np.random.default_rng(0).dirichlet(np.ones(len(data.labels)), len(table))
    own = split(data, 1, shares=shares.astype(np.float32))
    trained = (table["fold"] != 1).to_numpy()
    np.testing.assert_array_equal(own.train_shares, shares.astype(np.float32)[trained])
    assert split(data, 1).train_shares is None


def test_a_student_learns_what_its_teacher_said_when_it_began(
    workplace, tiny_overrides, data, student, capsys
):
    asked = [*tiny_overrides, "distil.teacher=teacher", "distil.weight=1.0"]
    cross_validate(None, "student", None, asked)
    assert "unknown to the teacher" in capsys.readouterr().out
    frozen = student.teacher.read_bytes()
    assert len(pd.read_csv(student.teacher)) == 50
    assert "answers of teacher" in student.report.read_text()
    (workplace / "runs" / "teacher" / "oof.csv").unlink()
    cross_validate(None, "student", None, asked)  # finished: nothing is asked of the teacher again
    assert student.teacher.read_bytes() == frozen


def test_a_teacher_that_is_no_finished_run_or_knows_none_of_the_images_is_refused(
    data, student, workplace
):
    strangers = [f"other_{number}" for number in range(5)]
    with pytest.raises(UserError, match="same data set"):
        freeze_teacher("teacher", student, data.labels, strangers)
    with pytest.raises(UserError, match="finished run"):
        freeze_teacher("student", student, data.labels, strangers)
    with pytest.raises(UserError, match="teachr"):
        freeze_teacher("teachr", student, data.labels, strangers)
    shutil.copytree(runs_root() / "teacher", runs_root() / "shrunk")
    (runs_root() / "shrunk" / "ensemble.json").write_text("{}")
    with pytest.raises(UserError, match="shrink wrote has none"):
        freeze_teacher("shrunk", student, data.labels, strangers)
    assert not student.teacher.exists()
