"""Measures zooms into the curve of a job with ten million steps."""

import time
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import make_url

from app.jobs.metrics.buckets import bucket_statements
from benchmarks.page.browsing import open_browser, open_page, summarize
from benchmarks.page.first import CLICKED
from tests.page.demo_data import Demo, copy_job
from tests.page.screenshots import SETTLED
from tests.page.stack import PageStack

if TYPE_CHECKING:
    from playwright.sync_api import Page

NUM_STEPS = 10_000_000
OTHERS = ("learning_rate", "grad_norm", "tokens_per_second")
STRIDE_OF_OTHERS = 40
DRAGS = ((0.12, 0.34), (0.3, 0.8), (0.2, 0.28), (0.55, 0.95), (0.4, 0.6), (0.1, 0.55))
"""Lists the ends of the drags, as shares of the chart's width. Each is made twice, the second time in what is shown
after the first."""
PAUSE_MS = 400
VALUES = """
    INSERT INTO metric_values (project_id, job_id, attempt, name, step, number, value, measured_at)
    SELECT %(project_id)s, %(job_id)s, 1, name, step, step,
           exp(-step / 3e6) + random() * (CASE WHEN random() < 1e-4 THEN 50 ELSE 1 END),
           timestamptz '2026-01-05' + step * interval '0.1 s'
    FROM generate_series(1, %(last)s, %(stride)s) AS step CROSS JOIN unnest(%(names)s::text[]) AS name
"""
WATCH_CHART = """() => {
  const chart = [...document.querySelectorAll("line-chart")].find((each) => each.label === probe.label);
  const count = ({from, to}) => {
    const {x} = chart.data.series.find(({id}) => id === "loss");
    return x.filter((each) => each >= from && each <= to).length;
  };
  const {get, set} = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(chart), "data");
  Object.defineProperty(chart, "data", {get, set(data) {
    set.call(chart, data);
    if (probe.start && !probe.isFiner && chart.zoom && count(chart.zoom) > probe.before) {
      probe.isFiner = true;
      probe.setAt = performance.now();
    }
  }});
  chart.addEventListener("zoom", ({detail}) => probe.before = detail.from === null ? Infinity : count(detail));
  chart.scrollIntoView({block: "center"});
  return null;
}"""
AWAIT_ZOOM = """() => {
  Object.assign(probe, {start: 0, coarse: 0, isFiner: false, onDraw: null});
  performance.clearResourceTimings();
  window.zoomed = probe.until((resolve) => {
    addEventListener("pointerup", (event) => {
      probe.start = event.timeStamp;
      probe.onDraw = (at) => {
        probe.coarse ||= at - probe.start;
        if (!probe.isFiner || at < probe.setAt) return;
        probe.onDraw = null;
        const read = performance.getEntriesByType("resource").find(({name}) => /metrics\\?names=loss/.test(name));
        resolve({coarse: probe.coarse, finer: at - probe.start, set: probe.setAt - probe.start,
          sent: read.startTime - probe.start, answered: read.responseEnd - probe.start});
      };
    }, {capture: true, once: true});
  });
  return null;
}"""


def fill(stack: PageStack, demo: Demo) -> tuple[str, dict[str, Any]]:
    """Write a copy of a job with ten million steps of loss; return its id and counts."""
    job_id, began = copy_job(stack.sessions, stack.place, demo.jobs[CLICKED]), time.monotonic()
    url = make_url(stack.place.database_url)
    owned = {"project_id": stack.project_id, "job_id": job_id, "last": NUM_STEPS}
    # The superuser may skip foreign key checks, which would take most of the time.
    with psycopg.connect(host=str(url.query["host"]), user="postgres", dbname=url.database, autocommit=True) as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute("DELETE FROM metric_values WHERE job_id = %s", [job_id])
        admin.execute(VALUES, owned | {"stride": 1, "names": ["loss"]})
        admin.execute(VALUES, owned | {"stride": STRIDE_OF_OTHERS, "names": list(OTHERS)})
        admin.execute("TRUNCATE metric_buckets")
        for statement in bucket_statements():
            admin.execute(statement.encode())
        admin.execute("UPDATE jobs SET step = %s, total_steps = %s WHERE id = %s", [NUM_STEPS, NUM_STEPS, job_id])
        admin.execute("VACUUM ANALYZE metric_values, metric_buckets")
        found = admin.execute("SELECT count(*) FROM metric_values WHERE job_id = %s", [job_id]).fetchone()
    return job_id, {"num_values": found[0] if found else 0, "fill_seconds": round(time.monotonic() - began, 1)}


def measure_zoom(stack: PageStack, demo: Demo) -> dict[str, Any]:
    """Zoom by dragging over the chart of the loss."""
    job_id, counts = fill(stack, demo)
    print(counts, flush=True)
    found = []
    with open_browser() as browser, open_page(browser, stack) as page:
        page.goto(f"/ui/jobs/{job_id}")
        page.locator("line-chart").first.wait_for()
        page.wait_for_function(SETTLED)
        page.wait_for_timeout(3 * PAUSE_MS)
        page.evaluate(WATCH_CHART)
        for drag in DRAGS:
            found += [zoom(page, drag), zoom(page, drag)]
            page.keyboard.press("0")
            page.wait_for_timeout(2 * PAUSE_MS)
    print(found, flush=True)
    titles = {"first_redraw": "coarse", "request_sent": "sent", "answer_read": "answered", "finer_curve": "finer"}
    return counts | {title: summarize([each[name] for each in found]) for title, name in titles.items()}


def zoom(page: "Page", drag: tuple[float, float]) -> dict[str, float]:
    """Drag from one place of the chart to another; return the milliseconds from the drag's end to what followed."""
    page.evaluate(AWAIT_ZOOM)
    box = page.locator("line-chart[label=Loss] canvas.lc-canvas").bounding_box()
    assert box
    left, right = (box["x"] + box["width"] * share for share in drag)
    middle = box["y"] + box["height"] / 2
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(right, middle, steps=8)
    page.mouse.up()
    times: dict[str, float] = page.evaluate("() => window.zoomed")
    page.wait_for_timeout(PAUSE_MS)
    return times
