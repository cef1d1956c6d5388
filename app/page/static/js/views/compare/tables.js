/** What came of the compared jobs, and the fields in which their specs differ. */

import { get } from "../../api.js";
import { h, icon } from "../../dom.js";
import { formatPlural } from "../../format.js";
import { now, stateBadge } from "../../parts/basic.js";
import { SPEED } from "../../pure/compare_metrics.js";
import {
  COLUMNS,
  describeDifference,
  findBest,
  findBestPlaces,
  findMedian,
  measureDuration,
} from "../../pure/compare_results.js";
import { compareSpecs } from "../../pure/compare_specs.js";
import { computed, signal } from "../../signals.js";
import { linkTo } from "../../url.js";
import { swatch } from "./swatch.js";

/**
 * @typedef {import("./charts.js").Board} Board
 * @typedef {import("./model.js").Entry} Entry
 */

/**
 * @param {Entry} entry
 * @returns {import("../../pure/compare_results.js").Results}
 */
function resultsOf(entry) {
  entry.version.value;
  const job = entry.job.value;
  const validation = entry.curves.curve("validation_loss")?.base;
  const speed = entry.curves.curve(SPEED)?.base;
  return {
    best: validation ? findBest(validation.steps, validation.values) : null,
    loss: job?.last_metrics.loss ?? null,
    speed: findMedian(speed?.values ?? []),
    seconds: job && measureDuration(job, now.value),
  };
}

/**
 * @param {Board} board
 * @returns {Node}
 */
export function resultsTable(board) {
  const results = computed(() => board.entries().map(resultsOf));
  const isOneObjective = computed(() =>
    new Set(board.entries().flatMap((entry) => entry.job.value?.spec.objective ?? [])).size < 2
  );
  const best = computed(() =>
    COLUMNS.map(({ read, isLowerBetter, isLoss }) =>
      findBestPlaces(results.value.map(read), isLoss && !isOneObjective.value ? null : isLowerBetter)
    )
  );
  const basis = computed(() => results.value[board.options.ids.value.indexOf(board.options.baseline.value)] ?? null);
  return h(
    "div.table-scroll",
    { tabindex: 0, role: "region", "aria-label": "Results" },
    h(
      "table.compare-results",
      h(
        "thead",
        h(
          "tr",
          h("th", { scope: "col" }, "Job"),
          h("th", { scope: "col" }, "State"),
          COLUMNS.map(({ label }) => h("th.number", { scope: "col" }, label)),
        ),
      ),
      h("tbody", () => board.entries().map((entry, place) => resultRow(entry, place, board, { results, best, basis }))),
    ),
  );
}

/**
 * @param {Entry} entry
 * @param {number} place
 * @param {Board} board
 * @param {{results: {value: import("../../pure/compare_results.js").Results[]}, best: {value: Set<number>[]},
 *   basis: {value: import("../../pure/compare_results.js").Results | null}}} shown
 */
function resultRow(entry, place, { options, highlighted }, { results, best, basis }) {
  return h(
    "tr",
    {
      class: () => (highlighted.value === entry.id ? "highlighted" : ""),
      onpointerenter: () => (highlighted.value = entry.id),
      onpointerleave: () => (highlighted.value = null),
    },
    h(
      "th.compare-job",
      { scope: "row" },
      h(
        "span",
        () => swatch(place, options.baseline.value === entry.id),
        h("a.main-link.truncate", { href: linkTo(`/jobs/${entry.id}`), title: () => entry.name }, () => entry.name),
        () => options.baseline.value === entry.id && h("span.chip", "baseline"),
      ),
    ),
    h("td", () => stateOf(entry)),
    COLUMNS.map((column, index) => {
      const value = () => {
        const found = results.value[place];
        return found ? column.read(found) : null;
      };
      const isBest = () => best.value[index]?.has(place) ?? false;
      const difference = () => {
        if (!basis.value || options.baseline.value === entry.id || column.isPlace) return "";
        return describeDifference(value(), column.read(basis.value));
      };
      return h(
        "td.number",
        h("span", {
          class: () => (isBest() ? "best-value" : ""),
          title: () => (isBest() ? "The best of these jobs" : null),
        }, () => {
          const present = value();
          return present === null ? "–" : column.format(present);
        }),
        h("span.difference", { hidden: () => !difference() }, difference),
      );
    }),
  );
}

/** @param {Entry} entry */
function stateOf(entry) {
  if (entry.state.value === "missing") return h("span.faint", "not found");
  if (entry.isDeleted.value) return h("span.faint", "deleted");
  const job = entry.job.value;
  return job ? stateBadge(job.state) : h("span.faint", entry.state.value === "failed" ? "not read" : "…");
}

/**
 * @param {Board} board
 * @returns {Node}
 */
