"""Opens the page in Chromium and notes in it when something was drawn."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.page.browser import Guard, Look, launch, open_context
from tests.page.stack import PageStack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, CDPSession, Page

PROBE = """(() => {
  const probe = window.probe = {start: 0, drawn: 0, label: "Loss", onDraw: null};
  const afterPaint = (act) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => act(performance.now());
    channel.port2.postMessage(0);
  };
  const lines = new WeakMap();
  const {lineTo, stroke} = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.lineTo = function (x, y) {
    lines.set(this, (lines.get(this) ?? 0) + 1);
    lineTo.call(this, x, y);
  };
  CanvasRenderingContext2D.prototype.stroke = function (...given) {
    stroke.apply(this, given);
    const numLines = lines.get(this) ?? 0;
    lines.set(this, 0);
    if (numLines < 100 || this.canvas.closest("line-chart")?.label !== probe.label) return;
    afterPaint((at) => probe.onDraw?.(at));
  };
  probe.until = (hold) => new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("nothing was drawn")), 20_000);
    hold(resolve);
  });
})()"""
"""Calls `probe.onDraw` with the time after a frame that drew a curve of at least 100 points in the loss's chart. A
message that is sent in a frame arrives after the frame was painted."""


@contextmanager
def open_browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: "Browser", stack: PageStack) -> Iterator["Page"]:
    """Open a signed-in page with a cold cache. What it does wrong is an error."""
    guard, context = Guard(stack.place.url), open_context(browser, Look(), base_url=stack.place.url)
    guard.watch(context)
    context.add_init_script(PROBE)
    stack.sign_in(context)
    yield context.new_page()
    context.close()
    if guard.problems:
        raise RuntimeError("\n".join(guard.problems))


class BusyMeter:
    """Measures which share of the time the page's main thread is busy."""

    def __init__(self, context: "BrowserContext", page: "Page") -> None:
        self._session: CDPSession = context.new_cdp_session(page)
        self._session.send("Performance.enable")
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {each["name"]: each["value"] for each in self._session.send("Performance.getMetrics")["metrics"]}

    def shares(self) -> dict[str, float]:
        now = self._read()
        elapsed = now["Timestamp"] - self._before["Timestamp"]
        return {
            title: round((now[name] - self._before[name]) / elapsed, 4)
            for title, name in (("busy_share", "TaskDuration"), ("script_share", "ScriptDuration"))
        }


def summarize(times: Sequence[float]) -> dict[str, Any]:
    """Return the median, the 90th percentile and the maximum of times in milliseconds."""
    deciles = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else list(times) * 9
    return {
        "num": len(times),
        "p50_ms": round(statistics.median(times), 1),
        "p90_ms": round(deciles[8], 1),
        "max_ms": round(max(times), 1),
    }
