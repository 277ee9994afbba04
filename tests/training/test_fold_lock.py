"""One process a fold; what folds share is made by one at a time, and the others wait for it."""

import subprocess
import sys

import pytest

from kderm.atomic import locked
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.training.fold_lock import fold_lock

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom kderm.atomic import locked\n"
    "with locked(Path(sys.argv[1]), 'held', sys.argv[2]):\n"
    "    print('held', flush=True)\n    time.sleep(float(sys.argv[3]))\n"
    "    (Path(sys.argv[1]) / 'left').touch()\n"
)


@pytest.fixture
def held():
    """held(folder, verb, seconds): another process that holds the folder's lock."""
    started = []

    def hold(folder, verb, seconds):
        line = [sys.executable, "-c", HOLD, str(folder), verb, str(seconds)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"

    yield hold
    for process in started:
        process.kill()
        process.wait()


def test_a_fold_is_trained_by_one_process_and_other_folds_by_others(tmp_path, held):
    run = RunDir(tmp_path / "run")
    held(run.fold(1).path, "training fold 1", 60)
    refused = pytest.raises(UserError, match=r"training fold 1 of the run 'run'.*process \d+")
    with refused, fold_lock(run, 1):
        pass
    with fold_lock(run, 0):
        assert run.fold(0).path.is_dir()


def test_a_fold_lock_leaves_nothing_behind(tmp_path):
    run = RunDir(tmp_path / "run")
    with fold_lock(run, 0):
        pass
    assert not run.path.exists()
    with fold_lock(run, 0):
        (run.fold(0).path / "state.npz").write_bytes(b"")
    assert [path.name for path in run.fold(0).path.iterdir()] == ["state.npz"]


def test_who_is_patient_waits_for_others_of_its_verb_alone(tmp_path, held):
    held(tmp_path / "run", "train", 1.0)
    with locked(tmp_path / "run", "no", "train", patient=True):
        assert (tmp_path / "run" / "left").exists()
    held(tmp_path / "run", "cv", 60)
    refused = pytest.raises(UserError, match="no At work there: cv")
    with refused, locked(tmp_path / "run", "no", "train", patient=True):
        pass
