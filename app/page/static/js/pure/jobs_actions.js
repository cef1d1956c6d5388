/** What can be done with jobs, and in which states. */

/**
 * @typedef {"pause" | "resume" | "cancel" | "retry" | "delete"} ActionName
 * @typedef {{name: ActionName, label: string, icon: string, states: readonly string[], isDangerous?: boolean,
 *   question?: (count: number) => {title: string, text: string, action: string},
 *   done: (count: number) => string, failed: string}} JobAction
 */

const FINAL = ["succeeded", "failed", "cancelled"];

/** @param {number} count */
const jobs = (count) => count === 1 ? "1 job" : `${count} jobs`;

/** @type {readonly JobAction[]} */
export const ACTIONS = [
  {
    name: "pause",
    label: "Pause",
    icon: "pause",
    states: ["queued", "running"],
    done: (count) => `Pause requested for ${jobs(count)}.`,
    failed: "not paused",
  },
  {
    name: "resume",
    label: "Resume",
    icon: "play",
    states: ["paused", "pausing"],
    done: (count) => `Resumed ${jobs(count)}.`,
    failed: "not resumed",
  },
  {
    name: "retry",
    label: "Retry",
    icon: "retry",
    states: FINAL,
    done: (count) => `Created ${jobs(count)} with the same spec.`,
    failed: "not retried",
  },
  {
    name: "cancel",
    label: "Cancel",
    icon: "stop",
    states: ["queued", "running", "pausing", "paused"],
    isDangerous: true,
    question: (count) => ({
      title: `Cancel ${jobs(count)}?`,
      text: count === 1
        ? "The job ends without a result and cannot be resumed. A retry can continue from its last checkpoint."
        : "These jobs end without a result and cannot be resumed. A retry can continue from the last checkpoint.",
      action: `Cancel ${jobs(count)}`,
    }),
    done: (count) => `Cancel requested for ${jobs(count)}.`,
    failed: "not cancelled",
  },
  {
    name: "delete",
    label: "Delete",
    icon: "trash",
    states: FINAL,
    isDangerous: true,
    question: (count) => ({
      title: `Delete ${jobs(count)}?`,
      text: "This deletes the events, metrics, checkpoints, artifacts and adapter too. It cannot be undone.",
      action: `Delete ${jobs(count)}`,
    }),
    done: (count) => `Deleted ${jobs(count)}.`,
    failed: "not deleted",
  },
];

/** @param {string} state */
export function isFinal(state) {
  return FINAL.includes(state);
}

/**
 * Return what can be done with a job in a state.
 * @param {string} state
 * @returns {JobAction[]}
 */
export function actionsFor(state) {
  return ACTIONS.filter((action) => action.states.includes(state));
}

/** @type {Record<string, string>} */
const REASONS = {
  dataset_invalid: "Invalid dataset",
  too_many_bad_rows: "Too many invalid rows",
  no_labelled_tokens: "No tokens to train on",
  reasoning_not_rendered: "Reasoning is not rendered",
  model_unusable: "Base model cannot be used",
  init_from_not_found: "Starting adapter not found",
  out_of_memory: "Out of memory",
  non_finite_loss: "Loss is not finite",
  disk_full: "Disk full",
  stalled: "No progress",
  deadline_exceeded: "Took too long",
  inexact_resume: "Resume is not exact",
  checkpoint_unusable: "Checkpoint cannot be used",
  training_process_died: "Training process died",
  protocol_broken: "Training process sent invalid data",
  crash_loop: "Lost too many workers",
  internal_error: "Internal error",
};

/**
 * Return a failure's reason in plain words.
 * @param {string} reason
 */
export function describeReason(reason) {
  return REASONS[reason] ?? reason.replaceAll("_", " ");
}
