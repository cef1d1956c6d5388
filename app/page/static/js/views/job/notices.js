/** What a user has to know first: why a job failed, waits or is paused. */

import { ApiError, readAnswer } from "../../api.js";
import { h, icon, when } from "../../dom.js";
import { explainFailure } from "../../pure/job_failures.js";
import { splitLog } from "../../pure/job_log.js";
import { signal } from "../../signals.js";
import { linkTo, setQuery } from "../../url.js";

/** @typedef {import("./model.js").JobModel} JobModel */

const LAST_LINES = 8;
/** Reasons that lie in the dataset: another attempt would fail too. */
const ABOUT_ROWS = ["dataset_invalid", "too_many_bad_rows", "no_labelled_tokens", "reasoning_not_rendered"];

/**
 * Show what stops a job, above its curves.
 * @param {JobModel} model
 * @param {import("./actions.js").JobActions} actions
 */
export function jobNotices(model, actions) {
  const has = (/** @type {string} */ state) => () => model.job.value?.state === state;
  return [
    when(has("failed"), () => failureNotice(model, actions)),
    when(has("queued"), () => queuedNotice(model)),
    when(has("paused"), () => pausedNotice(model, actions)),
  ];
}

/**
 * @param {JobModel} model
 * @param {import("./actions.js").JobActions} actions
 */
function failureNotice(model, actions) {
  const failure = model.job.peek()?.failure;
  const known = failure ? explainFailure(failure.reason) : null;
  const datasetId = model.job.peek()?.spec.dataset_id;
  const isAboutRows = ABOUT_ROWS.includes(failure?.reason ?? "");
  const retry = () => actions.retry();
  return h(
    "section.failure",
    { "aria-labelledby": "failure-title" },
    h(
      "div.failure-head",
      icon("error"),
      h(
        "div.failure-text",
        h("h2", { id: "failure-title" }, known?.title ?? "The job failed"),
        h("p.failure-message", failure?.message || known?.text || "The server gave no reason."),
        known && failure?.message && h("p.quiet", known.text),
        known && h("p", h("strong", "What to do: "), known.todo),
        failure && h("p.faint", "Reason ", h("code", failure.reason)),
      ),
    ),
    h(
      "div.actions",
      isAboutRows && datasetId &&
        h("a.button.primary", { href: linkTo(`/datasets/${datasetId}`) }, icon("dataset"), "Open the dataset"),
      when(
        () => actions.applies("retry"),
        () => h(isAboutRows ? "button" : "button.primary", { type: "button", onclick: retry }, icon("retry"), "Retry"),
      ),
      h("a.button", { href: linkTo("/new", { from: model.id }) }, icon("clone"), "Clone with changes"),
    ),
    lastLogLines(model),
  );
}

/** @param {JobModel} model */
function lastLogLines(model) {
  const lines = signal(/** @type {readonly string[]} */ ([]));
  readLog(model).then((text) => (lines.value = splitLog(text).slice(-LAST_LINES))).catch(() => {});
  return () =>
    lines.value.length > 0 &&
    h(
      "div.failure-log",
      h(
        "div.row.between",
        h("h3", "End of the log"),
        h("button.ghost", { type: "button", onclick: () => showTab("log") }, "Show the log", icon("right")),
      ),
      h("pre.code", { tabindex: 0, "aria-label": "End of the log" }, lines.value.join("\n")),
    );
}

/**
 * Return the end of the latest attempt's output.
 * @param {JobModel} model
 * @param {AbortSignal} [signal]
 * @returns {Promise<string>}
 * @throws {ApiError}
 */
export async function readLog(model, signal = model.abort.signal) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(`${model.path}/logs`, {
      credentials: "same-origin",
      cache: "no-cache",
      redirect: "error",
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(0, { code: "unreachable", detail: "The server cannot be reached." });
  }
  return response.ok ? await response.text() : await readAnswer(response);
}

/** @param {JobModel} model */
function queuedNotice(model) {
  const waitsFor = () => model.job.value?.waiting_for ?? "a worker";
  const isTurn = () => /\bin queue$/.test(waitsFor());
  const position = () => model.job.value?.queue_position;
  return h(
    "div.notice.tone-info",
    { role: "status" },
    icon("clock"),
    h(
      "div.notice-text",
      h("p", h("strong", () => (isTurn() ? "Waiting for its turn: " : "Waiting for: ")), waitsFor),
      h("p", () => (!isTurn() && position() ? `Position ${position()} in the queue.` : null)),
    ),
    h("a.button", { href: linkTo("/workers", { job: model.id }) }, icon("worker"), "Show the workers"),
  );
}

/**
 * @param {JobModel} model
 * @param {import("./actions.js").JobActions} actions
 */
function pausedNotice(model, actions) {
  return h(
    "div.notice.tone-warn",
    { role: "status" },
    icon("pause"),
    h(
      "div.notice-text",
      h("p", h("strong", "Paused.")),
      h("p", () => {
        const step = model.checkpoints.value?.[0]?.step;
        return step
          ? `It continues from the checkpoint at step ${step} and holds no machine until then.`
          : "It holds no machine until it is resumed.";
      }),
    ),
    when(
      () => actions.applies("resume"),
      () => h("button.primary", { type: "button", onclick: () => actions.resume() }, icon("play"), "Resume"),
    ),
  );
}

/** @param {string} tab */
function showTab(tab) {
  setQuery({ tab }, { replace: false });
}
