/** Says what the totals of a preview mean for a training, and what to do. */

import { formatNumber, formatPlural } from "../format.js";
import { formatShare } from "./dataset_bars.js";

/**
 * @typedef {import("../../../api.d.ts").PreviewTotals} PreviewTotals
 * @typedef {{title: string, advice: string}} Warning
 */

const SMALL_SHARE = 0.02;

/**
 * Return what to look at before a training, the most important first.
 * @param {PreviewTotals} totals
 * @returns {Warning[]}
 */
export function warnOfTotals(totals) {
  return [...rowWarnings(totals), ...textWarnings(totals)];
}

/**
 * @param {PreviewTotals} totals
 * @returns {Warning[]}
 */
function rowWarnings(totals) {
  const all = totals.num_rows + totals.num_dropped_rows;
  const skipped = Object.values(totals.skipped_rows).reduce((sum, count) => sum + count, 0);
  const share = totals.num_tokens ? totals.num_labelled_tokens / totals.num_tokens : 1;
  return [
    ...when(totals.num_dropped_rows, (count) => ({
      title: `${rowsHave(count)} nothing to learn from and ${isAre(count)} left out`,
      advice: `That is ${formatShare(count / Math.max(1, all))} of the rows. Raise max_seq_len if their answers ` +
        "are cut off, or check train_on.",
    })),
    ...when(totals.num_truncated_rows, (count) => ({
      title: `${formatPlural(count, "row")} ${isAre(count)} cut off at ${formatNumber(totals.max_seq_len)} tokens`,
      advice: "The end of these rows is not learned. Raise max_seq_len, or split the rows.",
    })),
    ...when(skipped, (count) => ({
      title: `${formatPlural(count, "row")} ${isAre(count)} skipped`,
      advice: Object.entries(totals.skipped_rows).map(([code, each]) => `${formatNumber(each)} × ${code}`).join(", "),
    })),
    ...when(totals.num_tokens > 0 && share < SMALL_SHARE ? 1 : 0, () => ({
      title: `Only ${formatShare(share)} of the tokens are trained`,
      advice: "Most of the computation is for context. Shorten the prompts, or train on more with train_on.",
    })),
  ];
}

/**
 * @param {PreviewTotals} totals
 * @returns {Warning[]}
 */
function textWarnings(totals) {
  return [
    ...when(totals.num_template_mismatch_rows, (count) => ({
      title: `The chat template renders ${formatPlural(count, "row")} differently turn by turn`,
      advice: "Answers that the template leaves out are not learned. Check these rows with earlier answers or tools.",
    })),
    ...when(totals.num_answers_without_end_token, (count) => ({
      title: `${formatPlural(count, "answer")} ${count === 1 ? "ends" : "end"} without a special token`,
      advice: "The model does not learn to stop after them. Use a chat template that ends each answer with a token.",
    })),
    ...when(totals.num_literal_special_tokens, (count) => ({
      title: `${formatPlural(count, "special token")} ${isAre(count)} written in the rows' text`,
      advice: "They are read as plain text. Remove them from the file: the chat template adds its own.",
    })),
    ...when(totals.num_unrendered_reasoning, (count) => ({
      title: `The chat template leaves out the reasoning of ${formatPlural(count, "answer")}`,
      advice: "Many templates do so for earlier answers. Split the conversation if that reasoning should be learned.",
    })),
    ...when(totals.num_unrendered_names, (count) => ({
      title: `The chat template leaves out the name of ${formatPlural(count, "turn")}`,
      advice: "Write the name into the turn's content if the model should see it.",
    })),
    ...when(totals.missing_lines.length, (count) => ({
      title: `${formatPlural(count, "requested line")} ${count === 1 ? "has" : "have"} no row`,
      advice: `Lines ${totals.missing_lines.map((line) => formatNumber(line)).join(", ")}.`,
    })),
  ];
}

/**
 * @param {number} count
 * @param {(count: number) => Warning} make
 */
function when(count, make) {
  return count ? [make(count)] : [];
}

/** @param {number} count */
function isAre(count) {
  return count === 1 ? "is" : "are";
}

/** @param {number} count */
function rowsHave(count) {
  return `${formatPlural(count, "row")} ${count === 1 ? "has" : "have"}`;
}
