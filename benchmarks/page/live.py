"""Measures live jobs: how soon a step is shown in the list and in the comparison, and what that costs the page."""

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from app.domain.jobs.state import JobState
from benchmarks.page.browsing import BusyMeter, open_browser, open_page
from tests.page.demo.pulse import Pulse
from tests.page.demo.stories import STORIES
from tests.page.demo_data import Demo, copy_job, remove_job
from tests.page.screenshots import SETTLED
from tests.page.soak import COPIED
from tests.page.stack import PageStack

NUM_LISTED, LISTED_SECONDS = 50, 60.0
NUM_COMPARED, COMPARED_SECONDS, POINTS_PER_SECOND = 8, 30.0, 50.0
BEHIND_SECONDS = 3.0
SETTLE_MS = 3000
WATCH_ROWS = """() => {
  window.shown = [];
  const last = new Map();
  new MutationObserver((records) => {
    for (const row of new Set(records.map(({target}) => (target.parentElement ?? target).closest("tr.job-row")))) {
      const step = parseInt(row?.querySelector(".list-progress .job-numbers span")?.textContent.replaceAll(",", ""));
      if (!step || step === last.get(row)) continue;
      last.set(row, step);
      shown.push([row.dataset.id, step, (performance.timeOrigin + performance.now()) / 1000]);
    }
  }).observe(document.querySelector(".job-list"), {subtree: true, childList: true, characterData: true});
  return document.querySelectorAll("tr.job-row").length;
}"""
WATCH_CURVES = """() => {
  window.shown = [];
  const chart = document.querySelector("line-chart");
  const {appendPoint} = Object.getPrototypeOf(chart);
  chart.appendPoint = function (id, x, ...values) {
    appendPoint.call(chart, id, x, ...values);
    shown.push([id, x, (performance.timeOrigin + performance.now()) / 1000]);
  };
  return document.querySelectorAll("line-chart").length;
}"""


class Seen(NamedTuple):
    job_id: str
    step: int
    at: float
    """Is a time in seconds since 1970."""


class Driver:
    """Lets jobs take steps at an even pace, in turn, and notes when each was committed."""

    def __init__(self, pulse: Pulse, steps_per_second: float) -> None:
        self.pulse = pulse
        self.interval = 1 / steps_per_second
        self.committed: list[Seen] = []

    def run(self, stop: threading.Event) -> None:
        began, number = time.monotonic(), 0
        while not stop.wait(max(began + number * self.interval - time.monotonic(), 0)):
            job = self.pulse.jobs[number % len(self.pulse.jobs)]
            number += 1
            before = job.step
            self.pulse.take_step(job)
            if job.step > before:
                self.committed.append(Seen(job.id, job.step, time.time()))


@contextmanager
def driving(driver: Driver) -> Iterator[Driver]:
    stop = threading.Event()
    thread = threading.Thread(target=driver.run, args=(stop,), name="driver")
    thread.start()
    try:
        yield driver
    finally:
        stop.set()
        thread.join()
        driver.pulse.close()


def follow_copies(stack: PageStack, demo: Demo, num_jobs: int, *, with_originals: bool) -> Pulse:
    """Copy running jobs; return what lets them take steps. With the originals, no other job is running."""
    pulse = Pulse(stack.sessions, stack.place.redis_url, stack.project_id, demo.jobs)
    pulse.beat(datetime.now(UTC))
    if not with_originals:
        pulse.jobs = []
    while len(pulse.jobs) < num_jobs:
        copied = copy_job(stack.sessions, stack.place, demo.jobs[COPIED[1]])
        pulse.jobs.append(pulse.follow(copied))
    return pulse


def measure_delays(committed: Sequence[Seen], shown: Sequence[Seen], until: float) -> dict[str, Any]:
    """Compare what was committed with what was shown. A step that was not shown itself counts with the next one of its
    job; those of the last seconds may still be under way."""
    rows: dict[str, list[Seen]] = {}
    for each in shown:
        rows.setdefault(each.job_id, []).append(each)
    delays, behind = [], set()
    for step in committed:
        at = next((each.at for each in rows.get(step.job_id, ()) if each.step >= step.step), None)
        if at is not None:
            delays.append(at - step.at)
        if (until if at is None else at) - step.at > BEHIND_SECONDS:
            behind.add(step.job_id)
    delays.sort()
    return {
        "num_committed": len(committed),
        "num_shown": len(shown),
        "p50_ms": round(statistics.median(delays) * 1000, 1),
        "p99_ms": round(delays[int(len(delays) * 0.99)] * 1000, 1),
        "max_ms": round(delays[-1] * 1000, 1),
        "num_behind": len(behind),
    }


def measure_list(stack: PageStack, demo: Demo) -> dict[str, Any]:
    """Show fifty jobs that take a step a second each. The list has room for fifty, so that others give way."""
    for story in STORIES:
        if story.state in (JobState.pausing, JobState.cancelling):
            remove_job(stack.sessions, demo.jobs[story.name])
    pulse = follow_copies(stack, demo, NUM_LISTED, with_originals=True)
    return {"num_jobs": NUM_LISTED} | watch(
        stack, pulse, NUM_LISTED, LISTED_SECONDS, "/ui/jobs?state=running", WATCH_ROWS
    )


def measure_compare(stack: PageStack, demo: Demo) -> dict[str, Any]:
    """Compare eight jobs that measure fifty points a second in all."""
    pulse = follow_copies(stack, demo, NUM_COMPARED, with_originals=False)
    path = "/ui/compare?" + "&".join(f"job={job.id}" for job in pulse.jobs)
    return {"num_jobs": NUM_COMPARED} | watch(stack, pulse, POINTS_PER_SECOND, COMPARED_SECONDS, path, WATCH_CURVES)


def watch(
    stack: PageStack, pulse: Pulse, steps_per_second: float, seconds: float, path: str, script: str
) -> dict[str, Any]:
    """Open a view while the jobs take steps, and note for a time what it shows."""
    with (
        open_browser() as browser,
        driving(Driver(pulse, steps_per_second)) as driver,
        open_page(browser, stack) as page,
    ):
        page.goto(path)
        page.wait_for_function(SETTLED)
        page.wait_for_timeout(SETTLE_MS)
        num_watched, meter, began = page.evaluate(script), BusyMeter(page.context, page), time.time()
        page.wait_for_timeout(seconds * 1000)
        shares, until = meter.shares(), time.time()
        page.wait_for_timeout(BEHIND_SECONDS * 1000)
        shown = [Seen(*each) for each in page.evaluate("() => window.shown")]
    committed = [each for each in driver.committed if began <= each.at <= until]
    rate = round(len(committed) / (until - began), 1)
    found = {"num_watched": num_watched, "steps_per_second": rate, **shares}
    return found | measure_delays(committed, shown, until + BEHIND_SECONDS)
