/** Up to eight jobs beside each other: their curves in the same charts, what came of them, and how their specs differ. */

import { ChartGroup } from "../chart/group.js";
import { each, h, icon } from "../dom.js";
import { emptyState } from "../parts/basic.js";
import { labelMetric, listShared, LOSSES } from "../pure/compare_metrics.js";
import { readComparison } from "../pure/compare_url.js";
import { MOST_COMPARED } from "../pure/jobs_selection.js";
import { setTitle, viewHeader } from "../shell.js";
import { addShortcut } from "../shortcuts.js";
import { computed, effect, onEnd, signal, untracked } from "../signals.js";
import { linkTo, path, query } from "../url.js";
import { metricChart } from "./compare/charts.js";
import { FinerCurves } from "./compare/finer.js";
import { legend } from "./compare/legend.js";
import { CompareModel } from "./compare/model.js";
import { controls, metricChooser, Options } from "./compare/options.js";
import { pickJobs } from "./compare/picker.js";
import { problems, resultsTable, specTable } from "./compare/tables.js";

/** @returns {Node} */
export function render() {
  setTitle("Compare");
  const options = new Options();
  const model = new CompareModel();
  const board = {
    entries: () => model.entries.value,
    options,
    group: new ChartGroup(),
    hidden: signal(/** @type {readonly string[]} */ ([])),
    highlighted: signal(/** @type {string | null} */ (null)),
  };
  effect(() => {
    const ids = options.ids.value;
    if (path.peek() === "/compare") untracked(() => model.setIds(ids));
  });
  addShortcut({ keys: "a", description: "Add jobs", group: "Compare", run: () => pickJobs(options) });
  const isEmpty = computed(() => options.ids.value.length === 0);
  return h(
    "div.compare-view",
    viewHeader("Compare", { actions: () => !isEmpty.value && addButton(options) }),
    () => isEmpty.value ? noJobs(options) : comparison(board, model),
  );
}

/** @param {Options} options */
function addButton(options) {
  return h(
    "button",
    {
      type: "button",
      disabled: () => options.ids.value.length >= MOST_COMPARED,
      title: () =>
        options.ids.value.length >= MOST_COMPARED ? `${MOST_COMPARED} jobs are compared at most` : "Add jobs (a)",
      onclick: () => pickJobs(options),
    },
    icon("plus"),
    "Add jobs",
  );
}

/** @param {Options} options */
function noJobs(options) {
  return emptyState({
    icon: "compare",
    title: "Compare jobs",
    text: [
      `Choose up to ${MOST_COMPARED} jobs to see their curves in the same charts, their best values, and what differs in their specs. `,
      "In the list of jobs, select some and choose Compare.",
    ],
    action: h(
      "div.actions",
      h("button.primary", { type: "button", onclick: () => pickJobs(options) }, icon("plus"), "Choose jobs"),
      h("a.button", { href: linkTo("/jobs") }, "Show the jobs"),
    ),
  });
}

/**
 * @param {import("./compare/charts.js").Board} board
 * @param {CompareModel} model
 */
function comparison(board, model) {
  return untracked(() => {
    const shared = followShared(board);
    const charts = computed(() => [...LOSSES.filter(isShown(shared)), ...board.options.metrics.value].join(" "));
    followZoom(board, () => charts.value.split(" "));
    return h(
      "div.stack-large",
      h("div.compare-top", legend(board), controls(board.options, board.entries)),
      h("div.stack", { class: "compare-problems" }, problems(board, (entry) => model.load(entry))),
      h(
        "div.compare-charts",
        each(() => charts.value.split(" ").filter(Boolean), (name) => name, (_, name) => metricChart(name, board)),
      ),
      metricChooser(board.options, () => shared.value, LOSSES, labelMetric),
      h("section", h("h2.compare-title", "Results"), resultsTable(board)),
      specTable(board),
    );
  });
}

/**
 * A loss without values is not shown, except the training loss while nothing is known.
 * @param {{readonly value: readonly string[]}} shared
 */
function isShown(shared) {
  return (/** @type {string} */ name) => name === "loss" || shared.value.includes(name);
}

/** @param {import("./compare/charts.js").Board} board */
function followShared(board) {
  const text = computed(() => {
    const names = board.entries().map((entry) => {
      entry.version.value;
      return [...new Set([...Object.keys(entry.job.value?.last_metrics ?? {}), ...entry.curves.names()])];
    });
    return listShared(names).join(" ");
  });
  return computed(() => text.value.split(" ").filter(Boolean));
}

/**
 * @param {import("./compare/charts.js").Board} board
 * @param {() => readonly string[]} names  the metrics of the charts
 */
function followZoom({ entries, group, options }, names) {
  const finer = new FinerCurves();
  onEnd(() => finer.end());
  group.addEventListener("zoom", (event) => {
    const { from, to } = /** @type {CustomEvent} */ (event).detail;
    options.change({ zoom: from === null ? null : { from, to } });
  });
  const text = computed(() => JSON.stringify(readComparison(query.value).zoom));
  effect(() => {
    const zoom = JSON.parse(text.value);
    queueMicrotask(() => (group.zoom = zoom));
    const ready = entries().filter((entry) => entry.state.value === "ready");
    finer.show(ready, names(), zoom, options.xKind.value);
  });
}
