import { ACTIONS, actionsFor, describeReason } from "../../../app/page/static/js/pure/jobs_actions.js";
import { colorOf, selectRange, toggle } from "../../../app/page/static/js/pure/jobs_selection.js";
import { assert, assertEquals } from "./assert.js";

const order = ["a", "b", "c", "d", "e"];

Deno.test("A selection keeps the order in which jobs were selected", () => {
  assertEquals(toggle(toggle(["c"], "a"), "c"), ["a"]);
  assertEquals(selectRange(["c"], order, "d", "b"), ["c", "b", "d"]);
});

Deno.test("A range is also switched off, and without a start is one job", () => {
  assertEquals(selectRange(order, order, "b", "d", false), ["a", "e"]);
  assertEquals(selectRange([], order, null, "d"), ["d"]);
  assertEquals(selectRange([], order, "gone", "d"), ["d"]);
});

Deno.test("A job's colour is stable, and all eight are used", () => {
  const colors = Array.from({ length: 200 }, (_, index) => colorOf(`ftjob-${index}`));
  assertEquals(new Set(colors).size, 8);
  assertEquals(colorOf("ftjob-7"), colors[7]);
});

Deno.test("Each state allows what the server allows", () => {
  /** @param {string} state */
  const names = (state) => actionsFor(state).map((action) => action.name);
  assertEquals(names("queued"), ["pause", "cancel"]);
  assertEquals(names("running"), ["pause", "cancel"]);
  assertEquals(names("pausing"), ["resume", "cancel"]);
  assertEquals(names("paused"), ["resume", "cancel"]);
  assertEquals(names("cancelling"), []);
  for (const state of ["succeeded", "failed", "cancelled"]) assertEquals(names(state), ["retry", "delete"]);
});

Deno.test("Whatever cannot be undone is asked first", () => {
  for (const action of ACTIONS) assertEquals(Boolean(action.question), Boolean(action.isDangerous), action.name);
  assert(ACTIONS.find((action) => action.name === "delete")?.question?.(3).title.includes("3 jobs"));
});

Deno.test("An unknown failure is named by its code", () => {
  assertEquals(describeReason("out_of_memory"), "Out of memory");
  assertEquals(describeReason("worker_on_fire"), "worker on fire");
});
