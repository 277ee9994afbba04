import datetime
import json
import os
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from kderm.app.sessions import SESSIONS, forget_sessions, keep_waiting_uploads

client = pytest.importorskip("gradio_client", reason="needs the extra app")


def kept_of(blocks):
    """All that Gradio holds of its visitors, as text."""
    shown = [session.config_values for session in blocks.state_holder.session_data.values()]
    return repr(shown)


def answered(page, path):
    visitor = client.Client(page.url, verbose=False)
    return visitor, visitor.predict([client.handle_file(str(path))], False, api_name="/predict")


def at_rest(blocks, visitor):
    """Wait until the queue has let go of the visitor's request, shortly after its answer."""
    for _ in range(600):
        events = list(blocks._queue.event_ids_to_events.values())
        if visitor.session_hash not in {event.session_hash for event in events}:
            return
        time.sleep(0.05)
    raise AssertionError("the request is worked on without end")


def test_answers_are_forgotten_when_the_page_is_closed(page, photo):
    visitor, _ = answered(page, photo("left_behind.jpg"))
    assert "left_behind.jpg" in kept_of(page.blocks)
    forget_sessions(page.blocks)
    assert "left_behind.jpg" in kept_of(page.blocks)  # the page is open
    at_rest(page.blocks, visitor)
    page.blocks.state_holder.session_data[visitor.session_hash].is_closed = True
    forget_sessions(page.blocks)
    assert "left_behind.jpg" not in kept_of(page.blocks)


def test_answers_are_forgotten_after_their_time(page, photo):
    visitor, _ = answered(page, photo("long_ago.jpg"))
    at_rest(page.blocks, visitor)
    used = page.blocks.state_holder.time_last_used
    used[visitor.session_hash] -= datetime.timedelta(seconds=100)
    forget_sessions(page.blocks, 200)
    assert "long_ago.jpg" in kept_of(page.blocks)
    forget_sessions(page.blocks, 50)
    assert "long_ago.jpg" not in kept_of(page.blocks)
    assert visitor.session_hash not in page.blocks._queue.pending_messages_per_session


def test_few_visitors_are_kept_at_all(page):
    assert page.blocks.state_holder.capacity == SESSIONS


def test_the_same_picture_of_two_requests_that_wait_answers_both(page, photo):
    """Both are uploaded before one is asked about."""
    path = photo("same.jpg")
    places = [_upload(page.url, path) for _ in range(2)]
    assert places[0] != places[1]
    with ThreadPoolExecutor(2) as both:
        said = list(both.map(lambda place: _asked(page.url, place), places))
    for one in said:
        assert "event: complete" in one, one
        assert "same.jpg" in one
        assert "no longer" not in one
    assert page.left() == []


def test_uploads_of_requests_that_wait_are_kept_from_the_sweep(workroom, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(workroom.path))
    waiting, unasked = workroom.path / "waiting.jpg", workroom.path / "unasked.jpg"
    before = time.time() - 1000
    for path in (waiting, unasked):
        path.write_bytes(b"x")
        os.utime(path, (before, before))
    event = SimpleNamespace(data=SimpleNamespace(data=[[{"path": str(waiting)}], False]))
    queues = {"members": SimpleNamespace(queue=[event, SimpleNamespace(data=None)])}
    page = SimpleNamespace(_queue=SimpleNamespace(event_queue_per_concurrency_id=queues))
    keep_waiting_uploads(page)
    workroom.sweep(500)
    assert waiting.exists()
    assert not unasked.exists()


def test_gradios_queue_is_where_waiting_uploads_are_looked_for(page):
    for queue in page.blocks._queue.event_queue_per_concurrency_id.values():
        assert isinstance(queue.queue, list)
    keep_waiting_uploads(page.blocks)


def _upload(url, path):
    form = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n--x--'
    ) % (path.name.encode(), path.read_bytes())
    kind = {"content-type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{url}/gradio_api/upload", data=form, headers=kind)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)[0]


def _asked(url, place):
    file = {"path": place, "meta": {"_type": "gradio.FileData"}}
    request = urllib.request.Request(
        f"{url}/gradio_api/call/predict",
        data=json.dumps({"data": [[file], False, None, None, None]}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/gradio_api/call/predict/{event}") as answer:
        return answer.read().decode()
