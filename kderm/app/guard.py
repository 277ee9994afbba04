"""What stands before every request: a bound on its size, and headers that keep browsers at home.

A plain ASGI middleware; knows neither Gradio nor kderm.
"""

from collections.abc import Awaitable, Callable
from typing import Any

Scope, Receive, Send = dict[str, Any], Callable[[], Awaitable[dict]], Callable[..., Awaitable[None]]

# The browser may load nothing from elsewhere, whatever a component would like to. Gradio compiles
# its templates in the browser, hence the two exceptions for scripts.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; form-action 'self'; "
    "base-uri 'self' about:; object-src 'none'; frame-ancestors 'self'"
)

_KEPT = "/assets/"
# Times the bound; whoever sends more is cut off.
_POURED_AWAY = 4


class Guard:
    """Refuses bodies that are too large while they arrive, and adds headers to every answer."""

    def __init__(self, app: Callable, most_bytes: int, framed_by: str = "") -> None:
        """Args:
        app: the application behind.
        most_bytes: of one request's body.
        framed_by: another site that may show the page within its own, or "".
        """
        self.app, self.most_bytes = app, most_bytes
        policy = f"{_POLICY} {framed_by}".strip()
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most_bytes:
            await self._pour_away(receive)
            await self._refuse(send)
            return
        seen = 0

        async def bounded() -> dict:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most_bytes:  # no length was told, or a wrong one
                return {"type": "http.disconnect"}
            return message

        # Scripts and styles may be kept; what is said of a picture may not.
        kept = _KEPT in scope["path"]
        await self.app(scope, bounded, self._with_headers(send, kept))

    def _with_headers(self, send: Send, kept: bool = False) -> Send:
        headers = self.headers if kept else [*self.headers, (b"cache-control", b"no-store")]
        own = {name for name, _ in headers}

        async def sent(message: dict) -> None:
            if message["type"] == "http.response.start":
                others = [item for item in message["headers"] if item[0].lower() not in own]
                message = message | {"headers": [*others, *headers]}
            await send(message)

        return sent

    async def _pour_away(self, receive: Receive) -> None:
        """Read what is sent and keep none of it: most clients listen only when they are through."""
        seen, more = 0, True
        while more and seen < _POURED_AWAY * self.most_bytes:
            message = await receive()
            more = message.get("more_body", False)
            seen += len(message.get("body", b""))

    async def _refuse(self, send: Send) -> None:
        words = f"At most {self.most_bytes // 1_000_000} MB are taken at once. Send less."
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        start = {"type": "http.response.start", "status": 413, "headers": headers}
        await self._with_headers(send)(start)
        await send({"type": "http.response.body", "body": words.encode()})
