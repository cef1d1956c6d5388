/** Chooses what is marked on a job's curves. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").EventOut} EventOut */
/** @typedef {{id: string, step: number, kind: string, label: string, event: number | null}} StepMark */

/**
 * Return the marks of a job, by step. What lies after the step from which a later attempt continued is left out, as
 * its curve is.
 * @param {readonly EventOut[]} events
 * @param {{step: number, value: number} | null} best  the lowest validation loss
 * @param {number} lastStep  where a failure is marked
 * @returns {StepMark[]}
 */
export function listMarks(events, best, lastStep) {
  /** @type {StepMark[]} */
  let marks = [];
  for (const { type, number, data, message } of events) {
    /**
     * @param {string} kind
     * @param {number} step
     * @param {string} label
     */
    const add = (kind, step, label) => marks.push({ id: `event-${number}`, step, kind, label, event: number });
    if (type === "checkpoint_saved") add("checkpoint", data.step, `Checkpoint at step ${data.step}`);
    else if (type === "out_of_memory_fallback") add("fallback", data.step, message);
    else if (type === "job_resumed") {
      marks = marks.filter(({ step }) => step <= data.step);
      add("resumed", data.step, message);
    } else if (type === "job_failed" && lastStep > 0) add("failed", lastStep, `Failed: ${message}`);
  }
  if (best) {
    const label = `Lowest validation loss ${Number(best.value.toPrecision(5))} at step ${best.step}`;
    const evaluation = events.findLast(({ type, data }) => type === "evaluated" && data.step === best.step);
    marks.push({ id: "best", step: best.step, kind: "best", label, event: evaluation?.number ?? null });
  }
  return marks.sort((a, b) => a.step - b.step);
}
