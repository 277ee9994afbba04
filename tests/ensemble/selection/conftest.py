import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.atomic import write_csv, write_json
from kderm.data.images import ImageSpec, read_image
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import write_bundle
from kderm.labels import HAM10000
from kderm.models.averaging import average_views
from kderm.models.classifier import load_classifier
from kderm.models.forward import Forward
from kderm.run_dir import RunDir

EACH = 4  # images a class and fold
FRAME = (40, 46)


def write_images(folder, fold):
    """Pictures of one fold; their rows of a manifest."""
    rows = []
    for number, code in enumerate(HAM10000.codes * EACH):
        name = f"ISIC_90{fold}{number:04d}"
        save(folder / f"{name}.png", 1000 * fold + number)
        rows.append(
            {"image_id": name, "path": str(folder / f"{name}.png"), "lesion_id": f"l_{name}"}
            | {"patient_id": "", "label": code, "age": 50.0, "sex": "", "site": "", "source": "x"}
        )
    return pd.DataFrame(rows)


def answer(run, fold, table):
    """What training leaves of a fold: the out-of-fold table and done.json, from real answers."""
    place = run.fold(fold)
    frames = np.stack([read_image(path, ImageSpec(*FRAME)) for path in table["path"]])
    member = Forward(load_classifier(place.model), FRAME, 8)
    own = average_views(member(frames, view_transforms("flips", FRAME)), "probability")
    oof = table.drop(columns=["path"]).assign(fold=fold, group_id=table["lesion_id"])
    write_csv(place.oof, oof.assign(**dict(zip(HAM10000.columns, own.T, strict=True))))
    done = json.loads(place.done.read_text())
    write_json(place.done, done | {"held_out_images": len(table)})


@pytest.fixture(scope="session")
def seen(trained, tmp_path_factory):
    """A finished run of three members whose images are there; read only."""
    place = tmp_path_factory.mktemp("seen")
    run = RunDir(shutil.copytree(trained.path, place / "seen"))
    config = run.config.read_text().replace("stored_aspect: 1.0", "stored_aspect: 1.15")
    run.config.write_text(config)
    tables = [write_images(place / "images", fold) for fold in range(3)]
    manifest = pd.concat(tables, ignore_index=True)
    write_csv(run.manifest, manifest.assign(row=range(len(manifest))))
    for fold, table in enumerate(tables):
        answer(run, fold, table)
    write_bundle(run)
    return run


def save(path, seed):
    """A small smooth picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(90, 166, (3, 4, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((46, 40), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def spoilable(seen, tmp_path):
    """A copy of that run that a test may write to."""
    return RunDir(shutil.copytree(seen.path, tmp_path / "copy"))


@pytest.fixture
def elsewhere(tmp_path):
    """Class folders of labelled pictures that no member was trained on."""
    for number in range(24):
        code = ("mel", "nv", "bcc")[number % 3]
        save(tmp_path / "elsewhere" / code / f"other_{number}.png", 5000 + number)
    return tmp_path / "elsewhere"
