"""What stands before every request: which paths there are, bounds on sizes, headers for browsers.

Gradio answers on many paths that this page does not need; some write to the disk or fetch
addresses, so only those that it needs are open. A plain ASGI middleware; knows neither Gradio nor
kderm.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

Scope, Receive, Send = dict[str, Any], Callable[[], Awaitable[dict]], Callable[..., Awaitable[None]]

# The browser may load nothing from elsewhere, whatever a component would like to. Gradio compiles
# its templates in the browser, hence the two exceptions for scripts.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; form-action 'self'; "
    "base-uri 'self' about:; object-src 'none'; frame-ancestors 'self'"
)

UPLOAD = "/gradio_api/upload"
_OPEN = frozenset(
    {
        *("/", "/config", "/theme.css", "/login", "/logout", "/favicon.ico", "/manifest.json"),
        *("/robots.txt", "/gradio_api/info", "/gradio_api/startup-events", "/gradio_api/theme.css"),
        *(UPLOAD, "/gradio_api/upload_progress", "/gradio_api/cancel", "/gradio_api/reset"),
        *("/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/call/predict"),
    }
)
_OPEN_BELOW = (
    *("/assets/", "/static/", "/svelte/"),
    *("/gradio_api/heartbeat/", "/gradio_api/call/predict/"),
)
_KEPT = "/assets/"
# Bytes of a request that is no upload; it is read before anybody is asked for a password.
OTHER_BYTES = 1_000_000
# Times the bound; whoever sends more is cut off.
_POURED_AWAY = 4


class Guard:
    """Lets through what the page needs, of bounded size, and adds headers to every answer."""

    def __init__(
        self,
        app: Callable,
        most_bytes: int,
        framed_by: str = "",
        *,
        held: Callable[[], int] = lambda: 0,
        most_held: float = math.inf,
    ) -> None:
        """Args:
        app: the application behind.
        most_bytes: of one upload's body.
        framed_by: another site that may show the page within its own, or "". Then requests may say
            that they come from another host: the page stands behind that site's servers.
        held: bytes of the uploads that lie on the disk.
        most_held: bytes above which no upload is taken.
        """
        self.app, self.most_bytes = app, most_bytes
        self._any_origin = bool(framed_by)
        self._held, self._most_held = held, most_held
        self._coming = 0
        policy = f"{_POLICY} {framed_by}".strip()
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        elif not is_open(scope["path"]) or b"deep_link" in scope.get("query_string", b""):
            await self._refuse(send, 404, "There is nothing here.")
        elif not self._any_origin and not _of_this_site(dict(scope["headers"])):
            await self._refuse(send, 403, "This page takes requests from itself alone.")
        else:
            await self._bounded(scope, receive, send)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_upload = scope["path"].rstrip("/") == UPLOAD and scope["method"] == "POST"
        most = self.most_bytes if is_upload else min(OTHER_BYTES, self.most_bytes)
        told = dict(scope["headers"]).get(b"content-length", b"")
        length = int(told) if told.isdigit() else None
        if length is not None and length > most:
            await self._pour_away(receive, most)
            words = f"At most {most // 1_000_000} MB are taken at once. Send less."
            await self._refuse(send, 413, words)
            return
        # Scripts and styles may be kept; what is said of a picture may not.
        sent = self._with_headers(send, _KEPT in scope["path"])
        if not is_upload:
            await self.app(scope, _cut_off(receive, most), sent)
            return
        coming = most if length is None else length
        if self._held() + self._coming + coming > self._most_held:
            await self._pour_away(receive, most)
            words = "Too many pictures wait for their answers. Send yours again in a few minutes."
            await self._refuse(send, 503, words)
            return
        self._coming += coming
        try:
            await self.app(scope, _cut_off(receive, most), sent)
        finally:
            self._coming -= coming

    def _with_headers(self, send: Send, kept: bool = False) -> Send:
        headers = self.headers if kept else [*self.headers, (b"cache-control", b"no-store")]
        own = {name for name, _ in headers}

        async def sent(message: dict) -> None:
            if message["type"] == "http.response.start":
                others = [item for item in message["headers"] if item[0].lower() not in own]
                message = message | {"headers": [*others, *headers]}
            await send(message)

        return sent

    async def _pour_away(self, receive: Receive, most: int) -> None:
        """Read what is sent and keep none of it: most clients listen only when they are through."""
        seen, more = 0, True
        while more and seen < _POURED_AWAY * most:
            message = await receive()
            more = message.get("more_body", False)
            seen += len(message.get("body", b""))

    async def _refuse(self, send: Send, status: int, words: str) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await self._with_headers(send)(start)
        await send({"type": "http.response.body", "body": words.encode()})


def is_open(path: str) -> bool:
    """Whether the page answers on the path."""
    plain = path.rstrip("/") or "/"
    return plain in _OPEN or path.startswith(_OPEN_BELOW)


def _of_this_site(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser says that the request comes from this page; other clients say nothing."""
    origin = headers.get(b"origin")
    if origin is None:
        return True
    hosts = (headers.get(b"host", b""), headers.get(b"x-forwarded-host", b""))
    try:
        host = urlsplit(origin.decode("latin-1")).hostname
        own = {urlsplit(f"//{name.decode('latin-1')}").hostname for name in hosts}
    except ValueError:
        return False
    return host is not None and host in own


def _cut_off(receive: Receive, most: int) -> Receive:
    """The body, up to the bound: no length was told, or a wrong one."""
    seen = 0

    async def bounded() -> dict:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > most else message

    return bounded
