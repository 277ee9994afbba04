import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.atomic import write_csv
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.unlike import FILE, fit_unlike, write_unlike
from kderm.run_dir import RunDir

CHANNELS = 8  # of the tiny members' features


@pytest.fixture(scope="session")
def told(trained, tmp_path_factory):
    """A finished run with the images that it was trained on, and a score of unlike images."""
    place = tmp_path_factory.mktemp("told")
    run = RunDir(shutil.copytree(trained.path, place / "told"))
    rows = []
    for fold in range(3):
        for number, label in enumerate(pd.read_csv(run.fold(fold).oof)["label"]):
            path = place / f"train_{fold}_{number}.png"
            coarse = np.random.default_rng([fold, number]).integers(0, 256, (3, 4, 3))
            picture = Image.fromarray(coarse.astype(np.uint8))
            picture.resize((40, 40), Image.Resampling.BICUBIC).save(path)
            rows.append(
                {"image_id": path.stem, "path": str(path), "lesion_id": path.stem}
                | {"patient_id": "", "label": label, "age": 50.0, "sex": "", "site": ""}
                | {"source": "x", "row": len(rows)}
            )
    write_csv(run.manifest, pd.DataFrame(rows))
    _write_score(run)
    write_bundle(run)
    return run


def _write_score(run):
    members = [member.sha256 for member in read_bundle(run.path).facts.members]
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(30, CHANNELS)) for _ in members]
    groups = [np.arange(30)] * len(members)
    shared = [rng.normal(size=(10, CHANNELS)) for _ in members]
    write_unlike(run.path / FILE, fit_unlike(features, groups, shared, members))


@pytest.fixture
def telling(told, tmp_path):
    """A copy of that run that a test may write to."""
    return RunDir(shutil.copytree(told.path, tmp_path / "telling"))


@pytest.fixture(scope="session")
def exported(told):
    """That run with its members in ONNX; a test that spoils it takes `of_exported`."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from kderm.ensemble.engines.exports import export

    export(read_bundle(told.path), "onnx")
    return told


@pytest.fixture
def of_exported(exported, tmp_path):
    """A copy of the run with its ONNX files that a test may write to."""
    return RunDir(shutil.copytree(exported.path, tmp_path / "exported"))
