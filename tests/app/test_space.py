import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml

pytest.importorskip("gradio", reason="needs the extra app")

from kderm.app.space import REQUIREMENTS, requirements, write_space
from kderm.ensemble.bundle import read_bundle
from kderm.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def space(run, tmp_path_factory):
    """A Space of the tiny run; read only."""
    return write_space(read_bundle(run.path), tmp_path_factory.mktemp("spaces") / "space")


def test_a_space_holds_what_it_needs_and_its_bundle_is_whole(space, run):
    files = {path.name for path in space.iterdir()}
    assert files == {"app.py", "requirements.txt", "README.md", ".gitattributes", "kderm", "bundle"}
    copied, own = read_bundle(space / "bundle"), read_bundle(run.path)
    assert copied.digest == own.digest
    assert (space / "kderm" / "app" / "serving.py").is_file()
    assert not list(space.rglob("__pycache__"))


def test_a_space_holds_no_picture_and_no_id_of_the_data_set(space, run):
    known = pd.read_csv(run.manifest, dtype=str)
    ids = set(known["image_id"]) | set(known["lesion_id"].dropna())
    names = {path.name for path in (space / "bundle").rglob("*") if path.is_file()}
    assert names & {"oof.csv", "manifest.csv", "report.html", "report.md", "folds.csv"} == set()
    assert {Path(name).stem for name in names} & ids == set()
    for path in space.rglob("*"):
        if path.suffix in (".json", ".md", ".txt", ".csv", ".html"):
            words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
            assert words & ids == set(), path
    assert not [path for path in space.rglob("*") if path.suffix in (".jpg", ".jpeg")]


def test_its_card_has_the_head_that_a_space_is_configured_by(space):
    head, text = (space / "README.md").read_text().split("---\n", 2)[1:]
    facts = yaml.safe_load(head)
    assert facts["sdk"] == "gradio"
    assert facts["app_file"] == "app.py"
    assert (space / facts["app_file"]).is_file()
    assert len(facts["short_description"]) <= 60
    assert "No medical device" in text
    assert "Synthetic data" in text


def test_its_requirements_are_those_of_the_project():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    stated = {*project["dependencies"], *project["optional-dependencies"]["app"]}
    assert set(REQUIREMENTS) <= stated


def test_requirements_follow_what_the_bundle_needs(run, monkeypatch):
    bundle = read_bundle(run.path)
    assert not any("keras-cv" in package for package in requirements(bundle))
    monkeypatch.setattr("kderm.app.space.read_config", lambda path: '"module": "keras_cv.models"')
    assert any("keras-cv" in package for package in requirements(bundle))


def test_a_folder_that_holds_something_is_refused(run, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="empty one"):
        write_space(read_bundle(run.path), tmp_path)
    with pytest.raises(UserError, match=r"mine\.txt, a file\."):
        write_space(read_bundle(run.path), tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "x"


@pytest.mark.slow
def test_a_space_starts_from_its_own_files_alone_and_answers(space, tmp_path, photo):
    client = pytest.importorskip("gradio_client", reason="needs the extra app")
    log = tmp_path / "log.txt"
    environment = os.environ | {"GRADIO_SERVER_PORT": "0", "TMPDIR": str(tmp_path)}
    environment.pop("SPACE_ID", None)
    with log.open("w") as handle:
        server = subprocess.Popen(
            [sys.executable, "-v", "app.py"],
            cwd=space,
            stdout=handle,
            stderr=handle,
            env=environment,
        )
    try:
        url = None
        for _ in range(1200):
            found = re.search(r"The page: (\S+)", log.read_text(errors="replace"))
            if found:
                url = found[1]
                break
            assert server.poll() is None, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        with urllib.request.urlopen(url) as answer:
            assert b"What is this spot" in answer.read()
        visitor = client.Client(url, verbose=False)
        found = visitor.predict([client.handle_file(str(photo("a.jpg")))], api_name="/predict")
        table = pd.DataFrame(**found["images"])
        assert table["error"].tolist() == [""]
        assert 0 < table["p_mel"].item() < 1
        assert f"{space}/kderm/app/serving.py" in log.read_text(errors="replace")
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
