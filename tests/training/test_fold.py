import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from kderm.config import load_config
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.training import callbacks
from kderm.training.crossval import cross_validate

REPOSITORY = Path(__file__).resolve().parents[2]


def run_folds(workplace, overrides, name, folds):
    run = RunDir(workplace / "runs" / name)
    cross_validate(load_config(None, overrides), run, folds=folds)
    return run


def tables(run, fold):
    """History without times, and the out-of-fold table."""
    history = pd.read_csv(run.fold(fold).history).drop(columns="seconds")
    return history, pd.read_csv(run.fold(fold).oof)


def assert_same_fold(first, second, fold):
    for one, other in zip(tables(first, fold), tables(second, fold), strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-5)


def interrupt_at(monkeypatch, epoch, batch):
    """Make training die in the middle of an epoch, before anything of that epoch is saved."""
    original = callbacks.StepProgress.on_train_batch_end

    def dying(self, number, logs=None):
        original(self, number, logs)
        if self.model.optimizer is not None and dying.epoch == epoch and number == batch:
            raise KeyboardInterrupt

    begin = callbacks.EpochEnd.on_epoch_begin

    def begin_epoch(self, number, logs=None):
        dying.epoch = number
        begin(self, number, logs)

    dying.epoch = -1
    monkeypatch.setattr(callbacks.StepProgress, "on_train_batch_end", dying)
    monkeypatch.setattr(callbacks.EpochEnd, "on_epoch_begin", begin_epoch)


def test_fold_two_alone_equals_fold_two_in_a_full_run(workplace, tiny_overrides):
    full = run_folds(workplace, tiny_overrides, "full", None)
    alone = run_folds(workplace, tiny_overrides, "alone", [2])
    assert_same_fold(full, alone, 2)
    assert full.fold(0).is_done
    assert not alone.fold(0).is_done


@pytest.mark.parametrize("extra", [[], ["train.ema=0.9"], ["train.checkpoint=last"]])
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_fold_interrupted_in_the_middle_of_an_epoch_ends_as_if_nothing_had_happened(
    workplace, tiny_overrides, monkeypatch, extra, epoch
):
    overrides = [*tiny_overrides, *extra]
    whole = run_folds(workplace, overrides, "whole", [1])
    with monkeypatch.context() as patch:
        interrupt_at(patch, epoch, batch=2)
        with pytest.raises(KeyboardInterrupt):
            run_folds(workplace, overrides, "broken", [1])
    assert not RunDir(workplace / "runs" / "broken").fold(1).is_done
    resumed = run_folds(workplace, overrides, "broken", [1])
    assert_same_fold(whole, resumed, 1)


def test_a_fold_killed_with_sigkill_continues_with_the_same_command(workplace, tiny_overrides):
    overrides = [*tiny_overrides, "train.epochs=6"]
    whole = run_folds(workplace, overrides, "whole", [0])
    command = [sys.executable, str(REPOSITORY / "run.py"), "train", "--fold", "0"]
    command += ["--run", "killed", *overrides]
    state = workplace / "runs" / "killed" / "fold_0" / "state.npz"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if "epoch 2/6" in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert state.exists()
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "continuing after epoch" in finished.stdout
    killed = RunDir(workplace / "runs" / "killed")
    assert_same_fold(whole, killed, 0)
    assert not state.exists()
    assert not list(killed.path.rglob("*.tmp*"))


def test_early_stopping_counts_its_patience_across_a_resume(workplace, tiny_overrides, monkeypatch):
    monkeypatch.setattr(
        "kderm.training.fold.epoch_metrics",
        lambda y, p: {"macro_auc": 0.5, "balanced_accuracy": 0.5, "macro_f1": 0.5},
    )
    overrides = [*tiny_overrides, "train.patience=2", "train.epochs=8"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, batch=1)
        with pytest.raises(KeyboardInterrupt):
            run_folds(workplace, overrides, "patient", [0])
    run = run_folds(workplace, overrides, "patient", [0])
    done = json.loads(run.fold(0).done.read_text())
    assert done["epochs"] == 3
    assert done["best_epoch"] == 1


