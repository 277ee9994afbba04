"""What of a cluster each task asks for: a GPU where there are any, else a part of the cores."""

from collections.abc import Sequence
from dataclasses import dataclass

from kderm.cluster.connection import Node
from kderm.counting import counted


@dataclass(frozen=True)
class Share:
    """One task's part.

    Attributes:
        cpus, gpus: what it asks for.
        count: tasks of this kind that the cluster has room for at a time.
    """

    cpus: int
    gpus: int
    count: int

    @property
    def threads(self) -> int:
        """Threads that it may compute with."""
        return max(1, self.cpus)

    def fits(self, nodes: Sequence[Node]) -> bool:
        """Whether any of `nodes` has as much, if it is free."""
        return any(node.cpus >= self.cpus and node.gpus >= self.gpus for node in nodes)

    @property
    def words(self) -> str:
        """The part for people."""
        cores = counted(self.cpus, "core")
        return f"1 GPU and {cores}" if self.gpus else cores


def share_of_gpus(nodes: Sequence[Node]) -> Share | None:
    """A GPU each, with its part of its node's cores; None where no node has one."""
    with_gpus = [node for node in nodes if node.gpus]
    if not with_gpus:
        return None
    cpus = min(node.cpus // node.gpus for node in with_gpus)
    return Share(cpus, 1, sum(node.gpus for node in with_gpus))


def share_of(nodes: Sequence[Node], tasks: int) -> Share:
    """The part for each of `tasks` tasks.

    A GPU each, with its part of the node's cores, where any node has one. Else the largest number
    of cores with which all tasks run at once, and one core where there are fewer cores than tasks.
    """
    if (share := share_of_gpus(nodes)) is not None:
        return share
    for cpus in range(max(node.cpus for node in nodes), 0, -1):
        count = sum(node.cpus // cpus for node in nodes)
        if count >= tasks or cpus == 1:
            return Share(cpus, 0, count)
    raise AssertionError("a node without cores is none")
