"""The page in Chromium: upload, answer, map, several photos, zip, bad and oversized files."""

import io
import os
import re
import shutil
import threading
import time
import zipfile
from urllib.parse import urlsplit

import pytest

from kderm.app.desk import Desk
from kderm.app.sessions import forget_sessions

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra test)")
BROWSER = os.environ.get("KDERM_CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium found: install one, or name it in KDERM_CHROMIUM"
)
WAIT = 60_000  # a loaded machine takes its time
PHONE = 390  # pixels across
PHOTOS, MANY, FOLDER = (f"#{name} input[type=file]" for name in ("photos", "many", "folder"))


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-fake-ui-for-media-stream"]
        arguments += ["--use-fake-device-for-media-stream"]
        opened = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, page):
    """open_page(width, scheme): the page in a window of its own; fails if it asked elsewhere."""
    contexts, asked, faults = [], [], []

    def opened(width=1200, scheme="light", **about):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **about
        )
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(WAIT)
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda fault: faults.append(str(fault)))
        tab.goto(page.url)
        tab.wait_for_selector("#photos")
        return tab

    yield opened
    for context in contexts:
        context.close()
    here = urlsplit(page.url).netloc
    elsewhere = [url for url in asked if url.startswith("http") and urlsplit(url).netloc != here]
    assert elsewhere == []
    assert len(asked) > 5
    assert faults == []


def send(tab, where, *files):
    tab.set_input_files(where, [str(file) for file in files])


def test_a_photo_is_answered_with_bars_flag_map_and_disclaimer(open_page, photo, page, ensemble):
    path = photo("spot.jpg")
    tab = open_page()
    assert "No medical device" in tab.inner_text("header.kd-head")
    send(tab, PHOTOS, path)
    tab.wait_for_selector(".kd-card")
    row = ensemble.predict([path]).iloc[0]
    bars = tab.locator(".kd-bars tbody tr")
    assert bars.count() == len(ensemble.labels)
    expected = f"{100 * row['p_' + row['predicted']]:.0f} %"
    assert expected in tab.inner_text(".kd-best")
    flagged = "⚑" in tab.inner_text(".kd-flag")
    assert flagged == (row["malignant"] == 1)
    assert "networks that say" in tab.inner_text(".kd-facts")
    assert page.left() == []  # the answer is there, the picture is gone


def test_the_slider_blends_the_map_without_the_server(open_page, photo):
    tab = open_page()
    send(tab, PHOTOS, photo("spot.jpg"))
    slider = tab.wait_for_selector(".kd-slide input")
    tab.context.set_offline(True)
    slider.focus()
    tab.keyboard.press("End")
    opacity = "getComputedStyle(document.querySelector('.kd-map')).opacity"
    assert tab.evaluate(opacity) == "1"
    tab.keyboard.press("Home")
    assert tab.evaluate(opacity) == "0"
    tab.context.set_offline(False)
    natural = "[...document.querySelectorAll('.kd-stack img')].map(one => one.naturalWidth)"
    assert min(tab.evaluate(natural)) > 100


def test_several_photos_of_one_lesion_and_a_bad_one(open_page, photo, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    tab = open_page()
    tab.check("text=These photos show one and the same spot")
    send(tab, PHOTOS, photo("a.jpg"), photo("b.jpg", seed=1), tmp_path / "bad.jpg")
    tab.wait_for_selector(".kd-lesion")
    assert "from 2 pictures together" in tab.inner_text(".kd-lesion h3").lower()
    assert tab.locator(".kd-card").count() == 4
    assert "not a picture" in tab.inner_text(".kd-problem")
    assert "Traceback" not in tab.content()
    together = tab.get_by_text("These photos show one and the same spot")
    together.uncheck()
    tab.wait_for_selector(".kd-lesion", state="detached")
    assert tab.locator(".kd-card").count() == 3
    together.check()
    tab.wait_for_selector(".kd-lesion")
    tab.click("#forget")
    tab.wait_for_selector(".kd-empty:visible")
    assert tab.locator(".kd-card").count() == 0


def test_a_box_that_is_ticked_while_photos_are_answered_counts(open_page, photo, monkeypatch):
    begun, ticked, answer = threading.Event(), threading.Event(), Desk.photos

    def slowly(*asked):
        begun.set()
        assert ticked.wait(WAIT / 1000)
        return answer(*asked)

    monkeypatch.setattr(Desk, "photos", slowly)
    tab = open_page()
    send(tab, PHOTOS, photo("a.jpg"), photo("b.jpg", seed=1))
    assert begun.wait(WAIT / 1000)
    tab.check("text=These photos show one and the same spot")
    ticked.set()
    tab.wait_for_selector(".kd-lesion")
    assert tab.locator(".kd-card").count() == 3


def test_files_that_are_too_large_are_told_in_a_sentence(open_page, tmp_path):
    (tmp_path / "big.jpg").write_bytes(os.urandom(1_500_000))
    (tmp_path / "huge.jpg").write_bytes(os.urandom(3_500_000))
    tab = open_page()
    send(tab, PHOTOS, tmp_path / "big.jpg")
    problem = tab.wait_for_selector(".kd-problem")
    assert "at most 1 MB" in problem.inner_text()
    send(tab, PHOTOS, tmp_path / "huge.jpg")  # more than one upload may have
    toast = tab.wait_for_selector(".toast-body")
    assert "size" in toast.inner_text().lower()


def test_a_zip_gives_table_contact_sheet_and_csv(open_page, jpeg, tmp_path, page):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"set/{number}.jpg", jpeg(seed=number))
        archive.writestr("set/bad.jpg", b"x")
    tab = open_page()
    tab.click("role=tab[name='Many pictures']")
    send(tab, MANY, tmp_path / "set.zip")
    tab.wait_for_selector(".kd-table")
    assert tab.locator(".kd-table tbody tr").count() == 4
    assert tab.locator(".kd-sheet figure").count() == 4
    assert tab.locator(".kd-sheet img").count() == 3
    with tab.expect_download() as download:
        tab.click("text=Download the CSV")
    assert download.value.suggested_filename == "predictions.csv"
    lines = io.StringIO(download.value.path().read_text()).read().splitlines()
    assert lines[0].startswith("image_id,path,p_akiec")
    assert len(lines) == 5
    assert page.left() == []
    tab.click("#forget-table")
    tab.wait_for_selector("#table .kd-empty:visible")
    assert tab.locator(".kd-table").count() == 0


