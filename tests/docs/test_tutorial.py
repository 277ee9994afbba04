"""The tutorial's page and notebook say the same, and what they say works."""

import importlib.util
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).resolve().parents[2] / "docs"


def script(name):
    """A script of docs/, imported."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, DOCS / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_the_page():
    text = script("notebook.py").notebook_text((DOCS / "tutorial.md").read_text())
    assert (DOCS / "tutorial.ipynb").read_text() == text, "run: python docs/notebook.py"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook, run from the first cell to the last."""
    place = tmp_path_factory.mktemp("tutorial")
    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(place)}})
    return client.execute(), place


def said(executed, words):
    """What the cell whose code holds `words` shows."""
    (cell,) = (
        cell for cell in executed[0].cells if cell.cell_type == "code" and words in cell.source
    )
    return "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


def test_every_cell_runs(executed):
    nbformat.validate(executed[0])
    code = [cell for cell in executed[0].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert (executed[1] / "runs" / "tutorial" / "report.html").is_file()


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("load_dataset", "Dataset(demo: 105 images; akiec 7"),
        ("photos =", "0 of them lie in two folds"),
        ("run.metrics", "macro_auc: 0."),
        ("older =", "images of people of 60 or more"),
        ("answers.cautions", "memory, not a test"),
        ("predict_lesions", "left arm"),
        ("explanation =", "Melanoma: 0."),
        ("cross_val_predict", "right"),
    ],
)
def test_the_cells_show_what_the_words_around_them_say(executed, cell, words):
    assert words in said(executed, cell)


def test_the_map_is_shown_as_a_picture(executed):
    cell = next(cell for cell in executed[0].cells if "explanation.overlay" in cell.source)
    assert any("image/png" in output.get("data", {}) for output in cell.outputs)
