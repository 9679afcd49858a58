"""Takes the picture of the page that README and docs show: the embedded model, an example, a relation chosen.

python docs/images/take_screenshot.py [space.png] [--dark] [--width 1280]

It needs playwright (the `test` extra) and Chromium, whose program is named by DOCRE_CHROMIUM where it is not found.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from modeling_docre.spaces_app.app import THEME, build_demo

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def main() -> None:
    """Start the page, take the picture and write it as a small PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", type=Path, default=Path(__file__).with_name("space.png"))
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels")
    options = parser.parse_args()
    program = os.environ.get("DOCRE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    demo = build_demo()
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, theme=THEME, footer_links=[])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": options.width, "height": 1000})
        page.goto(f"{url}?__theme={'dark' if options.dark else 'light'}")
        page.wait_for_selector(".docre-answer")
        page.wait_for_timeout(1000)
        row = page.locator("tr[data-relation]", has_text="notable work").first
        row.click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        picture = page.screenshot(full_page=True)
        browser.close()
    demo.close(verbose=False)
    # 128 colours are enough for flat areas and text, at a third of the size.
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(128).save(options.target, optimize=True)


if __name__ == "__main__":
    main()
