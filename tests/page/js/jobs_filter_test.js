import {
  countFilters,
  matchesFilter,
  NO_FILTER,
  queryOf,
  readFilter,
  toggleState,
  writeFilter,
} from "../../../app/page/static/js/pure/jobs_filter.js";
import { linkTo } from "./linking.js";
import { assert, assertEquals } from "./assert.js";

/** @param {string} text */
const read = (text) => readFilter(new URLSearchParams(text));
const job = /** @type {any} */ ({
  id: "ftjob-0a1b",
  name: "Support-replies",
  state: "pausing",
  base_model: "qwen3-4b",
  created_by: { key_id: "key-1", key_name: "ci" },
});

Deno.test("A filter survives its way through the address", () => {
  const filter = { states: ["queued", "failed"], text: "sup port&x=1", model: "qwen3-4b", owner: "key-1" };
  assertEquals(read(linkTo(writeFilter(filter))), filter);
  assertEquals(linkTo(writeFilter(NO_FILTER)), "");
});

Deno.test("Unknown and repeated states are left out", () => {
  assertEquals(read("state=nonsense&state=failed&state=failed&state=queued").states, ["queued", "failed"]);
});

Deno.test("Several states count as one filter", () => {
  assertEquals(countFilters(read("")), 0);
  assertEquals(countFilters(read("state=failed&state=queued&q=a")), 2);
});

Deno.test("Jobs that are about to stop count as running", () => {
  assertEquals(queryOf(read("state=running")).state, ["running", "pausing", "cancelling"]);
  assert(matchesFilter(job, read("state=running")));
  assert(!matchesFilter(job, read("state=paused")));
});

Deno.test("A text is found in the name, and at the start of the id, in any case", () => {
  assert(matchesFilter(job, read("q=SUPPORT")));
  assert(matchesFilter(job, read("q=ftjob-0a")));
  assert(!matchesFilter(job, read("q=0a1b")));
  assert(!matchesFilter(job, read("q=invoice")));
});

Deno.test("All filters must fit", () => {
  assert(matchesFilter(job, read("model=qwen3-4b&owner=key-1")));
  assert(!matchesFilter(job, read("model=qwen3-4b&owner=key-2")));
  assert(!matchesFilter({ ...job, created_by: null }, read("owner=key-1")));
});

Deno.test("A state is switched on and off in the order of the choices", () => {
  const filter = toggleState(toggleState(NO_FILTER, "failed"), "queued");
  assertEquals(filter.states, ["queued", "failed"]);
  assertEquals(toggleState(filter, "queued").states, ["failed"]);
});
