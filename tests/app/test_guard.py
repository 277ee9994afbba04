"""The guard alone, and what it leaves of Gradio's paths."""

import asyncio
import time

import pytest

from kderm.app.guard import OTHER_BYTES, UPLOAD, Guard, is_open
from kderm.app.workroom import Workroom


def asked(path, body=b"", headers=(), method="POST", query=b"", **about):
    """(status, what the application behind got or None) of one request."""
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    told = [(b"content-length", str(len(body)).encode()), (b"host", b"here:7860"), *headers]
    scope = {"type": "http", "path": path, "method": method, "headers": told}
    scope["query_string"] = query
    asyncio.run(Guard(app, about.pop("most_bytes", 5_000_000), **about)(scope, receive, send))
    return sent[0]["status"], (reached or [None])[0]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/process_recording",
        "/gradio_api/deep_link",
        "/gradio_api/file=http://127.0.0.1/x",
        "/gradio_api/proxy=http://127.0.0.1/x",
        "/gradio_api/run/predict",
        "/gradio_api/call/other",
        "/gradio_api/call/v2/predict",
        "/gradio_api/vibe-code",
        "/monitoring",
        "/gradio_api/runs",
        "/docs",
        "/assetsx",
    ],
)
def test_paths_that_the_page_does_not_need_are_closed(path):
    assert not is_open(path)
    assert asked(path) == (404, None)


@pytest.mark.parametrize(
    "path", ["/", "/login", "/login/", "/assets/a.js", UPLOAD, "/gradio_api/call/predict/e1"]
)
def test_paths_that_it_needs_are_open(path):
    assert asked(path)[0] == 200


def test_a_stored_page_is_not_looked_up():
    assert asked("/", method="GET", query=b"deep_link=x")[0] == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://here:7860", 200),
        (b"https://here", 200),
        (b"http://elsewhere:7860", 403),
        (b"null", 403),
        (b"http://[", 403),
    ],
)
def test_other_sites_cannot_send(origin, status):
    assert asked(UPLOAD, headers=[(b"origin", origin)])[0] == status


def test_a_page_that_another_site_frames_stands_behind_its_servers():
    headers = [(b"origin", b"https://a-space.example")]
    assert asked(UPLOAD, headers=headers, framed_by="https://site.example")[0] == 200


def test_only_an_upload_may_be_large():
    body = bytes(OTHER_BYTES + 1)
    assert asked("/gradio_api/queue/join", body) == (413, None)
    assert asked("/login", body) == (413, None)
    status, got = asked(UPLOAD, body)
    assert status == 200
    assert got["body"] == body


def test_no_upload_is_taken_while_too_much_lies_on_the_disk(workroom):
    (workroom.path / "a.jpg").write_bytes(bytes(900))
    assert workroom.held() == 900
    about = {"held": workroom.held, "most_held": 1000}
    assert asked(UPLOAD, bytes(100), **about)[0] == 200
    assert asked(UPLOAD, bytes(101), **about) == (503, None)
    assert asked("/gradio_api/queue/join", bytes(101), **about)[0] == 200


def test_wrong_passwords_cost_time_also_at_once(monkeypatch):
    from kderm.app import server

    monkeypatch.setattr(server, "GUESS", 0.05)
    opens = server._door("ann", "secret")

    async def guesses():
        return await asyncio.gather(*(opens("ann", word) for word in ("a", "b", "c", "secret")))

    start = time.monotonic()
    assert asyncio.run(guesses()) == [False, False, False, True]
    assert time.monotonic() - start >= 0.15


def test_a_workroom_that_is_empty_holds_nothing():
    with Workroom() as workroom:
        assert workroom.held() == 0
