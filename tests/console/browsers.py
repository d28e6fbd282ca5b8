"""Debian's Chromium in front of the console: pages, screenshots, and axe-core on each screen."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Self

from axe_playwright_python.sync_playwright import Axe
from console.consoles import BADGE, PATIENCE_S, PIN, wait_for
from playwright.sync_api import Error, Page, Playwright, sync_playwright

SCREENS = "TURNKEY_SCREENS"
"""Names the folder in which screenshots are kept; none are where it is not set."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Chromium:
    """One browser process; each `open` is a browser of its own to the console, with its own cookies."""

    def __enter__(self) -> Self:
        self._playwright: Playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=os.geteuid() != 0
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def open(self, address: str, width: int = 1024, height: int = 600, **context: Any) -> Desktop:
        """A page at `address`."""
        page = self._browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        desktop = Desktop(page, f"{width}x{height}")
        page.goto(address)
        return desktop


class Desktop:
    """One page, and what an officer does with it.

    Attributes:
        complaints: what the page or the browser's console said was wrong.
    """

    def __init__(self, page: Page, size: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._size = size
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if _is_ours(said.text) else None)

    def close(self) -> None:
        self.page.context.close()

    def on(self, name: str) -> Desktop:
        """Wait until the page with this title is there."""
        wait_for(lambda: self.page.title() == f"{name} - Turnkey" and self._is_loaded())
        return self

    def _is_loaded(self) -> bool:
        return bool(self._ask("document.readyState === 'complete'"))

    def _ask(self, expression: str) -> Any:
        """The expression's value in the page; None where the page went away meanwhile."""
        try:
            return self.page.evaluate(expression)
        except Error:
            return None

    def looks_right(self, name: str) -> Desktop:
        """The screen fits, every target can be touched, axe-core has nothing to say; and a screenshot where wanted."""
        page = self.page
        page.wait_for_load_state("load")
        folder = os.environ.get(SCREENS)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            language = page.evaluate("document.documentElement.lang")
            page.screenshot(path=Path(folder) / f"{self._size}-{language}-{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: wider than the screen"
        small = page.evaluate(
            """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), .choice")]
                .filter(one => one.checkVisibility() && !one.matches(".skip, .choice input"))
                .filter(one => { const box = one.getBoundingClientRect(); return box.width < 44 || box.height < 44; })
                .map(one => one.outerHTML)"""
        )
        assert not small, f"{name}: smaller than 44 px: {small}"
        found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        return self

    def sign_in(self, badge: str = BADGE, pin: str = PIN) -> Desktop:
        self.page.fill("#badge", badge)
        self.page.fill("#pin", pin)
        return self._enter("#pin")

    def number(self, number: str) -> Desktop:
        self.page.fill("#number", number)
        return self._enter("#number")

    def _enter(self, field: str) -> Desktop:
        """Send the form, and wait for what comes: it may have the same title as before.

        Not for the form's own answer: the page may see first that it is no longer the one to be shown, and go home.
        """
        before = self.page.evaluate("performance.timeOrigin")
        self.page.press(field, "Enter")
        wait_for(lambda: self._ask("performance.timeOrigin") not in (None, before) and self._is_loaded())
        return self

    def live(self) -> Desktop:
        """Wait for pictures in the preview."""
        # Not Playwright's own waiting: it evaluates text inside the page, which the page's CSP forbids.
        wait_for(lambda: self._ask("Number(document.querySelector('[data-stage]')?.dataset.frames) > 2"))
        return self

    def press(self, words: str) -> Desktop:
        """Press the button with these words."""
        self.page.get_by_role("button", name=words, exact=True).click()
        return self

    def offers(self) -> list[str]:
        """Everything that can be pressed in the page's middle, in words."""
        return [one.inner_text() for one in self.page.locator("main button:visible:not(.key)").all()]

    def picture_is_black(self) -> bool:
        """Whether nothing of the preview is left on the screen; true as well where the preview itself has gone."""
        return bool(
            self.page.evaluate(
                """() => {
                    const canvas = document.querySelector("[data-picture]");
                    if (!canvas) { return true; }
                    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                    return data.every((value, place) => place % 4 === 3 || value === 0);
                }"""
            )
        )

    def dark_after_ms(self, stop: Any) -> float:
        """How long after `stop` began the preview was black, as this machine's one clock has it."""
        self.page.evaluate(
            """() => {
                const stage = document.querySelector("[data-stage]");
                const note = () => { sessionStorage.dark ??= String(performance.timeOrigin + performance.now()); };
                new MutationObserver(() => { if (stage.dataset.state === "dark") { note(); } })
                    .observe(stage, { attributes: true });
                addEventListener("pagehide", note);
                delete sessionStorage.dark;
            }"""
        )
        began_ms = time.time() * 1e3
        stop()
        dark_ms: list[str] = []

        def noted() -> bool:
            dark_ms[:] = [one for one in [self._ask("sessionStorage.dark")] if one]
            return bool(dark_ms)

        wait_for(noted)
        return float(dark_ms[0]) - began_ms


def _is_ours(said: str) -> bool:
    """Chromium writes a line for each answer that is a refusal; those are what some of the tests are about."""
    return not re.match(r"Failed to load resource|WebSocket connection to", said)
