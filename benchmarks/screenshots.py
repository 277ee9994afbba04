"""Pictures of a running page, wide and at a phone's width, light and dark, to be looked at.

    python benchmarks/screenshots.py http://localhost:7860 FOLDER PHOTO...

The first three photos are sent together as one lesion, all of them as a table. Says of each picture
how wide the page is where that is more than its window. Needs Chromium and the extra `test`; the
page is the one that `serve` announced.
"""

import argparse
import shutil
from pathlib import Path

TABS = {"photos": "Photos", "many": "Many pictures", "about": "About"}
WIDTHS = {"wide": 1280, "phone": 390}


def fill(page, tab: str, photos: list[str]) -> None:
    """Ask a tab for all that it can show."""
    if tab == "photos":
        page.check("text=These photos show one and the same spot")
        page.set_input_files("#photos input[type=file]", photos[:3])
        page.wait_for_selector(".kd-card")
    elif tab == "many":
        page.set_input_files("#many input[type=file]", photos)
        page.wait_for_selector(".kd-table")
    elif page.locator("#show-report").count():
        page.click("#show-report")
        shown = page.wait_for_selector("#report :is(iframe, figure)")
        if frame := shown.content_frame():
            frame.wait_for_selector("h1")


def main() -> None:
    """One picture a tab, width and scheme."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("photos", nargs="+")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme in ("light", "dark"):
            for name, width in WIDTHS.items():
                phone = {"is_mobile": True, "has_touch": True} if name == "phone" else {}
                context = browser.new_context(
                    viewport={"width": width, "height": 860}, color_scheme=scheme, **phone
                )
                page = context.new_page()
                page.set_default_timeout(120_000)
                page.goto(asked.url)
                for tab, title in TABS.items():
                    page.click(f"role=tab[name='{title}']")
                    fill(page, tab, asked.photos)
                    page.wait_for_timeout(500)
                    place = asked.folder / f"{tab}_{name}_{scheme}.png"
                    page.screenshot(path=place, full_page=True)
                    needed = page.evaluate("document.documentElement.scrollWidth")
                    print(place, f"needs {needed} px of {width}" if needed > width else "")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
