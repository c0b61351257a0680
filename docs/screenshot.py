"""Makes docs/images/dashboard-light.png and -dark.png: a real run, photographed while a dead MDC is replaced.

pip install -e '.[cli,browser]' and a Chromium on PATH (apt-get install chromium), then
python docs/screenshot.py
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
MDC = '[data-role="mdc"][data-mdc="1"]'
MOVED = f"""() => document.querySelector('{MDC}').dataset.state !== 'serving'
    && document.querySelectorAll('.home').length > 0 && !document.querySelector('.home[data-at="1"]')"""
DEADLINE_MS = 120_000


def main() -> None:
    """Run, watch, photograph."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on PATH: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as driver:
        # As root there is no sandbox to be had; the page is our own.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        with _run(directory) as url:
            pages = {scheme: _open(browser, url, scheme) for scheme in ("light", "dark")}
            for scheme, page in pages.items():
                page.wait_for_function(MOVED, timeout=DEADLINE_MS)
                page.wait_for_function("() => document.getAnimations().length === 0", timeout=DEADLINE_MS)
                page.screenshot(path=IMAGES / f"dashboard-{scheme}.png")
        browser.close()


def _open(browser: Browser, url: str, scheme: str) -> Page:
    page = browser.new_page(
        viewport={"width": 1200, "height": 880},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page.goto(url)
    page.wait_for_selector(MDC, timeout=DEADLINE_MS)
    return page


@contextlib.contextmanager
def _run(directory: str) -> Iterator[str]:
    """The URL of a run in which MDC 1 dies after 40 rounds."""
    job = pathlib.Path(directory, "job.yaml")
    sample = (ROOT / "manifests/samples/digits.yaml").read_text()
    job.write_text(sample.replace('"0.97"', '"0.999"'))  # or it would be over before it is photographed
    command = [sys.executable, "-m", "elf_cli", "run", str(job), "--plain"]
    command += ["--kill", "mdc/1@round:40", "--directory", directory, "--dashboard", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"dashboard: (http\S+)", line):
                yield found[1]
                return
        sys.exit("the run has ended before it had a dashboard")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
