"""A small member with a skip connection, and a finished run of three such members on real files."""

import hashlib

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.atomic import write_csv, write_json
from kderm.config.schema import Config
from kderm.data.manifest import MANIFEST_COLUMNS
from kderm.data.metadata import fit_metadata
from kderm.labels import HAM10000
from kderm.run_dir import RunDir

SIZE = 32


def build_member(seed=0, *, metadata=0, classes=7):
    """Convolutions with norms and a skip, then pool, dropout and logits, all weights drawn."""
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="preprocess")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    skip = x = layers.ReLU(name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="branch")(x)
    x = layers.BatchNormalization(name="branch_bn")(x)
    x = layers.Add(name="join")([skip, x])
    x = layers.Conv2D(12, 3, strides=2, padding="same", name="top")(x)
    x = layers.BatchNormalization(name="top_bn")(x)
    x = layers.ReLU(name="top_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    inputs = image
    if metadata:
        known = keras.Input((metadata,), name="metadata")
        hidden = layers.Dense(5, "relu", name="metadata_hidden")(known)
        x = layers.Concatenate(name="image_and_metadata")([x, hidden])
        # Interwoven with the image, so that other metadata give another map.
        x = layers.Dense(9, "relu", name="woven")(x)
        inputs = [image, known]
    x = layers.Dropout(0.5, name="dropout")(x)
    member = keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="classifier")
    rng = np.random.default_rng(seed)
    for layer in member.layers:
        layer.set_weights(
            [
                rng.uniform(0.5, 1.5, value.shape)
                if "variance" in weight.path or "gamma" in weight.path
                else rng.normal(0, 0.4, value.shape)
                for weight, value in zip(layer.weights, layer.get_weights(), strict=True)
            ]
        )
    return member


@pytest.fixture(scope="session")
def new_member():
    """build_member(seed, metadata=0, classes=7): a fresh small member."""
    return build_member


@pytest.fixture(scope="session")
def pixels():
    """Five images as the network gets them, float32 (5, 32, 32, 3)."""
    return np.random.default_rng(3).uniform(0, 255, (5, SIZE, SIZE, 3)).astype("float32")


def save_picture(path, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC).save(path)


def write_run(root, *, columns=()):
    """A finished run of three members: 21 images, three of each class, one of them in each fold."""
    run = RunDir(root / "runs" / "tiny")
    config = Config.model_validate(
        {
            "data": {"dataset": "ham10000", "root": str(root / "images")},
            "image": {"size": SIZE, "stored_height": 36, "stored_aspect": 4 / 3},
            "folds": {"k": 3},
            "model": {"metadata": list(columns)},
        }
    )
    run.path.mkdir(parents=True)
    run.config.write_text(config.to_yaml())
    codes = [code for code in HAM10000.codes for _ in range(3)]
    ids = [f"img_{number:02d}" for number in range(len(codes))]
    paths = [root / "images" / f"{image_id}.png" for image_id in ids]
    for number, path in enumerate(paths):
        save_picture(path, number)
    manifest = pd.DataFrame({"image_id": ids, "path": paths, "lesion_id": ids, "label": codes})
    manifest = manifest.assign(age=50.0, sex="female", site="back", source="ham10000")
    write_csv(run.manifest, manifest.reindex(columns=[*MANIFEST_COLUMNS, "row"]).assign(row=2))
    probabilities = np.random.default_rng(1).dirichlet(np.ones(7), len(ids))
    folds = np.arange(len(ids)) % 3
    oof = pd.DataFrame({"image_id": ids, "group_id": ids, "fold": folds, "label": codes})
    oof[HAM10000.columns] = probabilities
    write_csv(run.oof, oof)
    for fold in range(3):
        place = run.fold(fold)
        place.path.mkdir()
        build_member(fold, metadata=2 if columns else 0).save(place.model)
        encoding = fit_metadata(manifest, columns).to_dict() if columns else None
        digest = hashlib.sha256(b"").hexdigest()
        write_json(place.done, {"model_sha256": digest, "metadata": encoding})
    return run


@pytest.fixture
def run(tmp_path):
    """A finished run whose images are on disk and whose store is gone."""
    return write_run(tmp_path)


@pytest.fixture
def run_with_metadata(tmp_path):
    """The same with members that see the age too."""
    return write_run(tmp_path / "with_metadata", columns=("age",))
