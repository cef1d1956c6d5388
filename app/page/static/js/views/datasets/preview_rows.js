/** Shows one row of a preview at a time, token by token. */

import { h, icon } from "../../dom.js";
import { formatNumber, formatPercent, formatPlural } from "../../format.js";
import { pairAnswers } from "../../pure/dataset_tokens.js";
import { addShortcut } from "../../shortcuts.js";
import { computed, untracked } from "../../signals.js";
import { query, setQuery } from "../../url.js";
import { tokenTable, tokenText } from "./tokens.js";

/**
 * @typedef {import("../../../../api.d.ts").PreviewOut} PreviewOut
 * @typedef {import("../../../../api.d.ts").PreviewRow} PreviewRow
 * @typedef {import("./tokens.js").Shown} Shown
 */

/** @type {readonly {name: keyof Shown, label: string, isDefault: boolean}[]} */
const SWITCHES = [
  { name: "special", label: "Special tokens", isDefault: true },
  { name: "spaces", label: "Spaces and line breaks", isDefault: false },
  { name: "borders", label: "Token borders", isDefault: false },
];

/** @param {PreviewOut} preview */
export function previewRows(preview) {
  const groups = pairAnswers(preview.rows);
  if (!groups.length) return h("p.quiet", "No row is shown: the requested lines contain none.");
  const index = computed(() => Math.min(groups.length, Math.max(1, Number(query.value.get("row")) || 1)) - 1);
  const shown = computed(() => JSON.stringify(Object.fromEntries(SWITCHES.map((each) => [each.name, isOn(each)]))));
  const go = (/** @type {number} */ step) => {
    const next = Math.min(groups.length - 1, Math.max(0, index.peek() + step));
    setQuery({ row: next ? next + 1 : null });
  };
  addShortcut({ keys: "j", description: "Next row", group: "Preview", run: () => go(1) });
  addShortcut({ keys: "k", description: "Previous row", group: "Preview", run: () => go(-1) });
  return h(
    "section.preview-rows",
    { "aria-label": "Rows" },
    h("div.row-bar", pager(groups, index, go), h("div.row", SWITCHES.map(switchOf)), legend()),
    () => {
      const group = groups[index.value] ?? [];
      const how = /** @type {Shown} */ (JSON.parse(shown.value));
      return untracked(() =>
        h("div.token-columns", { class: group.length > 1 ? "answers" : "" }, group.map((row) => rowOf(row, how)))
      );
    },
  );
}

/** @param {typeof SWITCHES[number]} each */
function isOn({ name, isDefault }) {
  const value = query.value.get(name);
  return value === null ? isDefault : value === "1";
}

/** @param {typeof SWITCHES[number]} each */
function switchOf(each) {
  const set = (/** @type {boolean} */ value) =>
    setQuery({ [each.name]: value === each.isDefault ? null : value ? "1" : "0" });
  return h(
    "button",
    { type: "button", "aria-pressed": () => String(isOn(each)), onclick: () => set(!untracked(() => isOn(each))) },
    each.label,
  );
}

/**
 * @param {PreviewRow[][]} groups
 * @param {{value: number, peek: () => number}} index
 * @param {(step: number) => void} go
 */
function pager(groups, index, go) {
  const line = () => groups[index.value]?.[0]?.line ?? null;
  return h(
    "div.pager",
    h("button.icon-only", {
      type: "button",
      "aria-label": "Previous row",
      title: "Previous row (k)",
      "aria-disabled": () => String(index.value === 0),
      onclick: () => go(-1),
    }, icon("left")),
    h("button.icon-only", {
      type: "button",
      "aria-label": "Next row",
      title: "Next row (j)",
      "aria-disabled": () => String(index.value === groups.length - 1),
      onclick: () => go(1),
    }, icon("right")),
    h(
      "h2",
      { "aria-live": "polite" },
      "Line ",
      () => formatNumber(line()),
      h("span.faint.tabular", () => ` ${index.value + 1} of ${groups.length}`),
    ),
  );
}

function legend() {
  return h("p.legend", h("mark.trained", "trained"), h("span", "context"), h("code.special", "<special>"));
}

/**
 * @param {PreviewRow} row
 * @param {Shown} how
 */
function rowOf(row, how) {
  const share = row.num_tokens ? row.num_labelled_tokens / row.num_tokens : 0;
  const notes = [
    row.dropped && "This row is left out: it has no trained token.",
    row.in_validation_split && "This row is drawn for validation.",
  ].filter(Boolean);
  return h(
    "article.row-tokens",
    { "aria-label": row.answer ? `${row.answer} answer` : `Line ${row.line}` },
    h(
      "header",
      row.answer &&
        h(
          "h3",
          row.answer === "chosen" ? icon("check") : icon("cross"),
          row.answer === "chosen" ? "Chosen" : "Rejected",
        ),
      h(
        "p.tabular.quiet",
        `${formatPlural(row.num_tokens, "token")}, ${formatNumber(row.num_labelled_tokens)} trained (${
          formatPercent(share)
        })`,
      ),
      notes.map((note) => h("p.row-note", icon("info"), note)),
    ),
    h(
      "div.tokens",
      { tabindex: 0, role: "region", "aria-label": "Text of the row" },
      tokenText(row, how),
      truncated(row),
    ),
    tokenTable(row),
  );
}

/** @param {PreviewRow} row */
function truncated(row) {
  if (!row.num_truncated_tokens) return null;
  return h(
    "div.truncated",
    h(
      "p",
      icon("warning"),
      `${formatPlural(row.num_truncated_tokens, "token")} beyond max_seq_len ${
        row.num_truncated_tokens === 1 ? "is" : "are"
      } cut off and not learned:`,
    ),
    h("del", row.truncated_text),
    row.truncated_text && h("span.faint", " …"),
  );
}