def test_the_best_epoch_is_kept_when_a_resumed_run_gets_worse(
    workplace, tiny_overrides, monkeypatch
):
    scores = iter([0.6, 0.9, 0.7, 0.65, 0.6, 0.55])
    monkeypatch.setattr(
        "kderm.training.fold.epoch_metrics",
        lambda y, p: {"macro_auc": next(scores), "balanced_accuracy": 0.5, "macro_f1": 0.5},
    )
    overrides = [*tiny_overrides, "train.epochs=5"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3, batch=1)
        with pytest.raises(KeyboardInterrupt):
            run_folds(workplace, overrides, "best", [0])
    run = run_folds(workplace, overrides, "best", [0])
    history = pd.read_csv(run.fold(0).history)
    assert history.loc[history["chosen"] == 1, "epoch"].tolist() == [2]


class FakeOutOfMemoryError(RuntimeError):
    """Stands in for CUDA's."""


FakeOutOfMemoryError.__name__ = "OutOfMemoryError"


def test_a_full_device_memory_halves_the_batch_and_keeps_the_effective_size(
    workplace, tiny_overrides, monkeypatch, capsys
):
    original = callbacks.StepProgress.on_train_batch_end
    fitted = []

    def full(self, number, logs=None):
        original(self, number, logs)
        if self.steps < 10 and len(fitted) < 3:
            fitted.append(number)
            if len(fitted) == 3:
                raise FakeOutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(callbacks.StepProgress, "on_train_batch_end", full)
    run = run_folds(workplace, tiny_overrides, "oom", [0])
    done = json.loads(run.fold(0).done.read_text())
    assert done["batch_size"] == 8
    assert done["epochs"] == 3
    assert "going on with 8 images a step" in capsys.readouterr().err


def test_a_loss_that_is_not_a_number_stops_with_a_clear_word(workplace, tiny_overrides):
    overrides = [*tiny_overrides, "train.learning_rate=1e30", "train.warmup=0"]
    overrides += ["train.frozen_learning_rate=1e38", "train.clip_norm=null"]
    with pytest.raises(UserError, match=r"training loss became .*learning_rate"):
        run_folds(workplace, overrides, "nan", [0])


def test_a_changed_config_is_refused_with_the_difference(workplace, tiny_overrides):
    run_folds(workplace, tiny_overrides, "same", [0])
    with pytest.raises(UserError, match=r"loss.gamma: 2.0 -> 1.0"):
        run_folds(workplace, [*tiny_overrides, "loss.gamma=1.0"], "same", [1])


def test_a_fold_out_of_range_is_refused(workplace, tiny_overrides):
    with pytest.raises(UserError, match="numbered 0 to 2"):
        run_folds(workplace, tiny_overrides, "range", [3])


def test_training_in_bfloat16_saves_a_plain_float32_member(workplace, tiny_overrides):
    overrides = [*tiny_overrides, "train.precision=bfloat16"]
    run = run_folds(workplace, overrides, "mixed", [0])
    member = keras.saving.load_model(run.fold(0).model, compile=False)
    assert {layer.compute_dtype for layer in member._flatten_layers()} == {"float32"}
    assert json.loads(run.fold(0).done.read_text())["precision"] == "bfloat16"
    assert member(np.zeros((1, 32, 32, 3), "float32")).shape == (1, 7)


def test_the_frozen_phase_leaves_the_backbone_as_it_was(workplace, tiny_overrides, tiny_backbone):
    overrides = [*tiny_overrides, "train.epochs=1"]
    run = run_folds(workplace, overrides, "frozen", [0])
    before = keras.saving.load_model(tiny_backbone, compile=False).get_weights()
    after = keras.saving.load_model(run.fold(0).model, compile=False).get_weights()
    for one, other in zip(before, after[: len(before)], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_fold_is_not_trained_again(workplace, tiny_overrides):
    run = run_folds(workplace, tiny_overrides, "once", [0])
    written = run.fold(0).model.stat().st_mtime_ns
    run_folds(workplace, tiny_overrides, "once", [0])
    assert run.fold(0).model.stat().st_mtime_ns == written
