"""The image store: whole or absent, resumed, rebuilt on change, safe for two builders."""

import concurrent.futures
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kderm.data import store_build
from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.data.store import ImageStore, build_store, store_digest
from kderm.errors import UserError

SPEC = ImageSpec(6, 8)
N = 11


@pytest.fixture
def files(tmp_path):
    """Ids and paths of N small pictures."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(N):
        paths.append(tmp_path / "raw" / f"im{number}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(paths[-1])
    return [path.stem for path in paths], paths


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(store_build, "_CHUNK_IMAGES", 2)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files decoded so far."""
    names = []

    def counting(path, spec):
        names.append(Path(path).name)
        return read_image(path, spec)

    monkeypatch.setattr(store_build, "read_image", counting)
    return names


@pytest.mark.usefixtures("small_chunks")
def test_every_row_holds_its_own_image(tmp_path, files):
    ids, paths = files
    seen = []
    store, unreadable = build_store(
        tmp_path / "s", ids, paths, SPEC, workers=3, progress=lambda *at: seen.append(at)
    )
    assert unreadable == {}
    assert store.images.shape == (N, 6, 8, 3)
    assert store.images.dtype == np.uint8
    assert store.image_ids == ids
    assert store.spec == SPEC
    for image_id, path in zip(ids, paths, strict=True):
        row = store.rows([image_id])[0]
        np.testing.assert_array_equal(store.images[row], read_image(path, SPEC))
    assert seen[0] == (0, N)
    assert seen[-1] == (N, N)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_rows_follow_the_order_asked_for(tmp_path, files):
    store, _ = build_store(tmp_path / "s", *files, SPEC)
    rows = store.rows(np.array(["im7", "im0", "im7"]))
    assert rows.dtype == np.int64
    assert rows.tolist() == [7, 0, 7]


def test_the_pixels_of_a_store_cannot_be_written_to(tmp_path, files):
    store, _ = build_store(tmp_path / "s", *files, SPEC)
    with pytest.raises(ValueError, match="read-only"):
        store.images[0] = 0


def test_a_whole_store_is_opened_without_decoding(tmp_path, files, decoded):
    build_store(tmp_path / "s", *files, SPEC)
    assert len(decoded) == N
    store, unreadable = build_store(tmp_path / "s", *files, SPEC)
    assert len(decoded) == N
    assert unreadable == {}
    assert ImageStore.open(tmp_path / "s").digest == store.digest == store_digest(*files, SPEC)


def test_a_changed_file_rebuilds_the_store_and_leaves_old_readers_their_pixels(tmp_path, files):
    ids, paths = files
    old, _ = build_store(tmp_path / "s", ids, paths, SPEC)
    before = np.array(old.images)
    Image.fromarray(np.full((6, 8, 3), 77, np.uint8)).save(paths[3])
    new, _ = build_store(tmp_path / "s", ids, paths, SPEC)
    assert new.digest != old.digest
    assert np.unique(new.images[3]).tolist() == [77]
    np.testing.assert_array_equal(old.images, before)


def test_the_digest_follows_content_and_spec_but_not_the_folder(tmp_path, files):
    ids, paths = files
    digest = store_digest(ids, paths, SPEC)
    moved = [path.parent.parent / "moved" / path.name for path in paths]
    paths[0].parent.rename(moved[0].parent)
    assert store_digest(ids, moved, SPEC) == digest
    assert store_digest(ids, moved, ImageSpec(6, 9)) != digest
    assert store_digest(ids[::-1], moved[::-1], SPEC) != digest
    os.utime(moved[0], (1, 1))
    assert store_digest(ids, moved, SPEC) != digest


def test_unreadable_images_are_named_with_the_reason_and_do_not_stop_the_rest(tmp_path, files):
    ids, paths = files
    paths[2].write_bytes(b"")
    paths[5].unlink()
    store, unreadable = build_store(tmp_path / "s", ids, paths, SPEC)
    assert unreadable == {"im2": "the file is empty", "im5": "the file does not exist"}
    assert build_store(tmp_path / "s", ids, paths, SPEC)[1] == unreadable
    np.testing.assert_array_equal(store.images[6], read_image(paths[6], SPEC))
    with pytest.raises(UserError, match=r"1 image.*im5 \(the file does not exist\)"):
        store.rows(["im1", "im5"])


def test_an_image_that_can_be_read_again_joins_the_whole_store(tmp_path, files, monkeypatch):
    ids, paths = files
    with monkeypatch.context() as network_drive_is_away:

        def failing(path, spec):
            if Path(path).name == "im4.png":
                raise UnreadableImage("Input/output error")
            return read_image(path, spec)

        network_drive_is_away.setattr(store_build, "read_image", failing)
        _, unreadable = build_store(tmp_path / "s", ids, paths, SPEC)
        assert unreadable == {"im4": "Input/output error"}
    store, unreadable = build_store(tmp_path / "s", ids, paths, SPEC)
    assert unreadable == {}
    np.testing.assert_array_equal(store.images[4], read_image(paths[4], SPEC))


def test_ids_that_are_not_in_the_store_are_named(tmp_path, files):
    store, _ = build_store(tmp_path / "s", *files, SPEC)
    with pytest.raises(UserError, match="2 unknown: im99, other"):
        store.rows(["im1", "im99", "other"])


