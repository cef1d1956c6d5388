/** What was asked for, beside what was decided. */

import { h, icon, when } from "../../dom.js";
import { formatPlural } from "../../format.js";
import { copyButton } from "../../parts/basic.js";
import { compareSpec, formatField, hideEmptyFields, writeCall } from "../../pure/job_spec.js";
import { computed, signal, untracked } from "../../signals.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../../pure/job_spec.js").SpecGroup} SpecGroup */
/** @typedef {import("../../pure/job_spec.js").SpecRow} SpecRow */
/** @typedef {"json" | "curl" | "python" | "cli"} Language */

/** @type {readonly [Language, string][]} */
const LANGUAGES = [["json", "JSON"], ["curl", "curl"], ["python", "Python"], ["cli", "CLI"]];

/** @param {JobModel} model */
export function specTab(model) {
  const text = computed(() => JSON.stringify([model.job.value?.spec, model.job.value?.resolved.at(-1) ?? null]));
  const showsAll = signal(false);
  return h(
    "div.with-aside.job-spec",
    h("div.stack", inexactResumes(model), () => {
      const [spec, resolved] = JSON.parse(text.value);
      return untracked(() => specTable(compareSpec(spec, resolved), resolved?.attempt ?? null, showsAll));
    }),
    callPanel(model),
  );
}

/**
 * @param {readonly SpecGroup[]} all
 * @param {number | null} attempt
 * @param {import("../../signals.js").Signal<boolean>} showsAll
 */
function specTable(all, attempt, showsAll) {
  const { groups: filled, numHidden } = hideEmptyFields(all);
  const decided = attempt === null ? "Decided" : `Decided (attempt ${attempt})`;
  return [
    attempt === null && h("p.faint", "What is left to “auto” is decided when the training starts."),
    h(
      "div.table-scroll",
      { tabindex: 0, role: "region", "aria-label": "Spec" },
      h(
        "table.job-spec-table",
        h(
          "thead",
          h(
            "tr",
            h("th", { scope: "col" }, "Field"),
            h("th", { scope: "col" }, "Asked"),
            h("th", { scope: "col" }, decided),
          ),
        ),
        () => (showsAll.value ? all : filled).map(specGroup),
      ),
    ),
    numHidden > 0 &&
    h(
      "button.ghost.fields-toggle",
      { type: "button", onclick: () => (showsAll.value = !showsAll.peek()) },
      () => showsAll.value ? "Hide fields without a value" : `Show ${formatPlural(numHidden, "field")} without a value`,
    ),
  ];
}

/** @param {SpecGroup} group */
function specGroup({ title, rows }) {
  return h(
    "tbody",
    h("tr.spec-group", h("th", { colspan: 3, scope: "rowgroup" }, title)),
    rows.map(specRow),
  );
}

/**
 * @param {SpecRow} row
 */
function specRow(row) {
  const name = row.field.slice(row.field.indexOf(".") + 1);
  const asked = row.asked === undefined ? h("span.faint", "–") : value(row.asked);
  return h(
    row.differs ? "tr.differs" : "tr",
    h("th", { scope: "row" }, h("code", { title: row.field }, name)),
    h("td.break", { colspan: row.isDecided ? null : 2 }, asked),
    row.isDecided &&
      h(
        "td.break",
        row.differs ? [h("strong", value(row.decided)), h("span.visually-hidden", " (differs)")] : value(row.decided),
      ),
  );
}

/** @param {unknown} given */
function value(given) {
  return given === null ? h("span.faint", "null") : formatField(given);
}

/** @param {JobModel} model */
function inexactResumes(model) {
  return when(() => model.job.value?.inexact_resumes.length, () =>
    h(
      "div.notice.tone-warn",
      icon("warning"),
      h(
        "div.notice-text",
        h("p", h("strong", "This training is not exact.")),
        h(
          "p",
          "It continued on a machine that computes other last bits, so an uninterrupted training would give slightly other weights.",
        ),
        () =>
          model.job.value?.inexact_resumes.map(({ step, differs }) =>
            h(
              "p",
              `From step ${step}: `,
              Object.entries(differs).map((
                [name, { before, now }],
                index,
              ) => [index ? "; " : "", h("code", name), ` ${formatField(before)} → ${formatField(now)}`]),
            )
          ),
      ),
    ));
}

/** @param {JobModel} model */
function callPanel(model) {
  const language = signal(/** @type {Language} */ ("json"));
  const spec = computed(() => JSON.stringify(model.job.value?.spec ?? null));
  const text = computed(() => writeCall(language.value, JSON.parse(spec.value), location.origin));
  return h(
    "section.job-call",
    { "aria-labelledby": "call-title" },
    h("div.row.between", h("h2", { id: "call-title" }, "The same job again"), copyButton(() => text.peek(), "Copy")),
    h(
      "div.segmented",
      { role: "group", "aria-label": "Language" },
      LANGUAGES.map(([id, label]) =>
        h("button", {
          type: "button",
          "aria-pressed": () => String(language.value === id),
          onclick: () => (language.value = id),
        }, label)
      ),
    ),
    h("pre.code", { tabindex: 0, "aria-label": "The call" }, () => text.value),
  );
}
