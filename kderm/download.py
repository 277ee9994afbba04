"""One file over HTTP onto the disk: resumed where it broke off, checked, whole or absent.

Knows nothing of data sets or weights; `data.fetch` and `models.weights` say what is fetched and
tell the user what to do when it cannot be had.
"""

import base64
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import kderm
from kderm.atomic import write_json

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)

# Nothing bounds a name look-up, and a blocked port can hang for minutes.
CONNECT_SECONDS = 5.0
STALL_SECONDS = 60.0
# Attempts in a row that bring not one byte further, and the pause before the second of them.
ATTEMPTS = 5
PAUSE_SECONDS = 1.0
_CHUNK = 1 << 20


class DownloadError(OSError):
    """A file that cannot be had, with a reason for people; trying again at once will not help."""


@dataclass(frozen=True)
class Received:
    """What is known of a file that was fetched.

    Attributes:
        size: in bytes.
        sha256: hex.
        checked: the checksum it was compared with, "md5:<hex>" or "sha256:<hex>"; "" where neither
            the caller nor the server named one.
    """

    size: int
    sha256: str
    checked: str


@dataclass(frozen=True)
class _Begun:
    """What a partial file is part of, kept beside it as JSON."""

    url: str
    validator: str  # for If-Range: the same text means the same bytes
    total: int | None
    checksum: str  # what the server says


