"""`cv --jobs`: folds in processes of their own."""

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kderm import console
from kderm.config.reading import load_config
from kderm.data.prepare import prepare
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.training.crossval import cross_validate
from kderm.training.launchers import processes, shares
from kderm.training.launchers.handover import hand_over, take_over
from kderm.training.launchers.processes import FoldProcess

REPOSITORY = Path(__file__).resolve().parents[2]


def train(workplace, overrides, name, **how):
    run = RunDir(workplace / "runs" / name)
    cross_validate(load_config(None, overrides), run, **how)
    return run


def assert_same_folds(first, second, folds):
    for fold in folds:
        for path in ("history.csv", "oof.csv"):
            one, other = (pd.read_csv(run.fold(fold).path / path) for run in (first, second))
            one, other = (table.drop(columns="seconds", errors="ignore") for table in (one, other))
            pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-5)


def alive(pid):
    """Whether a process runs (an ended one whose parent has not looked yet is a zombie)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def workers_of(pid):
    """Process ids of the folds that a `cv` trains."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "launchers.worker" in line]


def start_cv(overrides, until):
    """`cv --jobs 2` in a process, read up to a line that contains `until`."""
    command = [sys.executable, str(REPOSITORY / "run.py"), "cv", "--jobs", "2", *overrides]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A runner in the background may have its children ignore Ctrl-C.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if until in line:
            return process
    raise AssertionError("cv ended too early")


@pytest.fixture
def one_thread(monkeypatch):
    """One thread here and in each fold's process: sums are rounded alike."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_folds_side_by_side_equal_folds_one_after_another(
    workplace, tiny_overrides, capfd, one_thread
):
    apart = train(workplace, tiny_overrides, "apart", jobs=2)
    told = capfd.readouterr().out
    serial = train(workplace, tiny_overrides, "serial")
    assert_same_folds(serial, apart, range(3))
    for fold in range(3):
        assert f"fold {fold} epoch 3/3" in told
        log = apart.fold(fold).log.read_text()
        assert f"fold {fold} epoch 3/3" in log
        assert f"fold {(fold + 1) % 3} epoch" not in log


def test_a_failing_fold_does_not_take_the_others_with_it(workplace, tiny_overrides, capfd):
    run = train(workplace, tiny_overrides, "broken", folds=[0])
    state = run.fold(1).state
    state.parent.mkdir()
    np.savez(state, state=np.array("{}"))  # of another network
    with pytest.raises(UserError, match=r"1 of 2 folds failed; the others are finished") as caught:
        cross_validate(load_config(None, tiny_overrides), run, jobs=2)
    assert "do not fit this network" in str(caught.value)
    assert "fold_1/log.txt" in str(caught.value)
    assert run.fold(2).is_done
    assert not run.fold(1).is_done
    assert "fold 0: finished before, kept" in capfd.readouterr().out
    state.unlink()
    cross_validate(load_config(None, tiny_overrides), run, jobs=2)
    assert run.fold(1).is_done


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_ends_cv_ends_its_folds(workplace, tiny_overrides, how):
    overrides = [*tiny_overrides, "train.epochs=400", "folds.k=2"]
    process = start_cv(overrides, until="epoch 1/400")
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.send_signal(how)
    said, _ = process.communicate()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Go on with" in said
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def test_the_prepared_data_are_handed_over_with_their_pixels_mapped(workplace, tiny_overrides):
    data = prepare(load_config(None, tiny_overrides))
    path = workplace / "data"
    with open(path, "wb") as stream:
        hand_over(data, stream)
    assert path.stat().st_size < data.store.images.nbytes / 4
    with open(path, "rb") as stream:
        taken = take_over(stream)
    assert isinstance(taken.store.images, np.memmap)
    assert taken.store.images.filename == data.store.images.filename
    assert not taken.store.images.flags.writeable
    np.testing.assert_array_equal(taken.store.images, data.store.images)
    pd.testing.assert_frame_equal(taken.manifest.table, data.manifest.table)
    pd.testing.assert_frame_equal(taken.folds.table, data.folds.table)


def test_jobs_share_the_cores(monkeypatch):
    monkeypatch.setattr(shares, "core_count", lambda: 8)
    monkeypatch.setattr(shares, "gpu_names", list)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = shares.share_out(3)
    assert [share.environment["OMP_NUM_THREADS"] for share in found] == ["2", "2", "2"]
    assert "CUDA_VISIBLE_DEVICES" not in found[0].environment
    assert shares.share_out(20)[0].environment["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert shares.share_out(2)[0].environment["OMP_NUM_THREADS"] == "1"


def test_jobs_take_the_visible_gpus_in_turn(monkeypatch):
    monkeypatch.setattr(shares, "_gpu_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    named = [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares.share_out(3)]
    assert named == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    named = [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares.share_out(3)]
    assert named == ["5", "7", "5"]


def test_the_display_of_many_prints_one_line_of_all_off_a_terminal(capfd):
    with console.progress_of_many(every=0.0) as show:
        show("fold 1", "fine_tune", 3, 40)
        show("fold 0", "frozen", 1, 40)
        show("fold 1", "", 0, 0)
        show("fold 0", "frozen", 2, 40)
    lines = capfd.readouterr().err.splitlines()
    assert lines[1] == "fold 0 frozen 1/40; fold 1 fine_tune 3/40"
    assert lines[-1] == "fold 0 frozen 2/40"


def test_a_listener_hears_what_is_said_and_how_far_work_is(monkeypatch, capfd):
    heard = []
    monkeypatch.setattr(console, "_listener", None)
    console.forward_to(lambda *event: heard.append(event))
    console.say("a line")
    console.warn("a warning")
    with console.progress("work") as report:
        report(1, 2)
        report(2, 2)
    assert heard == [
        ("said", "a line"),
        ("warned", "a warning"),
        ("at", "work", 1, 2),
        ("at", "work", 2, 2),
    ]
    assert "a line" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("exit 3", "its process ended with exit code 3"),
        (
            "kill -9 $$",
            "its process ended with signal SIGKILL (the machine's memory may have been full)",
        ),
    ],
)
def test_a_process_that_ends_without_a_word_is_a_failed_fold(
    workplace, tiny_overrides, monkeypatch, line, told
):
    program = workplace / "program"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    data = prepare(load_config(None, tiny_overrides))
    monkeypatch.setattr(processes.sys, "executable", str(program))
    one = FoldProcess(data, RunDir(workplace / "runs" / "none"), 0, shares.Share({}, "nothing"))
    while one.listen(lambda *_: None):
        pass
    assert one.outcome() == told


def test_what_lies_in_the_folder_that_cv_was_started_in_is_not_imported(
    workplace, tiny_overrides, monkeypatch
):
    monkeypatch.chdir(workplace)
    for name in ("kderm", "random"):
        (workplace / f"{name}.py").write_text("raise SystemExit(9)\n")
    data = prepare(load_config(None, tiny_overrides))
    run = RunDir(workplace / "runs" / "none")  # has no config, which the process can only tell
    one = FoldProcess(data, run, 0, shares.Share({}, "nothing"))  # once it is all imported
    while one.listen(lambda *_: None):
        pass
    assert "readable YAML config" in one.outcome()
