/** How the comparison is shown: held in the address, changed by the controls above the charts. */

import { h, icon } from "../../dom.js";
import { readComparison, writeComparison } from "../../pure/compare_url.js";
import { addShortcut } from "../../shortcuts.js";
import { computed } from "../../signals.js";
import { query, setQuery } from "../../url.js";

/**
 * @typedef {import("../../pure/compare_url.js").Comparison} Comparison
 * @typedef {import("../../pure/compare_url.js").XKind} XKind
 */

/** @type {readonly [XKind, string][]} */
const KINDS = [["step", "Steps"], ["tokens", "Tokens"], ["time", "Time"]];

/** Reads the comparison out of the address. Each part is a signal of its own, so that only what depends on it changes. */
export class Options {
  constructor() {
    const all = computed(() => readComparison(query.value));
    const idText = computed(() => all.value.ids.join(" "));
    this.all = all;
    this.ids = computed(() => idText.value.split(" ").filter(Boolean));
    this.baseline = computed(() => all.value.baseline);
    const metricText = computed(() => all.value.metrics.join(" "));
    this.metrics = computed(() => metricText.value.split(" ").filter(Boolean));
    this.xKind = computed(() => all.value.xKind);
    this.isLog = computed(() => all.value.isLog);
    this.hidesOutliers = computed(() => all.value.hidesOutliers);
    this.smoothing = computed(() => all.value.smoothing);
    this.showsAll = computed(() => all.value.showsAll);
  }

  /** @param {Partial<Comparison>} changes */
  change(changes) {
    setQuery(writeComparison({ ...readComparison(query.peek()), ...changes }));
  }
}

/**
 * @param {Options} options
 * @param {() => readonly import("./model.js").Entry[]} entries
 * @returns {Node}
 */
export function controls(options, entries) {
  const group = "Compare";
  const toggleLog = () => options.change({ isLog: !options.isLog.peek() });
  const toggleOutliers = () => options.change({ hidesOutliers: !options.hidesOutliers.peek() });
  addShortcut({ keys: "l", description: "Logarithmic values", group, run: toggleLog });
  addShortcut({ keys: "o", description: "Hide outliers", group, run: toggleOutliers });
  return h(
    "div.compare-controls",
    { role: "group", "aria-label": "Charts" },
    smoothingField(options),
    h(
      "div.segmented",
      { role: "group", "aria-label": "Horizontal axis" },
      KINDS.map(([kind, label]) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": () => String(options.xKind.value === kind),
            onclick: () => options.change({ xKind: kind, zoom: null }),
          },
          label,
        )
      ),
    ),
    toggleButton("Log", "Logarithmic values (l)", options.isLog, toggleLog),
    toggleButton(
      "Hide outliers",
      "Values from the 1st to the 99th percentile (o)",
      options.hidesOutliers,
      toggleOutliers,
    ),
    baselineField(options, entries),
  );
}

/** @param {Options} options */
function smoothingField(options) {
  const text = () => options.smoothing.value.toFixed(2);
  return h(
    "label.compare-smoothing",
    h("span", "Smoothing"),
    h("input", {
      type: "range",
      min: 0,
      max: 0.99,
      step: 0.01,
      ".value": () => String(options.smoothing.value),
      "aria-valuetext": text,
      oninput: (/** @type {Event} */ event) =>
        options.change({ smoothing: Number(/** @type {HTMLInputElement} */ (event.target).value) }),
    }),
    h("output.tabular", text),
  );
}

/**
 * @param {string} label
 * @param {string} title
 * @param {{readonly value: boolean}} isOn
 * @param {() => void} run
 */
function toggleButton(label, title, isOn, run) {
  return h("button", { type: "button", title, "aria-pressed": () => String(isOn.value), onclick: run }, label);
}

/**
 * @param {Options} options
 * @param {() => readonly import("./model.js").Entry[]} entries
 */
function baselineField(options, entries) {
  return h(
    "label.compare-baseline",
    h("span", "Baseline"),
    () => {
      const shown = entries();
      const names = shown.map((entry) => entry.name);
      const field = h(
        "select",
        { onchange: () => options.change({ baseline: field.value }) },
        h("option", { value: "" }, "None"),
        shown.map((entry, place) => h("option", { value: entry.id }, names[place])),
      );
      field.value = options.baseline.value;
      return field;
    },
  );
}

/**
 * @param {Options} options
 * @param {() => readonly string[]} shared  all metrics that can be shown
 * @param {readonly string[]} always  those that always are
 * @param {(name: string) => string} labelOf
 */
export function metricChooser(options, shared, always, labelOf) {
  const others = computed(() => shared().filter((name) => !always.includes(name)).join(" "));
  const toggle = (/** @type {string} */ name) => {
    const chosen = options.metrics.peek();
    options.change({ metrics: chosen.includes(name) ? chosen.filter((each) => each !== name) : [...chosen, name] });
  };
  return () =>
    others.value
      ? h(
        "div.compare-metrics",
        { role: "group", "aria-label": "More charts" },
        h("span.faint", "More charts"),
        others.value.split(" ").map((name) =>
          h(
            "button",
            {
              type: "button",
              "aria-pressed": () => String(options.metrics.value.includes(name)),
              onclick: () => toggle(name),
            },
            () => icon(options.metrics.value.includes(name) ? "check" : "plus"),
            labelOf(name),
          )
        ),
      )
      : null;
}