def test_a_folder_gives_a_table_too(open_page, photo, tmp_path):
    for number in range(2):
        photo(f"set/{number}.jpg", seed=number)
    tab = open_page()
    tab.click("role=tab[name='Many pictures']")
    send(tab, FOLDER, tmp_path / "set")
    tab.wait_for_selector(".kd-table")
    assert tab.locator(".kd-table tbody tr").count() == 2


def test_the_chosen_operating_point_changes_the_flag(open_page, photo, ensemble):
    path = photo("spot.jpg")
    reached = ensemble.predict([path])["operating_points"][0].split()
    points = tab_order = [point.name for point in ensemble.bundle.operating_points]
    flagged = {name: name in reached for name in points}
    assert len(set(flagged.values())) == 2, "the picture must part the points"
    tab = open_page()
    send(tab, PHOTOS, path)
    tab.wait_for_selector(".kd-card")
    for wanted in (True, False, True):
        name = next(name for name in tab_order if flagged[name] is wanted)
        tab.click("role=tab[name='About']")
        tab.check(f"#point input[value='{name}']")
        tab.click("role=tab[name='Photos']")
        tab.wait_for_selector(f".kd-flag.{'kd-on' if wanted else 'kd-off'}")


def test_the_third_tab_shows_card_and_report_whose_links_stay_inside(open_page):
    tab = open_page()
    tab.click("role=tab[name='About']")
    assert "Not a medical device" in tab.inner_text(".kd-about")
    tab.click("#show-report")
    frame = tab.wait_for_selector("iframe.kd-report").content_frame()
    frame.click("nav a >> nth=2")
    assert frame.url.startswith("about:srcdoc#")
    assert "Out-of-fold report" in frame.inner_text("h1")


def test_an_example_is_answered_by_keyboard_alone(open_page):
    tab = open_page()
    for _ in range(30):
        tab.keyboard.press("Tab")
        label = tab.evaluate("document.activeElement.getAttribute('aria-label')") or ""
        if label.startswith("Try "):
            break
    assert label.startswith("Try ")
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".kd-card")
    tab.wait_for_function("document.activeElement.classList.contains('kd-answers')")
    region = tab.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert region == "1px"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.type") == "range"


def test_the_camera_gives_an_answer(open_page, page):
    tab = open_page()
    tab.click("text=Use a camera")
    tab.click("#camera button:has-text('Webcam')")
    tab.wait_for_function("document.querySelector('#camera video')?.videoWidth > 0")
    tab.wait_for_timeout(1000)  # the picture of the first moment is black
    tab.click("#camera button[aria-label='capture photo']")
    tab.wait_for_selector(".kd-card")
    assert page.left() == []


