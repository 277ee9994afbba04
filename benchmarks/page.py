"""How long the page takes for one photo: the answer, its map and doubts, and the HTML, by engine.

`python benchmarks/page.py RUN PHOTO... [--engines keras,onnx,openvino]` loads the run as `serve`
does, warms up, and sends the photos one by one to the desk, which is all that the page adds to the
members. With Chromium it then does the same in the page itself, from the moment the browser has the
file to the moment the card is painted. On a machine with other work the clock says little; the
processor seconds do, and two idle cores need no more of the clock than these.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import shutil
import socket
import threading
import time
from pathlib import Path

from kderm.api.loaded import load_ensemble
from kderm.app.desk import Desk
from kderm.app.limits import Limits
from kderm.app.server import build_app, warm_up
from kderm.app.workroom import Workroom

# The promise that a photo's card is in the page. The page itself looks, at each of its changes:
# Playwright's own waiting looks twice a second, which is coarser than what is measured here.
_WATCH = """name => {
  window.answered = new Promise(answer => {
    const there = () => [...document.querySelectorAll(".kd-card h3")]
      .some(heading => heading.textContent.includes(name));
    const watch = new MutationObserver(() => {
      if (there()) { watch.disconnect(); requestAnimationFrame(() => setTimeout(answer)); }
    });
    watch.observe(document.body, {childList: true, subtree: true, characterData: true});
  });
}"""


def of_desk(desk: Desk, workroom: Workroom, photos: list[Path]) -> tuple[list[float], list[float]]:
    """Seconds for each photo, from the uploaded file to the HTML: by the clock, of processors."""
    seconds, work = [], []
    for number, photo in enumerate(photos):
        upload = workroom.path / str(number) / photo.name
        upload.parent.mkdir()
        shutil.copyfile(photo, upload)
        start, worked = time.perf_counter(), time.process_time()
        desk.photos_html(desk.photos([str(upload)], {}), None)
        seconds.append(time.perf_counter() - start)
        work.append(time.process_time() - worked)
    return seconds, work


def of_browser(app, photos: list[Path], chromium: str) -> list[float]:
    """Seconds for each photo, from the file's choice to the card in the page."""
    import uvicorn
    from playwright.sync_api import sync_playwright

    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{opened.getsockname()[1]}")
        for photo in photos:
            page.wait_for_selector("#photos input[type=file]", state="attached")
            page.evaluate(_WATCH, photo.name)
            start = time.perf_counter()
            page.set_input_files("#photos input[type=file]", str(photo))
            page.evaluate("window.answered")
            seconds.append(time.perf_counter() - start)
        browser.close()
    server.should_exit = True
    thread.join(timeout=10)
    return seconds


def told(words: str, seconds: list[float]) -> None:
    """Print the first, the median and the slowest."""
    ordered = sorted(seconds)
    print(
        f"  {words}: first {seconds[0]:.2f} s, median {ordered[len(ordered) // 2]:.2f} s, "
        f"slowest {ordered[-1]:.2f} s of {len(seconds)}"
    )


def main() -> None:
    """Measure every engine asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--engines", default="keras,onnx,openvino")
    parser.add_argument("--views")
    asked = parser.parse_args()
    chromium = shutil.which("chromium")
    for engine in asked.engines.split(","):
        with Workroom() as workroom:
            start = time.perf_counter()
            ensemble = load_ensemble(asked.run, engine=engine, views=asked.views)
            warm_up(ensemble)
            ready = time.perf_counter() - start
            load = os.getloadavg()[0]
            print(f"{engine}, views {ensemble.settings.views}: ready after {ready:.1f} s")
            print(f"  {os.cpu_count()} cores, others' load {load:.1f} before the photos")
            desk = Desk(ensemble, workroom, Limits())
            seconds, work = of_desk(desk, workroom, asked.photos)
            told("desk", seconds)
            told("of it work of the processors, all threads together", work)
            if chromium:
                told("browser", of_browser(build_app(ensemble, workroom), asked.photos, chromium))


if __name__ == "__main__":
    main()
