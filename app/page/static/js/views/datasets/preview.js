/** Shows rows as a model reads them. */

import { h, icon } from "../../dom.js";
import { formatRelative } from "../../format.js";
import { emptyState, errorBox, skeleton } from "../../parts/basic.js";
import { formatRows } from "../../pure/dataset_options.js";
import { may } from "../../session.js";
import { computed, untracked } from "../../signals.js";
import { setQuery } from "../../url.js";
import { Checks } from "./checks.js";
import { previewForm } from "./preview_form.js";
import { previewRows } from "./preview_rows.js";
import { previewTotals } from "./preview_totals.js";

/**
 * @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut
 * @typedef {import("../../../../api.d.ts").PreviewOut} PreviewOut
 * @typedef {import("../../../../api.d.ts").PreviewSummary} PreviewSummary
 */

/** What to do about a check that has failed. @type {Record<string, string>} */
export const FAILURES = {
  dataset_invalid: "Look at the dataset's problems, or choose a model whose chat template accepts its rows.",
  too_many_bad_rows: "Clean the dataset, or correct its rows and upload it again.",
  reasoning_not_rendered: "Choose the reasoning “drop”, or a model whose chat template renders reasoning.",
  file_missing: "Upload the dataset again.",
  model_not_found: "Choose another base model.",
  model_unusable: "Choose another base model, or register this one again with a complete tokenizer.",
  out_of_memory: "Try a smaller dataset or fewer rows.",
  timed_out: "Try again when the light worker is less busy.",
  disk_full: "Free disk space on the machine of the light worker, then try again.",
  internal_error: "Try again. If it fails again, the log of the light worker has the details.",
};

/** @param {DatasetOut} dataset */
export function previewTab(dataset) {
  /** @type {import("./checks.js").Checks<PreviewSummary, PreviewOut>} */
  const checks = new Checks(dataset.id, "previews", "preview");
  const key = computed(() => `${checks.present.value?.id} ${checks.present.value?.state}`);
  const isLoading = computed(() => checks.list.value === null && !checks.error.value);
  const isKnown = computed(() => checks.list.value !== null);
  return h(
    "div.stack-large",
    () => {
      if (!may("write") || !isKnown.value) return null;
      return untracked(() =>
        previewForm(
          dataset,
          checks.present.peek()?.spec ?? checks.list.peek()?.[0]?.spec ?? null,
          (check) => checks.show(check),
        )
      );
    },
    pastPreviews(checks),
    () => (checks.error.value ? errorBox(checks.error.value, checks.again) : null),
    () => {
      if (isLoading.value) return skeleton(6, "Loading previews");
      key.value;
      return untracked(() => result(dataset, checks.present.peek(), checks.list.peek() ?? []));
    },
  );
}

/** @param {import("./checks.js").Checks<PreviewSummary, PreviewOut>} checks */
function pastPreviews(checks) {
  const describe = (/** @type {PreviewSummary} */ { spec, state, created_at }) => {
    const length = spec.max_seq_len === "auto" ? "" : `, ${spec.max_seq_len} tokens`;
    const learned = spec.objective === "dpo" ? "dpo" : `train on ${spec.train_on ?? "auto"}`;
    const rows = typeof spec.rows === "number" ? `${spec.rows} rows` : formatRows(spec.rows);
    const ended = state === "ready" ? "" : ` (${state})`;
    return `${spec.base_model}, ${learned}${length}, ${rows}, ${formatRelative(created_at)}${ended}`;
  };
  const isShown = computed(() => (checks.list.value?.length ?? 0) > 1);
  return h(
    "div.field.past-previews",
    { hidden: () => !isShown.value },
    h("label", { for: "past-previews" }, "Past previews"),
    h(
      "select",
      {
        id: "past-previews",
        onchange: (/** @type {{target: HTMLSelectElement}} */ event) =>
          setQuery({ preview: event.target.value, row: null }, { replace: false }),
      },
      () =>
        (checks.list.value ?? []).map((each) =>
          h("option", { value: each.id, selected: each.id === checks.present.value?.id }, describe(each))
        ),
    ),
  );
}

/**
 * @param {DatasetOut} dataset
 * @param {PreviewOut | null} preview
 * @param {readonly PreviewSummary[]} list
 */
function result(dataset, preview, list) {
  if (!preview) {
    if (list.length) return skeleton(6, "Loading the preview");
    return emptyState({
      icon: "dataset",
      title: "See what a model reads",
      text:
        "A preview shows rows with the chat template and the tokens of a base model, which of them carry loss, and " +
        "how a training would go: steps, packing, rows that are cut off. It needs no GPU.",
    });
  }
  if (preview.state === "failed") {
    return h(
      "div.notice.tone-bad",
      icon("error"),
      h(
        "div.notice-text",
        h("strong", "The preview failed: ", h("code", preview.failure?.code)),
        h("p", preview.failure?.message),
        h("p", FAILURES[preview.failure?.code ?? ""] ?? ""),
      ),
    );
  }
  if (preview.state === "pending" || !preview.totals) {
    const text = dataset.state === "inspecting"
      ? "The preview begins after the inspection."
      : "A light worker renders the file. This takes a few seconds, and longer for large files.";
    return h(
      "div.stack",
      h("p.row.quiet", { role: "status" }, icon("clock"), text),
      skeleton(6, "The preview is made"),
    );
  }
  return h("div.stack-large", previewTotals(preview, preview.totals), previewRows(preview));
}
