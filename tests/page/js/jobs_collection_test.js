import { JobCollection } from "../../../app/page/static/js/pure/jobs_collection.js";
import { NO_FILTER } from "../../../app/page/static/js/pure/jobs_filter.js";
import { assertEquals } from "./assert.js";

/**
 * @param {number} minute
 * @param {string} [state]
 * @returns {any}
 */
function job(minute, state = "running") {
  const created = new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString();
  return { id: `ftjob-${minute}`, name: null, state, base_model: "m", created_at: created, step: 0 };
}

/** @param {readonly number[]} minutes */
function loaded(minutes, filter = NO_FILTER, /** @type {string | null} */ cursor = null) {
  const collection = new JobCollection(filter);
  collection.addPage(minutes.map((minute) => job(minute)), cursor);
  return collection;
}

/** @param {JobCollection} collection */
const shown = (collection) => collection.order.map((id) => Number(id.slice(6)));

Deno.test("Pages follow each other, newest first", () => {
  const collection = loaded([9, 8], NO_FILTER, "next");
  collection.addPage([job(7), job(8)], null);
  assertEquals(shown(collection), [9, 8, 7]);
});

Deno.test("A new job is inserted in its place, or waits", () => {
  const collection = loaded([9, 5]);
  assertEquals(collection.apply(job(7)), "inserted");
  assertEquals(collection.apply(job(12), { canInsert: false }), "waiting");
  assertEquals(shown(collection), [9, 7, 5]);
  collection.showWaiting();
  assertEquals(shown(collection), [12, 9, 7, 5]);
  assertEquals(collection.waiting.size, 0);
});

Deno.test("A job beyond the last page that was read is left to that page", () => {
  const collection = loaded([9, 5], NO_FILTER, "next");
  assertEquals(collection.apply(job(3)), "ignored");
  assertEquals(shown(collection), [9, 5]);
});

Deno.test("A job that no longer fits the filter goes, unless it is held", () => {
  const collection = loaded([9, 5], { ...NO_FILTER, states: ["running"] });
  assertEquals(collection.apply(job(9, "succeeded"), { isHeld: () => true }), "changed");
  assertEquals(collection.apply(job(5, "failed")), "removed");
  assertEquals(shown(collection), [9]);
  collection.drop(() => false);
  assertEquals(shown(collection), []);
});

Deno.test("A waiting job that ends before it is shown does not appear", () => {
  const collection = loaded([5], { ...NO_FILTER, states: ["queued", "running"] });
  collection.apply(job(9), { canInsert: false });
  collection.apply(job(9, "cancelled"), { canInsert: false });
  assertEquals(collection.waiting.size, 0);
});

Deno.test("What arrives while pages are read is newer than they are", () => {
  const collection = loaded([9, 8, 7]);
  collection.beginRead();
  collection.apply(job(9, "succeeded"));
  collection.delete("ftjob-8");
  collection.replace([job(9), job(8), job(7)], null);
  assertEquals(shown(collection), [9, 7]);
  assertEquals(collection.jobs.get("ftjob-9")?.state, "succeeded");
});

Deno.test("What arrives before the first page is not lost", () => {
  const collection = new JobCollection();
  collection.beginRead();
  assertEquals(collection.apply(job(9, "succeeded")), "ignored");
  collection.replace([job(9), job(8)], null);
  assertEquals(collection.jobs.get("ftjob-9")?.state, "succeeded");
});

Deno.test("Reading again drops jobs that are gone, and lets new ones wait while the user reads", () => {
  const collection = loaded([9, 8, 7]);
  collection.beginRead();
  collection.replace([job(11), job(9), job(7)], null, { canInsert: false });
  assertEquals(shown(collection), [9, 7]);
  assertEquals([...collection.waiting.keys()], ["ftjob-11"]);
});

Deno.test("Reading an empty list again shows the first jobs", () => {
  const collection = loaded([]);
  collection.beginRead();
  collection.replace([job(1)], null, { canInsert: true });
  assertEquals(shown(collection), [1]);
});
