"""Commands on runs at a URL, as another machine meets them."""

import json

import pytest

from kderm.commands import prediction
from kderm.commands.training import with_student
from kderm.errors import UserError


def test_a_student_that_another_machine_began_keeps_its_lesson(
    workplace, tiny_overrides, monkeypatch
):
    monkeypatch.setenv("KDERM_RUNS", f"file://{workplace}/kept")
    monkeypatch.setenv("KDERM_CACHE", str(workplace / "cache"))
    student = workplace / "kept" / "teacher_student"
    (student / "fold_0").mkdir(parents=True)
    (student / "fold_0" / "done.json").write_text("{}")
    (student / "pseudo_labels.json").write_text(json.dumps({"threshold": 0.9}))
    with pytest.raises(UserError, match=r"'teacher_student' began with {'threshold': 0\.9}"):
        with_student(None, "teacher", None, tiny_overrides, str(workplace), 0.2)


def test_a_prediction_that_may_not_be_kept_at_the_url_stays_here(workplace, monkeypatch, capsys):
    def refuse(folder):
        raise UserError("Expected the right to write there. Received: AccessDenied.")

    monkeypatch.setattr(prediction, "say_kept", refuse)
    prediction.keep(workplace / "run" / "predictions" / "photos")
    told = capsys.readouterr().err
    assert f"stays in {workplace}/run/predictions/photos/ alone" in told
    assert "AccessDenied" in told
