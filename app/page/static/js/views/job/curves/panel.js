/** One chart of a job's curves, kept up to date while points arrive. */

import "../../../chart/line_chart.js";
import { h } from "../../../dom.js";
import { effect, onEnd, untracked } from "../../../signals.js";

/** @typedef {import("../../../curves.js").XKind} XKind */
/** @typedef {import("../../../pure/job_charts.js").ChartPlan} ChartPlan */
/** @typedef {import("../../../pure/job_charts.js").ChartSeries} ChartSeries */
/** @typedef {import("../../../pure/job_marks.js").StepMark} StepMark */
/** @typedef {import("./tab.js").ChartBoard} ChartBoard */
/** @typedef {{revision: number, length: number}} Drawn  what of a curve a chart has */

/**
 * @param {ChartPlan} plan
 * @param {ChartBoard} board
 */
export function chartPanel(plan, board) {
  const { options } = board;
  const chart = h("line-chart", {
    label: plan.title,
    unit: plan.unit || null,
    smoothing: () => (plan.isSmoothed ? options.smoothing.value : 0),
    "y-scale": () => (plan.canBeLog && options.isLog.value ? "log" : "linear"),
    "x-kind": () => options.xKind.value,
    outliers: () => (options.hidesOutliers.value ? "hide" : "show"),
  });
  const feed = new ChartFeed(chart, plan, board);
  effect(() => {
    board.version.value;
    const [kind, marks] = [options.xKind.value, board.marks.value];
    untracked(() => feed.update(kind, marks));
  });
  chart.addEventListener("mark", (/** @type {CustomEvent} */ event) => board.openMark(event.detail.id));
  board.group.add(chart);
  if (board.group.charts.size === 1) chart.zoom = board.zoom;
  onEnd(() => board.group.remove(chart));
  return h("figure.job-chart-panel", { class: `chart-${plan.id}` }, h("figcaption", plan.title), chart);
}

/** Gives a chart the points that it lacks. */
class ChartFeed {
  /**
   * @param {import("../../../chart/line_chart.js").LineChart} chart
   * @param {ChartPlan} plan
   * @param {ChartBoard} board
   */
  constructor(chart, plan, board) {
    this.chart = chart;
    this.plan = plan;
    this.curves = board.model.curves;
    /** @type {Map<string, Drawn>} */
    this.drawn = new Map();
    /** @type {XKind | null} */
    this.kind = null;
    /** @type {readonly StepMark[]} */
    this.marks = [];
  }

  /**
   * @param {XKind} kind
   * @param {readonly StepMark[]} marks
   */
  update(kind, marks) {
    const { plan, curves } = this;
    const isSame = kind === this.kind && marks === this.marks &&
      plan.series.every(({ name }) => curves.curve(name)?.revision === this.drawn.get(name)?.revision);
    if (!isSame) this.#replace(kind, marks);
    else for (const series of plan.series) this.#append(series, kind);
  }

  /**
   * @param {XKind} kind
   * @param {readonly StepMark[]} marks
   */
  #replace(kind, marks) {
    const { plan, curves, chart } = this;
    Object.assign(this, { kind, marks });
    const series = plan.series.map(({ name, label, color, dash, kind: shape, divisor }) => {
      const { x, y, breaks } = curves.draw(name, kind);
      const curve = curves.curve(name);
      this.drawn.set(name, { revision: curve?.revision ?? 0, length: curve?.length ?? 0 });
      return { id: name, label, color, dash, kind: shape, x, y: divide(y, divisor), breaks };
    });
    const placed = marks.map(({ id, step, label, kind: shape }) => ({
      id,
      label,
      kind: shape,
      x: curves.positionOf(step, kind),
    }));
    chart.data = { series, marks: placed.filter(({ x }) => Number.isFinite(x)) };
  }

  /**
   * @param {ChartSeries} series
   * @param {XKind} kind
   */
  #append({ name, divisor }, kind) {
    const { curves, chart } = this;
    const [curve, drawn] = [curves.curve(name), this.drawn.get(name)];
    if (!curve || !drawn || curve.length === drawn.length) return;
    const { attempts } = curve.base;
    const { x, y, breaks } = curves.draw(name, kind, drawn.length);
    const starts = new Set(breaks);
    if (attempts[drawn.length] !== attempts[drawn.length - 1]) starts.add(0);
    for (let i = 0; i < x.length; i++) {
      if (starts.has(i)) chart.startAttempt(name);
      chart.appendPoint(name, x[i], y[i] / divisor);
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
