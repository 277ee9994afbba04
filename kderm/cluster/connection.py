"""The way to a Ray cluster: one that is there, or one of this machine for as long as it is needed.

Knows nothing of what is computed there. Ray is imported inside functions: it is an extra, and the
command line's help must stay instant.
"""

import contextlib
import io
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import kderm
from kderm.counting import counted
from kderm.errors import UserError, first_line, missing_extra
from kderm.leftovers import temporary_beside
from kderm.runtime import core_count, thread_limits

_SMALLEST_STORE = 128 * 1024**2  # bytes that Ray asks for at least, with some room
_KNOCK_SECONDS = 10.0
_QUIET = "fatal"  # Ray's log level
_STDERR = 2  # the descriptor, which C++ writes to
_SHORT = 8  # characters of a folder that Ray's own can lie in
# Variables that a task must see as this process does, wherever it runs.
_TAKEN_ALONG = ("KERAS_BACKEND", "KDERM_WEIGHTS", "KDERM_CACHE", "XLA_PYTHON_CLIENT_PREALLOCATE")


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        cpus, gpus: what it has to give.
        name: its address, for people.
    """

    cpus: int
    gpus: int
    name: str


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        ray: the module.
        here: Ray's name of the node that this process runs on.
        words: the cluster for people.
    """

    ray: ModuleType
    here: str
    words: str

    def nodes(self) -> list[Node]:
        """The nodes that are alive now and have anything to compute with."""
        found = []
        for node in self.ray.nodes():
            has = node["Resources"] if node["Alive"] else {}
            cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
            if cpus or gpus:
                found.append(Node(cpus, gpus, node["NodeManagerAddress"]))
        return found

    def beside_this_process(self) -> Any:
        """A scheduling strategy that keeps an actor or a task on this process's own node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(self.here, soft=False)

    def this_machine(self) -> dict[str, float]:
        """What a task asks for that may only run on this process's own machine."""
        (node,) = (node for node in self.ray.nodes() if node["NodeID"] == self.here)
        return {f"node:{node['NodeManagerAddress']}": 0.001}


def import_ray() -> ModuleType:
    """Ray, told not to report its usage to anyone, and to say nothing past its exceptions.

    Raises:
        UserError: it is not installed, with the extra that brings it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Its C++ part calls it an error, on the terminal, that an actor of Ray Data may be started
    # again although its arguments, Ray Data's own, are objects. What ends a command is raised too.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", _QUIET)
    try:
        import ray
    except ImportError:
        raise missing_extra("ray", "cluster", "The launcher ray") from None
    return ray


@contextlib.contextmanager
def connected(address: str | None = None, *, objects: int = 0) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the block runs.

    Args:
        address: "HOST:PORT" or "auto" of a cluster; None for that of the variable RAY_ADDRESS, and
            without one a cluster of this machine alone, started now and ended with the block.
        objects: bytes that are going to be handed to tasks; makes room for them in a cluster that
            is started here.

    Raises:
        UserError: Ray is missing, or no cluster answers at the address.
    """
    ray = import_ray()
    if ray.is_initialized():  # by a program that uses kderm as a library
        yield _cluster(ray, "the Ray cluster of this program")
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.ExitStack() as stack:
        if address == "local":
            _start(ray, stack, objects)
            words = "Ray on this machine"
        else:
            _join(ray, address)
            words = f"the Ray cluster at {ray.get_runtime_context().gcs_address}"
        stack.callback(ray.shutdown)
        yield _cluster(ray, words)


def _cluster(ray: ModuleType, words: str) -> Cluster:
    cluster = Cluster(ray, ray.get_runtime_context().get_node_id(), words)
    nodes = cluster.nodes()
    if not nodes:
        raise UserError(
            f"Expected nodes with processors or GPUs. Received: {words}, which has none now. "
            "Start workers: ray start --address HOST:PORT"
        )
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    told = (
        f"{words}: {counted(len(nodes), 'node')}, {counted(cpus, 'core')}, {counted(gpus, 'GPU')}"
    )
    return Cluster(ray, cluster.here, told)


def _start(ray: ModuleType, stack: contextlib.ExitStack, objects: int) -> None:
    """A cluster of this machine; its files go when `stack` ends."""
    # The system allows a socket's path about a hundred characters, of which Ray takes 65.
    top = Path(tempfile.gettempdir())
    top = top if len(str(top)) <= _SHORT else Path("/tmp")
    folder = stack.enter_context(temporary_beside(top / "r"))
    os.environ.setdefault("RAY_AUTH_TOKEN", uuid.uuid4().hex)  # else Ray writes one to ~/.ray
    # As the local launcher's processes: Ray's would wait for every other one of the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with _muted():
        ray.init(
            address="local",
            num_cpus=core_count(),
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=_SMALLEST_STORE + 2 * objects,
            _temp_dir=str(folder),
        )


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Keep what Ray says while it begins, in Python and in C++, off the terminal.

    What is wrong is raised. Whoever chose a log level of Ray's sees all of it.
    """
    if os.environ["RAY_BACKEND_LOG_LEVEL"] != _QUIET:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), _STDERR)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


def _join(ray: ModuleType, address: str) -> None:
    if address.startswith("ray://"):
        raise UserError(
            f"Expected --address HOST:PORT or auto, on a machine of the cluster. Received: "
            f"{address}, Ray's client, through which nothing can be streamed. Start the command on "
            "a node of the cluster, for example with: ray job submit -- kderm cv --launcher ray"
        )
    try:
        _knock(address)
        with _muted():
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"Expected a Ray cluster at {address}. Received: {first_line(error)}. Start one with: "
            "ray start --head, or leave --address out to use this machine alone."
        ) from None


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


def environment(threads: int) -> dict[str, dict[str, str]]:
    """A task's `runtime_env`: the same kderm and backend as here, and so many threads at most."""
    _, limits = thread_limits(threads)
    taken = {name: os.environ[name] for name in _TAKEN_ALONG if name in os.environ}
    here = str(Path(kderm.__file__).parents[1])
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"env_vars": taken | limits | {"PYTHONPATH": path}}
