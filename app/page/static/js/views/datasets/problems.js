/** Lists a dataset's problems, by code, with what to write instead. */

import { get } from "../../api.js";
import { h, icon } from "../../dom.js";
import { formatNumber, formatPlural } from "../../format.js";
import { emptyState, errorBox, skeleton } from "../../parts/basic.js";
import { ADVICE, countSeverities, severityOf, sortCodes } from "../../pure/dataset_advice.js";
import { may } from "../../session.js";
import { computed, effect, onEnd, signal, untracked } from "../../signals.js";
import { query, setQuery } from "../../url.js";
import { clean } from "./actions.js";

/**
 * @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut
 * @typedef {import("../../../../api.d.ts").ProblemOut} ProblemOut
 * @typedef {{severity: string, code: string, each: boolean}} Filter
 */

const PAGE = 100;

/** @param {DatasetOut} dataset */
export function problemsTab(dataset) {
  const counts = countSeverities(dataset.problem_counts);
  if (["uploading", "inspecting"].includes(dataset.state)) {
    return emptyState({
      icon: "clock",
      title: "Not inspected yet",
      text: "The problems are listed as soon as a worker has read the file.",
    });
  }
  if (!counts.error && !counts.warning) {
    return emptyState({
      icon: "check",
      title: "No problems",
      text: "Every row can be trained on, and nothing looks like a mistake.",
    });
  }
  const filter = computed(() => ({
    severity: query.value.get("severity") ?? "",
    code: query.value.get("code") ?? "",
    each: query.value.get("each") === "1",
  }));
  const list = readProblems(dataset.id, filter);
  return h(
    "div.problems",
    facets(dataset, counts, filter),
    h(
      "div.problem-list",
      () => (list.error.value ? errorBox(list.error.value, list.again) : null),
      () => {
        const items = list.items.value;
        if (!items) return list.error.value ? null : skeleton(8, "Loading problems");
        return untracked(() => groups(items, filter.value, dataset.problem_counts));
      },
      () =>
        list.cursor.value && list.items.value &&
        h("div.more-row", h("button", { type: "button", onclick: list.loadMore }, "Show more problems")),
    ),
  );
}

/**
 * @param {string} id
 * @param {{value: Filter}} filter
 */
