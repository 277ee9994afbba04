"""What `cv --launcher ray` does around its tasks; no cluster is started."""

import contextlib
from types import SimpleNamespace

import pytest

from kderm.cluster.connection import Node
from kderm.cluster.shares import Share
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.storage.places import open_place
from kderm.training.fold_lock import fold_lock
from kderm.training.launchers import cluster_folds
from kderm.training.launchers.cluster_folds import FoldsThere, Going


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


class Tasks:
    """Stands for Ray: notes what was asked for, and what was cancelled."""

    def __init__(self, *nodes):
        self.asked, self.cancelled = [], []
        self.there = [Node(*node, name="") for node in nodes]
        self.exceptions = SimpleNamespace(RuntimeEnvSetupError=ZeroDivisionError)
        self.ray, self.put = self, lambda content: content

    def nodes(self):
        return self.there

    def remote(self, *task, **_):
        if not task:
            return lambda function: self
        self.asked.append((self.asking["num_cpus"], self.asking["num_gpus"]))
        return f"task {len(self.asked)}"

    def options(self, **asking):
        self.asking = asking
        return self

    def cancel(self, reference, force):
        self.cancelled.append(reference)


def going(workplace, monkeypatch, tasks, share):
    run = RunDir(workplace / "runs" / "there")
    run.path.mkdir(parents=True)
    run.config.write_text("")
    monkeypatch.setattr(cluster_folds, "listener", lambda cluster: None)
    folds = FoldsThere(tasks, share, run, open_place(run.path.parent), b"", lambda *_: None)
    folds._submit(Going(0))
    return folds


@pytest.mark.parametrize(
    ("nodes", "left", "asked"),
    [
        ([(8, 0), (2, 0)], [(2, 0)], (2, 0)),
        ([(8, 0), (8, 0)], [(8, 0)], (8, 0)),  # the same threads, the same roundings
        ([(8, 1), (4, 1)], [(4, 1)], (4, 1)),
        ([(8, 1), (4, 0)], [(4, 0)], (8, 1)),  # a GPU is waited for
        ([(8, 0)], [], (8, 0)),
    ],
)
def test_a_lost_fold_asks_for_what_the_nodes_that_are_left_have(
    workplace, monkeypatch, nodes, left, asked
):
    tasks = Tasks(*nodes)
    folds = going(workplace, monkeypatch, tasks, Share(*nodes[0], 1))
    assert tasks.asked == [nodes[0]]
    tasks.there = [Node(*node, name="") for node in left]
    assert folds._lost(folds._going.pop("task 1"), OSError("gone")) is None
    assert tasks.asked[1:] == [asked]


def test_all_that_tasks_have_said_is_heard_in_the_end(workplace, monkeypatch):
    tasks = Tasks((8, 0))
    folds = going(workplace, monkeypatch, tasks, Share(8, 0, 1))
    name = next(iter(folds._going.values())).attempt
    # The first is under way when the end is told.
    said = iter([[(name, "log", "one")], [(name, "log", "two")], [(name, "log", "3"), ("", "end")]])
    queue = SimpleNamespace(remote=lambda *_: next(said, None))
    folds._listener = SimpleNamespace(take=queue, tell=SimpleNamespace(remote=lambda *_: None))
    tasks.get = lambda events: events
    folds._hear_the_rest(next(said))
    lines = folds._run.fold(0).log.read_text().splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["one", "two", "3"]


def test_a_fold_that_waits_for_more_than_any_node_has_is_given_less(workplace, monkeypatch):
    tasks = Tasks((8, 0), (2, 0))
    folds = going(workplace, monkeypatch, tasks, Share(8, 0, 1))
    folds._ask_for_less()
    assert tasks.asked == [(8, 0)]
    tasks.there.pop(0)  # Ray tells it later than the end of the worker
    folds._ask_for_less()
    assert (tasks.asked[1:], tasks.cancelled) == ([(2, 0)], ["task 1"])
    assert [(going.number, going.attempts) for going in folds._going.values()] == [(0, 2)]
    folds._ask_for_less()
    assert len(tasks.asked) == 2
