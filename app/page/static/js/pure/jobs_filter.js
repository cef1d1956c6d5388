/** The filters of the job list: read from the address, written to it, sent to the server, and applied to live changes. */

/**
 * @typedef {import("../../../api.d.ts").JobOut & {created_by?: {key_id: string, key_name: string} | null}} Job
 * @typedef {{states: readonly string[], text: string, model: string, owner: string}} JobFilter
 *   `states` are values of STATE_CHOICES; `owner` is the id of an API key
 * @typedef {{value: string, label: string, states: readonly string[]}} StateChoice
 */

/** @type {readonly StateChoice[]} A job that is about to stop still counts as running. */
export const STATE_CHOICES = [
  { value: "queued", label: "Queued", states: ["queued"] },
  { value: "running", label: "Running", states: ["running", "pausing", "cancelling"] },
  { value: "paused", label: "Paused", states: ["paused"] },
  { value: "succeeded", label: "Succeeded", states: ["succeeded"] },
  { value: "failed", label: "Failed", states: ["failed"] },
  { value: "cancelled", label: "Cancelled", states: ["cancelled"] },
];

/**
 * Read the filter from a query; unknown states are left out.
 * @param {URLSearchParams} search
 * @returns {JobFilter}
 */
export function readFilter(search) {
  const asked = new Set(search.getAll("state"));
  return {
    states: STATE_CHOICES.map((choice) => choice.value).filter((value) => asked.has(value)),
    text: (search.get("q") ?? "").trim(),
    model: search.get("model") ?? "",
    owner: search.get("owner") ?? "",
  };
}

/**
 * Return the values of the query that hold the filter; empty ones remove what stands there.
 * @param {JobFilter} filter
 */
export function writeFilter({ states, text, model, owner }) {
  return { state: [...states], q: text.trim(), model, owner };
}

/** @type {JobFilter} */
export const NO_FILTER = { states: [], text: "", model: "", owner: "" };

/**
 * Return how many filters are on; several states are one filter.
 * @param {JobFilter} filter
 */
export function countFilters({ states, text, model, owner }) {
  return [states.length, text, model, owner].filter(Boolean).length;
}

/**
 * Return the filter with one state switched on or off.
 * @param {JobFilter} filter
 * @param {string} value
 * @returns {JobFilter}
 */
export function toggleState(filter, value) {
  const on = new Set(filter.states);
  if (!on.delete(value)) on.add(value);
  return { ...filter, states: STATE_CHOICES.map((choice) => choice.value).filter((each) => on.has(each)) };
}

/**
 * Return the parameters of `GET /jobs`.
 * @param {JobFilter} filter
 */
export function queryOf({ states, text, model, owner }) {
  return { state: statesOf(states), name: text, model, created_by: owner };
}

/**
 * Return whether a job belongs to the list, as the server would judge.
 * @param {Job} job
 * @param {JobFilter} filter
 */
export function matchesFilter(job, { states, text, model, owner }) {
  if (states.length && !statesOf(states).includes(job.state)) return false;
  if (model && job.base_model !== model) return false;
  if (owner && job.created_by?.key_id !== owner) return false;
  return !text || matchesText(job, text);
}

/**
 * @param {Job} job
 * @param {string} text
 */
function matchesText(job, text) {
  const wanted = text.toLowerCase();
  return job.id.toLowerCase().startsWith(wanted) || (job.name ?? "").toLowerCase().includes(wanted);
}

/**
 * @param {readonly string[]} values
 * @returns {string[]}
 */
function statesOf(values) {
  return STATE_CHOICES.filter((choice) => values.includes(choice.value)).flatMap((choice) => choice.states);
}
