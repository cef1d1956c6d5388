/** Says what can be done with a job in each state. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").JobState} JobState */
/** @typedef {"pause" | "resume" | "cancel" | "retry" | "delete"} Action */

/** @type {Record<JobState, readonly Action[]>} */
const ACTIONS = {
  queued: ["pause", "cancel"],
  running: ["pause", "cancel"],
  pausing: ["resume", "cancel"],
  paused: ["resume", "cancel"],
  cancelling: [],
  succeeded: ["retry", "delete"],
  failed: ["retry", "delete"],
  cancelled: ["retry", "delete"],
};

/**
 * Return the actions that apply in a state.
 * @param {JobState} state
 */
export function actionsFor(state) {
  return ACTIONS[state] ?? [];
}

/** @param {JobState} state */
export function isFinal(state) {
  return state === "succeeded" || state === "failed" || state === "cancelled";
}

/**
 * Return the seconds that a job has left, or null if that is not known.
 * @param {{state: JobState, estimated_finish_at: string | null}} job
 * @param {number} now  milliseconds
 */
export function secondsLeft(job, now) {
  if (job.state !== "running" || !job.estimated_finish_at) return null;
  return Math.max(0, (Date.parse(job.estimated_finish_at) - now) / 1000);
}
