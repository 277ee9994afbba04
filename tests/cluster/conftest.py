"""A real cluster on this machine: a head without cores and nodes of one core, each a raylet."""

import functools
import os
import tempfile
import time

import pytest

from kderm.config.reading import load_config
from kderm.run_dir import RunDir
from kderm.training.crossval import cross_validate

STORE = 80 * 2**20


@pytest.fixture(scope="session")
def cluster():
    """Two nodes; tests that end one start another."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Else workers wait for every other process.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    os.environ["OMP_NUM_THREADS"] = "1"
    # Where Ray notes the address of what it started, whatever its own folder is.
    os.makedirs(os.path.join(tempfile.gettempdir(), "ray"), exist_ok=True)
    from ray.cluster_utils import Cluster

    # A socket's path may have about a hundred characters, so not in pytest's folder.
    with tempfile.TemporaryDirectory(prefix="kr-", dir="/tmp") as folder:
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        started = Cluster(
            initialize_head=True, head_node_args={**head, "object_store_memory": STORE}
        )
        started.grow = functools.partial(started.add_node, num_cpus=1, object_store_memory=STORE)
        started.workers = [started.grow(), started.grow()]
        yield started
        started.shutdown()


@pytest.fixture
def one_thread(monkeypatch):
    """One thread here as in each worker: sums are rounded alike."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(workplace, tiny_overrides, one_thread):
    """Trains a tiny run: train(name, *more overrides, **how)."""

    def trained(name, *more, **how):
        run = RunDir(workplace / "runs" / name)
        cross_validate(load_config(None, [*tiny_overrides, *more]), run, **how)
        return run

    return trained


@pytest.fixture
def until():
    """Wait for something to be there; what it is."""

    def wait(found, seconds=240):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if result := found():
                return result
            time.sleep(0.05)
        raise AssertionError("it did not happen in time")

    return wait
