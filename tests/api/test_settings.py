"""What Python hands to the config, the console and the folder of runs."""

import threading
from pathlib import Path

import numpy as np
import pytest

from kderm import console
from kderm.config.reading import as_overrides, changed_config
from kderm.config.schema import Config
from kderm.errors import UserError
from kderm.run_dir import runs_at, runs_root


def test_values_of_python_become_values_of_the_config():
    settings = {
        "data.root": Path("a folder") / "b=c",
        "data.classes": ("mel", "nv: naevus"),
        "train.epochs": np.int64(3),
        "train.learning_rate": 3e-05,
        "train.clip_norm": None,
        "train.keep": True,
        "balance.repeat": {"mel": 2},
    }
    config = changed_config(Config(), settings)
    assert config.data.root == Path("a folder/b=c")
    assert config.data.classes == ("mel", "nv: naevus")
    assert (config.train.epochs, config.train.learning_rate) == (3, 3e-05)
    assert (config.train.clip_norm, config.train.keep) == (None, True)
    assert config.balance.repeat == {"mel": 2}
    assert as_overrides({"train.epochs": 3}) == ["train.epochs=3"]
    assert changed_config(config, {}) == config


def test_a_wrong_setting_is_told_with_the_nearest_key():
    with pytest.raises(UserError, match=r"Did you mean train\.epochs"):
        changed_config(Config(), {"train.epoch": 3})


def test_quiet_holds_back_everything_but_warnings(capsys):
    with console.quiet():
        console.say("said")
        console.warn("warned")
        with console.progress("doing", every=0) as report, console.progress_of_many(0) as many:
            report(1, 2)
            many("fold 0", "training", 1, 2)
        with console.quiet(False):
            console.say("said too")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "warning: warned\n")
    console.say("again")
    assert capsys.readouterr().out == "again\n"


def test_another_folder_of_runs_holds_in_its_own_thread_alone(tmp_path, workplace):
    found = []
    with runs_at(tmp_path / "elsewhere"):
        assert runs_root() == tmp_path / "elsewhere"
        thread = threading.Thread(target=lambda: found.append(runs_root()))
        thread.start()
        thread.join()
    assert found == [Path("runs")] == [runs_root()]
