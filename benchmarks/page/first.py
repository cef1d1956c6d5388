"""Measures the first view and the first curve."""

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.page.browsing import open_browser, open_page, summarize
from tests.page.demo_data import Demo
from tests.page.screenshots import SETTLED
from tests.page.stack import PageStack

if TYPE_CHECKING:
    from playwright.sync_api import Page

NUM_VIEWS, NUM_CLICKS = 5, 9
CLICKED = "support-replies-qwen3-1.7b"
"""Names a job that has ended, with 1,100 steps."""
SETTLE_MS = 1500
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
ROWS_SHOWN = "() => document.querySelector('tr.job-row') !== null"
AWAIT_CURVE = """() => {
  window.curve = probe.until((resolve) => {
    addEventListener("click", (event) => {
      probe.onDraw = (at) => {
        probe.onDraw = null;
        resolve(at - event.timeStamp);
      };
    }, {capture: true, once: true});
  });
  return null;
}"""


class Wire:
    """Counts what a page receives, headers included."""

    def __init__(self, page: "Page") -> None:
        self.sizes: dict[str, float] = {}
        self.is_file: dict[str, bool] = {}
        session = page.context.new_cdp_session(page)
        session.on("Network.responseReceived", self._begin)
        session.on("Network.dataReceived", self._add)
        session.on("Network.loadingFinished", self._finish)
        session.send("Network.enable")

    def _begin(self, event: dict[str, Any]) -> None:
        id = event["requestId"]
        self.sizes[id] = event["response"]["encodedDataLength"]
        self.is_file[id] = event["type"] in ("Document", "Script", "Stylesheet", "Image", "Other", "Manifest")

    def _add(self, event: dict[str, Any]) -> None:
        self.sizes[event["requestId"]] = self.sizes.get(event["requestId"], 0) + max(event["encodedDataLength"], 0)

    def _finish(self, event: dict[str, Any]) -> None:
        self.sizes[event["requestId"]] = event["encodedDataLength"]

    def count(self) -> dict[str, int]:
        files = sum(size for id, size in self.sizes.items() if self.is_file.get(id))
        return {
            "num_bytes": int(sum(self.sizes.values())),
            "num_bytes_of_files": int(files),
            "num_requests": len(self.sizes),
            "num_requests_of_files": sum(self.is_file.values()),
        }


def measure_first_view(stack: PageStack, demo: Demo) -> dict[str, Any]:
    """Open the list of jobs several times with a cold cache."""
    counts, paints = [], []
    with open_browser() as browser:
        for _ in range(NUM_VIEWS):
            with open_page(browser, stack) as page:
                wire = Wire(page)
                show_list(page)
                page.wait_for_timeout(SETTLE_MS)
                counts.append(wire.count())
                paints.append(page.evaluate(FIRST_PAINT))
    largest = max(counts, key=lambda count: count["num_bytes"])
    return largest | {
        "num_jobs": len(demo.jobs),
        "first_contentful_paint_p50_ms": round(statistics.median(paints), 1),
        "first_contentful_paint_max_ms": round(max(paints), 1),
    }


def show_list(page: "Page") -> None:
    page.goto("/ui/jobs")
    page.wait_for_function(ROWS_SHOWN)
    page.wait_for_function(SETTLED)


def measure_first_curve(stack: PageStack, demo: Demo) -> dict[str, Any]:
    """Click on a job in the list: at first with a cold cache, then again after going back."""
    cold, again = [], []
    with open_browser() as browser:
        for _ in range(NUM_CLICKS):
            with open_page(browser, stack) as page:
                show_list(page)
                page.wait_for_timeout(SETTLE_MS)
                cold.append(click_job(page))
                page.go_back()
                page.wait_for_function(ROWS_SHOWN)
                page.wait_for_timeout(SETTLE_MS / 3)
                again.append(click_job(page))
    return {"cold": summarize(cold), "again": summarize(again)}


def click_job(page: "Page") -> float:
    """Click on the job; return the milliseconds until its curve is painted."""
    page.evaluate(AWAIT_CURVE)
    page.get_by_role("link", name=CLICKED, exact=True).click()
    return float(page.evaluate("() => window.curve"))
