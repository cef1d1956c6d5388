/** What a job made: its result, its checkpoints, and its metrics as files. */

import { get } from "../../api.js";
import { h, icon, when } from "../../dom.js";
import { formatBytes, formatNumber, formatValue } from "../../format.js";
import { copyButton, errorBox, relativeTime, skeleton } from "../../parts/basic.js";
import { computed, effect, signal } from "../../signals.js";
import { may } from "../../session.js";
import { linkTo } from "../../url.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../../../../api.d.ts").ArtifactOut} ArtifactOut */
/** @typedef {import("../../../../api.d.ts").CheckpointOut} CheckpointOut */

/** @type {Record<string, string>} */
const KINDS = {
  adapter: "adapter",
  model: "model",
  adapter_archive: "adapter as one file",
  row_losses: "loss of each row",
  step_metrics: "metrics by step",
  skipped_rows: "skipped rows",
  tensorboard: "TensorBoard events",
};
/** @type {readonly [string, string][]} the values shown of a checkpoint */
const COLUMNS = [
  ["loss", "Loss"],
  ["validation_loss", "Validation loss"],
  ["validation_token_accuracy", "Token accuracy"],
  ["validation_reward_accuracy", "Reward accuracy"],
];

/** @param {JobModel} model */
export function artifactsTab(model) {
  return h("div.stack-large", resultFiles(model), checkpointList(model), metricFiles(model));
}

/** @param {JobModel} model */
function resultFiles(model) {
  const files = signal(/** @type {readonly ArtifactOut[] | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  const read = async () => {
    try {
      files.value = (await get(`${model.path}/artifacts`, { signal: model.abort.signal })).items;
      error.value = null;
    } catch (problem) {
      if (!model.abort.signal.aborted) error.value = problem;
    }
  };
  const state = computed(() => model.job.value?.state);
  effect(() => {
    state.value;
    read();
  });
  return section(
    "Result",
    null,
    () => error.value && errorBox(error.value, read),
    when(() => !files.value && !error.value, () => skeleton(4, "Loading the files")),
    when(() => files.value?.length === 0, () => h("p.event-none", () => explainNoFiles(state.value))),
    () => files.value && files.value.length > 0 && fileTable(files.value),
  );
}

/** @param {string | undefined} state */
function explainNoFiles(state) {
  if (state === "failed" || state === "cancelled") {
    return "The job ended without a result. Its checkpoints are listed below while they are kept.";
  }
  return "The files are listed once the job has succeeded.";
}

/** @param {readonly ArtifactOut[]} files */
function fileTable(files) {
  return table(
    "files",
    ["File", "Kind", "#Size", "SHA-256", "!"],
    [...files].sort((a, b) => a.path.localeCompare(b.path)).map((file) =>
      h(
        "tr",
        h("th", { scope: "row" }, h("span.file-name", file.path)),
        h("td.quiet", KINDS[file.kind] ?? file.kind),
        h("td.number", { title: `${formatNumber(file.size)} bytes` }, formatBytes(file.size)),
        h(
          "td",
          h(
            "span.id",
            h("code", { title: file.sha256 }, file.sha256.slice(0, 12)),
            copyButton(() => file.sha256, `Copy the SHA-256 of ${file.path}`),
          ),
        ),
        h(
          "td.job-row-actions",
          h("a.button.ghost.icon-only", {
            href: file.url,
            download: "",
            "aria-label": `Download ${file.path}`,
            title: "Download",
          }, icon("download")),
        ),
      )
    ),
  );
}

/** @param {JobModel} model */
function checkpointList(model) {
  return section(
    "Checkpoints",
    null,
    when(
      () => model.checkpoints.value?.length === 0,
      () =>
        h(
          "p.event-none",
          () =>
            model.job.value?.finished_at
              ? "No checkpoint is stored. They are removed a week after a job's end."
              : "No checkpoint is stored yet.",
        ),
    ),
    () =>
      model.checkpoints.value && model.checkpoints.value.length > 0 && checkpointTable(model, model.checkpoints.value),
  );
}

/**
 * @param {JobModel} model
 * @param {readonly CheckpointOut[]} checkpoints
 */
function checkpointTable(model, checkpoints) {
  const columns = COLUMNS.filter(([name]) => checkpoints.some(({ metrics }) => metrics[name] !== undefined));
  return table(
    "checkpoints",
    ["#Step", "Name", ...columns.map(([, label]) => `#${label}`), "#Size", "Saved", "!"],
    checkpoints.map((each) =>
      h(
        "tr",
        h("th.number", { scope: "row" }, formatNumber(each.step)),
        h(
          "td",
          h(
            "span.id",
            h("code.checkpoint-name", { title: each.name }, each.name),
            copyButton(() => each.name, `Copy the name of the checkpoint at step ${each.step}`),
          ),
        ),
        columns.map(([name]) => h("td.number", formatValue(each.metrics[name]))),
        h("td.number", formatBytes(each.size)),
        h("td.nowrap", relativeTime(each.created_at)),
        h(
          "td.job-row-actions",
          each.url && may("write") &&
            h(
              "a.button.ghost",
              { href: linkTo("/new", { from: model.id, init_from: each.id }) },
              "Start from here",
            ),
          each.url &&
            h("a.button.ghost.icon-only", {
              href: each.url,
              download: "",
              "aria-label": `Download the adapter at step ${each.step}`,
              title: "Download the adapter as it was at this step",
            }, icon("download")),
        ),
      )
    ),
  );
}

/** @param {JobModel} model */
function metricFiles(model) {
  /**
   * @param {string} format
   * @param {string} label
   */
  const link = (format, label) =>
    h("a.button", { href: `${model.path}/metrics.${format}`, download: "" }, icon("download"), label);
  return section(
    "Metrics",
    null,
    h("p.quiet", "All measured values, with name, step, value, attempt and time."),
    h(
      "div.actions",
      link("csv", "CSV"),
      link("parquet", "Parquet"),
      link("csv?all_attempts=true", "CSV of all attempts"),
    ),
  );
}

/**
 * @param {string} title
 * @param {import("../../dom.js").Child} action
 * @param {...import("../../dom.js").Child} children
 */
function section(title, action, ...children) {
  const id = `${title.toLowerCase()}-title`;
  return h("section.stack", { "aria-labelledby": id }, h("div.row.between", h("h2", { id }, title), action), children);
}

/**
 * @param {string} label
 * @param {readonly string[]} columns  `#` marks numbers, `!` a column of actions
 * @param {readonly Node[]} rows
 */
function table(label, columns, rows) {
  const head = columns.map((name) => {
    if (name === "!") return h("td", h("span.visually-hidden", "Actions"));
    return h(name.startsWith("#") ? "th.number" : "th", { scope: "col" }, name.replace("#", ""));
  });
  return h(
    "div.table-scroll",
    { tabindex: 0, role: "region", "aria-label": `Table of ${label}` },
    h("table", h("thead", h("tr", head)), h("tbody", rows)),
  );
}
