"""The dashboard in a real browser: a run with a fault, and a job with 10,000 homes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from builders import job, observation, pod, slot, wired
from elf_operator.dashboard.gallery import Gallery
from elf_operator.dashboard.server import served
from elf_worker.contract import Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
api = pytest.importorskip(
    "playwright.async_api", reason="needs a browser driver: pip install -e '.[browser]'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SAMPLE = pathlib.Path(__file__).parents[2] / "manifests" / "samples" / "digits.yaml"
DEADLINE_MS = 90_000
MDC = '[data-role="mdc"][data-mdc="1"]'
# Everything that the page showed, in order: a state that is there for a second must not be missed.
RECORD = """() => {
    window.seen = [];
    const note = () => {
        const mdc = document.querySelector('[data-role="mdc"][data-mdc="1"]');
        const at = [...document.querySelectorAll('.home')].filter((h) => h.dataset.at === '1').length;
        const is = mdc && `${mdc.dataset.state} ${mdc.dataset.incarnation} ${at}`;
        if (is && window.seen[window.seen.length - 1] !== is) window.seen.push(is);
    };
    const all = {subtree: true, childList: true, attributes: true};
    new MutationObserver(note).observe(document.getElementById('tree'), all);
}"""


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs a Chromium on PATH: apt-get install chromium")
    async with api.async_playwright() as driver:
        # As root there is no sandbox to be had; the page is our own.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = await driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        await started.close()


async def opened(browser: Any, url: str, **how: Any) -> tuple[Any, list[str]]:
    """A page, and what went wrong on it so far."""
    page, problems = await browser.new_page(**how), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.set_default_timeout(DEADLINE_MS)
    await page.goto(url)
    return page, problems


@contextlib.contextmanager
def run_with_a_fault(directory: pathlib.Path) -> Iterator[str]:
    command = [sys.executable, "-m", "elf_cli", "run", str(SAMPLE), "--plain", "--directory", str(directory)]
    command += ["--kill", "mdc/1@round:15", "--dashboard", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"dashboard: (\S+)", process.stdout.readline())
            assert found, "the run says where its dashboard is"
            yield found[1]
        finally:
            process.terminate()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_dead_mdc_and_its_successor_are_seen(
    browser: Any, tmp_path: pathlib.Path, scheme: str
) -> None:
    with run_with_a_fault(tmp_path / "run") as url:
        page, problems = await opened(browser, url, color_scheme=scheme)
        await page.wait_for_selector(MDC)
        await page.evaluate(RECORD)
        await page.wait_for_selector(f'{MDC}[data-state="dead"]')
        await page.wait_for_selector(f'{MDC}[data-state="serving"][data-incarnation="1"][data-homes="4"]')
        seen = await page.evaluate("() => window.seen")
        curves = await page.eval_on_selector_all(
            ".curve", "all => all.map((c) => c.getAttribute('d').length)"
        )
        marks = await page.locator('[data-chart="loss"] .fault').count()
        faults = await page.locator("#fault-rows").inner_text()
        ground = await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        slider = page.locator('[data-chart="loss"] [role="slider"]')
        await slider.focus()
        await page.keyboard.press("Home")
        spoken = [await slider.get_attribute(f"aria-{what}") for what in ("valuenow", "valuetext", "label")]
    assert spoken[0] == "0" and spoken[1].startswith("round ") and "1 fault" in spoken[2], spoken
    order = [seen.index(step) for step in ("dead 0 4", "dead 1 0", "serving 1 4")]
    assert order == sorted(order), seen
    assert len(curves) == 3 and min(curves) > 20 and marks == 1
    assert "digits-mdc-1-0" in faults and "ContainerKilled" in faults
    assert ground == {"light": "rgb(244, 247, 244)", "dark": "rgb(13, 21, 18)"}[scheme]
    # The run may be over by now, and its server with it: that is the one thing that may go wrong.
    assert [p for p in problems if "ERR_CONNECTION_REFUSED" not in p] == []


async def test_ten_thousand_homes(browser: Any) -> None:
    parsed = job(homes={"replicas": 10_000}, miniDataCenters={"replicas": 200})
    split = {i: slot(Role.MDC, i, homes=range(50 * i, 50 * i + 50)) for i in range(200)}
    now = iter(range(1_700_000_000, 1_800_000_000))
    gallery = Gallery(lambda: next(now))
    seen = observation(parsed, pods=tuple(pod(Role.MDC, i) for i in range(200)), wiring=wired(parsed, split))
    gallery.look(seen)
    async with served(gallery, "127.0.0.1", 0) as board:
        page, problems = await opened(browser, board.url)
        await page.wait_for_selector('[data-mdc="199"][data-homes="50"]')
        split[7], split[8] = slot(Role.MDC, 7), slot(Role.MDC, 8, homes=range(350, 450))
        gallery.look(observation(parsed, pods=seen.pods[:7] + seen.pods[8:], wiring=wired(parsed, split)))
        await page.wait_for_selector('[data-mdc="8"][data-homes="100"]')
        assert await page.locator(".home").count() == 0, "no dot for each of so many"
        assert await page.locator("#tree *").count() < 3000
        await page.evaluate("() => { location.hash = ''; }")
        await page.wait_for_selector("#job-rows a")
        gallery.keep(None, [])
        await page.wait_for_function(
            "() => document.querySelector('#notice').textContent.includes('no jobs')"
        )
    await page.wait_for_selector('#connection[data-state="lost"]')
    assert [p for p in problems if "ERR_CONNECTION_REFUSED" not in p] == []
