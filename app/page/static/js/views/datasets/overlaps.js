/** Checks which rows of a validation dataset the dataset contains too. */

import { createIdempotencyKey, get, post } from "../../api.js";
import { h, icon } from "../../dom.js";
import { formatNumber, formatPlural } from "../../format.js";
import { emptyState, errorBox, relativeTime, skeleton, stateBadge } from "../../parts/basic.js";
import { formatShare } from "../../pure/dataset_bars.js";
import { may } from "../../session.js";
import { computed, onEnd, signal, untracked } from "../../signals.js";
import { linkTo } from "../../url.js";
import { Checks } from "./checks.js";
import { FAILURES } from "./preview.js";

/**
 * @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut
 * @typedef {import("../../../../api.d.ts").OverlapOut} OverlapOut
 * @typedef {import("../../../../api.d.ts").OverlapSummary} OverlapSummary
 */

const MOST_LISTED = 100;

/** @param {DatasetOut} dataset */
export function overlapsTab(dataset) {
  /** @type {import("./checks.js").Checks<OverlapSummary, OverlapOut>} */
  const checks = new Checks(dataset.id, "overlaps", "overlap");
  const others = readOthers(dataset.id, checks.error);
  const nameOf = (/** @type {string} */ id) => others.value?.find((each) => each.id === id)?.filename ?? id;
  const key = computed(() => `${checks.present.value?.id} ${checks.present.value?.state}`);
  const isLoading = computed(() => (checks.list.value === null || others.value === null) && !checks.error.value);
  const hasChecks = computed(() => (checks.list.value?.length ?? 0) > 0);
  return h(
    "div.stack-large",
    () => {
      if (!may("write") || !others.value) return null;
      return untracked(() => overlapForm(dataset, others.peek() ?? [], (check) => checks.show(check)));
    },
    () => (checks.error.value ? errorBox(checks.error.value, checks.again) : null),
    () => {
      if (isLoading.value) return skeleton(5, "Loading overlap checks");
      if (!hasChecks.value) return explanation();
      return untracked(() => past(dataset.id, checks, nameOf));
    },
    () => {
      key.value;
      return untracked(() =>
        checks.present.peek() && result(/** @type {OverlapOut} */ (checks.present.peek()), nameOf)
      );
    },
  );
}

/**
 * @param {string} id
 * @param {import("../../signals.js").Signal<unknown>} error
 */
function readOthers(id, error) {
  const others = signal(/** @type {readonly DatasetOut[] | null} */ (null));
  const abort = new AbortController();
  onEnd(() => abort.abort());
  get("/datasets", { query: { limit: MOST_LISTED }, signal: abort.signal }).then(({ items }) => {
    others.value = items.filter((/** @type {DatasetOut} */ each) => each.id !== id);
  }).catch((problem) => {
    if (!abort.signal.aborted) error.value = problem;
  });
  return others;
}

/**
 * @param {DatasetOut} dataset
 * @param {readonly DatasetOut[]} others
 * @param {(check: OverlapOut) => void} show
 */
function overlapForm(dataset, others, show) {
  const problem = signal("");
  const isBusy = signal(false);
  const select = h(
    "select",
    { id: "overlap-other", required: true, "aria-describedby": "overlap-help" },
    others.map((each) =>
      h(
        "option",
        { value: each.id },
        `${each.filename} (${each.num_examples === null ? each.state : formatPlural(each.num_examples, "row")})`,
      )
    ),
  );
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    isBusy.value = true;
    problem.value = "";
    try {
      const body = { validation_dataset_id: select.value };
      show(await post(`/datasets/${dataset.id}/overlaps`, body, { idempotencyKey: createIdempotencyKey() }));
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    }
    isBusy.value = false;
  };
  return h(
    "form.overlap-form",
    { onsubmit: submit, "aria-label": "New overlap check" },
    h(
      "div.field",
      h("label", { for: "overlap-other" }, "Validation dataset"),
      select,
      h(
        "p.field-help",
        { id: "overlap-help" },
        others.length ? "Its rows are looked up in this dataset." : "Upload a second dataset to compare with.",
      ),
      h("p.field-problem", { role: "alert" }, () => problem.value),
    ),
    h("button.primary", { type: "submit", disabled: () => isBusy.value || !others.length }, icon("compare"), "Check"),
  );
}

function explanation() {
  return emptyState({
    icon: "compare",
    title: "Compare with a validation dataset",
    text:
      "Rows that are in both datasets make the validation loss too low: the model has seen them. A check counts them " +
      "and lists their lines.",
  });
}

