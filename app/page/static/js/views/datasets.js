/** Lists the project's datasets and uploads new ones. */

import { each, h, icon } from "../dom.js";
import { formatBytes, formatNumber, formatPlural } from "../format.js";
import { emptyState, errorBox, relativeTime, skeleton, stateBadge } from "../parts/basic.js";
import { countSeverities } from "../pure/dataset_advice.js";
import { FORMATS } from "../pure/dataset_options.js";
import { may } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { addShortcut } from "../shortcuts.js";
import { computed, effect } from "../signals.js";
import { numCreated } from "../upload.js";
import { linkTo, query, setQuery } from "../url.js";
import { DatasetList } from "./datasets/dataset_list.js";
import { dropZone, fileButton, uploadOptions } from "./datasets/drop_zone.js";
import { formatExamples } from "./datasets/examples.js";
import { uploadList } from "./datasets/upload_list.js";

/** @typedef {import("../../../api.d.ts").DatasetOut} DatasetOut */

/** @type {readonly [string, string, readonly string[]][]} */
const STATES = [
  ["", "All", []],
  ["ready", "Ready", ["ready"]],
  ["invalid", "Invalid", ["invalid"]],
  ["inspecting", "In progress", ["uploading", "inspecting"]],
];

export function render() {
  setTitle("Datasets");
  const state = computed(() => query.value.get("state") ?? "");
  const search = computed(() => (query.value.get("name") ?? "").toLowerCase());
  const format = computed(() => query.value.get("format") ?? "");
  const states = () => STATES.find(([name]) => name === state.value)?.[2] ?? [];
  const list = new DatasetList(states, () => numCreated.value);
  const isFiltered = computed(() => Boolean(state.value || search.value || format.value));
  const shown = computed(() =>
    list.items.value?.filter((dataset) =>
      dataset.filename.toLowerCase().includes(search.value) && (!format.value || dataset.format === format.value)
    ) ?? null
  );
  const kind = computed(() => (shown.value === null ? "loading" : shown.value.length ? "some" : "none"));
  const hasFilters = computed(() => kind.value !== "none" || isFiltered.value);
  effect(() => {
    if ((search.value || format.value) && list.items.value && list.cursor.value) list.loadAll();
  });
  return h(
    "div.datasets",
    dropZone(),
    viewHeader("Datasets", { actions: may("write") && fileButton() }),
    may("write") && uploadOptions(),
    uploadList(),
    () => (hasFilters.value ? filters(state, format) : null),
    () => (list.error.value ? errorBox(list.error.value, list.again) : null),
    () => {
      if (kind.value === "loading") return list.error.value ? null : skeleton(8, "Loading datasets");
      if (kind.value === "some") return table(() => shown.value ?? []);
      return isFiltered.value ? noMatch() : noDatasets();
    },
    () =>
      list.cursor.value && kind.value !== "loading" &&
      h("div.more-row", h("button", { type: "button", onclick: () => list.loadMore() }, "Show older datasets")),
  );
}

/**
 * @param {{value: string}} state
 * @param {{value: string}} format
 */
function filters(state, format) {
  const search = h("input", {
    type: "search",
    placeholder: "Filter by name",
    "aria-label": "Filter by name",
    oninput: () => setQuery({ name: search.value.trim() }),
  });
  effect(() => {
    const name = query.value.get("name") ?? "";
    if (search.value.trim() !== name) search.value = name;
  });
  addShortcut({ keys: "/", description: "Filter datasets by name", group: "Datasets", run: () => search.focus() });
  const states = STATES.map(([name, label]) =>
    h(
      "button",
      { type: "button", "aria-pressed": () => String(state.value === name), onclick: () => setQuery({ state: name }) },
      label,
    )
  );
  const formats = h(
    "select",
    { "aria-label": "Format", onchange: () => setQuery({ format: formats.value }) },
    h("option", { value: "" }, "All formats"),
    FORMATS.map((each) => h("option", { value: each, selected: () => format.value === each }, each)),
  );
  return h(
    "div.dataset-filters",
    h("div.segmented", { role: "group", "aria-label": "State" }, states),
    h("div.search", icon("search"), search),
    formats,
  );
}

