"""A server on this machine that can be told to misbehave, and archives to serve."""

import base64
import hashlib
import http.server
import io
import os
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kderm import download


@dataclass
class FileServer:
    """What is served, how badly, and who asked.

    Attributes:
        address: http://127.0.0.1:PORT.
        files: path without leading slash -> bytes.
        ranges: whether ranges are answered with a part.
        headers: further headers of every answer; "{md5}" and "{md5_base64}" stand for the file's.
        cuts: for the next answers, after how many bytes of the body the connection is cut.
        moved: path -> address that an answer sends to.
        statuses: for the next answers, a status in place of the file.
        shift: bytes by which answered ranges are off.
        asked: (path, Range header or None) of each request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"v-{md5}"'})
    cuts: list[int] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    shift: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


def handler_of(server: FileServer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def version_string(self):
            return server.headers.get("Server", "a test")

        def do_GET(self):
            path = self.path.lstrip("/").partition("?")[0]
            server.asked.append((path, self.headers.get("Range")))
            if path in server.moved:
                self.send_response(302)
                self.send_header("Location", server.moved[path])
                return self.end_headers()
            status = server.statuses.pop(0) if server.statuses else 200
            if status != 200 or path not in server.files:
                return self.send_error(status if status != 200 else 404)
            self._send(server.files[path])

        def _send(self, body):
            md5 = hashlib.md5(body)
            facts = {"md5": md5.hexdigest(), "md5_base64": base64.b64encode(md5.digest()).decode()}
            headers = {name: text.format(**facts) for name, text in server.headers.items()}
            start, asked = 0, self.headers.get("Range")
            validator = headers.get("ETag") or headers.get("Last-Modified")
            if asked and server.ranges and self.headers.get("If-Range") == validator:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(body):
                    return self.send_error(416)
                start = max(0, start + server.shift)
                self.send_response(206)
                span = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self.send_header("Content-Range", span)
            else:
                self.send_response(200)
            for name, text in headers.items():
                if name != "Server":
                    self.send_header(name, text)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else None
            self.wfile.write(body[start:] if cut is None else body[start : start + cut])

    return Handler


@pytest.fixture
def server(monkeypatch):
    """A `FileServer` that runs; small chunks and no pauses, so that tests take no time."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(download, "_CHUNK", 1000)
    server = FileServer()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(server))
    server.address = f"http://127.0.0.1:{running.server_port}"
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    running.shutdown()
    running.server_close()


@pytest.fixture
def zipped():
    """Make a zip of {name in the archive: bytes}."""

    def make(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()

    return make


@pytest.fixture
def real_labels():
    """The folder of real label tables beside the repository; skips where it is absent."""
    beside = Path(__file__).parents[2] / ".." / "shared"
    folder = Path(os.environ.get("KDERM_DATA", beside)) / "data" / "labels"
    if not folder.is_dir():
        pytest.skip(f"no real tables in {folder}")
    return folder
