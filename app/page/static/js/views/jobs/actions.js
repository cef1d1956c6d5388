/** Pauses, resumes, cancels, retries and deletes jobs: asks first where needed, and says what came of each. */

import { ApiError, createIdempotencyKey, post, request } from "../../api.js";
import { h } from "../../dom.js";
import { confirmAction, showDialog, showMessage } from "../../parts/overlay.js";
import { linkTo, navigate } from "../../url.js";

/**
 * @typedef {import("../../pure/jobs_filter.js").Job} Job
 * @typedef {import("../../pure/jobs_actions.js").JobAction} JobAction
 * @typedef {{job: Job, answer: any} | {job: Job, error: unknown}} Result
 * @typedef {{apply: (job: Job) => void, remove: (id: string) => void}} Target
 */

const MOST_AT_ONCE = 4;
const MOST_NAMED = 5;

/** @param {Job} job */
export function nameOf(job) {
  return job.name || job.id;
}

/**
 * Run an action on jobs, and show what came of it.
 * @param {JobAction} action
 * @param {readonly Job[]} jobs
 * @param {Target} target  shows the new states
 * @returns {Promise<boolean>} false: the user did not confirm it
 */
export async function runAction(action, jobs, target) {
  if (!jobs.length || !(await confirmFor(action, jobs))) return false;
  /** @type {Result[]} */
  const results = [];
  const rest = [...jobs];
  const work = async () => {
    for (let job = rest.shift(); job; job = rest.shift()) results.push(await runOne(action, job, target));
  };
  await Promise.all(Array.from({ length: Math.min(MOST_AT_ONCE, jobs.length) }, work));
  report(action, results);
  return true;
}

/**
 * @param {JobAction} action
 * @param {readonly Job[]} jobs
 */
function confirmFor(action, jobs) {
  const question = action.question?.(jobs.length);
  if (!question) return true;
  const named = jobs.slice(0, MOST_NAMED).map((job) => h("li.truncate", nameOf(job)));
  const others = jobs.length - named.length;
  const text = h(
    "span.question",
    question.text,
    h("ul.question-jobs", named, others > 0 && h("li", `and ${others} more`)),
  );
  return confirmAction({ ...question, text, isDangerous: action.isDangerous ?? false });
}

/**
 * @param {JobAction} action
 * @param {Job} job
 * @param {Target} target
 * @returns {Promise<Result>}
 */
async function runOne(action, job, target) {
  try {
    const answer = await send(action, job);
    if (action.name === "delete") target.remove(job.id);
    else if (answer) target.apply(answer);
    return { job, answer };
  } catch (error) {
    const isGone = error instanceof ApiError && error.code === "job_not_found";
    if (isGone) target.remove(job.id);
    return isGone && action.name === "delete" ? { job, answer: null } : { job, error };
  }
}

/**
 * @param {JobAction} action
 * @param {Job} job
 */
function send(action, job) {
  if (action.name === "delete") return request("DELETE", `/jobs/${job.id}`);
  if (action.name !== "retry") return post(`/jobs/${job.id}/${action.name}`);
  return post(`/jobs/${job.id}/retry`, {}, { idempotencyKey: createIdempotencyKey() });
}

/**
 * @param {JobAction} action
 * @param {readonly Result[]} results
 */
function report(action, results) {
  const failed = results.filter((result) => "error" in result);
  const done = results.filter((result) => !("error" in result));
  if (done.length) showMessage(action.done(done.length), { tone: "good", ...linkOf(action, done) });
  if (!failed.length) return;
  const [first] = failed;
  if (results.length === 1 && first) {
    showMessage(`${nameOf(first.job)} was ${action.failed}. ${messageOf(first)}`, { tone: "bad" });
  } else {showFailures(
      `${failed.length} of ${results.length} jobs ${failed.length === 1 ? "was" : "were"} ${action.failed}`,
      failed,
    );}
}

/**
 * @param {JobAction} action
 * @param {readonly Result[]} done
 */
function linkOf(action, done) {
  const [only] = done;
  if (action.name !== "retry" || done.length !== 1 || !only || !("answer" in only)) return {};
  return { action: { label: "Open", run: () => navigate(linkTo(`/jobs/${only.answer.id}`)) } };
}

/**
 * @param {string} title
 * @param {readonly Result[]} failed
 */
function showFailures(title, failed) {
  showDialog({
    title,
    body: (close) =>
      h(
        "div.dialog-body",
        h(
          "dl.failures",
          failed.map((result) => [
            h("dt", h("a", { href: linkTo(`/jobs/${result.job.id}`), onclick: () => close() }, nameOf(result.job))),
            h("dd", messageOf(result)),
          ]),
        ),
        h("div.actions.end", h("button.primary", { type: "button", onclick: () => close() }, "Close")),
      ),
  });
}

/** @param {Result} result */
function messageOf(result) {
  const error = "error" in result ? result.error : null;
  return error instanceof Error ? error.message : String(error);
}
