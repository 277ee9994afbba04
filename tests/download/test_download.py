"""One file over HTTP: resumed, checked, whole or absent."""

import hashlib
import shutil
import socket
import threading
from collections import namedtuple

import numpy as np
import pytest

from kderm import download as module
from kderm.download import DownloadError, download, require_connection

BODY = np.random.default_rng(0).bytes(10_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def served(server):
    server.files["big.zip"] = BODY
    return server


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stop_after(limit):
    """A progress that is interrupted, as by Ctrl-C, when more than `limit` bytes are here."""

    def progress(done, total):
        if done > limit:
            raise KeyboardInterrupt

    return progress


def test_a_file_arrives_whole_with_progress_and_nothing_beside_it(served, tmp_path):
    seen = []
    path = tmp_path / "deep" / "big.zip"
    received = download(served.url("big.zip"), path, progress=lambda *done: seen.append(done))
    assert path.read_bytes() == BODY
    assert (received.size, received.sha256, received.checked) == (len(BODY), SHA256, "")
    assert names(path.parent) == ["big.zip"]
    assert [total for _, total in seen] == [len(BODY)] * len(seen)
    assert len(seen) >= 10
    assert seen[-1][0] == len(BODY)


# === Going on ===


def test_a_cut_connection_goes_on_where_it_was_cut(served, tmp_path):
    served.cuts = [2500, 2500]
    download(served.url("big.zip"), tmp_path / "big.zip", checksum=f"sha256:{SHA256}")
    assert (tmp_path / "big.zip").read_bytes() == BODY
    assert [asked for _, asked in served.asked] == [None, "bytes=2500-", "bytes=5000-"]


def test_a_later_call_goes_on_where_an_interrupted_one_stopped(served, tmp_path):
    path = tmp_path / "big.zip"
    with pytest.raises(KeyboardInterrupt):
        download(served.url("big.zip"), path, progress=stop_after(4000))
    assert names(tmp_path) == ["big.zip.part", "big.zip.part.json"]
    first_bytes = []
    download(served.url("big.zip"), path, progress=lambda done, _: first_bytes.append(done))
    assert path.read_bytes() == BODY
    assert served.asked[1][1] == "bytes=5000-"
    assert first_bytes[0] > 5000
    assert names(tmp_path) == ["big.zip"]


def test_a_file_behind_a_redirect_is_gone_on_with_too(served, tmp_path):
    served.moved = {"access/1": served.url("big.zip")}
    served.cuts = [2500]
    download(served.url("access/1"), tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == BODY
    assert ("big.zip", "bytes=2500-") in served.asked


def test_a_server_without_ranges_is_asked_for_everything_again(served, tmp_path):
    served.ranges = False
    served.cuts = [2500]
    download(served.url("big.zip"), tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == BODY


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_firm_validator_nothing_is_gone_on_with(headers, served, tmp_path):
    served.headers = headers
    served.cuts = [2500]
    download(served.url("big.zip"), tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == BODY
    assert [asked for _, asked in served.asked] == [None, None]


def test_a_last_modified_date_serves_as_validator(served, tmp_path):
    served.headers = {"Last-Modified": "Sat, 21 Nov 2020 02:00:00 GMT"}
    served.cuts = [2500]
    download(served.url("big.zip"), tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == BODY
    assert served.asked[1][1] == "bytes=2500-"


def test_a_file_replaced_on_the_server_is_not_glued_to_the_old_beginning(served, tmp_path):
    path = tmp_path / "big.zip"
    with pytest.raises(KeyboardInterrupt):
        download(served.url("big.zip"), path, progress=stop_after(4000))
    served.files["big.zip"] = BODY[::-1]
    download(served.url("big.zip"), path)
    assert path.read_bytes() == BODY[::-1]


def test_a_part_of_another_address_is_not_gone_on_with(served, tmp_path):
    served.files["other.zip"] = BODY[::-1]
    served.headers = {"ETag": '"the same"'}
    path = tmp_path / "big.zip"
    with pytest.raises(KeyboardInterrupt):
        download(served.url("big.zip"), path, progress=stop_after(4000))
    download(served.url("other.zip"), path)
    assert path.read_bytes() == BODY[::-1]


def test_a_part_that_begins_elsewhere_than_asked_is_not_appended(served, tmp_path):
    served.cuts, served.shift = [2500], -100
    download(served.url("big.zip"), tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == BODY


def test_a_part_longer_than_the_file_is_started_anew(served, tmp_path):
    path = tmp_path / "big.zip"
    with pytest.raises(KeyboardInterrupt):
        download(served.url("big.zip"), path, progress=stop_after(4000))
    with open(tmp_path / "big.zip.part", "ab") as handle:
        handle.write(BODY)
    download(served.url("big.zip"), path)
    assert path.read_bytes() == BODY


def test_a_part_that_is_whole_is_checked_and_taken_without_a_request(served, tmp_path):
    path = tmp_path / "big.zip"
    with pytest.raises(KeyboardInterrupt):
        download(served.url("big.zip"), path, progress=stop_after(len(BODY) - 1))
    download(served.url("big.zip"), path, checksum=f"md5:{MD5}")
    assert path.read_bytes() == BODY
    assert len(served.asked) == 1


# === Checksums ===


@pytest.mark.parametrize("checksum", [f"md5:{MD5}", f"sha256:{SHA256.upper()}"])
def test_the_checksum_that_was_asked_for_is_recorded(checksum, served, tmp_path):
    received = download(served.url("big.zip"), tmp_path / "big.zip", checksum=checksum)
    assert received.checked == checksum


def test_a_wrong_checksum_leaves_nothing_behind_and_keeps_what_was_there(served, tmp_path):
    path = tmp_path / "big.zip"
    path.write_bytes(b"older")
    with pytest.raises(DownloadError, match=rf"expected md5:0+, received md5:{MD5} \(10000 bytes"):
        download(served.url("big.zip"), path, checksum=f"md5:{'0' * 32}")
    assert names(tmp_path) == ["big.zip"]
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("headers", "checked"),
    [
        ({"Content-MD5": "{md5_base64}"}, f"md5:{MD5}"),
        ({"ETag": '"{md5}"', "Server": "AmazonS3"}, f"md5:{MD5}"),
        ({"ETag": '"{md5}-3"', "Server": "AmazonS3"}, ""),
        ({"ETag": '"{md5}"', "Server": "another"}, ""),
        (
            {
                "ETag": f'"{"0" * 32}"',
                "Server": "AmazonS3",
                "x-amz-server-side-encryption": "aws:kms",
            },
            "",
        ),
    ],
)
def test_the_word_of_the_server_is_taken_where_it_is_a_checksum(headers, checked, served, tmp_path):
    served.headers = headers
    assert download(served.url("big.zip"), tmp_path / "big.zip").checked == checked


def test_bytes_that_differ_from_the_server_s_own_checksum_are_refused(served, tmp_path):
    served.headers = {"ETag": f'"{"0" * 32}"', "Server": "AmazonS3"}
    with pytest.raises(DownloadError, match="damaged on the way"):
        download(served.url("big.zip"), tmp_path / "big.zip")
    assert names(tmp_path) == []


# === What cannot be had ===


def test_a_busy_server_is_asked_again(served, tmp_path):
    served.statuses = [503, 429]
    download(served.url("big.zip"), tmp_path / "big.zip")
    assert (tmp_path / "big.zip").read_bytes() == BODY


def test_a_file_that_is_not_there_is_told_at_once(served, tmp_path):
    with pytest.raises(DownloadError, match="the server answered 404"):
        download(served.url("absent.zip"), tmp_path / "absent.zip")
    assert len(served.asked) == 1


def test_a_connection_that_never_brings_a_byte_is_given_up(served, tmp_path):
    served.cuts = [0] * 100
    with pytest.raises(DownloadError, match="cut after 0 of 10000 bytes, 5 times in a row"):
        download(served.url("big.zip"), tmp_path / "big.zip")
    assert len(served.asked) == module.ATTEMPTS


def test_a_page_to_log_in_is_not_taken_for_the_file(served, tmp_path):
    served.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DownloadError, match="a web page"):
        download(served.url("big.zip"), tmp_path / "big.zip")
    assert names(tmp_path) == []


def test_a_disk_without_room_is_refused_before_anything_is_written(served, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 9_000))
    with pytest.raises(DownloadError, match=r"needs 10\.0 kB of disk space in .* has 9\.0 kB"):
        download(served.url("big.zip"), tmp_path / "big.zip")
    assert not (tmp_path / "big.zip.part").exists()


def test_an_address_where_nobody_listens_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(DownloadError, match=r"no connection to 127\.0\.0\.1"):
            download(f"http://127.0.0.1:{port}/x", tmp_path / "x")
    assert names(tmp_path) == []


def test_a_network_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_: threading.Event().wait())
    with pytest.raises(DownloadError, match=r"no connection to example\.org \(no answer\)"):
        require_connection("https://example.org/x", seconds=0.05)


@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", "proxy.example:3128"])
def test_behind_a_proxy_it_is_the_proxy_that_must_answer(proxy, monkeypatch):
    def refuse(address, seconds):
        raise OSError(f"{address} is silent")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setenv("no_proxy", "inside.example")
    with pytest.raises(DownloadError, match=r"proxy\.example \(\('proxy\.example', 3128\)"):
        require_connection("https://outside.example/x")
    with pytest.raises(DownloadError, match=r"no connection to inside\.example"):
        require_connection("https://inside.example/x")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x"])
def test_only_addresses_of_the_web_are_fetched(url, tmp_path):
    with pytest.raises(DownloadError, match="http or https"):
        download(url, tmp_path / "x")
