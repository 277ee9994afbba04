import errno
import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from benchmarks.drills.remains import contents, damaged, differences, left_behind
from benchmarks.drills.targets import Ended, Findings
from benchmarks.drills.workplace import TINY
from kderm.atomic import locked
from kderm.cli import main
from kderm.errors import UserError


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_disk_that_gets_full_is_told_plainly_and_the_command_goes_on_with_room(
    writes, tmp_path, monkeypatch
):
    sync, left = os.fsync, writes

    def full(descriptor):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    def prepared(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        return run("prepare", *TINY)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        ended = prepared("full")
    assert ended.exit_code == 2
    assert "No space left on device" in ended.output
    assert damaged(tmp_path / "full") == []
    assert prepared("full").exit_code == 0
    assert left_behind(tmp_path / "full") == []
    assert prepared("undisturbed").exit_code == 0
    pair = contents(tmp_path / "undisturbed"), contents(tmp_path / "full")
    assert differences(*pair) == []


HOLDER = """
import sys, time
from kderm.atomic import locked
with locked(sys.argv[1], "Wait.", "cv"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_in_nobodys_way(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        expected = rf"Wait\. At work there: cv, process {holder.pid}\."
        with (
            pytest.raises(UserError, match=expected),
            locked(tmp_path / "run", "Wait.", "evaluate"),
        ):
            pytest.fail("both hold the lock")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / "run" / ".lock").exists()
    with locked(tmp_path / "run", "Wait.", "evaluate"):
        assert (tmp_path / "run" / ".lock").read_text().startswith("evaluate")


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_file(tmp_path, monkeypatch):
    def trained(name):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert run("cv", *TINY, "train.epochs=2").exit_code == 0
        return contents(tmp_path / name)

    before = trained("still")
    clock, jumps = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: clock() + (-1) ** next(jumps) * 3e8)
    assert differences(before, trained("jumping")) == []
    assert left_behind(tmp_path / "jumping") == []


def test_the_drills_notice_a_traceback_a_wrong_code_and_missing_words():
    found = Findings()
    found.refused(Ended(2, "", "error: Another command is at work"), "fine", "Another command")
    found.finished(Ended(0, "done", ""), "fine")
    assert found.wrong == []
    found.refused(Ended(1, "", "error: Another command"), "another code")
    found.refused(Ended(2, "", "error: no"), "other words", "Another command")
    found.refused(Ended(2, "", "Traceback (most recent call last):"), "a traceback")
    found.finished(Ended(0, "", "Traceback (most recent call last):"), "a traceback at the end")
    assert len(found.wrong) == 4
