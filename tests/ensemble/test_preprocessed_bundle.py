"""The bundle keeps the preprocessing of training, and prediction sees the very same pixels."""

import json

import numpy as np
import pytest

from kderm.config.reading import load_config
from kderm.data.images import ImageSpec
from kderm.data.store import build_store
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.read_ahead import decoded_chunks

STEPS = ("border_crop", "shades_of_gray")


@pytest.fixture
def preprocessed_run(run):
    """A finished run whose config asks for two steps."""
    config = load_config(run.config, ["image.preprocess=[border_crop, shades_of_gray]"])
    run.config.write_text(config.to_yaml())
    write_bundle(run)
    return run, config


def test_the_bundle_records_the_steps(preprocessed_run):
    run, _ = preprocessed_run
    assert json.loads(run.bundle.read_text())["image"]["preprocess"] == list(STEPS)
    assert read_bundle(run.path).spec == ImageSpec(40, 40, STEPS)


def test_a_bundle_from_before_there_were_steps_has_none(run):
    values = json.loads(run.bundle.read_text())
    del values["image"]["preprocess"]
    run.bundle.write_text(json.dumps(values))
    assert read_bundle(run.path).spec == ImageSpec(40, 40)


def test_prediction_sees_the_pixels_that_training_saw(preprocessed_run, images, tmp_path):
    run, config = preprocessed_run
    paths = sorted(images.iterdir())
    spec = ImageSpec(*config.image.stored_shape, config.image.preprocess)
    store, unreadable = build_store(tmp_path / "store", [path.stem for path in paths], paths, spec)
    assert not unreadable
    chunks = [(0, [(str(path), "") for path in paths])]
    (decoded,) = decoded_chunks(chunks, read_bundle(run.path).spec)
    np.testing.assert_array_equal(decoded.frames, store.images)
    (plain,) = decoded_chunks(chunks, ImageSpec(40, 40))
    assert (plain.frames != store.images).any()


def test_other_steps_give_other_predictions(preprocessed_run, trained, images, predict, tmp_path):
    run, _ = preprocessed_run
    _, with_steps = predict(run, [images], tmp_path / "with")
    _, without = predict(trained, [images], tmp_path / "without")
    columns = [column for column in without if column.startswith("p_")]
    assert np.abs(with_steps[columns] - without[columns]).to_numpy().max() > 1e-3
