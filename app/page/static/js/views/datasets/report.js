/** Shows what an inspection found in the file. */

import { h, icon } from "../../dom.js";
import { formatCount, formatNumber } from "../../format.js";
import { emptyState } from "../../parts/basic.js";
import { countSeverities } from "../../pure/dataset_advice.js";
import { formatShare, lengthBars, namedBars, quantile, turnBars } from "../../pure/dataset_bars.js";
import { linkTo } from "../../url.js";

/**
 * @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut
 * @typedef {import("../../pure/dataset_bars.js").Bar} Bar
 */

/** @param {DatasetOut} dataset */
export function reportTab(dataset) {
  if (!dataset.statistics) return waiting(dataset);
  const { lengths, turns, roles, columns } = dataset.statistics;
  const rows = dataset.num_examples ?? 0;
  return h(
    "div.stack-large",
    verdict(dataset),
    h(
      "div.report",
      h(
        "div.stack-large",
        section("Rows", `${formatNumber(rows)} in all`, bars(rowBars(dataset), shareOf(rows), false)),
        lengths.length > 0 &&
          section(
            "Length of the rows",
            `in characters; half of the rows have at most ${formatNumber(quantile(lengths, 0.5))}`,
            histogram(lengthBars(lengths), "characters", "rows"),
          ),
        turns.length > 0 &&
          section(
            "Turns of a conversation",
            `half of the rows have at most ${formatNumber(quantile(turns, 0.5))}`,
            histogram(turnBars(turns), "turns", "rows"),
          ),
        Object.keys(roles).length > 0 &&
          section("Turns by role", "", bars(namedBars(roles), (count) => formatNumber(count))),
        Object.keys(columns).length > 0 &&
          section(
            "Columns",
            dataset.statistics.has_more_columns ? "the first 64 of more" : "rows that have each key",
            bars(namedBars(columns, { total: rows, most: 64 }), shareOf(rows)),
          ),
      ),
      facts(dataset),
    ),
  );
}

/** @param {DatasetOut} dataset */
function waiting(dataset) {
  if (dataset.state === "invalid") {
    return emptyState({
      icon: "error",
      title: "The file could not be inspected",
      text: h("a", { href: linkTo(`/datasets/${dataset.id}`, { tab: "problems" }) }, "Show why"),
    });
  }
  const text = dataset.state === "uploading"
    ? "A worker assembles the parts of the file, at about 200 MB/s. Then it is inspected."
    : dataset.cleaned_from && !dataset.bytes
    ? "A worker writes the valid rows, and then inspects them."
    : "A worker inspects the file. A job can be created now; it waits for the inspection.";
  const title = dataset.state === "uploading" ? "The file is being assembled" : "The file is being inspected";
  return h("div", { role: "status" }, emptyState({ icon: "clock", title, text }));
}

/** @param {DatasetOut} dataset */
function verdict(dataset) {
  const { error, warning } = countSeverities(dataset.problem_counts);
  const to = linkTo(`/datasets/${dataset.id}`, { tab: "problems" });
  const bad = dataset.num_bad_rows ?? 0;
  if (error) {
    return h(
      "div.notice.tone-bad",
      icon("error"),
      h(
        "div.notice-text",
        h(
          "strong",
          bad
            ? `${formatNumber(bad)} of ${formatNumber(dataset.num_examples)} rows cannot be trained on`
            : "The file cannot be trained on",
        ),
        h(
          "p",
          bad
            ? "Correct them and upload the file again, clean the dataset, or let a job skip them with on_bad_rows."
            : "Correct the file and upload it again.",
        ),
      ),
      h("a.button", { href: to }, "Show problems"),
    );
  }
  if (!warning) return null;
  return h(
    "div.notice.tone-warn",
    icon("warning"),
    h(
      "div.notice-text",
      h("strong", "The dataset is ready, and some rows are probably mistakes"),
      h("p", "Training works with them. Look at the warnings once."),
    ),
    h("a.button", { href: to }, "Show problems"),
  );
}

