import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from kderm.config.reading import load_config
from kderm.data.datasets.demo import write_demo
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.runtime import release_memory
from kderm.training import callbacks, fold
from kderm.training.crossval import cross_validate
from kderm.training.optimizer import inner_optimizer

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


EVERYTHING_ELSE = [
    *("train.schedule=plateau", "train.decay_epochs=1", "train.layer_decay=0.8", "train.keep=true"),
    *("train.ema=0.9", "train.checkpoint=ema", "balance.by=[sampler]", "model.metadata=[age, sex]"),
    *("augment.mixup=0.5", "augment.noise=1", "augment.randaugment=2", "model.dropout_samples=2"),
]


@pytest.mark.parametrize("extra", [[], ["train.checkpoint=last"], EVERYTHING_ELSE])
@pytest.mark.parametrize("epoch", [0, 1, 2])
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
    seen = []

    def full(self, number, logs=None):
        original(self, number, logs)
        optimizer = inner_optimizer(self.model.optimizer)
        seen.append((self.steps, optimizer.gradient_accumulation_steps))
        if len(seen) == 7:  # in the second epoch of 4 steps
            kept.append(weakref.ref(self.model.optimizer))
            raise FakeOutOfMemoryError("CUDA out of memory")

    def release():
        release_memory()
        gone.extend(one() is None for one in kept)

    kept, gone = [], []
    monkeypatch.setattr(callbacks.StepProgress, "on_train_batch_end", full)
    monkeypatch.setattr(fold, "release_memory", release)
    run = run_folds(workplace, [*tiny_overrides, "train.frozen_epochs=0"], "oom", [0])
    assert gone == [True]
    done = json.loads(run.fold(0).done.read_text())
    assert done["batch_size"] == 8
    assert done["epochs"] == 3
    assert seen[6] == (4, None)
    assert set(seen[7:]) == {(8, 2)}
    assert len(seen[7:]) == 2 * 8
    said = capsys.readouterr().err
    assert "going on with 8 images a step" in said
    assert "still sees 16 images" in said


def test_memory_full_with_one_image_is_told_as_a_users_matter(
    workplace, tiny_overrides, monkeypatch
):
    def full(self, number, logs=None):
        raise FakeOutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(callbacks.StepProgress, "on_train_batch_end", full)
    with pytest.raises(UserError, match=r"one image a step.*image.size"):
        run_folds(workplace, [*tiny_overrides, "train.batch_size=2"], "oom", [0])


def test_a_loss_that_is_not_a_number_stops_with_a_clear_word(workplace, tiny_overrides):
    overrides = [*tiny_overrides, "train.learning_rate=1e30", "train.warmup=0"]
    overrides += ["train.frozen_learning_rate=1e38", "train.clip_norm=null"]
    with pytest.raises(UserError, match=r"(loss became|answers are no).*learning_rate"):
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


def test_a_first_start_that_failed_binds_nothing(workplace, tiny_overrides):
    with pytest.raises(UserError, match="nothing-here"):
        run_folds(workplace, [*tiny_overrides, "model.weights=nothing-here.h5"], "first", [0])
    run = run_folds(workplace, tiny_overrides, "first", [0])
    assert run.fold(0).is_done


def test_a_run_whose_images_went_missing_is_refused_with_their_ids(workplace, tiny_overrides):
    write_demo(workplace / "raw", 105, height=40)
    overrides = [*tiny_overrides, "data.dataset=ham10000", f"data.root={workplace / 'raw'}"]
    run = run_folds(workplace, overrides, "shrunk", [0])
    folds = run.folds.read_text()
    gone = sorted((workplace / "raw").rglob("*.jpg"))[3]
    gone.rename(workplace / "elsewhere.jpg")
    with pytest.raises(UserError, match=rf"began with 105 images.*{gone.stem}"):
        run_folds(workplace, overrides, "shrunk", [1])
    assert run.folds.read_text() == folds
    (workplace / "elsewhere.jpg").rename(gone)
    assert run_folds(workplace, overrides, "shrunk", [1]).fold(1).is_done


def test_a_fold_file_that_is_named_but_missing_is_not_made_by_training(workplace, tiny_overrides):
    with pytest.raises(UserError, match=r"typo.csv, which is not there"):
        run_folds(workplace, [*tiny_overrides, "folds.file=typo.csv"], "typo", [0])
    assert not (workplace / "typo.csv").exists()


def test_patience_counts_only_epochs_of_fine_tuning(workplace, tiny_overrides, monkeypatch):
    monkeypatch.setattr(
        "kderm.training.fold.epoch_metrics",
        lambda y, p: {"macro_auc": 0.5, "balanced_accuracy": 0.5, "macro_f1": 0.5},
    )
    overrides = [*tiny_overrides, "train.patience=1", "train.epochs=6", "train.frozen_epochs=3"]
    run = run_folds(workplace, overrides, "patient", [0])
    assert json.loads(run.fold(0).done.read_text())["epochs"] == 4


def test_what_a_killed_process_left_is_swept_away(workplace, tiny_overrides, killed_temporary):
    run = run_folds(workplace, tiny_overrides, "swept", [0])
    place = run.fold(0)
    place.state.write_bytes(b"left by a kill after done.json")
    killed_temporary(place.state).write_bytes(b"half")
    run_folds(workplace, tiny_overrides, "swept", [0])
    assert {path.name for path in place.path.iterdir()} == {
        "model.keras",
        "history.csv",
        "oof.csv",
        "done.json",
    }


def test_the_same_fold_trained_twice_gives_the_same_member_file(workplace, tiny_overrides):
    first, second = (run_folds(workplace, tiny_overrides, name, [0]) for name in ("one", "two"))
    assert first.fold(0).model.read_bytes() == second.fold(0).model.read_bytes()
