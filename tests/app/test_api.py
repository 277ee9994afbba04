import json
import urllib.error
import urllib.request

import pandas as pd
import pytest

from kderm.app.guard import Guard
from kderm.app.limits import Limits

client = pytest.importorskip("gradio_client", reason="needs the extra app")


@pytest.fixture(scope="module")
def api(page):
    return client.Client(page.url, verbose=False)


def handles(*paths):
    return [client.handle_file(str(path)) for path in paths]


def test_the_api_answers_what_python_answers(api, photo, ensemble, page):
    paths = [photo("a.jpg"), photo("b.jpg", seed=1)]
    found = api.predict(handles(*paths), False, api_name="/predict")
    expected = ensemble.predict(paths).drop(columns="path")
    table = pd.DataFrame(**found["images"])
    pd.testing.assert_frame_equal(table[expected.columns], expected, check_dtype=False)
    assert table["path"].tolist() == ["a.jpg", "b.jpg"]
    assert found["lesions"] is None
    assert page.left() == []


def test_the_api_answers_a_lesion(api, photo, ensemble):
    paths = [photo("a.jpg"), photo("b.jpg", seed=1)]
    found = api.predict(handles(*paths), True, api_name="/predict")
    expected = ensemble.predict_lesions(paths, "lesion")
    pd.testing.assert_frame_equal(pd.DataFrame(**found["lesions"]), expected, check_dtype=False)


def test_the_api_takes_age_sex_and_site(api, photo):
    about = {"age": 60, "sex": "female", "site": "back"}
    found = api.predict(handles(photo("a.jpg")), False, **about, api_name="/predict")
    assert found["images"]["data"][0][2] is not None


def test_the_api_refuses_in_a_sentence(api, tmp_path):
    (tmp_path / "notes.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(Exception, match="cannot be opened as a zip"):
        api.predict(handles(tmp_path / "notes.zip"), False, api_name="/predict")


def test_the_server_fetches_no_address(page):
    file = {"path": "http://127.0.0.1:1/a.jpg", "meta": {"_type": "gradio.FileData"}}
    said = _call(page.url, [[file], False, None, None, None])
    assert "Send the file itself" in said


def test_the_server_gives_no_file_of_its_own(page, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"x")
    file = {"path": str(tmp_path / "secret.jpg"), "meta": {"_type": "gradio.FileData"}}
    said = _call(page.url, [[file], False, None, None, None])
    assert "event: error" in said, said
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{page.url}/gradio_api/file={tmp_path / 'secret.jpg'}")


def test_an_upload_of_too_many_bytes_is_refused_at_the_door(page):
    request = urllib.request.Request(f"{page.url}/gradio_api/upload", data=bytes(5_000_000))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 413
    assert b"At most 4 MB" in refused.value.read()
    assert page.left() == []


def test_every_answer_keeps_the_browser_at_home(page):
    with urllib.request.urlopen(page.url) as answer:
        headers, text = answer.headers, answer.read().decode()
    assert headers["content-security-policy"].startswith("default-src 'self' data: blob:")
    assert headers["cache-control"] == "no-store"
    assert json.loads(text.partition("window.gradio_config = ")[2].partition(";</script>")[0])[
        "analytics_enabled"
    ] in (False, None)


def test_user_and_password_are_asked_for(serve, photo, ensemble):
    page = serve(limits=Limits(), user="ann", password="secret of ann")
    path = photo("a.jpg")
    for wrong in (None, ("ann", "guess"), ("bob", "secret of ann")):
        with pytest.raises(Exception):  # noqa: B017, PT011 - the client's errors differ
            client.Client(page.url, verbose=False, auth=wrong).predict(
                handles(path), False, api_name="/predict"
            )
    right = client.Client(page.url, verbose=False, auth=("ann", "secret of ann"))
    found = right.predict(handles(path), False, api_name="/predict")
    assert (
        pd.DataFrame(**found["images"])["predicted"][0]
        == ensemble.predict([path])["predicted"].item()
    )


def test_a_body_without_a_length_is_cut_off_at_the_bound():
    import asyncio

    read = []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            read.append(message)
            if message["type"] == "http.disconnect":
                return

    async def receive():
        return {"type": "http.request", "body": bytes(600), "more_body": True}

    async def send(message):
        raise AssertionError(message)

    path = "/gradio_api/upload"
    scope = {"type": "http", "headers": [], "path": path, "method": "POST"}
    asyncio.run(Guard(app, 1000)(scope, receive, send))
    assert [message["type"] for message in read] == ["http.request", "http.disconnect"]


def _call(url, data):
    """What the two steps of the HTTP API say, as curl would ask."""
    request = urllib.request.Request(
        f"{url}/gradio_api/call/predict",
        data=json.dumps({"data": data}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/gradio_api/call/predict/{event}") as answer:
        return answer.read().decode()
