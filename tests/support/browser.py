"""A real Chromium, driven by Playwright: what a person does, and what axe finds on a page."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize, sync_playwright

Scheme = Literal["light", "dark"]

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, PHONE = 1440, 390
PATIENCE_MS = 60_000


class Browser:
    """A Chromium until the ``with`` block ends. Nothing on its pages may go wrong unseen.

    Attributes:
        complaints: What its pages have logged as errors, and requests that left their server.
    """

    def __enter__(self) -> Self:
        command = next(filter(None, map(shutil.which, COMMANDS)), None)
        assert command is not None, "install chromium: `make test` does where it may"
        self._playwright = sync_playwright().start()
        options = ["--no-sandbox", "--disable-gpu"]
        self._chromium = self._playwright.chromium.launch(executable_path=command, args=options)
        self.complaints: list[str] = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._chromium.close()
        self._playwright.stop()

    def open(
        self, url: str, *, width: int = WIDE, scheme: Scheme = "light", runs_scripts: bool = True
    ) -> Page:
        """Return a page of a browser that has been nowhere yet; ``url``: what its paths mean."""
        size: ViewportSize = {"width": width, "height": 900}
        context = self._chromium.new_context(
            base_url=url, viewport=size, color_scheme=scheme, java_script_enabled=runs_scripts
        )
        context.set_default_timeout(PATIENCE_MS)
        host = urlsplit(url).netloc
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda said: self._note(page, said.type, said.text))
        page.on("request", lambda request: self._see(urlsplit(request.url).netloc, host))
        return page

    def _note(self, page: Page, kind: str, text: str) -> None:
        is_refusal = "the server responded with a status of 4" in text  # which tests ask for
        if kind == "error" and not is_refusal:
            self.complaints.append(f"{page.url}: {text}")

    def _see(self, asked: str, host: str) -> None:
        if asked not in (host, ""):
            self.complaints.append(f"a page of {host} asked {asked}")


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong with a page, and where."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


def is_too_wide(page: Page) -> bool:
    """Return whether a page has to be moved sideways to be read."""
    width: bool = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return width


def save(page: Page, path: Path) -> None:
    """Save a page as a picture, with as many colours as its size is worth."""
    import io

    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