/**
 * @param {string} id
 * @param {import("./checks.js").Checks<OverlapSummary, OverlapOut>} checks
 * @param {(id: string) => string} nameOf
 */
function past(id, checks, nameOf) {
  const cell = (/** @type {number | undefined} */ count) =>
    h("td.number", count === undefined ? "–" : formatNumber(count));
  const row = (/** @type {OverlapSummary} */ each) =>
    h(
      "tr",
      { "aria-current": () => (checks.present.value?.id === each.id ? "true" : null) },
      h(
        "td",
        h(
          "a.main-link.break",
          { href: linkTo(`/datasets/${id}`, { tab: "overlaps", overlap: each.id }) },
          () => nameOf(each.validation_dataset_id),
        ),
      ),
      h("td", stateBadge(each.state)),
      cell(each.totals?.num_exact),
      cell(each.totals?.num_normalised),
      h("td.nowrap", relativeTime(each.created_at)),
    );
  return h(
    "div.table-scroll",
    { tabindex: 0, role: "region", "aria-label": "Overlap checks" },
    h(
      "table.overlap-table",
      h(
        "thead",
        h(
          "tr",
          h("th", { scope: "col" }, "Validation dataset"),
          h("th", { scope: "col" }, "State"),
          h("th.number", { scope: "col" }, "Exact"),
          h("th.number", {
            scope: "col",
            title: "Ignoring white space and the case of A to Z; exact ones are included",
          }, "Normalised"),
          h("th", { scope: "col" }, "Checked"),
        ),
      ),
      h("tbody", () => (checks.list.value ?? []).map(row)),
    ),
  );
}

/**
 * @param {OverlapOut} check
 * @param {(id: string) => string} nameOf
 */
function result(check, nameOf) {
  if (check.state === "failed") {
    const code = check.failure?.code ?? "";
    return notice("bad", ["The check failed: ", h("code", code)], check.failure?.message, FAILURES[code]);
  }
  if (!check.totals) {
    return h("p.row.quiet", { role: "status" }, icon("clock"), "A light worker compares the datasets.");
  }
  const { num_exact: exact, num_normalised: normalised, num_rows, num_validation_rows: total } = check.totals;
  if (!normalised) {
    const compared = `${formatNumber(total)} validation rows were compared with ${formatNumber(num_rows)} rows.`;
    return notice("good", "No row is in both datasets", compared);
  }
  const share = formatShare(normalised / Math.max(1, total));
  const verb = normalised === 1 ? "is" : "are";
  return h(
    "section.stack",
    { "aria-label": "Result" },
    notice(
      "warn",
      `${formatNumber(normalised)} of ${formatPlural(total, "validation row")} (${share}) ${verb} in this dataset too`,
      `${formatNumber(exact)} exactly, ${formatNumber(normalised - exact)} with other white space or case. ` +
        "Remove them from one of the files, or the validation loss is too low.",
    ),
    pairTable(check, () => nameOf(check.validation_dataset_id)),
    check.pairs.length < normalised && h("p.faint", `The first ${formatNumber(check.pairs.length)} pairs are listed.`),
  );
}

/**
 * @param {"good" | "warn" | "bad"} tone
 * @param {import("../../dom.js").Child} title
 * @param {...(string | null | undefined)} texts
 */
function notice(tone, title, ...texts) {
  const names = { good: "check", warn: "warning", bad: "error" };
  const lines = texts.filter(Boolean).map((text) => h("p", text));
  return h(`div.notice.tone-${tone}`, icon(names[tone]), h("div.notice-text", h("strong", title), lines));
}

/**
 * @param {OverlapOut} check
 * @param {() => string} name  of the validation dataset
 */
function pairTable({ pairs }, name) {
  const rows = pairs.map((pair) =>
    h(
      "tr",
      h("td.number", formatNumber(pair.validation_line)),
      h("td.number", formatNumber(pair.line)),
      h("td", pair.exact ? "the same" : "other white space or case"),
    )
  );
  const heads = h(
    "tr",
    h("th.number", { scope: "col" }, "Line of ", name),
    h("th.number", { scope: "col" }, "Line of this dataset"),
    h("th", { scope: "col" }, "Texts"),
  );
  return h(
    "div.table-scroll.overlap-pairs",
    { tabindex: 0, role: "region", "aria-label": "Rows in both datasets" },
    h("table", h("thead", heads), h("tbody", rows)),
  );
}