KILLED = """
import json, os, signal, sys
from kderm.data import store_build
from kderm.data.images import ImageSpec
from kderm.data.store import build_store
store_build._CHUNK_IMAGES = 2
def progress(done, total):
    if done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
ids, paths, directory = json.loads(sys.argv[1])
build_store(directory, ids, paths, ImageSpec(6, 8), workers=1, progress=progress)
"""


def run(script, files, directory):
    argument = json.dumps([files[0], [str(path) for path in files[1]], str(directory)])
    return subprocess.Popen([sys.executable, "-c", script, argument])


@pytest.mark.usefixtures("small_chunks")
def test_a_killed_build_goes_on_after_its_last_chunk(tmp_path, files, decoded):
    assert run(KILLED, files, tmp_path / "s").wait() == -signal.SIGKILL
    with pytest.raises(UserError, match="whole image store"):
        ImageStore.open(tmp_path / "s")
    with open(tmp_path / "s" / "progress.jsonl", "a") as log:
        log.write('{"start": 8, "unread')  # a line the kill cut short
    store, unreadable = build_store(tmp_path / "s", *files, SPEC)
    assert sorted(decoded) == sorted(f"im{number}.png" for number in range(4, N))
    assert unreadable == {}
    for row, path in enumerate(files[1]):
        np.testing.assert_array_equal(store.images[row], read_image(path, SPEC))


def test_a_kill_after_the_last_file_leaves_a_store_that_is_cleared_and_not_built_again(
    tmp_path, files, decoded
):
    build_store(tmp_path / "s", *files, SPEC)
    (tmp_path / "s" / "progress.jsonl").write_text("{}\n")
    build_store(tmp_path / "s", *files, SPEC)
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert names == {".lock", "pixels.u8", "index.json", "meta.json"}
    assert len(decoded) == N


@pytest.mark.usefixtures("small_chunks")
def test_a_killed_build_of_other_files_is_not_continued(tmp_path, files, decoded):
    assert run(KILLED, files, tmp_path / "s").wait() == -signal.SIGKILL
    os.utime(files[1][0], (1, 1))
    build_store(tmp_path / "s", *files, SPEC)
    assert len(decoded) == N


@pytest.mark.usefixtures("small_chunks")
def test_ctrl_c_leaves_a_build_that_can_go_on(tmp_path, files, decoded):
    def interrupt(done, total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(tmp_path / "s", *files, SPEC, workers=1, progress=interrupt)
    before = len(decoded)
    build_store(tmp_path / "s", *files, SPEC)
    assert len(decoded) - before == N - 4


def test_two_processes_building_one_store_both_get_it_whole(tmp_path, files):
    script = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass")
    processes = [run(script, files, tmp_path / "s") for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    store = ImageStore.open(tmp_path / "s")
    for row, path in enumerate(files[1]):
        np.testing.assert_array_equal(store.images[row], read_image(path, SPEC))


def test_a_second_builder_waits_for_the_first(tmp_path, files):
    (tmp_path / "s").mkdir()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with open(tmp_path / "s" / ".lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            second = pool.submit(build_store, tmp_path / "s", *files, SPEC)
            time.sleep(0.4)
            assert not (tmp_path / "s" / "pixels.u8").exists()
            assert not second.done()
        assert len(second.result()[0]) == N


def test_a_lock_file_left_by_a_killed_process_does_not_block(tmp_path, files):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".lock").touch()
    assert len(build_store(tmp_path / "s", *files, SPEC)[0]) == N


def test_a_full_disk_gives_a_clear_message_and_the_build_goes_on_later(
    tmp_path, files, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(UserError, match="No space left on device"):
            build_store(tmp_path / "s", *files, SPEC)
    assert len(build_store(tmp_path / "s", *files, SPEC)[0]) == N


def test_too_little_room_is_told_before_any_image_is_decoded(tmp_path, files, monkeypatch, decoded):
    usage = namedtuple("usage", "total used free")(10_000, 9_900, 100)
    monkeypatch.setattr(store_build.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"more in .* free\. Free some room"):
        build_store(tmp_path / "s", *files, SPEC)
    assert decoded == []


def test_a_folder_that_cannot_be_made_gives_a_clear_message(tmp_path, files):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not be written"):
        build_store(tmp_path / "file" / "s", *files, SPEC)


def test_a_whole_store_on_a_disk_without_write_permission_is_opened(tmp_path, files, monkeypatch):
    build_store(tmp_path / "s", *files, SPEC)

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert len(build_store(tmp_path / "s", *files, SPEC)[0]) == N


@pytest.mark.parametrize("damage", ["meta.json", "index.json", "pixels.u8"])
def test_a_damaged_store_is_refused_by_open_and_mended_by_build(tmp_path, files, damage):
    build_store(tmp_path / "s", *files, SPEC)
    data = (tmp_path / "s" / damage).read_bytes()
    (tmp_path / "s" / damage).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot be used"):
        ImageStore.open(tmp_path / "s")
    store, _ = build_store(tmp_path / "s", *files, SPEC)
    np.testing.assert_array_equal(store.images[N - 1], read_image(files[1][N - 1], SPEC))


def test_repeated_ids_and_empty_lists_are_refused(tmp_path, files):
    ids, paths = files
    with pytest.raises(UserError, match="1 repeated: im0"):
        build_store(tmp_path / "s", [*ids[:-1], "im0"], paths, SPEC)
    with pytest.raises(UserError, match="0 ids and 0 paths"):
        build_store(tmp_path / "s", [], [], SPEC)
