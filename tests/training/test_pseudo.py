import json

import numpy as np
import pandas as pd
import pytest

from kderm.commands.training import with_student
from kderm.config.reading import load_config
from kderm.data.datasets.demo import write_demo
from kderm.data.prepare import prepare
from kderm.data.pseudo import Frames
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.training.split import split


def test_a_student_trains_on_pseudo_labels_and_is_scored_on_its_own_images_alone(
    workplace, tiny_overrides, capsys
):
    few = [*tiny_overrides, "train.epochs=6", "train.frozen_epochs=0", "train.learning_rate=0.01"]
    write_demo(workplace / "unlabelled", 70, seed=7, height=40)
    with_student(None, "teacher", None, few, str(workplace / "unlabelled"), 0.15)
    said = capsys.readouterr().out
    assert "unlabelled images" in said
    teacher, student = (RunDir(workplace / "runs" / n) for n in ("teacher", "teacher_student"))
    sure = pd.read_csv(teacher.pseudo_labels)
    own, taught = (json.loads(run.fold(0).done.read_text()) for run in (teacher, student))
    assert taught["train_images"] == own["train_images"] + len(sure)
    assert taught["held_out_images"] == own["held_out_images"]
    assert set(pd.read_csv(student.oof)["image_id"]) == set(pd.read_csv(teacher.oof)["image_id"])
    assert "a little too good" in student.report.read_text()
    lesson = student.pseudo_labels.read_text()
    with pytest.raises(UserError, match=r"began with .*0\.15"):
        with_student(None, "teacher", None, few, str(workplace / "unlabelled"), 0.2)
    assert student.pseudo_labels.read_text() == lesson


def test_pseudo_labelled_images_train_in_every_fold_with_their_own_pixels(
    workplace, tiny_overrides
):
    write_demo(workplace / "more", 70, seed=7, height=40)
    images = sorted((workplace / "more").rglob("*.jpg"))[:3]
    table = pd.DataFrame(
        {"image_id": [p.stem for p in images], "path": images, "label": ["mel", "nv", "mel"]}
    )
    table.to_csv("pseudo.csv", index=False)
    data = prepare(load_config(None, [*tiny_overrides, "data.pseudo_labels=pseudo.csv"]))
    frames = Frames(data.store.images, data.pseudo)
    for fold in range(3):
        rows = split(data, fold)
        assert rows.train[-3:].tolist() == [105, 106, 107]
        assert rows.train_labels[-3:].tolist() == [
            data.labels.index(c) for c in ("mel", "nv", "mel")
        ]
        assert max(rows.held_out) < 105
    mixed = frames[np.array([106, 0, 107])]
    np.testing.assert_array_equal(mixed[1], data.store.images[0])
    np.testing.assert_array_equal(mixed[[0, 2]], data.pseudo.images[data.pseudo.rows[[1, 2]]])


@pytest.mark.parametrize(
    "text", ["image_id,path\na,b\n", "image_id,path,label\na,b,wart\n", "image_id,path,label\n"]
)
def test_a_table_that_holds_no_pseudo_labels_is_refused(workplace, tiny_overrides, text):
    (workplace / "pseudo.csv").write_text(text)
    with pytest.raises(UserError, match="image_id, path and label"):
        prepare(load_config(None, [*tiny_overrides, "data.pseudo_labels=pseudo.csv"]))