export function specTable(board) {
  const { options } = board;
  readDatasetNames();
  const isBaseline = (/** @type {Entry} */ entry) => entry.id === options.baseline.value;
  // A job's spec never changes; what was decided for `auto` does, once an attempt starts.
  const text = computed(() =>
    JSON.stringify(board.entries().map(({ id, job }) => [id, job.value?.id, job.value?.resolved.at(-1)]))
  );
  const content = computed(() => {
    text.value;
    const entries = board.entries().filter((entry) => entry.job.peek());
    const rows = compareSpecs(entries.map((entry) => /** @type {any} */ (entry.job.peek())));
    return { entries, rows };
  });
  const numSame = computed(() => content.value.rows.filter((row) => !row.differs).length);
  return h(
    "section.compare-specs",
    h(
      "div.row.between",
      h("h2", "Differences"),
      h(
        "button.ghost",
        {
          type: "button",
          hidden: () => numSame.value === 0,
          "aria-pressed": () => String(options.showsAll.value),
          onclick: () => options.change({ showsAll: !options.showsAll.peek() }),
        },
        () => options.showsAll.value ? "Show only what differs" : `Show ${formatPlural(numSame.value, "equal field")}`,
      ),
    ),
    () => {
      const { entries, rows } = content.value;
      const differing = rows.filter((row) => row.differs || options.showsAll.value);
      if (!entries.length) return null;
      if (differing.length) return specRows(differing, entries, board, entries.findIndex(isBaseline));
      return h(
        "p.quiet",
        entries.length < 2 ? "Add another job to see what differs." : "The specs of these jobs do not differ.",
      );
    },
  );
}

/**
 * @param {readonly import("../../pure/compare_specs.js").FieldRow[]} rows
 * @param {readonly Entry[]} entries
 * @param {Board} board
 * @param {number} baseline
 */
function specRows(rows, entries, { options, highlighted }, baseline) {
  const mark = (/** @type {Entry} */ entry) => ({ class: () => (highlighted.value === entry.id ? "highlighted" : "") });
  return h(
    "div.table-scroll",
    { tabindex: 0, role: "region", "aria-label": "Differences" },
    h(
      "table.difference-table",
      h(
        "thead",
        h(
          "tr",
          h("th", { scope: "col" }, "Field"),
          entries.map((entry) =>
            h(
              "th",
              { scope: "col", ...mark(entry) },
              h(
                "span.spec-job",
                swatch(options.ids.value.indexOf(entry.id), baseline >= 0 && entries[baseline] === entry),
                h("span.truncate", { title: () => entry.name }, () => entry.name),
              ),
            )
          ),
        ),
      ),
      h(
        "tbody",
        rows.map((row) =>
          h(
            "tr",
            { class: row.differs ? "" : "same" },
            h("th", { scope: "row", title: row.field }, row.label),
            row.values.map((value, place) => {
              const differs = baseline >= 0 && place !== baseline && value !== row.values[baseline];
              return h(
                "td",
                mark(/** @type {Entry} */ (entries[place])),
                h(differs ? "strong" : "span", { class: value ? "" : "faint" }, showValue(row.field, value)),
              );
            }),
          )
        ),
      ),
    ),
  );
}

/**
 * A dataset is shown by its file's name, other values as they are.
 * @param {string} field
 * @param {string} value
 */
function showValue(field, value) {
  if (!field.endsWith("dataset_id") || !value) return value || "–";
  return h("a", { href: linkTo(`/datasets/${value}`), title: value }, () => datasetNames.value.get(value) ?? value);
}

/** The file names of the newest datasets, by id. @type {import("../../signals.js").Signal<ReadonlyMap<string, string>>} */
const datasetNames = signal(new Map());

async function readDatasetNames() {
  try {
    const page = await get("/datasets", { query: { limit: 100 } });
    datasetNames.value = new Map(page.items.map((/** @type {any} */ each) => [each.id, each.filename]));
  } catch {
    // The ids remain.
  }
}

/**
 * Say which jobs cannot be shown, and offer to remove them.
 * @param {Board} board
 * @param {(entry: Entry) => void} retry
 */
export function problems(board, retry) {
  const { options } = board;
  const remove = (/** @type {Entry} */ entry) =>
    options.change({ ids: options.ids.peek().filter((id) => id !== entry.id) });
  return () =>
    board.entries().map((entry) => {
      const state = entry.isDeleted.value ? "deleted" : entry.state.value;
      if (state === "ready" || state === "loading") return null;
      const error = entry.error.value;
      const texts = {
        missing: `There is no job ${entry.id} in this project. It may have been deleted.`,
        deleted: `${entry.name} was deleted. Its curves stay until you leave this page.`,
        failed: `${entry.id} could not be read. ${error instanceof Error ? error.message : ""}`,
      };
      return h(
        "div.notice.tone-warn",
        { role: "status" },
        icon("warning"),
        h("div.notice-text", h("p", texts[state])),
        state === "failed" && h("button", { type: "button", onclick: () => retry(entry) }, icon("retry"), "Try again"),
        h("button", { type: "button", onclick: () => remove(entry) }, "Remove"),
      );
    });
}
