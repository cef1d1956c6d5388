/** Says what each failure reason means and what to do, as docs/lifecycle.md does. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").FailureReason} FailureReason */
/** @typedef {{title: string, text: string, todo: string}} Explanation */

/** @type {Record<FailureReason, Explanation>} */
const EXPLANATIONS = {
  dataset_invalid: {
    title: "The dataset cannot be used",
    text: "The inspection found errors in its rows, or its format does not fit the job's objective.",
    todo: "Open the dataset, correct the rows that it lists, and start a job with the corrected file.",
  },
  too_many_bad_rows: {
    title: "Too many rows are invalid",
    text: "The spec skips invalid rows, and there are more of them than it allows.",
    todo: "Correct the rows, or clone the job with a larger on_bad_rows.max_share.",
  },
  no_labelled_tokens: {
    title: "No row has a token to learn from",
    text: "Every row lost its answer, perhaps because truncation removed it.",
    todo: "Preview the dataset's tokens, then raise training.max_seq_len or change training.train_on.",
  },
  reasoning_not_rendered: {
    title: "The chat template leaves out the reasoning",
    text: "Rows have reasoning_content, and the model's chat template does not render it.",
    todo: 'Clone the job with training.reasoning set to "drop", or choose a model that renders it.',
  },
  model_unusable: {
    title: "The base model cannot be trained",
    text: "It is no longer in the registry, or cannot be trained as requested.",
    todo: "Check the base model's state, or clone the job with another model or method.",
  },
  init_from_not_found: {
    title: "The adapter to start from is gone",
    text: "The adapter or checkpoint that init_from names was deleted before the job could start from it.",
    todo: "Clone the job with another init_from, or without it.",
  },
  out_of_memory: {
    title: "Out of memory",
    text: "The device ran out of memory, or the kernel ended the process because the machine did.",
    todo: "Reduce what the message names, or request a larger device with resources.min_memory_gb.",
  },
  non_finite_loss: {
    title: "The loss is no longer a number",
    text: "The training diverged, or a row produced an infinite loss.",
    todo: "Clone the job with a lower learning rate, or check the rows that the message names.",
  },
  disk_full: {
    title: "The disk is full",
    text: "The worker's disk or the storage is full. The message says how much is left where.",
    todo: "Free space, then retry.",
  },
  stalled: {
    title: "The training made no progress",
    text: "The process did nothing for too long and was ended. The message names where it hung.",
    todo: "Retry from the last checkpoint. If it hangs at the same step again, check the rows of that step.",
  },
  deadline_exceeded: {
    title: "The time limit was reached",
    text: "All attempts together have run for max_duration_seconds.",
    todo: "Retry from the last checkpoint, or clone the job with a longer limit.",
  },
  inexact_resume: {
    title: "The checkpoint does not resume exactly here",
    text: "The spec refuses an inexact resume, and no worker computes the same bits as the one before.",
    todo: 'Retry when the earlier worker is back, or set training.on_inexact_resume to "continue".',
  },
  checkpoint_unusable: {
    title: "The checkpoint cannot be used",
    text: "It is damaged, missing, of another format, or of other weights or rows than the job's.",
    todo: "Retry from the start.",
  },
  training_process_died: {
    title: "The training process died",
    text: "It ended without a final message: by a signal, or with an exit code. The end of its log says more.",
    todo: "Read the log, then retry from the last checkpoint.",
  },
  protocol_broken: {
    title: "The training process sent something unexpected",
    text: "It sent or wrote something that a correct one never does, and was ended.",
    todo: "Read the log. If you did not change the worker's code, report it.",
  },
  crash_loop: {
    title: "Too many workers were lost",
    text: "Several workers died while they ran this job, so it is probably the cause.",
    todo: "Read the events and the log before you retry. Often the machine's memory is out.",
  },
  internal_error: {
    title: "An error in Tunewright",
    text: "The worker's log has the details.",
    todo: "Retry from the last checkpoint. If it happens again, report it with a support bundle.",
  },
};

/**
 * Return what a failure reason means, or null if this page does not know it.
 * @param {string} reason
 * @returns {Explanation | null}
 */
export function explainFailure(reason) {
  return /** @type {Record<string, Explanation>} */ (EXPLANATIONS)[reason] ?? null;
}