def download(
    url: str, path: Path, *, checksum: str = "", progress: Progress | None = None
) -> Received:
    """Fetch `url` into `path`, by way of `path`.part, which a later call goes on with.

    Goes on by HTTP ranges, and only if the server still has the same file; starts anew otherwise.

    Args:
        url: http or https.
        path: the file to make; what is there is replaced when the new file is whole.
        checksum: "md5:<hex>" or "sha256:<hex>"; "" for what the server says of the file, if
            anything.
        progress: called with (bytes done, bytes in all).

    Raises:
        DownloadError: no answer, no such file, no room, or bytes that fail the checksum (these are
            deleted, everything else that arrived is kept for the next call).
    """
    require_connection(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    begun = _fetch_all(url, part, progress)
    expected = checksum or begun.checksum
    digests = {"sha256", expected.partition(":")[0] or "sha256"}
    found = file_digests(part, digests)
    size = part.stat().st_size
    if expected and found[expected.partition(":")[0]] != expected.partition(":")[2].lower():
        _forget(part)
        algorithm = expected.partition(":")[0]
        raise DownloadError(
            f"expected {expected}, received {algorithm}:{found[algorithm]} ({size} bytes): it was "
            "damaged on the way, or the publisher has replaced it"
        )
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(part, path)
    _state_path(part).unlink(missing_ok=True)
    return Received(size, found["sha256"], expected)


def file_digests(path: Path, algorithms: set[str]) -> dict[str, str]:
    """Hex digests of a file, read once."""
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            for hasher in hashers.values():
                hasher.update(chunk)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


def require_connection(url: str, seconds: float | None = None) -> None:
    """Raise DownloadError within `seconds` if no connection to the host of `url` opens."""
    seconds = CONNECT_SECONDS if seconds is None else seconds
    address = urllib.parse.urlsplit(url)
    if address.scheme not in ("http", "https"):
        raise DownloadError(f"expected an address of http or https, received {url!r}")
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = address.port or {"http": 80}.get(address.scheme, 443)
    problems: list[Exception | None] = [TimeoutError("no answer")]

    def connect() -> None:
        try:
            socket.create_connection((address.hostname, port), seconds).close()
            problems[0] = None
        except OSError as error:
            problems[0] = error

    # In a thread, because nothing bounds the time that a name look-up takes.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    if problems[0] is not None:
        raise DownloadError(f"no connection to {address.hostname} ({problems[0]})")


def require_room(folder: Path, needed: int) -> None:
    """Raise DownloadError if the disk of `folder` has not `needed` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"it needs {readable(needed)} of disk space in {folder}, which has {readable(free)}"
        )


def readable(size: int) -> str:
    """A number of bytes for people: "23.0 GB"."""
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.1f} {unit}"
    return f"{size} bytes"


def _fetch_all(url: str, part: Path, progress: Progress | None) -> _Begun:
    """Transfer until the whole file is in `part`, again after each cut that brought it further."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            return _transfer(url, part, progress)
        except DownloadError:
            raise
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
                raise DownloadError(f"it cannot be written ({error})") from error
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless >= ATTEMPTS:
                reason = str(error) or type(error).__name__
                raise DownloadError(f"{reason}, {ATTEMPTS} times in a row") from error
            time.sleep(PAUSE_SECONDS * 2 ** max(0, fruitless - 1))


def _transfer(url: str, part: Path, progress: Progress | None) -> _Begun:
    """One request: what is missing of `part`, or all of it."""
    begun = _begun(part, url)
    start = _size(part) if begun else 0
    if begun and start == begun.total:
        return begun
    headers = {"User-Agent": f"kderm/{kderm.__version__}", "Accept-Encoding": "identity"}
    if begun and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": begun.validator}
    with _open(url, headers, part) as reply:
        if reply.status == 206 and begun:
            _require_range(reply, part, start, begun.total)
        else:
            start, begun = 0, _describe(url, reply)
            _forget(part)
            write_json(_state_path(part), vars(begun))
        if begun.total is not None:
            require_room(part.parent, begun.total - start)
        done = _receive(reply, part, start, begun.total, progress)
    if begun.total is not None and done != begun.total:
        raise ConnectionError(f"the connection was cut after {done} of {begun.total} bytes")
    return begun


def _open(url: str, headers: dict[str, str], part: Path) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=STALL_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is no part of what is there
            _forget(part)
            raise ConnectionError("the server cannot go on where the file broke off") from None
        if error.code in (408, 429) or error.code >= 500:
            raise ConnectionError(f"the server answered {error.code} {error.reason}") from None
        raise DownloadError(f"the server answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from None


def _receive(
    reply: http.client.HTTPResponse,
    part: Path,
    start: int,
    total: int | None,
    progress: Progress | None,
) -> int:
    """Append the body at `start`; the size of the file then."""
    done = start
    with open(part, "r+b" if start else "wb") as handle:
        handle.seek(start)
        while chunk := reply.read(_CHUNK):
            handle.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total or done)
    return done


def _describe(url: str, reply: http.client.HTTPResponse) -> _Begun:
    """What the headers of a whole answer say of the file."""
    headers = reply.headers
    if headers.get_content_type() == "text/html" and not url.endswith((".html", ".htm")):
        raise DownloadError("the server answered with a web page, perhaps one to log in")
    etag = headers.get("ETag", "")
    weak = not etag or etag.startswith("W/")
    length = headers.get("Content-Length")
    return _Begun(
        url=url,
        validator=headers.get("Last-Modified", "") if weak else etag,
        total=int(length) if length and length.isdigit() else None,
        checksum=_server_checksum(headers),
    )


def _server_checksum(headers: http.client.HTTPMessage) -> str:
    """The MD5 that the server states: Content-MD5, or an ETag of S3 that is one."""
    if given := headers.get("Content-MD5"):
        return f"md5:{base64.b64decode(given).hex()}"
    etag = headers.get("ETag", "").strip('"')
    encrypted = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    # A file uploaded in parts has an ETag "<hex>-<parts>", which is no MD5 of the file.
    if "AmazonS3" in headers.get("Server", "") and re.fullmatch(r"[0-9a-f]{32}", etag):
        return "" if encrypted else f"md5:{etag}"
    return ""


def _require_range(
    reply: http.client.HTTPResponse, part: Path, start: int, total: int | None
) -> None:
    """A partial answer must be the part that was asked for; appending another would be silent."""
    given = reply.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", given)
    fits = match and int(match[1]) == start and (total is None or match[3] in ("*", str(total)))
    if not fits:
        _forget(part)
        raise ConnectionError(f"asked for the bytes from {start}, the server sent {given!r}")


def _begun(part: Path, url: str) -> _Begun | None:
    """What `part` is part of, if that is `url` and the server can tell whether it still is."""
    try:
        begun = _Begun(**json.loads(_state_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return begun if part.exists() and begun.url == url and begun.validator else None


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
