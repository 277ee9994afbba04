"""The page behind a socket: Gradio told to stay at home, uvicorn, and a clean end.

Nothing here reaches another machine: no analytics, no version check, no share link, no fonts. The
workroom is removed however the server ends, but for `kill -9`, after which the next one does it.
"""

import asyncio
import contextlib
import hmac
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from kderm.api.loaded import LoadedEnsemble
from kderm.app.answers import answer_photos
from kderm.app.desk import Desk
from kderm.app.examples import draw_examples
from kderm.app.guard import Guard
from kderm.app.limits import Limits
from kderm.app.sessions import SESSIONS, looked_after, own_folder_for_each_upload
from kderm.app.theme import FRAME_STYLE, STYLE, theme
from kderm.app.uploads import Upload
from kderm.app.workroom import Workroom
from kderm.errors import UserError, missing_extra

# Seconds that open pages get to let go before the server ends.
_GRACE = 2
# A little room for what a form says beside its files.
_FORM_BYTES = 1_000_000
_NO_PAGES_OF_ITS_OWN: dict[str, Any] = {"openapi_url": None, "docs_url": None, "redoc_url": None}
# Seconds that a wrong password costs.
GUESS = 1.0


class Stopped(Exception):
    """Somebody asked the server to end."""


def prepare_gradio(workroom: Workroom) -> None:
    """Tell Gradio where files may lie and that it stays offline; before it is first imported.

    Raises:
        UserError: Gradio is not installed.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(workroom.path)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise missing_extra("gradio", "app", "The page") from None
    own_folder_for_each_upload()


def build_app(
    ensemble: LoadedEnsemble,
    workroom: Workroom,
    *,
    limits: Limits | None = None,
    user: str | None = None,
    password: str | None = None,
    framed_by: str = "",
) -> Any:
    """The page as an ASGI application.

    Args:
        ensemble: who answers.
        workroom: where uploads pass through, open.
        limits: what is taken; None for the usual bounds.
        user, password: asked for at the door; None for an open one.
        framed_by: another site that may show the page within its own, or "".

    Raises:
        UserError: Gradio is not installed.
    """
    prepare_gradio(workroom)
    import gradio as gr
    from fastapi import FastAPI

    from kderm.app.page import build_page

    limits = limits or Limits()
    door = None if user is None else _door(user, password or "")
    page = build_page(Desk(ensemble, workroom, limits))
    page.state_session_capacity = SESSIONS
    app = gr.mount_gradio_app(
        FastAPI(**_NO_PAGES_OF_ITS_OWN, lifespan=lambda app: looked_after(page)),
        page,
        path="/",
        auth=door,
        auth_message="This page asks for a user and a password.",
        footer_links=["api"],
        run_history=False,
        show_error=True,
        max_file_size=limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=STYLE,
        head=f"<style>{FRAME_STYLE}</style>",
    )
    return Guard(
        app,
        limits.upload_bytes + _FORM_BYTES,
        framed_by,
        held=workroom.held,
        most_held=limits.held_bytes,
    )


def warm_up(ensemble: LoadedEnsemble) -> None:
    """Answer a drawn picture with its map, so that the first reader does not wait for it.

    Twice: some of what is prepared at first use is prepared behind the first answer.
    """
    example = draw_examples()[0]
    for _ in range(2):
        answer_photos(ensemble, [Upload(example.name, example.data)])


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that holds the port; port 0 takes any free one.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except OSError as error:
        raise UserError(
            f"Expected a free port of this machine. Received: {host}:{port} "
            f"({error.strerror or error}). Choose another with --port, or --port 0 for any free "
            "one; --host is localhost unless other machines shall reach the page."
        ) from None
    return opened


def address(opened: socket.socket, host: str) -> str:
    """What to type into the browser."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{opened.getsockname()[1]}"


def run(app: Any, opened: socket.socket, announce: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        app: of `build_app`.
        opened: of `open_socket`.
        announce: called once requests are taken.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce()

    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=_GRACE, server_header=False
    )
    Server(config).run(sockets=[opened])


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within, SIGTERM and Ctrl-C raise `Stopped`, so that everything is tidied up behind."""

    def stop(number: int, frame: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _door(user: str, password: str) -> Callable[[str, str], Awaitable[bool]]:
    one_by_one = asyncio.Lock()

    async def opens(name: str, word: str) -> bool:
        # One guess at a time, so that many at once are not faster than one after another.
        async with one_by_one:
            # Both are compared in full and in constant time.
            same_name = hmac.compare_digest(name.encode(), user.encode())
            right = hmac.compare_digest(word.encode(), password.encode()) and same_name
            if not right:
                await asyncio.sleep(GUESS)
        return right

    return opens
