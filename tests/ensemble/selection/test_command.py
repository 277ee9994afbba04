import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from kderm.cli import main
from kderm.ensemble.bundle import read_bundle


@pytest.fixture
def select(spoilable, monkeypatch):
    """select(*arguments): what `kderm select` printed and its exit code, beside two equal runs."""
    runs = spoilable.path.parent
    shutil.copytree(spoilable.path, runs / "other")
    monkeypatch.setenv("KDERM_RUNS", str(runs))

    def called(*arguments):
        result = CliRunner().invoke(main, ["select", *map(str, arguments)])
        return result.output, result.exit_code

    return called


def test_views_of_a_run_are_weighed_and_its_bundle_learns_what_it_looks_like(select, spoilable):
    output, code = select("copy", "--views", "d4", "--images", "30")
    assert code == 0
    assert read_bundle(spoilable.path).facts.unlike is None
    output, code = select("copy", "--views", "d4")
    assert code == 0
    assert "Test-time views" in output
    table = pd.read_csv(spoilable.path / "selection" / "views.csv")
    assert table["views"].tolist() == ["none", "flips", "d4"]
    assert (spoilable.path / "selection" / "views_greedy.md").is_file()
    assert read_bundle(spoilable.path).facts.unlike is not None


def test_members_and_soup_are_weighed_on_images_from_elsewhere(select, spoilable, elsewhere):
    output, code = select("copy", "--external", elsewhere, "--soup")
    assert code == 0
    assert "Mean of the weights (soup)" in output
    names = {path.name for path in (spoilable.path / "selection").glob("*.csv")}
    assert names == {"members.csv", "members_greedy.csv", "soup.csv"}


def test_several_runs_are_weighed_by_their_tables(select, spoilable):
    for model in spoilable.path.parent.glob("other/fold_*/model.keras"):
        model.unlink()
    output, code = select("copy", "other")
    assert code == 0, output
    table = pd.read_csv(spoilable.path / "selection" / "runs.csv")
    assert table["macro_auc_gain"].abs().max() < 1e-12  # the same run twice adds nothing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["copy", "--soup"], "--external PATH"),
        (["copy", "other", "--views", "d4"], "belong to one"),
        (["copy", "other", "--batch-size", "8"], "belong to one"),
        (["copy", "--views", "d5"], "d4"),
        (["copy", "copy"], "two different runs"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_paragraph(select, arguments, words):
    output, code = select(*arguments)
    assert code == 2
    assert words in output
