import time
import zipfile

import keras
import numpy as np

from kderm.models.keras_archive import make_reproducible, read_config
from kderm.models.keras_file import load_keras_file


def network(seed):
    keras.utils.set_random_seed(seed)
    keras.backend.clear_session()
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))


def test_the_same_weights_saved_at_another_time_give_the_same_bytes(tmp_path, monkeypatch):
    network(1).save(tmp_path / "a.keras")
    later = time.localtime(time.time() + 3601)
    monkeypatch.setattr(zipfile.time, "localtime", lambda *_: later)
    network(1).save(tmp_path / "b.keras")
    network(2).save(tmp_path / "c.keras")
    for name in ("a", "b", "c"):
        make_reproducible(tmp_path / f"{name}.keras")
    a, b, c = ((tmp_path / f"{name}.keras").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_file_without_its_date_is_the_same_model(tmp_path):
    model = network(3)
    model.save(tmp_path / "a.keras")
    make_reproducible(tmp_path / "a.keras")
    loaded = load_keras_file(tmp_path / "a.keras")
    for own, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_objects_that_were_one_keep_one_number(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", '[{"shared_object_id": 7}, {"shared_object_id": 5}, ' * 2)
    make_reproducible(tmp_path / "a.keras")
    expected = '[{"shared_object_id": 1}, {"shared_object_id": 2}, ' * 2
    assert read_config(tmp_path / "a.keras") == expected
