"""Starts Chromium, watches that a page does nothing wrong, and looks at it as people do: by keyboard and by axe."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Locator,
        Page,
        Playwright,
        Request,
        Response,
    )

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("playwright", "axe_playwright_python")
FLAGS = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--font-render-hinting=none"),
    "--host-resolver-rules=MAP tunewright.lan 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`securitypolicyviolation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile ?? ""}`);
});
"""
PATIENCE_MS = 30_000.0
"""Limits each wait. A page takes a tenth of a second on a quiet machine."""
FAILED_LOAD = "Failed to load resource"
"""Begins Chromium's console error for an HTTP error, which is judged by its response instead."""
DESCRIBE_FOCUS = """() => {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at ? `<${at.localName}> ${(at.getAttribute("aria-label") ?? at.textContent ?? "").trim().slice(0, 60)}` : "";
}"""


class Look(NamedTuple):
    """Describes how a page is shown."""

    theme: str = "light"
    width: int = 1280

    def __str__(self) -> str:
        return f"{self.theme}-{self.width}"

    @property
    def height(self) -> int:
        return 844 if self.is_phone else 900

    @property
    def is_phone(self) -> bool:
        return self.width < 600


LOOKS = tuple(Look(theme, width) for theme in ("light", "dark") for width in (1280, 390))


def find_chromium() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def why_missing() -> str | None:
    """Return why the page cannot be tested here, and what to install; None if nothing is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} missing; `make page` installs the extra `browser` and runs these tests"
    if find_chromium() is None:
        return "Chromium is missing; install it, for example with `apt-get install chromium fonts-dejavu-core`"
    return None


def launch(playwright: "Playwright") -> "Browser":
    return playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))


def open_context(browser: "Browser", look: Look, **options: object) -> "BrowserContext":
    """Open a context without animations, in English and in UTC, so that pictures and texts are the same each time."""
    context = browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme="dark" if look.theme == "dark" else "light",
        reduced_motion="reduce",
        device_scale_factor=1,
        is_mobile=look.is_phone,
        has_touch=look.is_phone,
        locale="en-US",
        timezone_id="UTC",
        **options,  # type: ignore[arg-type]
    )
    context.set_default_timeout(PATIENCE_MS)
    return context


class Guard:
    """Collects what a page does wrong: errors in the console, exceptions, violations of the policy, failed requests and
    requests to other hosts. The fixture `guard` fails the test for what it did not allow."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._allowed: list[re.Pattern[str]] = []
        self.found: list[str] = []
        self.allow(r"401 GET \S+/session$")  # a page asks whether it is signed in

    def allow(self, *patterns: str) -> None:
        """Allow findings that match a pattern, such as `404 GET .*/jobs/` or `console: Something expected`."""
        self._allowed += [re.compile(pattern) for pattern in patterns]

    def watch(self, context: "BrowserContext") -> None:
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.note(f"exception: {error.error}"))
        context.on("request", self._see_request)
        context.on("response", self._see_response)
        context.on("requestfailed", self._see_failure)

    def note(self, finding: str) -> None:
        self.found.append(finding)

    @property
    def problems(self) -> list[str]:
        return [each for each in self.found if not any(pattern.search(each) for pattern in self._allowed)]

    def _hear(self, message: "ConsoleMessage") -> None:
        if message.type == "error" and not message.text.startswith(FAILED_LOAD):
            self.note(f"console: {message.text}")

    def _see_request(self, request: "Request") -> None:
        scheme, host = urlsplit(request.url)[:2]
        if scheme not in ("data", "blob", "about") and host != urlsplit(self._url).netloc:
            self.note(f"another host: {request.url}")

    def _see_response(self, response: "Response") -> None:
        if response.status >= 400:
            self.note(f"{response.status} {response.request.method} {response.url}")

    def _see_failure(self, request: "Request") -> None:
        """Note a failed request, except one that the page ended itself."""
        if request.failure != "net::ERR_ABORTED":
            self.note(f"{request.failure} {request.method} {request.url}")


def check_accessibility(page: "Page", *, exclude: Sequence[str] = ()) -> None:
    """Fail for each violation of WCAG 2.2 AA that axe finds. `exclude` lists selectors that are left out."""
    from axe_playwright_python.sync_playwright import Axe

    context = {"exclude": [[selector] for selector in exclude]} if exclude else None
    options = {"runOnly": {"type": "tag", "values": list(WCAG)}, "resultTypes": ["violations"]}
    violations = Axe().run(page, context=context, options=options).response["violations"]
    lines = [
        f"{rule['id']} ({rule['impact']}): {rule['help']}\n    {node['html'][:200]}\n    {node['failureSummary']}"
        for rule in violations
        for node in rule["nodes"]
    ]
    assert not lines, "\n".join(lines)


def check_reflow(page: "Page") -> None:
    """Fail if the page itself scrolls sideways. Wide tables scroll in their own containers."""
    width, shown = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert width <= shown, f"the page is {width} px wide in a window of {shown} px"


def press(page: "Page", *keys: str) -> None:
    """Press keys one after another, such as `Tab`, `Enter`, `Shift+Tab` or `j`."""
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: "Page", target: "Locator", *, most: int = 80, key: str = "Tab") -> None:
    """Press Tab until the target has the focus, as people without a mouse do."""
    passed = []
    for _ in range(most):
        if target.evaluate("(element) => element === element.getRootNode().activeElement"):
            return
        page.keyboard.press(key)
        passed.append(focused(page))
    raise AssertionError(f"{most} times {key} do not reach the target; passed {json.dumps(passed, indent=1)}")


def focused(page: "Page") -> str:
    """Return the element with the focus: its name and the beginning of its text."""
    return str(page.evaluate(DESCRIBE_FOCUS))


def save_screenshot(page: "Page", name: str, *, full_page: bool = False) -> Path:
    """Save a picture in $TUNEWRIGHT_SCREENSHOTS or a temporary folder; return its path."""
    given = os.environ.get("TUNEWRIGHT_SCREENSHOTS")
    folder = Path(given or Path(tempfile.gettempdir()) / "tunewright-screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=full_page, animations="disabled", caret="hide")
    return path
