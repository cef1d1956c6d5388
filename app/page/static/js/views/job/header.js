/** The header of a job's page: what it is, how far it is, and what can be done. */

import { h, icon } from "../../dom.js";
import { formatDuration, formatNumber, formatTime } from "../../format.js";
import { identifier, progressBar, relativeTime, stateBadge } from "../../parts/basic.js";
import { isFinal, secondsLeft } from "../../pure/job_actions.js";
import { computed, untracked } from "../../signals.js";
import { viewHeader } from "../../shell.js";
import { linkTo } from "../../url.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../../../../api.d.ts").JobOut & {created_by?: {key_id: string, key_name: string} | null}} JobOut */

/**
 * @param {JobModel} model
 * @param {() => number} now
 * @param {import("./actions.js").JobActions} actions
 */
export function jobHeader(model, now, actions) {
  const job = () => /** @type {JobOut} */ (model.job.value);
  return h(
    "div.job-header",
    h("span.visually-hidden", { role: "status" }, () => `The job is ${job().state}.`),
    viewHeader(
      [h("span", () => job().name ?? job().id), stateBadge(() => job().state), phaseChip(job)],
      { actions: actions.buttons(), back: { to: "/jobs", label: "Jobs" } },
    ),
    progressRow(job, now),
    facts(model, job),
  );
}

/** @param {() => JobOut} job */
function phaseChip(job) {
  return () => job().state === "running" && job().phase && h("span.job-phase.faint", job().phase);
}

/**
 * @param {() => JobOut} job
 * @param {() => number} now
 */
function progressRow(job, now) {
  const total = () => job().total_steps;
  const steps = () => {
    const { step, total_steps, state } = job();
    if (total_steps !== null) return `Step ${formatNumber(step)} of ${formatNumber(total_steps)}`;
    if (step > 0) return `Step ${formatNumber(step)}`;
    return isFinal(state) ? "No step" : "No step yet";
  };
  return h(
    "div.job-progress",
    { class: () => `is-${job().state}` },
    progressBar(() => (job().state === "succeeded" ? 1 : job().progress), "Steps done"),
    h(
      "div.job-progress-text.tabular",
      h("span", steps),
      h("span", () => total() ? `${Math.floor(Math.min(1, job().progress) * 100)}%` : ""),
      h("span.job-time", () => describeTime(job(), now())),
    ),
  );
}

/**
 * @param {JobOut} job
 * @param {number} now
 */
function describeTime(job, now) {
  const left = secondsLeft(job, now);
  if (left !== null) {
    return h(
      "span",
      { title: formatTime(job.estimated_finish_at) },
      left < 1 ? "about to end" : `about ${formatDuration(roundLeft(left))} left`,
    );
  }
  if (!job.started_at) return job.state === "queued" ? "not started" : "";
  const end = job.finished_at ? Date.parse(job.finished_at) : now;
  const seconds = (end - Date.parse(job.started_at)) / 1000;
  return isFinal(job.state) ? `took ${formatDuration(seconds)}` : `started ${formatDuration(seconds)} ago`;
}

/** @param {number} seconds  an estimate: its seconds mean nothing after ten minutes */
function roundLeft(seconds) {
  return seconds < 600 ? seconds : Math.round(seconds / 60) * 60;
}

/**
 * @param {JobModel} model
 * @param {() => JobOut} job
 */
function facts(model, job) {
  const dataset = (/** @type {string} */ id) =>
    h("a", { href: linkTo(`/datasets/${id}`), title: id }, () => model.datasets.value.get(id) ?? shorten(id));
  return h(
    "dl.job-facts",
    fact("Base model", () => job().base_model),
    fact("Method", () => describeMethod(job())),
    fact("Dataset", () => job().spec.dataset_id, dataset),
    fact("Validation", () => job().spec.validation_dataset_id ?? null, dataset),
    fact("Owner", () => job().created_by?.key_name ?? null),
    fact("Attempt", () => (job().attempt ? String(job().attempt) : null)),
    fact("Created", () => job().created_at, relativeTime),
    fact("Retry of", () => job().retry_of, (id) => h("a", { href: linkTo(`/jobs/${id}`) }, shorten(id))),
    Object.entries(job().metadata).map(([name, value]) => fact(name, () => value)),
    fact("ID", () => job().id, identifier),
  );
}

/**
 * @param {string} name
 * @param {() => string | null} read
 * @param {(text: string) => import("../../dom.js").Child} [render]
 * @returns {() => import("../../dom.js").Child}
 */
function fact(name, read, render = (text) => text) {
  const text = computed(read);
  return () => {
    const shown = text.value;
    return shown !== null && untracked(() => h("div", h("dt", name), h("dd", render(shown))));
  };
}

/** @param {JobOut} job */
function describeMethod(job) {
  const names = /** @type {Record<string, string>} */ ({ qlora: "QLoRA", lora: "LoRA", full: "Full fine-tune" });
  const method = names[job.method] ?? job.method;
  const rank = job.spec.adapter?.rank;
  return [method, rank && job.method !== "full" ? `rank ${rank}` : "", job.spec.objective === "dpo" ? "DPO" : ""]
    .filter(Boolean).join(" · ");
}

/** @param {string} id  `file-5f0c1d2e3a4b…` → `file-5f0c1d2e` */
function shorten(id) {
  return h("code", { title: id }, id.length > 18 ? `${id.slice(0, id.indexOf("-") + 9)}…` : id);
}

/** @param {JobModel} model */
export function deletedNotice(model) {
  return () =>
    model.isDeleted.value &&
    h(
      "div.notice.tone-warn",
      { role: "alert" },
      icon("trash"),
      h(
        "div.notice-text",
        h("p", h("strong", "This job was deleted.")),
        h("p", "What is shown below is what this page had read."),
      ),
      h("a.button", { href: linkTo("/jobs") }, "Show the jobs"),
    );
}
