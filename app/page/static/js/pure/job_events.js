/** Chooses which events of a job are listed. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").EventOut} EventOut */
/** @typedef {{level: "all" | "warn", text: string}} EventFilter */

/** @type {Record<string, string>} Icons of event types; others have the icon of their level. */
const ICONS = {
  job_created: "plus",
  job_claimed: "worker",
  dataset_prepared: "dataset",
  model_fetched: "download",
  model_loaded: "model",
  training_started: "play",
  job_resumed: "play",
  resume_requested: "play",
  evaluated: "flag",
  checkpoint_saved: "save",
  out_of_memory_fallback: "memory",
  pause_requested: "pause",
  job_paused: "pause",
  cancel_requested: "stop",
  job_cancelled: "dash",
  job_succeeded: "check",
  job_failed: "cross",
  attempt_lost: "warning",
  attempt_recovered: "retry",
  attempt_released: "retry",
};

/** @param {EventOut} event */
export function iconOf({ type, level }) {
  return ICONS[type] ?? (level === "error" ? "error" : level === "warn" ? "warning" : "info");
}

/**
 * Return the events that a filter leaves.
 * @param {readonly EventOut[]} events
 * @param {EventFilter} filter
 */
export function filterEvents(events, { level, text }) {
  const wanted = text.trim().toLowerCase();
  if (level === "all" && !wanted) return events;
  return events.filter((event) =>
    (level === "all" || event.level !== "info") &&
    (!wanted || event.message.toLowerCase().includes(wanted) || event.type.includes(wanted))
  );
}

/**
 * Say why no event is listed.
 * @param {number} count  of all events
 * @param {EventFilter} filter
 */
export function explainEmpty(count, { level, text }) {
  if (count === 0) return "This job has no events yet.";
  const what = level === "warn" ? "warning or error" : "event";
  if (text.trim()) return `No ${what} contains “${text.trim()}”.`;
  return "There are no warnings and no errors.";
}

/** @param {EventOut} event */
export function isFinalEvent({ type }) {
  return type === "job_succeeded" || type === "job_failed" || type === "job_cancelled";
}
