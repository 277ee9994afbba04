"""What tasks say on their way to the one process that shows it: an actor that keeps a queue.

It lives beside that process and ends with it. A task tells, the process takes; nothing is polled.
"""

import asyncio
from typing import Any

from kderm.cluster.connection import Cluster, environment


class Listener:
    """The actor: events in the order in which they arrive."""

    def __init__(self) -> None:
        self._events: asyncio.Queue = asyncio.Queue()

    async def tell(self, *event: object) -> None:
        """Keep an event."""
        await self._events.put(event)

    async def take(self) -> list[tuple]:
        """All events that are there; waits for the first one."""
        found = [await self._events.get()]
        while not self._events.empty():
            found.append(self._events.get_nowait())
        return found


def listener(cluster: Cluster) -> Any:
    """Start the actor on this process's node; its handle can be passed to tasks."""
    actor = cluster.ray.remote(Listener).options(
        num_cpus=0,
        scheduling_strategy=cluster.beside_this_process(),
        runtime_env=environment(threads=1),
    )
    return actor.remote()
