/** What was asked for, beside what was decided. */

import { h, icon, when } from "../../dom.js";
import { copyButton } from "../../parts/basic.js";
import { compareSpec, formatField, writeCall } from "../../pure/job_spec.js";
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
  return h(
    "div.with-aside.spec",
    h("div.stack", inexactResumes(model), () => {
      const [spec, resolved] = JSON.parse(text.value);
      return untracked(() => specTable(compareSpec(spec, resolved), resolved?.attempt ?? null));
    }),
    callPanel(model),
  );
}

/**
 * @param {readonly SpecGroup[]} groups
 * @param {number | null} attempt
 */
function specTable(groups, attempt) {
  const decided = attempt === null ? "Decided" : `Decided (attempt ${attempt})`;
  return [
    attempt === null && h("p.faint", "What is left to “auto” is decided when the training starts."),
    h(
      "div.table-scroll",
      { tabindex: 0, role: "region", "aria-label": "Spec" },
      h(
        "table.spec-table",
        h(
          "thead",
          h(
            "tr",
            h("th", { scope: "col" }, "Field"),
            h("th", { scope: "col" }, "Asked"),
            h("th", { scope: "col" }, decided),
          ),
        ),
        groups.map(({ title, rows }) =>
          h(
            "tbody",
            h("tr.spec-group", h("th", { colspan: 3, scope: "rowgroup" }, title)),
            rows.map((row) => specRow(row, attempt !== null)),
          )
        ),
      ),
    ),
  ];
}

/**
 * @param {SpecRow} row
 * @param {boolean} isDecided
 */
function specRow(row, isDecided) {
  const name = row.field.slice(row.field.indexOf(".") + 1);
  const asked = row.asked === undefined ? h("span.faint", "not a field") : value(row.asked);
  return h(
    row.differs ? "tr.differs" : "tr",
    h("th", { scope: "row" }, h("code", { title: row.field }, name)),
    h("td.break", asked),
    h(
      "td.break",
      !isDecided
        ? h("span.faint", "–")
        : row.differs
        ? [h("strong", value(row.decided)), h("span.visually-hidden", " (differs)")]
        : row.isDecided
        ? value(row.decided)
        : h("span.faint", value(row.decided)),
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
    "section.call",
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