function readProblems(id, filter) {
  const items = signal(/** @type {readonly ProblemOut[] | null} */ (null));
  const cursor = signal(/** @type {string | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  let abort = new AbortController();
  onEnd(() => abort.abort());
  const read = async () => {
    const { severity, code, each } = untracked(() => filter.value);
    const { signal: stopped } = abort;
    try {
      const values = { severity, code, each_row: each, limit: PAGE, cursor: cursor.peek() };
      const page = await get(`/datasets/${id}/problems`, { query: values, signal: stopped });
      items.value = [...(items.peek() ?? []), ...page.items];
      cursor.value = page.next_cursor;
      error.value = null;
    } catch (problem) {
      if (!stopped.aborted) error.value = problem;
    }
  };
  const key = computed(() => JSON.stringify(filter.value));
  const again = () => {
    abort.abort();
    abort = new AbortController();
    items.value = null;
    cursor.value = null;
    read();
  };
  effect(() => {
    key.value;
    untracked(again);
  });
  return { items, cursor, error, again, loadMore: read };
}

/**
 * The codes with their counts, as filters.
 * @param {DatasetOut} dataset
 * @param {{error: number, warning: number}} counts
 * @param {{value: Filter}} filter
 */
function facets(dataset, counts, filter) {
  const { num_bad_rows, num_examples, problem_counts } = dataset;
  const isCleanable = (num_bad_rows ?? 0) > 0 && (num_bad_rows ?? 0) < (num_examples ?? 0);
  const check = h("input", {
    type: "checkbox",
    ".checked": () => filter.value.each,
    onchange: () => setQuery({ each: check.checked ? "1" : null }),
  });
  const start = h("button.link", { type: "button", onclick: () => clean(dataset) }, "create a cleaned dataset");
  return h(
    "aside.facets",
    { "aria-label": "Filter problems" },
    h(
      "div.segmented",
      { role: "group", "aria-label": "Severity" },
      severityButton("", "All", counts.error + counts.warning, filter),
      severityButton("error", "Errors", counts.error, filter),
      severityButton("warning", "Warnings", counts.warning, filter),
    ),
    h("ul", sortCodes(problem_counts).map((each) => codeButton(each, filter))),
    h("label.check", check, "List each row"),
    may("write") && isCleanable && h("p.facet-note", "Or continue without these rows: ", start, "."),
  );
}

/**
 * @param {string} severity
 * @param {string} label
 * @param {number} count
 * @param {{value: Filter}} filter
 */
function severityButton(severity, label, count, filter) {
  return h(
    "button",
    {
      type: "button",
      "aria-pressed": () => String(filter.value.severity === severity),
      onclick: () => setQuery({ severity, code: null }),
      disabled: !count,
    },
    label,
    h("span.facet-count", formatNumber(count)),
  );
}

/**
 * @param {ReturnType<typeof sortCodes>[number]} each
 * @param {{value: Filter}} filter
 */
function codeButton({ code, count, severity }, filter) {
  const isChosen = () => filter.value.code === code;
  return h(
    "li",
    { hidden: () => Boolean(filter.value.severity) && filter.value.severity !== severity },
    h(
      "button.ghost.facet",
      {
        type: "button",
        "aria-pressed": () => String(isChosen()),
        onclick: () => setQuery({ code: untracked(isChosen) ? null : code }),
      },
      h("span.visually-hidden", severity, ": "),
      icon(severity, severity),
      h("span.truncate", { title: code }, code),
      h("span.facet-count", formatNumber(count)),
    ),
  );
}

/**
 * @param {readonly ProblemOut[]} items
 * @param {Filter} filter
 * @param {Record<string, number>} counts
 */
function groups(items, filter, counts) {
  if (!items.length) {
    return emptyState({
      icon: "search",
      title: "No problem matches",
      text: "The dataset has no problem of this severity and code.",
      action: h(
        "button",
        { type: "button", onclick: () => setQuery({ severity: null, code: null, each: null }) },
        "Remove filters",
      ),
    });
  }
  const byCode = Map.groupBy(items, (each) => each.code);
  return [...byCode].map(([code, members]) => group(code, members, counts[code] ?? members.length, filter));
}

/**
 * @param {string} code
 * @param {readonly ProblemOut[]} members
 * @param {number} count  all problems of the code
 * @param {Filter} filter
 */
function group(code, members, count, filter) {
  const severity = severityOf(code);
  const advice = ADVICE[code];
  const example = advice && (advice.wrong || advice.right);
  return h(
    "section.problem",
    { class: severity },
    h(
      "header",
      icon(severity === "error" ? "error" : "warning", severity),
      h("h2", advice?.title ?? code, h("span.visually-hidden", ` (${severity})`)),
      h("code.faint", code),
      h("span.problem-total", formatPlural(count, "time")),
    ),
    advice && h(
      "div.problem-advice",
      h("p", h("strong", "What to do: "), advice.instead),
      example &&
        h(
          "details",
          { open: severity === "error" && (filter.code === code || undefined) },
          h("summary", "Example"),
          exampleOf(advice),
        ),
    ),
    h("ul.problem-rows", members.map((each) => problemRow(each, filter.each))),
    code === "unused_key" || members.length < 1000
      ? null
      : h("p.faint", "The first thousand problems of a code are kept."),
  );
}

/** @param {import("../../pure/dataset_advice.js").Advice} advice */
function exampleOf({ wrong, right }) {
  const shown = (/** @type {string} */ label, /** @type {string} */ name, /** @type {string | undefined} */ text) =>
    text &&
    h(
      "figure",
      h("figcaption", icon(name), label),
      h("pre.code", { tabindex: 0, role: "region", "aria-label": label }, text),
    );
  return h("div.example", shown("Not", "cross", wrong), shown(wrong ? "Write instead" : "For example", "check", right));
}

/**
 * @param {ProblemOut} problem
 * @param {boolean} isSingle
 */
function problemRow(problem, isSingle) {
  const shown = isSingle || !problem.lines.length ? [problem.line] : problem.lines;
  const more = isSingle ? 0 : problem.count - shown.length;
  const lines = shown.map((line) => formatNumber(line)).join(", ");
  return h(
    "li",
    h(
      "p.problem-lines",
      h("span", `${shown.length > 1 ? "Lines" : "Line"} `, h("strong.tabular", lines)),
      more > 0 && h("span.faint", ` and ${formatNumber(more)} more`),
      problem.pointer && h("span.problem-pointer", " at ", h("code", problem.pointer)),
    ),
    h("p.break", problem.message),
  );
}
