"""Training from a store on the device."""

import keras
import pandas as pd
import pytest

from kderm.config.reading import load_config
from kderm.data import device_frames
from kderm.run_dir import RunDir
from kderm.training.crossval import cross_validate


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="on torch alone")
def test_a_fold_from_a_store_on_the_device_is_the_same_fold(workplace, tiny_overrides, monkeypatch):
    overrides = [*tiny_overrides, "augment.mixup=0.5", "train.epochs=2"]
    taken = []
    original = device_frames.DeviceFrames.__getitem__

    def counted(self, rows):
        taken.append(len(rows))
        return original(self, rows)

    monkeypatch.setattr(device_frames.DeviceFrames, "__getitem__", counted)
    tables = []
    for name, free in (("host", 0), ("device", 1 << 40)):
        monkeypatch.setattr(device_frames, "_free_bytes", lambda device, free=free: free)
        run = RunDir(workplace / "runs" / name)
        cross_validate(load_config(None, overrides), run, folds=[1])
        tables.append(pd.read_csv(run.fold(1).oof))
        assert bool(taken) is (name == "device")
    pd.testing.assert_frame_equal(*tables, rtol=1e-5, atol=1e-6)
