import hashlib
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.atomic import write_csv, write_json
from kderm.config.schema import Config
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.inputs import find_inputs
from kderm.ensemble.passes import Passes
from kderm.ensemble.predictor import ensemble_predict
from kderm.labels import HAM10000
from kderm.run_dir import RunDir

SIZE = 32


def tiny_member(seed):
    """Random weights, steep enough that images and members differ visibly."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    wide = keras.initializers.RandomNormal(stddev=4.0)
    logits = keras.layers.Dense(len(HAM10000), kernel_initializer=wide, name="logits")(x)
    return keras.Model(pixels, logits)


def write_fold(run, fold, member, seed, k):
    """What training leaves behind for one finished fold."""
    place = run.fold(fold)
    place.path.mkdir(parents=True)
    member.save(place.model)
    rng = np.random.default_rng([seed, fold])
    labels = list(HAM10000.codes) * 2
    probabilities = rng.dirichlet(np.ones(len(HAM10000)), len(labels))
    probabilities[np.arange(len(labels)), [HAM10000.index(code) for code in labels]] += 0.2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ids = [f"train_{fold}_{i}" for i in range(len(labels))]
    table = pd.DataFrame({"image_id": ids, "group_id": ids, "fold": fold, "label": labels})
    table[HAM10000.columns] = probabilities
    write_csv(place.oof, table)
    write_json(
        place.done,
        {
            "fold": fold,
            "k": k,
            "scores": {
                "macro_auc": 0.6 + 0.1 * fold,
                "balanced_accuracy": 0.4,
                "macro_f1": 0.4,
            },
            "held_out_images": len(ids),
            "model_sha256": hashlib.sha256(place.model.read_bytes()).hexdigest(),
        },
    )


def write_run(path, seeds):
    run = RunDir(path)
    run.path.mkdir(parents=True)
    config = Config.model_validate(
        {
            "data": {"dataset": "ham10000"},
            "image": {"size": SIZE, "stored_height": 40},
            "folds": {"k": len(seeds)},
        }
    )
    run.config.write_text(config.to_yaml())
    for fold, seed in enumerate(seeds):
        write_fold(run, fold, tiny_member(seed), seed, len(seeds))
    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of three different members, with its bundle; read only."""
    run = write_run(tmp_path_factory.mktemp("runs") / "tiny", seeds=[1, 2, 3])
    write_bundle(run)
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the finished run that a test may spoil."""
    return RunDir(shutil.copytree(trained.path, tmp_path / "tiny"))


@pytest.fixture
def identical_run(tmp_path):
    """A finished run whose three members have the same weights."""
    return write_run(tmp_path / "identical", seeds=[5, 5, 5])


@pytest.fixture
def images(tmp_path):
    """A folder of nine small pictures of different colours and sizes."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(9):
        save_picture(folder / f"lesion_{number}.png", number)
    return folder


def save_picture(path, seed):
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((24 + seed, 22), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def picture():
    """save_picture(path, seed): writes a small picture."""
    return save_picture


@pytest.fixture
def predict():
    """predict(run, sources, directory, **options): the summary, and the table by image id."""

    def predicted(run, sources, directory, **options):
        bundle = read_bundle(run.path)
        inputs = find_inputs([str(source) for source in sources], bundle.labels)
        summary = ensemble_predict(bundle, inputs, directory, **{"batch_size": 4} | options)
        table = pd.read_csv(summary.predictions, keep_default_na=False).set_index("image_id")
        return summary, table

    return predicted


@pytest.fixture
def interrupt_after(predict):
    """interrupt_after(run, images, out, count): stop then, the last chunk of 2 not kept yet."""

    def interrupted(run, images, out, count):
        def interrupt(done, total):
            if done >= count:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict(run, [images], out, chunk=2, progress=interrupt)

    return interrupted


@pytest.fixture
def passes(monkeypatch):
    """For every member and every batch of frames that it was shown: the number of images."""
    seen = []
    call = Passes.__call__

    def counted(self, frames, *more):
        seen.extend([len(frames)] * self._engine.members)
        return call(self, frames, *more)

    monkeypatch.setattr(Passes, "__call__", counted)
    return seen
