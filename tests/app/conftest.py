"""A tiny finished run, its ensemble, pictures of every kind, and the page served in process."""

import io
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kderm.run_dir import RunDir

REPOSITORY = Path(__file__).resolve().parents[2]
ORIENTATION, DESCRIPTION = 0x0112, 0x010E


@pytest.fixture(scope="session")
def run(tmp_path_factory, tiny_overrides):
    """A finished run on the tiny demo; read only."""
    place = tmp_path_factory.mktemp("page")
    environment = {name: value for name, value in os.environ.items() if name != "KDERM_RUNS"}
    words = [sys.executable, REPOSITORY / "run.py", "cv", "--run", "tiny", *tiny_overrides]
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return RunDir(place / "runs" / "tiny")


@pytest.fixture(scope="session")
def ensemble(run):
    """The run's ensemble, in memory."""
    from kderm.api.loaded import load_ensemble

    return load_ensemble(run.path)


@pytest.fixture
def workroom():
    """An open workroom."""
    from kderm.app.workroom import Workroom

    with Workroom() as opened:
        yield opened


def _picture(seed=0, shape=(60, 80)):
    """uint8 (h, w, 3): something like a lesion on skin, with fine detail."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.hypot(y - shape[0] / 2, x - shape[1] / 2) < shape[0] / 3
    skin = np.where(inside[..., None], (110, 70, 60), (225, 175, 160))
    return np.clip(skin + rng.normal(0, 12, (*shape, 3)), 0, 255).astype(np.uint8)


def _jpeg(seed=0, shape=(60, 80), orientation=None):
    image, file = Image.fromarray(_picture(seed, shape)), io.BytesIO()
    exif = image.getexif()
    if orientation:
        exif[ORIENTATION], exif[DESCRIPTION] = orientation, "Jane Doe"
    image.save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


@pytest.fixture(scope="session")
def jpeg():
    """jpeg(seed, shape, orientation): a JPEG's bytes; turned ones have EXIF that name a person."""
    return _jpeg


@pytest.fixture
def photo(tmp_path):
    """photo(name, **about): write a JPEG file and give its path."""

    def write(name, **about):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_jpeg(**about))
        return path

    return write


class Served:
    """A page on a port of this machine, and the folder that uploads pass through."""

    def __init__(self, url, folder, app):
        self.url, self.folder, self.app = url, folder, app

    @property
    def blocks(self):
        """Gradio's own object of the page."""
        (mounted,) = [route.app for route in self.app.app.routes if hasattr(route, "app")]
        return mounted.get_blocks()

    def left(self):
        """What lies in the folder and says anything: files with content."""
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return [path for path in found if path.stat().st_size]


@pytest.fixture(scope="session")
def serve(ensemble):
    """serve(**about): the page of the tiny ensemble on a free port, as `build_app` takes it."""
    pytest.importorskip("gradio", reason="needs the extra app")
    import uvicorn

    from kderm.app.server import build_app
    from kderm.app.workroom import Workroom

    running = []

    def start(**about):
        workroom = Workroom()
        workroom.__enter__()
        app = build_app(ensemble, workroom, **about)
        opened = socket.socket()
        opened.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        running.append((server, thread, workroom))
        return Served(f"http://127.0.0.1:{opened.getsockname()[1]}", workroom.path, app)

    yield start
    for server, thread, workroom in running:
        server.should_exit = True
        thread.join(timeout=10)
        workroom.__exit__(None, None, None)


@pytest.fixture(scope="session")
def page(serve):
    """The page as it is served by default, with small bounds."""
    from kderm.app.limits import Limits

    return serve(limits=Limits(file_mb=1, megapixels=1, photos=5, images=20, upload_mb=3))
