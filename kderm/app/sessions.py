"""What Gradio keeps of its visitors: forgotten when they leave; uploads in its queue kept for them.

Gradio holds what a page shows, pictures too, in memory until 10,000 others came, and gives the same
file of two requests the same place. Works on Gradio's own objects; imports it late.
"""

import asyncio
import contextlib
import datetime
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

# Seconds that answers are kept in memory for a page that does nothing more; between two looks.
REMEMBERED, BETWEEN = 1800, 20
# Open pages whose answers are kept; the one that was idle longest is forgotten for one more.
SESSIONS = 100


def forget_sessions(page: Any, remembered: float = REMEMBERED) -> None:
    """Drop what closed pages show, and those that did nothing for `remembered` seconds.

    Args:
        page: the `gradio.Blocks` that is served.
        remembered: seconds.
    """
    holder = getattr(page, "state_holder", None)
    if holder is None:  # not served yet
        return
    before = datetime.datetime.now() - datetime.timedelta(seconds=remembered)
    working = {event.session_hash for event in list(page._queue.event_ids_to_events.values())}
    with holder.lock:
        for name, session in list(holder.session_data.items()):
            left = session.is_closed or holder.time_last_used.get(name, before) <= before
            # What still works for a page that was left would come back open.
            if left and name not in working:
                holder.session_data.pop(name, None)
                holder.time_last_used.pop(name, None)
    messages = page._queue.pending_messages_per_session  # answers that nobody fetched
    for name in list(messages):
        if name not in holder.session_data and name not in working:
            messages.pop(name, None)


def keep_waiting_uploads(page: Any) -> None:
    """Mark the files of requests that wait for their turn as just touched."""
    for queue in list(page._queue.event_queue_per_concurrency_id.values()):
        for event in list(queue.queue):
            for path in _paths(None if event.data is None else event.data.data):
                with contextlib.suppress(OSError, ValueError):
                    if Path(path).is_relative_to(os.environ["GRADIO_TEMP_DIR"]):
                        os.utime(path)


def own_folder_for_each_upload() -> None:
    """Make Gradio put every upload into a folder of its own, also where the same file lies there.

    Its folders are named by the content, so the first of two requests with the same picture would
    take it from the second.
    """
    from gradio import route_utils

    if issubclass(route_utils.GradioUploadFile, _Apart):
        return

    class Upload(_Apart, route_utils.GradioUploadFile):
        pass

    route_utils.GradioUploadFile = Upload


class _Apart:
    def __init__(self, *args: Any, **about: Any) -> None:
        super().__init__(*args, **about)
        self.sha.update(os.urandom(16))


@contextlib.asynccontextmanager
async def looked_after(page: Any) -> AsyncIterator[None]:
    """Within, `forget_sessions` and `keep_waiting_uploads` are done now and then."""

    async def look() -> None:
        while True:
            await asyncio.sleep(BETWEEN)
            forget_sessions(page)
            keep_waiting_uploads(page)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _paths(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        if isinstance(data.get("path"), str):
            yield data["path"]
        for value in data.values():
            yield from _paths(value)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _paths(value)
