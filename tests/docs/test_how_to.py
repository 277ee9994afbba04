"""The how-to pages do what they say: their blocks run as they stand, from top to bottom."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "how_to"


def blocks(page, language):
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(words, place):
    environment = {name: value for name, value in os.environ.items() if name != "KDERM_RUNS"}
    folder = Path(sys.executable).parent
    environment |= {"PATH": f"{folder}:{environment['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, cwd=place, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def shell(page, place):
    """Run a page's shell blocks in one folder that has run.py, as the repository's has."""
    (place / "run.py").symlink_to(REPOSITORY / "run.py")
    return run(["bash", "-euo", "pipefail", "-c", "\n".join(blocks(page, "bash"))], place)


@pytest.mark.slow
def test_your_own_data(tmp_path):
    said = shell("your_own_data", tmp_path)
    assert "file,diagnosis,lesion,age" in said
    run_folder = tmp_path / "runs" / "clinic"
    assert (run_folder / "report.html").is_file()
    table = pd.read_csv(run_folder / "predictions" / "photos" / "predictions.csv")
    assert {"p_melanoma", "p_naevus", "p_other"} <= set(table.columns)
    assert len(table) == 105
    assert table["error"].isna().all()


@pytest.mark.slow
def test_slurm_array_jobs_at_once_give_the_run_of_one_process(tmp_path):
    said = shell("slurm", tmp_path)
    assert "finished before, kept" in said
    logs = [(tmp_path / f"task_{task}.log").read_text() for task in range(3)]
    assert all("run lesions in runs/lesions/" in log for log in logs)
    assert (tmp_path / "runs" / "lesions" / "ensemble.json").is_file()
    assert (tmp_path / "runs" / "lesions" / "unlike.npz").is_file()
    run([sys.executable, "run.py", "cv", "-c", "lesions.yaml", "--run", "alone"], tmp_path)
    together, alone = (
        pd.read_csv(tmp_path / "runs" / name / "oof.csv") for name in ("lesions", "alone")
    )
    pd.testing.assert_frame_equal(together, alone, atol=1e-5)


@pytest.mark.slow
def test_a_new_backbone(tmp_path):
    shell("new_backbone", tmp_path)
    assert (tmp_path / "runs" / "separable" / "report.html").is_file()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("new_data_set", "Dataset(clinic: 60 images; akiec 0"),
        ("new_data_set", "1 fold a lesion"),
        ("new_metric", "melanoma among three: 0."),
        ("new_metric", "'balanced_accuracy'"),
    ],
)
def test_python_pages(page, words, tmp_path):
    assert words in run([sys.executable, "-c", "\n".join(blocks(page, "python"))], tmp_path)


def test_the_pages_speak_of_files_and_columns_that_are_there():
    for page in PAGES.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (PAGES / link).exists(), f"{page.name}: {link}"
        for path in re.findall(r"`((?:kderm|tests)/[\w/.]+)`", text):
            assert (REPOSITORY / path).exists(), f"{page.name}: {path}"
