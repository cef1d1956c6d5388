/** What a job did and for how long: a bar for the eye, a table to read. */

import { h } from "../../dom.js";
import { formatDuration, formatNumber, formatTime } from "../../format.js";
import { joinShortSpans, listPhases, PHASES } from "../../pure/job_phases.js";
import { computed, untracked } from "../../signals.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../../pure/job_phases.js").Span} Span */
/** @typedef {import("../../pure/job_phases.js").AttemptTimes} AttemptTimes */

/** More spans than these are too narrow to be told apart. */
const MOST_SPANS = 100;
/** The smallest part of the whole that is drawn then. */
const SHORTEST = 0.004;
/** @type {Record<string, string>} */
const NAMES = {
  queued: "Waiting",
  preparing: "Preparing",
  training: "Training",
  evaluating: "Evaluating",
  publishing: "Publishing",
  stopping: "Stopping",
  paused: "Paused",
};
/** How often the times of a running job change, in milliseconds. */
const PACE = 5000;

/**
 * @param {JobModel} model
 * @param {() => number} now
 */
export function timeline(model, now) {
  const slowNow = computed(() => Math.floor(now() / PACE) * PACE);
  const phases = computed(() => {
    const events = model.events.value;
    const isOpen = events.length > 0 && model.job.value?.finished_at === null;
    return listPhases(events, isOpen ? slowNow.value : Date.parse(model.job.peek()?.finished_at ?? "") || Date.now());
  });
  return h(
    "section.timeline",
    { "aria-labelledby": "timeline-title" },
    h("h2", { id: "timeline-title" }, "Timeline"),
    () => {
      const { spans, attempts } = phases.value;
      return untracked(() => spans.length > 0 && [bar(spans), attempts.length > 0 && attemptTable(spans, attempts)]);
    },
  );
}

/** @param {readonly Span[]} spans */
function bar(spans) {
  const [start, end] = [spans[0].from, spans[spans.length - 1].to];
  const shown = spans.length > MOST_SPANS ? joinShortSpans(spans, SHORTEST) : spans;
  const used = PHASES.filter((phase) => shown.some((span) => span.phase === phase));
  return h(
    "div.timeline-picture",
    { "aria-hidden": "true" },
    h(
      "div.timeline-bar",
      shown.map((span) =>
        h("span", {
          class: `phase-${span.phase}`,
          style: { "flex-grow": Math.max(span.to - span.from, 1) },
          title: describeSpan(span),
        })
      ),
    ),
    h(
      "div.timeline-ends.tabular.faint",
      h("span", formatTime(start)),
      h("span", `${formatDuration((end - start) / 1000)} in all`),
      h("span", formatTime(end)),
    ),
    h(
      "ul.timeline-legend",
      used.map((phase) =>
        h(
          "li",
          h("span", { class: `phase-swatch phase-${phase}` }),
          NAMES[phase],
          " ",
          h("span.faint.tabular", formatDuration(sumSeconds(spans, phase))),
        )
      ),
    ),
  );
}

/** @param {Span} span */
function describeSpan({ phase, attempt, from, to, isOpen }) {
  const who = attempt ? ` (attempt ${attempt})` : "";
  return `${NAMES[phase]}${who}: ${formatDuration((to - from) / 1000)}${isOpen ? " so far" : ""}, from ${
    formatTime(from)
  }`;
}

/**
 * @param {readonly Span[]} spans
 * @param {string} phase
 */
function sumSeconds(spans, phase) {
  return spans.filter((span) => span.phase === phase).reduce((sum, { from, to }) => sum + (to - from) / 1000, 0);
}

/**
 * @param {readonly Span[]} spans
 * @param {readonly AttemptTimes[]} attempts
 */
function attemptTable(spans, attempts) {
  const columns = PHASES.filter((phase) =>
    phase !== "queued" && phase !== "paused" && spans.some((span) => span.phase === phase)
  );
  return h(
    "div.table-scroll",
    { tabindex: 0, role: "region", "aria-label": "Attempts" },
    h(
      "table.attempts",
      h(
        "thead",
        h(
          "tr",
          h("th.number", { scope: "col" }, "Attempt"),
          h("th", { scope: "col" }, "Worker"),
          h("th.number", { scope: "col" }, "From step"),
          h("th.number", { scope: "col" }, "Waited"),
          columns.map((phase) => h("th.number", { scope: "col" }, NAMES[phase])),
          h("th", { scope: "col" }, "Outcome"),
        ),
      ),
      h(
        "tbody",
        attempts.map((each) =>
          h(
            "tr",
            h("th.number", { scope: "row" }, each.attempt),
            h("td", h("code", each.worker)),
            h("td.number", formatNumber(each.resumedFrom ?? 0)),
            h("td.number", formatDuration(each.waitedSeconds)),
            columns.map((phase) => h("td.number", each.seconds[phase] ? formatDuration(each.seconds[phase]) : "–")),
            h("td", each.outcome),
          )
        ),
      ),
    ),
  );
}
