"""Pictures of a running page, wide and at a phone's width, light and dark, to be looked at.

    python benchmarks/screenshots.py http://localhost:7860 FOLDER PHOTO...

Needs Chromium and the extra `test`; the page is the one that `serve` announced.
"""

import argparse
import shutil
from pathlib import Path

TABS = {"photos": "Photos", "many": "Many pictures", "about": "About"}


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
            for name, width in (("wide", 1280), ("phone", 390)):
                context = browser.new_context(
                    viewport={"width": width, "height": 860}, color_scheme=scheme
                )
                page = context.new_page()
                page.set_default_timeout(120_000)
                page.goto(asked.url)
                for tab, title in TABS.items():
                    page.click(f"role=tab[name='{title}']")
                    if tab != "about":
                        page.set_input_files(f"#{tab} input[type=file]", asked.photos)
                        page.wait_for_selector(".kd-card" if tab == "photos" else ".kd-table")
                    page.wait_for_timeout(500)
                    place = asked.folder / f"{tab}_{name}_{scheme}.png"
                    page.screenshot(path=place, full_page=True)
                    print(place)
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
