/** How a job's curves are shown. It is in the address. */

import { h, icon } from "../../../dom.js";
import { addShortcut } from "../../../shortcuts.js";
import { computed } from "../../../signals.js";
import { query, setQuery } from "../../../url.js";

/** @typedef {import("../../../curves.js").XKind} XKind */
/** @typedef {{from: number, to: number}} StepRange */

const SMOOTHING = 0.6;
/** @type {readonly [XKind, string][]} */
const X_KINDS = [["step", "Steps"], ["tokens", "Tokens"], ["time", "Time"]];
/** @type {Record<XKind, string>} */
const X_TITLES = {
  step: "By optimizer step",
  tokens: "By tokens trained on",
  time: "By training time, without the time between attempts",
};

export class ChartOptions {
  constructor() {
    this.smoothing = computed(() => readShare(query.value.get("smoothing"), SMOOTHING));
    this.isLog = computed(() => query.value.get("y") === "log");
    this.hidesOutliers = computed(() => query.value.get("outliers") === "hide");
    this.xKind = computed(() => readKind(query.value.get("x")));
    this.rangeText = computed(() => query.value.get("range") ?? "");
  }

  /** The steps in view, or null for all. @returns {StepRange | null} */
  get range() {
    const match = /^(\d+)-(\d+)$/.exec(this.rangeText.value);
    return match && Number(match[2]) > Number(match[1]) ? { from: Number(match[1]), to: Number(match[2]) } : null;
  }

  /** @param {StepRange | null} range */
  setRange(range) {
    setQuery({ range: range && `${Math.max(0, Math.floor(range.from))}-${Math.ceil(range.to)}` });
  }

  /** @param {string} text  a number from 0 to 0.99 */
  setSmoothing(text) {
    setQuery({ smoothing: Number(text) === SMOOTHING ? null : text });
  }

  toggleLog() {
    setQuery({ y: this.isLog.peek() ? null : "log" });
  }

  toggleOutliers() {
    setQuery({ outliers: this.hidesOutliers.peek() ? null : "hide" });
  }
}

/**
 * @param {string | null} text
 * @param {number} usual
 */
function readShare(text, usual) {
  const value = Number(text);
  return text === null || !(value >= 0) ? usual : Math.min(0.99, value);
}

/**
 * @param {string | null} text
 * @returns {XKind}
 */
function readKind(text) {
  return text === "tokens" || text === "time" ? text : "step";
}

/**
 * Show the controls above the curves.
 * @param {ChartOptions} options
 * @param {{hasTokens: () => boolean, csvPath: string}} job
 */
export function chartToolbar(options, { hasTokens, csvPath }) {
  addShortcut({ keys: "l", description: "Logarithmic values", group: "Curves", run: () => options.toggleLog() });
  addShortcut({ keys: "o", description: "Hide outliers", group: "Curves", run: () => options.toggleOutliers() });
  return h(
    "div.job-chart-toolbar",
    { role: "group", "aria-label": "Curves" },
    smoothingControl(options),
    xControl(options, hasTokens),
    toggle("Log", "Logarithmic values (l)", options.isLog, () => options.toggleLog()),
    toggle(
      "Hide outliers",
      "Values from the 1st to the 99th percentile (o)",
      options.hidesOutliers,
      () => options.toggleOutliers(),
    ),
    h("a.button.ghost", { href: csvPath, download: "", title: "All values as CSV" }, icon("download"), "CSV"),
  );
}

/** @param {ChartOptions} options */
function smoothingControl(options) {
  const text = () => options.smoothing.value.toFixed(2);
  return h(
    "label.job-smoothing",
    h("span", "Smoothing"),
    h("input", {
      type: "range",
      min: 0,
      max: 0.99,
      step: 0.01,
      ".value": () => String(options.smoothing.value),
      "aria-valuetext": text,
      oninput: (/** @type {Event} */ event) =>
        options.setSmoothing(/** @type {HTMLInputElement} */ (event.target).value),
    }),
    h("output.tabular", text),
  );
}

/**
 * @param {ChartOptions} options
 * @param {() => boolean} hasTokens
 */
function xControl(options, hasTokens) {
  return h(
    "div.segmented",
    { role: "group", "aria-label": "Horizontal axis" },
    X_KINDS.map(([kind, label]) =>
      h(
        "button",
        {
          type: "button",
          title: X_TITLES[kind],
          "aria-pressed": () => String(options.xKind.value === kind),
          disabled: () => kind === "tokens" && !hasTokens(),
          onclick: () => setQuery({ x: kind === "step" ? null : kind }),
        },
        label,
      )
    ),
  );
}

/**
 * @param {string} label
 * @param {string} title
 * @param {{value: boolean}} state
 * @param {() => void} run
 */
function toggle(label, title, state, run) {
  return h("button", { type: "button", title, "aria-pressed": () => String(state.value), onclick: run }, label);
}
