"""`ensemble-predict --launcher ray` on a real cluster: the local launcher's rows, each once."""

import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kderm.cluster.connection import connected
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.cluster import predict as predicting
from kderm.ensemble.cluster.listing import listing_of
from kderm.ensemble.cluster.run import predict_on_cluster
from kderm.ensemble.inputs import find_inputs
from kderm.ensemble.predictor import ensemble_predict
from kderm.errors import UserError
from kderm.labels import label_space


def draw(folder, count):
    """Small pictures in two folders, two of one name, and a file that is none."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 2}" / f"{number // 2:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    (folder / "0" / "bad.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    return folder


@pytest.fixture
def bundle(train):
    run = train("tiny", "train.epochs=1", "train.frozen_epochs=0", "folds.k=2")
    write_bundle(run)
    return read_bundle(run.path)


@pytest.fixture
def in_small_chunks(monkeypatch):
    """Eight images a chunk here and there."""
    monkeypatch.setattr(predicting, "chunk_of", lambda bundle: 8)


def here(bundle, images, out, **asked):
    return ensemble_predict(
        bundle, find_inputs([str(images)], bundle.labels), out, chunk=8, **asked
    )


def actors():
    """Processes of the actors that predict."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if told.startswith("ray::") and "Predictor" in told:
            found.append(int(path.parent.name))
    return found


def assert_same(there, local):
    assert there.predictions.read_bytes() == local.predictions.read_bytes()
    for name in ("images", "unreadable", "skipped", "repeated", "predicted", "flagged", "seen"):
        assert getattr(there, name) == getattr(local, name)
    assert (there.warnings, there.notes) == (local.warnings, local.notes)
    assert not (there.predictions.parent / ".parts").exists()


def test_the_rows_are_those_of_the_local_launcher_and_ray_says_nothing(
    cluster, bundle, in_small_chunks, workplace, capfd, recwarn
):
    draw(workplace / "images", 41)
    capfd.readouterr()
    there = predict_on_cluster(
        bundle, ["images"], Path("there"), early_exit=0.05, address=cluster.address
    )
    assert capfd.readouterr().err == ""
    assert not [each for each in recwarn if "ray" in str(each.message).lower()]
    local = here(bundle, "images", Path("local"), early_exit=0.05)
    assert_same(there, local)
    assert there.early_exit == local.early_exit
    assert str(there).replace("there", "local") == str(local)


@pytest.mark.slow
def test_labelled_images_get_the_report_of_the_local_launcher(
    cluster, bundle, in_small_chunks, workplace
):
    images = draw(workplace / "images", 41)
    (workplace / "labelled").mkdir()
    shutil.copytree(images / "0", workplace / "labelled" / "nevus")
    shutil.copytree(images / "1", workplace / "labelled" / "melanoma")
    there = predict_on_cluster(bundle, ["labelled"], Path("there"), address=cluster.address)
    local = here(bundle, "labelled", Path("local"))
    assert_same(there, local)
    assert there.labelled == 41
    assert there.metrics["pooled"]["macro_auc"] == local.metrics["pooled"]["macro_auc"]


@pytest.mark.slow
def test_what_an_interrupted_call_left_is_not_predicted_again(
    cluster, bundle, in_small_chunks, workplace, monkeypatch
):
    draw(workplace / "images", 41)
    kept = predicting.Parts.save
    saved = []

    def interrupted(self, number, arrays):
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(number)
        kept(self, number, arrays)

    monkeypatch.setattr(predicting.Parts, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_on_cluster(bundle, ["images"], Path("there"), address=cluster.address)
    monkeypatch.setattr(predicting.Parts, "save", kept)
    there = predict_on_cluster(bundle, ["images"], Path("there"), address=cluster.address)
    assert there.resumed in (18, 24)  # one of the chunks has two images
    assert_same(there, here(bundle, "images", Path("local")))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["actor", "node"])
def test_images_of_a_killed_actor_or_node_are_predicted_again(
    cluster, bundle, in_small_chunks, workplace, until, what
):
    draw(workplace / "images", 400)
    killed = []

    def kill():
        until(lambda: len(list(workplace.glob("there/.parts/*/*.npz"))) > 4 and len(actors()) == 2)
        if what == "actor":
            killed.append(actors()[0])
            os.kill(killed[0], signal.SIGKILL)
        else:
            killed.append(cluster.workers.pop())
            cluster.remove_node(killed[0], allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        there = predict_on_cluster(
            bundle, ["images"], Path("there"), address=cluster.address, views="d4"
        )
    finally:
        killer.join()
        if what == "node":
            cluster.workers.append(cluster.grow())
    assert killed
    assert_same(there, here(bundle, "images", Path("local"), views="d4"))


def test_workers_that_cannot_be_reached_for_a_while_are_asked_again(
    cluster, bundle, in_small_chunks, workplace, monkeypatch
):
    draw(workplace / "images", 20)
    asked, stream = [], predicting._stream

    def breaking(cluster, job, missing, references):
        asked.append(len(missing))
        answers = stream(cluster, job, missing, references)
        yield next(answers)
        if len(asked) < 2:
            raise predicting.Unreachable("its node is gone")
        yield from answers

    monkeypatch.setattr(predicting, "_stream", breaking)
    there = predict_on_cluster(bundle, ["images"], Path("there"), address=cluster.address)
    assert asked == [3, 2]
    assert_same(there, here(bundle, "images", Path("local")))


def test_workers_that_can_never_be_reached_end_the_command(
    cluster, bundle, in_small_chunks, workplace, monkeypatch
):
    draw(workplace / "images", 3)
    asked = []

    def breaking(cluster, job, missing, references):
        asked.append(len(missing))
        raise predicting.Unreachable("its node is gone")
        yield

    monkeypatch.setattr(predicting, "_stream", breaking)
    with pytest.raises(UserError, match="its node is gone"):
        predict_on_cluster(bundle, ["images"], Path("there"), address=cluster.address)
    assert len(asked) == predicting._ROUNDS


@pytest.mark.slow
def test_what_a_worker_cannot_do_is_told(cluster, bundle, in_small_chunks, workplace, monkeypatch):
    draw(workplace / "images", 3)
    monkeypatch.setattr(predicting.kderm, "__version__", "0.0.1")
    with pytest.raises(UserError, match=r"Expected kderm 0\.0\.1 on every node"):
        predict_on_cluster(bundle, ["images"], Path("there"), address=cluster.address)


@pytest.mark.slow
def test_images_that_end_each_actor_end_the_command_in_a_sentence(
    cluster, in_small_chunks, workplace, monkeypatch
):
    class Ending:
        def __init__(self, order):
            pass

        def __call__(self, batch):
            os._exit(1)

    monkeypatch.setattr(predicting, "Predictor", Ending)
    monkeypatch.setattr(predicting, "_LOSSES", 1)
    monkeypatch.setattr(predicting, "_order", lambda job, references: None)
    inputs = find_inputs([str(draw(workplace / "images", 3))], label_space("ham10000", None, None))
    job = predicting.Job(None, listing_of(inputs, workplace / "listing.db"), None, 8)
    with (
        connected(cluster.address) as there,
        pytest.raises(UserError, match=r"Expected workers that stay .* repeat the command"),
    ):
        list(predicting._stream(there, job, [0], {}))
