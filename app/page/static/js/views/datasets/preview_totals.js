/** Shows what a preview found in the whole file. */

import { h, icon } from "../../dom.js";
import { formatCount, formatNumber, formatValue } from "../../format.js";
import { formatShare } from "../../pure/dataset_bars.js";
import { warnOfTotals } from "../../pure/dataset_warnings.js";

/**
 * @typedef {import("../../../../api.d.ts").PreviewOut} PreviewOut
 * @typedef {import("../../../../api.d.ts").PreviewTotals} PreviewTotals
 * @typedef {[name: string, value: string, note: string, title?: string]} Figure
 */

/**
 * @param {PreviewOut} preview
 * @param {PreviewTotals} totals
 */
export function previewTotals(preview, totals) {
  return h("div.stack", failure(totals), figures(preview, totals), warnings(totals));
}

/** @param {PreviewTotals} totals */
function failure({ predicted_failure: predicted }) {
  if (!predicted) return null;
  return h(
    "div.notice.tone-bad",
    icon("error"),
    h(
      "div.notice-text",
      h("strong", "A job with these settings could not start: ", h("code", predicted.reason)),
      h("p", predicted.message),
    ),
  );
}

/**
 * @param {PreviewOut} preview
 * @param {PreviewTotals} totals
 */
function figures({ spec }, totals) {
  const figure = (/** @type {Figure} */ [name, value, note, title]) =>
    h("div", { title }, h("dt", name), h("dd", h("strong", value), h("span", note)));
  return h(
    "div.stack",
    h("dl.figures", [...rowFigures(spec, totals), ...stepFigures(spec, totals)].map(figure)),
    h(
      "p.faint.figures-note",
      totals.train_on && ["Trained on ", h("code", totals.train_on), ". "],
      totals.chat_template && ["Chat template: ", h("span.break", totals.chat_template), "."],
    ),
  );
}

/**
 * @param {PreviewOut["spec"]} spec
 * @param {PreviewTotals} totals
 * @returns {Figure[]}
 */
function rowFigures(spec, totals) {
  const share = totals.num_tokens ? totals.num_labelled_tokens / totals.num_tokens : 0;
  const held = totals.num_validation_rows ? `, and ${formatNumber(totals.num_validation_rows)} for validation` : "";
  const cut = totals.num_truncated_rows ? `${formatNumber(totals.num_truncated_rows)} cut off` : "none cut off";
  return [
    [spec.objective === "dpo" ? "Pairs" : "Rows", formatNumber(totals.num_rows), `trained in an epoch${held}`],
    [
      "Trained tokens",
      formatShare(share),
      `${formatCount(totals.num_labelled_tokens)} of ${formatCount(totals.num_tokens)}`,
      `${formatNumber(totals.num_labelled_tokens)} of ${formatNumber(totals.num_tokens)} tokens carry loss`,
    ],
    ["Max length", formatNumber(totals.max_seq_len), `tokens; ${cut}`],
  ];
}

/**
 * @param {PreviewOut["spec"]} spec
 * @param {PreviewTotals} totals
 * @returns {Figure[]}
 */
function stepFigures(spec, totals) {
  const plan = totals.device_plan;
  return [
    ["Steps per epoch", formatNumber(totals.steps_per_epoch), `with batches of ${formatNumber(spec.batch_size ?? 8)}`],
    [
      "Micro-batches",
      formatValue(totals.micro_batches_per_step),
      `per step, at most ${formatNumber(totals.max_micro_batches_per_step)}`,
      `Counted for ${plan.device_name ?? plan.device} with ${formatNumber(plan.micro_batch_tokens)} tokens`,
    ],
    [
      "Saved by packing",
      formatShare(totals.padding_saved_share),
      `${formatCount(totals.num_packed_tokens)} of ${formatCount(totals.num_padded_tokens)} tokens`,
      "Tokens that go through the model, of those that would if each row were padded",
    ],
  ];
}

/** @param {PreviewTotals} totals */
function warnings(totals) {
  const found = warnOfTotals(totals);
  if (!found.length) return null;
  return h(
    "ul.preview-warnings",
    { "aria-label": "Warnings" },
    found.map(({ title, advice }) =>
      h("li", icon("warning", "warning"), h("div", h("strong", title), h("p.quiet", advice)))
    ),
  );
}
