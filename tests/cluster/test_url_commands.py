"""Commands on runs at a URL, as another machine meets them."""

import json

import pytest

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