/** @param {() => readonly DatasetOut[]} items */
function table(items) {
  const heads = ["Format", "Rows", "Size", "Problems", "Created", "Expires"];
  const expires = computed(() => items().some((each) => each.expires_at));
  return h(
    "div.table-scroll",
    { tabindex: 0, role: "region", "aria-label": "Datasets" },
    h(
      "table.dataset-table",
      { class: () => (expires.value ? "" : "never-expires") },
      h(
        "thead",
        h(
          "tr",
          h("th", { scope: "col" }, "Name"),
          h("th", { scope: "col" }, "State"),
          heads.map((head) =>
            h("th.wide-only", { scope: "col", class: ["Rows", "Size"].includes(head) ? "number" : "" }, head)
          ),
        ),
      ),
      h("tbody", each(items, (dataset) => dataset.id, row)),
    ),
  );
}

/** @param {import("../signals.js").Signal<DatasetOut>} dataset */
function row(dataset) {
  const rows = () => (dataset.value.num_examples === null ? "–" : formatNumber(dataset.value.num_examples));
  const short = () =>
    [
      dataset.value.format,
      dataset.value.num_examples === null ? null : formatPlural(dataset.value.num_examples, "row"),
      formatBytes(dataset.value.bytes),
    ].filter(Boolean).join(" · ");
  return h(
    "tr",
    h(
      "td.dataset-name",
      h(
        "a.main-link.break",
        { href: linkTo(`/datasets/${dataset.peek().id}`), title: dataset.peek().filename },
        () => dataset.value.filename,
      ),
      h(
        "span.narrow-only.faint",
        short,
        " · ",
        relativeTime(dataset.peek().created_at),
        () => problemCounts(dataset.value),
      ),
    ),
    h("td", stateBadge(() => dataset.value.state)),
    h("td.wide-only", () => dataset.value.format ? h("code", dataset.value.format) : h("span.faint", "–")),
    h("td.wide-only.number", rows),
    h("td.wide-only.number", () => (dataset.value.bytes ? formatBytes(dataset.value.bytes) : "–")),
    h("td.wide-only", () => problemCounts(dataset.value) ?? h("span.faint", dataset.value.statistics ? "None" : "–")),
    h("td.wide-only.nowrap", relativeTime(dataset.peek().created_at)),
    h(
      "td.wide-only.nowrap",
      () => dataset.value.expires_at ? relativeTime(dataset.value.expires_at) : h("span.faint", "Never"),
    ),
  );
}

/** @param {DatasetOut} dataset */
function problemCounts({ id, problem_counts }) {
  const { error, warning } = countSeverities(problem_counts);
  if (!error && !warning) return null;
  const link = (/** @type {"error" | "warning"} */ severity, /** @type {number} */ count) =>
    count > 0 &&
    h(
      "a.problem-count",
      {
        class: severity,
        href: linkTo(`/datasets/${id}`, { tab: "problems", severity }),
        title: `Show the ${formatPlural(count, severity)}`,
      },
      icon(severity === "error" ? "error" : "warning"),
      formatPlural(count, severity),
    );
  return h("span.problem-counts", link("error", error), link("warning", warning));
}

function noMatch() {
  return emptyState({
    icon: "search",
    title: "No dataset matches",
    text: "No dataset has this name, format and state.",
    action: h(
      "button",
      { type: "button", onclick: () => setQuery({ state: null, name: null, format: null }) },
      "Remove filters",
    ),
  });
}

function noDatasets() {
  return h(
    "div.stack-large",
    emptyState({
      icon: "dataset",
      title: "Upload your first dataset",
      text: "A dataset is a file of rows to train or evaluate on: JSON Lines, JSON, CSV, Parquet or plain text, also " +
        "compressed with gzip or zstd. Drop a file here or choose one. It is inspected at once, and each problem is " +
        "shown with its line and what to write instead.",
      action: may("write") ? fileButton() : null,
    }),
    formatExamples(),
  );
}
