"""Measures the page's memory while it compares eight live jobs for an hour: `python -m tests.page.soak --minutes 60`.

The jobs measure a step each `--step-seconds` on the same path as a worker's: PostgreSQL and the live stream. The size
of the JavaScript heap is taken after garbage collections, together with the counts of nodes and listeners.
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.page.browser import Guard, Look, launch, open_context, why_missing
from tests.page.demo.pulse import Pulse, beating
from tests.page.demo_data import Demo, copy_job
from tests.page.screenshots import demonstration
from tests.page.stack import PageStack

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, CDPSession, Page

NUM_JOBS = 8
COPIED = ("support-replies-qwen3-4b", "support-replies-llama-3.1-8b")
SETTLE_SECONDS = 20.0
MEASURED = ("JSHeapUsedSize", "Nodes", "JSEventListeners", "Documents", "LayoutCount", "ScriptDuration")
MAX_GROWTH_BYTES, FIRST_GROWTH_BYTES = 10 * 2**20, 3 * 2**20
"""Limit the growth in an hour, and the part of it that the first minutes may take: code is compiled, and curves grow
until they are thinned. A curve of 2,000 points of ten values takes a fifth of a megabyte."""
LEAST_SHARE_OF_STEPS = 0.25
"""Is the least share of the steps without which a soak measures nothing: a busy machine takes fewer than asked for."""
LAST_STEP = """() => {
  const lines = document.querySelector("line-chart").formatCsv().trim().split("\\n");
  return parseInt(lines.at(-1));
}"""
"""Returns the last step that a chart shows."""


def measure(session: "CDPSession") -> dict[str, float]:
    """Return the sizes that are left after garbage collections."""
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return {name: found[name] for name in MEASURED}


def add_jobs(stack: PageStack, demo: Demo) -> Pulse:
    """Add the live jobs; return what lets them take steps."""
    pulse = Pulse(stack.sessions, stack.place.redis_url, stack.project_id, demo.jobs)
    pulse.jobs = [
        job
        for number in range(NUM_JOBS)
        for job in [pulse.follow(copy_job(stack.sessions, stack.place, demo.jobs[COPIED[number % len(COPIED)]]))]
    ]
    return pulse


def watch(page: "Page", session: "CDPSession", minutes: float) -> list[dict[str, Any]]:
    """Measure at the start and about once a minute, until the end."""
    began, rows = time.monotonic(), []
    while True:
        passed = (time.monotonic() - began) / 60
        rows.append({"minutes": round(passed, 1)} | measure(session))
        heap = rows[-1]["JSHeapUsedSize"]
        print(f"{passed:6.1f} min  {heap / 2**20:7.2f} MiB  {rows[-1]['Nodes']:.0f} nodes", flush=True)
        if passed >= minutes:
            return rows
        page.wait_for_timeout(1000 * min(60.0, max((minutes - passed) * 60, 1)))


def soak(stack: PageStack, demo: Demo, minutes: float, step_seconds: float) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    with ExitStack() as ends:
        pulse = ends.enter_context(beating(add_jobs(stack, demo), step_seconds))
        browser = launch(ends.enter_context(sync_playwright()))
        ends.callback(browser.close)
        guard, context = Guard(stack.place.url), open_context(browser, Look(), base_url=stack.place.url)
        guard.watch(context)
        stack.sign_in(context)
        page = open_compare(context, [job.id for job in pulse.jobs])
        session = context.new_cdp_session(page)
        session.send("Performance.enable")
        time.sleep(SETTLE_SECONDS)
        before, shown = [job.step for job in pulse.jobs], page.evaluate(LAST_STEP)
        rows = watch(page, session, minutes)
        steps = [job.step - start for job, start in zip(pulse.jobs, before, strict=True)]
        shown = page.evaluate(LAST_STEP) - shown
    growth = rows[-1]["JSHeapUsedSize"] - rows[0]["JSHeapUsedSize"]
    return {
        "minutes": minutes,
        "num_jobs": NUM_JOBS,
        "num_steps_asked": int(minutes * 60 / step_seconds),
        "num_steps_of_each": min(steps),
        "num_steps_shown": shown,
        "growth_bytes": int(growth),
        "growth_nodes": int(rows[-1]["Nodes"] - rows[0]["Nodes"]),
        "growth_listeners": int(rows[-1]["JSEventListeners"] - rows[0]["JSEventListeners"]),
        "problems": guard.problems,
        "measured": rows,
    }


def open_compare(context: "BrowserContext", ids: list[str]) -> "Page":
    page = context.new_page()
    page.goto("/ui/compare?" + "&".join(f"job={id}" for id in ids))
    page.get_by_role("heading", name="Compare").first.wait_for()
    return page


def find_faults(result: dict[str, Any]) -> list[str]:
    """Return what is wrong with a result: problems of the page, growth beyond the limit, or jobs that stood still."""
    faults = list(result["problems"])
    share = min(result["minutes"] / 60, 1)
    limit = FIRST_GROWTH_BYTES + share * (MAX_GROWTH_BYTES - FIRST_GROWTH_BYTES)
    if result["growth_bytes"] > limit:
        faults.append(f"The heap grew by more than {limit / 2**20:.1f} MiB.")
    if min(result["num_steps_of_each"], result["num_steps_shown"]) < LEAST_SHARE_OF_STEPS * result["num_steps_asked"]:
        faults.append("The jobs took too few steps, or the page showed too few, to measure anything.")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.page.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--step-seconds", type=float, default=1.0, help="time of a step of every job")
    parser.add_argument("--out", type=Path, help="file for the result as JSON")
    given = parser.parse_args()
    if reason := why_missing():
        sys.exit(reason)
    with demonstration() as (stack, demo):
        result = soak(stack, demo, given.minutes, given.step_seconds)
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Each job took {result['num_steps_of_each']} steps in {given.minutes:g} minutes.")
    print(f"The page showed {result['num_steps_shown']} of them.")
    print(f"The heap grew by {result['growth_bytes'] / 2**20:.2f} MiB,")
    print(f"the document by {result['growth_nodes']} nodes and {result['growth_listeners']} listeners.")
    if faults := find_faults(result):
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
