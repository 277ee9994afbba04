import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from kderm.app import serving
from kderm.app.desk import Desk
from kderm.app.limits import Limits
from kderm.app.server import open_socket
from kderm.cli import main
from kderm.commands.serve import PASSWORD
from kderm.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def said(*words, **environment):
    result = CliRunner().invoke(main, ["serve", *map(str, words)], env=environment)
    return result.exit_code, result.output


def test_a_user_without_a_password_is_a_mistake(run):
    code, output = said("--run", run.path, "--user", "ann", **{PASSWORD: None})
    assert code == 2
    assert PASSWORD in output


def test_the_password_is_no_option():
    names = [name for option in main.commands["serve"].params for name in option.opts]
    assert not any("pass" in name for name in names)
    assert len(names) <= 9  # eight options, one with a short name


def test_a_port_that_is_taken_is_told_plainly():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            open_socket("localhost", taken.getsockname()[1])


def test_it_listens_on_this_machine_unless_told_otherwise():
    with open_socket("localhost", 0) as opened:
        assert opened.getsockname()[0] in ("127.0.0.1", "::1")
    default = {option.name: option.default for option in main.commands["serve"].params}
    assert default["host"] == "localhost"


def test_an_early_exit_that_saves_nothing_is_told_at_the_start_and_not_to_readers(
    run, workroom, monkeypatch, capsys
):
    def stopped(ensemble):
        readers = Desk(ensemble, workroom, Limits())._cautions(["a.jpg"])
        assert "saves nothing" not in " ".join(readers)
        raise serving.Stopped

    monkeypatch.setattr(serving, "prepare_gradio", lambda workroom: None)
    monkeypatch.setattr(serving, "warm_up", stopped)
    serving.serve_bundle(run.path, port=0, views="none", early_exit=0.1)
    assert "saves nothing here" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_it_ends_cleanly_and_leaves_no_folder(run, tmp_path, number):
    line = [sys.executable, REPOSITORY / "run.py", "serve", "--run", run.path, "--port", "0"]
    log = tmp_path / "log.txt"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with log.open("w") as handle:
        server = subprocess.Popen(
            line, stdout=handle, stderr=handle, env=os.environ | {"TMPDIR": str(temporary)}
        )
    try:
        url = _address(log, server)
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200
        assert any(temporary.rglob("*kderm-page*"))
        server.send_signal(number)
        assert server.wait(timeout=60) == 0, log.read_text()
    finally:
        server.kill()
    assert "Nothing was kept" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert list(temporary.rglob("*kderm-page*")) == []


def _address(log, server):
    for _ in range(1200):
        found = [line for line in log.read_text().splitlines() if "The page: " in line]
        if found:
            return found[0].split("The page: ")[1]
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())
