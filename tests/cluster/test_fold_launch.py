"""What `cv --launcher ray` does around its tasks; no cluster is started."""

import contextlib

import pytest

from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.training.fold_lock import fold_lock
from kderm.training.launchers import cluster_folds


def test_a_fold_that_another_command_trains_is_refused_before_anything_begins(workplace):
    run = RunDir(workplace / "runs" / "there")
    with (
        fold_lock(run, 1),
        pytest.raises(UserError, match="Another command is training fold 1 of the run 'there'"),
    ):
        cluster_folds.train_on_cluster(None, run, [0, 1])
    assert not run.fold(0).path.exists()


def test_folds_are_held_while_a_cluster_trains_them(workplace, monkeypatch):
    run, trained = RunDir(workplace / "runs" / "there"), []

    def train(data, run, folds, address):
        for fold in folds:
            with contextlib.suppress(UserError), fold_lock(run, fold):
                raise AssertionError("nobody holds the fold")
        trained.extend(folds)

    monkeypatch.setattr(cluster_folds, "_train_held", train)
    run.fold(1).path.mkdir(parents=True)
    run.fold(1).done.write_text("{}")  # by another command, meanwhile
    cluster_folds.train_on_cluster(None, run, [0, 1, 2])
    assert trained == [0, 2]
    with fold_lock(run, 0):
        pass
