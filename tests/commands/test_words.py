"""What verbs say of mistakes, and that they say it before they announce any work."""

import pytest
from click.testing import CliRunner

from kderm.cli import main


def refusal(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("given", [[], ["--launcher", "local"]])
def test_an_address_without_its_launcher_is_told_with_what_was_given(workplace, given):
    told = refusal("cv", "--address", "head:6379", *given)
    assert "Received: --address head:6379 for the launcher local." in told


def test_runs_that_are_not_finished_are_called_that(workplace):
    for name in ("first", "second", "third"):
        (workplace / "runs" / name).mkdir(parents=True)
        (workplace / "runs" / name / "config.yaml").write_text("seed: 1\n")
    (workplace / "runs" / "second" / "ensemble.json").write_text("{}")
    told = refusal("export", "quux")
    assert "Known: first, second, third." in told
    assert told.endswith("Not finished: first, third.")
    assert "Not finished" not in refusal("export", "secnd")
    assert refusal("export", "thrd").endswith("Not finished: third.")


@pytest.mark.parametrize("verb", [["cv"], ["train", "--fold", "0"]])
@pytest.mark.parametrize(
    "wrong",
    [
        "data.dataset=ham1000",
        "data.dataset=ham10000",
        "model.preset=x",
        "model.preset=file/nowhere.keras",
        "model.weights=nowhere.h5",
        "distil.teacher=nosuch",
    ],
)
def test_what_is_wrong_with_the_options_is_told_before_work_is_announced(workplace, verb, wrong):
    told = refusal(*verb, "model.weights=none", wrong)
    assert told.startswith("error: ")
    assert not (workplace / "runs").exists()


def test_a_folder_without_data_is_told_before_missing_weights(workplace, monkeypatch):
    (workplace / "empty").mkdir()
    monkeypatch.setattr("kderm.models.weights.find_local", lambda preset: None)
    missing = "kderm.models.weights.require_connection"
    monkeypatch.setattr(missing, lambda *_: pytest.fail("weights were asked for"))
    for dataset in ("ham10000", "class_folders"):
        told = refusal("cv", f"data.dataset={dataset}", "data.root=empty")
        assert "empty" in told


def test_missing_weights_are_told_before_images_are_decoded(workplace, tiny_overrides):
    told = refusal("cv", *tiny_overrides, "model.weights=nowhere.h5")
    assert "model.weights=nowhere.h5 is not there" in told
    assert not list(workplace.rglob("_stores"))
