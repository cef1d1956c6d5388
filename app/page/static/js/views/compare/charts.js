/** One chart for each metric, with a line for each job. */

import "../../chart/line_chart.js";
import { pickStyle } from "../../chart/colors.js";
import { h } from "../../dom.js";
import { planMetric } from "../../pure/compare_metrics.js";
import { effect, onEnd, untracked } from "../../signals.js";

/**
 * @typedef {import("./model.js").Entry} Entry
 * @typedef {import("./options.js").Options} Options
 * @typedef {import("../../chart/line_chart.js").LineChart} LineChart
 * @typedef {{
 *   entries: () => readonly Entry[], options: Options, group: import("../../chart/group.js").ChartGroup,
 *   hidden: import("../../signals.js").Signal<readonly string[]>,
 *   highlighted: import("../../signals.js").Signal<string | null>,
 * }} Board
 */

const BASELINE_WIDTH = 3.25;

/**
 * @param {string} name
 * @param {Board} board
 * @returns {Node}
 */
export function metricChart(name, board) {
  const { options, group, hidden, highlighted } = board;
  const plan = planMetric(name);
  const chart = h("line-chart", {
    label: plan.label,
    unit: plan.unit || null,
    smoothing: () => (plan.isSmoothed ? options.smoothing.value : 0),
    "y-scale": () => (plan.canBeLog && options.isLog.value ? "log" : "linear"),
    "x-kind": () => options.xKind.value,
    outliers: () => (options.hidesOutliers.value ? "hide" : "show"),
    loading: () => board.entries().some((entry) => entry.state.value === "loading"),
    ".hiddenSeries": () => hidden.value,
    ".hoveredSeries": () => highlighted.value,
  });
  const feed = new ChartFeed(chart, plan);
  effect(() => {
    const [entries, kind, baseline] = [board.entries(), options.xKind.value, options.baseline.value];
    for (const entry of entries) {
      entry.version.value;
      if (entry.state.value === "ready") untracked(() => entry.readMetrics([name]));
    }
    const names = entries.map((entry) => entry.name);
    untracked(() => feed.update(entries, names, kind, baseline));
  });
  group.add(chart);
  onEnd(() => group.remove(chart));
  return h("figure.compare-chart", h("figcaption", plan.label), chart);
}

/** Gives a chart the points that it lacks. */
class ChartFeed {
  /**
   * @param {LineChart} chart
   * @param {import("../../pure/compare_metrics.js").MetricPlan} plan
   */
  constructor(chart, plan) {
    this.chart = chart;
    this.plan = plan;
    this.shape = "";
    /** @type {Map<string, {revision: number, length: number}>} */
    this.drawn = new Map();
  }

  /**
   * @param {readonly Entry[]} entries
   * @param {readonly string[]} names
   * @param {import("../../pure/compare_url.js").XKind} kind
   * @param {string} baseline
   */
  update(entries, names, kind, baseline) {
    const shape = JSON.stringify([kind, baseline, names, entries.map((entry) => entry.id)]);
    const isSame = shape === this.shape && entries.every((entry) => {
      const [curve, drawn] = [entry.curves.curve(this.plan.name), this.drawn.get(entry.id)];
      return curve ? curve.revision === drawn?.revision : !drawn;
    });
    this.shape = shape;
    if (isSame) { for (const entry of entries) this.#append(entry, kind); }
    else this.#replace(entries, names, kind, baseline);
  }

  /**
   * @param {readonly Entry[]} entries
   * @param {readonly string[]} names
   * @param {import("../../pure/compare_url.js").XKind} kind
   * @param {string} baseline
   */
  #replace(entries, names, kind, baseline) {
    const { name, divisor, isSparse } = this.plan;
    this.drawn.clear();
    /** @type {import("../../chart/series.js").SeriesData[]} */
    const series = [];
    for (const [place, entry] of entries.entries()) {
      const curve = entry.curves.curve(name);
      if (!curve) continue;
      this.drawn.set(entry.id, { revision: curve.revision, length: curve.length });
      const { x, y, breaks } = entry.curves.draw(name, kind);
      series.push({
        id: entry.id,
        label: names[place] ?? entry.id,
        ...pickStyle(place),
        kind: isSparse ? "points" : "line",
        ...(entry.id === baseline ? { width: BASELINE_WIDTH } : {}),
        x,
        y: divide(y, divisor),
        breaks,
      });
    }
    this.chart.data = { series, marks: [] };
  }

  /**
   * @param {Entry} entry
   * @param {import("../../pure/compare_url.js").XKind} kind
   */
  #append(entry, kind) {
    const { name, divisor } = this.plan;
    const [curve, drawn] = [entry.curves.curve(name), this.drawn.get(entry.id)];
    if (!curve || !drawn || curve.length === drawn.length) return;
    const { attempts } = curve.base;
    const { x, y, breaks } = entry.curves.draw(name, kind, drawn.length);
    const starts = new Set(breaks);
    if (attempts[drawn.length] !== attempts[drawn.length - 1]) starts.add(0);
    for (let index = 0; index < x.length; index++) {
      if (starts.has(index)) this.chart.startAttempt(entry.id);
      this.chart.appendPoint(entry.id, x[index], y[index] / divisor);
    }
    drawn.length = curve.length;
  }
}

/**
 * @param {Float64Array} values
 * @param {number} divisor
 */
function divide(values, divisor) {
  return divisor === 1 ? values : values.map((value) => value / divisor);
}