/**
 * @param {DatasetOut} dataset
 * @returns {Bar[]}
 */
function rowBars({ num_examples, num_bad_rows, statistics }) {
  const [rows, bad] = [num_examples ?? 0, num_bad_rows ?? 0];
  const { exact, normalised } = statistics?.duplicates ?? { exact: 0, normalised: 0 };
  /** @type {[string, number][]} */
  const counts = [
    ["without an error", rows - bad],
    ["with an error", bad],
    ["exact duplicates", exact],
    ["near duplicates", normalised - exact],
  ];
  return counts.map(([label, count]) => ({ label, count, share: count / Math.max(1, rows) }));
}

/** @param {number} total */
function shareOf(total) {
  return (/** @type {number} */ count) => `${formatNumber(count)} (${formatShare(count / Math.max(1, total))})`;
}

/** @param {DatasetOut} dataset */
function facts(dataset) {
  const { statistics } = dataset;
  if (!statistics) return null;
  const number = (/** @type {number} */ value) =>
    h("span.tabular", { class: value ? "" : "faint" }, formatNumber(value));
  /** @type {[string, import("../../dom.js").Child][]} */
  const rows = [
    ["Format", h("span", h("code", dataset.format ?? "none"), h("span.fact-note", dataset.format_reason))],
    [
      "File type",
      h(
        "span",
        h("code", statistics.container),
        statistics.compression !== "none" && ` (${statistics.compression})`,
        h("span.fact-note", statistics.container_reason),
      ),
    ],
    [
      "Column mapping",
      dataset.columns &&
      Object.entries(dataset.columns).map(([field, column]) => h("div", h("code", field), " from ", h("code", column))),
    ],
    ["Very long rows", h("span", { title: "More than 131,072 characters" }, number(statistics.num_long_rows))],
    ["Blank lines", number(statistics.num_blank_lines)],
  ];
  return h(
    "section.report-facts",
    h("h2", "File"),
    h("dl.facts", rows.map(([name, value]) => value && [h("dt", name), h("dd", value)])),
  );
}

/**
 * @param {string} title
 * @param {string} note
 * @param {Node} content
 */
function section(title, note, content) {
  return h("section.report-section", h("h2", title, note && h("span.report-note", note)), content);
}

/**
 * Columns side by side. Each is a list item that says its range and its count.
 * @param {readonly Bar[]} bins
 * @param {string} unit
 * @param {string} counted
 */
function histogram(bins, unit, counted) {
  const step = Math.ceil(bins.length / 14);
  return h(
    "ul.histogram",
    { style: { "--bins": bins.length } },
    bins.map(({ label, count, share }, index) =>
      h(
        "li",
        { title: `${label} ${unit}: ${formatNumber(count)} ${counted}` },
        h("span.visually-hidden", `${label} ${unit}: ${formatNumber(count)} ${counted}`),
        h("span.histogram-count", { "aria-hidden": "true" }, count ? formatCount(count) : ""),
        h("span.histogram-bar", {
          style: { height: `${count ? Math.max(2, share * 100) : 0}%` },
          "aria-hidden": "true",
        }),
        h("span.histogram-label", { "aria-hidden": "true" }, index % step ? "" : label),
      )
    ),
  );
}

/**
 * @param {readonly Bar[]} items
 * @param {(count: number) => string} format
 * @param {boolean} [isCode]  the labels are names in the file
 */
function bars(items, format, isCode = true) {
  return h(
    "dl.bars",
    items.map(({ label, count, share }) =>
      h(
        "div",
        h("dt", { title: label }, isCode ? h("code", label) : label),
        h(
          "dd",
          h("span.bars-track", { "aria-hidden": "true" }, h("span.bars-bar", { style: { width: `${share * 100}%` } })),
          h("span.bars-count", format(count)),
        ),
      )
    ),
  );
}