def test_what_a_closed_page_showed_is_forgotten(open_page, photo, page):
    def kept():
        sessions = list(page.blocks.state_holder.session_data.values())
        return "of_a_page_that_closes" in repr([session.config_values for session in sessions])

    tab = open_page()
    send(tab, PHOTOS, photo("of_a_page_that_closes.jpg"))
    tab.wait_for_selector(".kd-card")
    forget_sessions(page.blocks)
    assert kept()
    tab.close()
    for _ in range(100):
        forget_sessions(page.blocks)
        if not kept():
            break
        time.sleep(0.1)
    assert not kept()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways(open_page, photo, tmp_path, scheme):
    tab = open_page(PHONE, scheme, is_mobile=True, has_touch=True)
    long = photo("a_name_that_is_far_too_long_for_any_line_of_a_phone_" * 2 + ".jpg")
    (tmp_path / "bad.jpg").write_bytes(b"x")
    send(tab, PHOTOS, long)
    tab.wait_for_selector(".kd-card")
    tab.click("role=tab[name='Many pictures']")
    send(tab, MANY, long, photo("short.jpg"), tmp_path / "bad.jpg")
    tab.wait_for_selector(".kd-table")
    tab.click("role=tab[name='About']")
    tab.click("#show-report")
    tab.wait_for_selector("iframe.kd-report")
    for name in ("Photos", "Many pictures", "About"):
        tab.click(f"role=tab[name='{name}']")
        assert tab.evaluate("document.documentElement.scrollWidth") == PHONE, name
    dark = tab.evaluate("document.body.classList.contains('dark')")
    assert dark == (scheme == "dark")


def test_every_cell_of_the_tables_is_seen_on_a_phone(open_page, photo):
    tab = open_page(PHONE, is_mobile=True, has_touch=True)
    tab.click("role=tab[name='Many pictures']")
    send(tab, MANY, photo("a.jpg"), photo("b.jpg", seed=1))
    tab.wait_for_selector(".kd-table")
    ends = "place => [...document.querySelectorAll(place)].map(one => one.getBoundingClientRect())"
    for place in (".kd-table td", ".kd-sheet img"):
        assert all(box["x"] + box["width"] <= PHONE for box in tab.evaluate(ends, place)), place
    assert min(box["width"] for box in tab.evaluate(ends, ".kd-sheet img")) > 140
    row = tab.inner_text(".kd-table tbody tr").splitlines()
    assert row[0] == "a.jpg"
    said = "getComputedStyle(document.querySelectorAll('.kd-table td')[5], '::before').content"
    assert "Networks agree" in tab.evaluate(said)
    assert tab.get_by_role("columnheader").count() >= 6  # a table still, for who cannot see it
    wide = "(place => (place.focus(), document.activeElement == place))"
    assert not tab.evaluate(f"{wide}(document.querySelector('.kd-wide'))")  # there is no scrolling
    tab.set_viewport_size({"width": 1100, "height": 800})
    assert tab.evaluate(f"{wide}(document.querySelector('.kd-wide'))")
    tab.set_viewport_size({"width": PHONE, "height": 800})
    tab.click("role=tab[name='About']")
    made = tab.locator(".kd-about table").last
    assert made.evaluate("table => table.scrollWidth - table.clientWidth") == 0


def test_boxes_stand_below_each_other_on_a_phone(open_page):
    tab = open_page(PHONE, is_mobile=True, has_touch=True)
    drop = tab.locator("#photos").bounding_box()
    one = tab.get_by_text("These photos show one and the same spot").bounding_box()
    assert drop["width"] > 340
    assert one["y"] >= drop["y"] + drop["height"]
    tab.click("role=tab[name='Many pictures']")
    zips, folder = (tab.locator(name).bounding_box() for name in ("#many", "#folder"))
    assert folder["y"] >= zips["y"] + zips["height"]


def test_everything_begins_and_ends_on_one_line(open_page, photo):
    tab = open_page()
    send(tab, PHOTOS, photo("spot.jpg"))
    tab.wait_for_selector(".kd-card")
    places = [".kd-head .kd-not", "[role=tablist]", ".kd-try", ".kd-card"]
    boxes = [tab.locator(place).first.bounding_box() for place in places]
    assert len({round(box["x"]) for box in boxes}) == 1
    assert len({round(box["x"] + box["width"]) for box in boxes}) == 1
    assert tab.locator("#photos").bounding_box()["x"] == pytest.approx(boxes[0]["x"], abs=1)
    assert not tab.locator("footer .divider").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(open_page, photo, scheme):
    tab = open_page(scheme=scheme)
    send(tab, PHOTOS, photo("spot.jpg"))
    tab.wait_for_selector(".kd-card")
    tab.wait_for_timeout(500)  # colours fade in
    for place in (
        "[role=tab][aria-selected=true]",
        ".kd-flag b",
        ".kd-best",
        ".kd-bars th",
        ".kd-facts li",
        ".kd-head .kd-not",
    ):
        ink, paper = tab.evaluate(_COLOURS, place)
        assert _contrast(_rgb(ink), _rgb(paper)) >= 4.5, (place, ink, paper)


# The colour of an element's text, and of the nearest background behind it that is not clear.
_COLOURS = """place => {
  let element = document.querySelector(place);
  const ink = getComputedStyle(element).color;
  const clear = colour => colour === 'rgba(0, 0, 0, 0)';
  while (element.parentElement && clear(getComputedStyle(element).backgroundColor))
    element = element.parentElement;
  return [ink, getComputedStyle(element).backgroundColor];
}"""


def _rgb(colour):
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def _contrast(one, other):
    """WCAG 2.2, relative luminance."""

    def luminance(rgb):
        linear = [
            part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
            for part in (value / 255 for value in rgb)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
