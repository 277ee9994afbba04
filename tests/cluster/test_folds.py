"""`cv --launcher ray` on a real cluster: the local launcher's results, whatever is killed."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kderm.cluster.connection import Node, connected
from kderm.cluster.shares import Share, share_of
from kderm.config.reading import load_config
from kderm.errors import UserError
from kderm.run_dir import RunDir, runs_root
from kderm.storage.places import open_place
from kderm.training import crossval
from kderm.training.crossval import cross_validate
from kderm.training.launchers import cluster_folds

REPOSITORY = Path(__file__).resolve().parents[2]


def assert_same(one, other, folds):
    for fold in range(folds):
        mine, yours = (run.fold(fold) for run in (one, other))
        assert mine.oof.read_bytes() == yours.oof.read_bytes()
        assert not mine.attempts.exists()
        assert not mine.state.exists()


def worker_of(run, fold):
    """The process that trains a fold, once two epochs of it are kept."""
    if not any(int(path.stem) > 1 for path in run.fold(fold).attempts.glob("*/0*.json")):
        return None
    return int(re.findall(r"process (\d+)", run.fold(fold).log.read_text())[-1])


def beside(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_killed_worker_costs_an_epoch_and_the_results_are_the_local_ones(
    cluster, train, until, capfd, workplace
):
    run = RunDir(workplace / "runs" / "there")
    epochs = "train.epochs=12"

    def kill():
        os.kill(until(lambda: worker_of(run, 0)), signal.SIGKILL)

    killer = beside(kill)
    there = train("there", epochs, "folds.k=2", launcher="ray", address=cluster.address)
    killer.join()
    said = capfd.readouterr()
    assert "fold 0: its worker is gone" in said.err
    assert re.search(r"fold 0: continuing after epoch \d+", said.out)
    assert_same(there, train("here", epochs, "folds.k=2"), folds=2)


@pytest.mark.slow
def test_a_run_at_a_url_needs_no_disk_that_nodes_share(cluster, train, workplace, monkeypatch):
    here = train("here", "folds.k=2")
    monkeypatch.setenv("KDERM_RUNS", f"file://{workplace}/kept")
    monkeypatch.setenv("KDERM_CACHE", str(workplace / "cache"))
    # As on another machine: what this one has under the cache is not there.
    asked = cluster_folds.environment
    elsewhere = {"KDERM_CACHE": str(workplace / "cache of the node")}

    def environment(threads):
        found = asked(threads)
        return found | {"env_vars": found["env_vars"] | elsewhere}

    monkeypatch.setattr(cluster_folds, "environment", environment)
    keep = cluster_folds.hand_over

    def hide(data, stream):
        keep(data, stream)
        told = stream.getvalue().replace(b"/_stores/", b"/_hidden/")
        stream.seek(0)
        stream.write(told)

    monkeypatch.setattr(cluster_folds, "hand_over", hide)
    config = load_config(workplace / "runs" / "here" / "config.yaml")
    run = RunDir(runs_root() / "there")
    cross_validate(config, run, launcher="ray", address=cluster.address)
    for fold in range(2):
        kept = workplace / "kept" / "there" / f"fold_{fold}"
        assert (kept / "oof.csv").read_bytes() == here.fold(fold).oof.read_bytes()
        assert (kept / "done.json").is_file()
        assert not (kept / "attempts").exists()
    assert list((workplace / "cache of the node").glob("stores/*/pixels.u8"))


@pytest.mark.slow
def test_a_fold_that_began_here_goes_on_there(cluster, train, capfd, monkeypatch):
    here = train("here", folds=[0])

    def killed(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    keep = crossval.kept
    monkeypatch.setattr(crossval, "kept", lambda run, fold: contextlib.nullcontext(killed))
    with pytest.raises(KeyboardInterrupt):
        train("there", folds=[0])
    monkeypatch.setattr(crossval, "kept", keep)
    there = train("there", folds=[0], launcher="ray", address=cluster.address)
    assert "fold 0: continuing after epoch 2" in capfd.readouterr().out
    assert_same(there, here, folds=1)


@pytest.mark.slow
def test_a_killed_node_gives_its_folds_to_another_one(cluster, train, until, capfd, workplace):
    run = RunDir(workplace / "runs" / "there")
    epochs = "train.epochs=12"

    def kill():
        until(lambda: worker_of(run, 0) and worker_of(run, 1))
        cluster.remove_node(cluster.workers.pop(), allow_graceful=False)

    killer = beside(kill)
    try:
        there = train("there", epochs, launcher="ray", address=cluster.address)
    finally:
        killer.join()
        cluster.workers.append(cluster.grow())
    said = capfd.readouterr()
    assert "its worker is gone" in said.err
    assert "continuing after epoch" in said.out
    assert_same(there, train("here", epochs), folds=3)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_ends_is_followed_by_one_that_goes_on(
    cluster, train, until, capfd, workplace, tiny_overrides, how
):
    run = RunDir(workplace / "runs" / "there")
    options = [*tiny_overrides, "train.epochs=12", "folds.k=2"]
    command = [sys.executable, str(REPOSITORY / "run.py"), "cv", "--run", "there"]
    command += ["--launcher", "ray", "--address", cluster.address, *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    worker = until(lambda: worker_of(run, 0))
    process.send_signal(how)
    said, _ = process.communicate()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Go on with" in said
    until(lambda: not Path(f"/proc/{worker}").exists())
    there = train("there", "train.epochs=12", "folds.k=2")  # by the local launcher, of all
    assert "fold 0: continuing after epoch" in capfd.readouterr().out
    assert_same(there, train("here", "train.epochs=12", "folds.k=2"), folds=2)


@pytest.mark.slow
def test_a_fold_that_cannot_be_trained_leaves_the_others_be(cluster, train):
    run = train("broken", folds=[0])
    run.fold(1).path.mkdir()
    place = open_place(run.path.parent)
    content = io.BytesIO()
    np.savez(content, state=np.array("{}"))  # of another network
    kept = "broken/fold_1/attempts/001-x/00001/state.npz"
    place.write(kept, content.getvalue())
    files = {"state.npz": (kept, hashlib.sha256(content.getvalue()).hexdigest())}
    record = json.dumps({"epoch": 1, "files": files})
    place.write("broken/fold_1/attempts/001-x/00001.json", record.encode())
    with pytest.raises(UserError, match="1 of 2 folds failed; the others are finished") as caught:
        train("broken", launcher="ray", address=cluster.address)
    assert "do not fit this network" in str(caught.value)
    assert (run.fold(1).is_done, run.fold(2).is_done) == (False, True)


def test_no_cluster_at_the_address_is_told():
    pytest.importorskip("ray")
    with (
        pytest.raises(
            UserError, match=r"Expected a Ray cluster at 127.0.0.1:1. Received: .*refused"
        ),
        connected("127.0.0.1:1"),
    ):
        pass
    with pytest.raises(UserError, match="Start the command on a node"), connected("ray://x:1"):
        pass


def test_what_ray_says_of_an_address_is_passed_on(monkeypatch):
    ray = pytest.importorskip("ray")

    def refuse(**_):
        raise ConnectionError("ray client connection timeout")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match=r"at auto. Received: ray client"), connected("auto"):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[cluster\]'"), connected():
        pass


@pytest.mark.parametrize(
    ("nodes", "tasks", "share"),
    [
        ([(16, 0), (16, 0)], 5, Share(5, 0, 6)),  # all five at once
        ([(16, 0)] * 10, 5, Share(16, 0, 10)),
        ([(1, 0), (1, 0)], 5, Share(1, 0, 2)),
        ([(64, 8), (32, 0)], 5, Share(8, 1, 8)),  # a GPU each where there are any
        ([(8, 1), (8, 1)], 5, Share(8, 1, 2)),
        ([(0, 2)], 5, Share(0, 1, 2)),
    ],
)
def test_each_fold_gets_a_gpu_or_its_part_of_the_cores(nodes, tasks, share):
    assert share_of([Node(*node, name="") for node in nodes], tasks) == share
