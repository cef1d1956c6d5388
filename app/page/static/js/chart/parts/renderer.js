/**
 * Draws a chart when something has changed: at most once a frame, and only while it can be seen.
 *
 * @module
 */

/** @import { LineChart } from "../line_chart.js" */
/** @import { Reading } from "../rows.js" */
/** @import { ChartState } from "../state.js" */
/** @import { View } from "../view.js" */
/** @import { Palette } from "./draw.js" */
/** @import { Legend } from "./panels.js" */

import { describeReadings, readAt, speakReadings } from "../rows.js";
import { nameX } from "../ticks.js";
import { computeView } from "../view.js";
import { drawPointer, drawScene, prepareCanvas, readPalette } from "./draw.js";
import { groupMarks, MarkButtons } from "./marks.js";
import { makeElement, setText, Tooltip } from "./tooltip.js";

/** Pixels outside of a series in which its end is still read, and at which a mark is named. */
const SLACK = 16;

/** Owns the plot: two canvases, the marks' buttons, the empty text and the tooltip. */
export class Renderer {
  /**
   * @param {LineChart} chart
   * @param {ChartState} state
   * @param {Legend} legend
   */
  constructor(chart, state, legend) {
    this.chart = chart;
    this.state = state;
    this.legend = legend;
    this.plot = makeElement("div", "lc-plot");
    this.canvas = makeElement("canvas", "lc-canvas");
    this.overlay = makeElement("canvas", "lc-overlay");
    this.empty = makeElement("p", "lc-empty");
    this.tooltip = new Tooltip();
    this.marks = new MarkButtons((mark, { marks }) =>
      chart.dispatchEvent(
        new CustomEvent("mark", {
          detail: { id: mark.id, ids: marks.map(({ id }) => id) },
          bubbles: true,
          composed: true,
        }),
      )
    );
    this.overlay.setAttribute("aria-hidden", "true");
    this.plot.append(this.canvas, this.overlay, this.empty, this.marks.element);
    /** @type {Palette | null} */
    this.palette = null;
    this.isVisible = false;
    this.isSceneOld = true;
    this.frame = 0;
  }

  /** Draw all at the next frame. */
  redraw() {
    this.isSceneOld = true;
    this.schedule();
  }

  /** Draw the crosshair at the next frame, and all if something else has changed. */
  schedule() {
    if (!this.isVisible || this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  /** Read the colours again, after the theme has changed. */
  changeTheme() {
    this.palette = null;
    this.redraw();
  }

  /** @param {boolean} isVisible */
  appear(isVisible) {
    this.isVisible = isVisible;
    if (isVisible) this.schedule();
    else this.tooltip.hide();
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.isVisible = false;
    this.palette = null;
    this.tooltip.hide();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (width < 40 || height < 40) return;
    this.palette ??= readPalette(this.plot);
    if (this.isSceneOld) this.#drawScene(width, height, this.palette);
    this.isSceneOld = false;
    this.#drawPointer(width, height, this.palette);
  }

  /**
   * @param {number} width
   * @param {number} height
   * @param {Palette} palette
   */
  #drawScene(width, height, palette) {
    const { chart, state } = this;
    const context = prepareCanvas(this.canvas, width, height);
    context.font = palette.font;
    const shown = state.listShown();
    const view = state.view = computeView({
      series: shown,
      all: state.series,
      zoom: state.zoom.current,
      full: chart.data.range ?? null,
      xScale: chart.xScale,
      yScale: chart.yScale,
      xKind: chart.xKind,
      hidesOutliers: chart.outliers === "hide",
      unit: chart.unit,
      width,
      height,
      measure: (text) => context.measureText(text).width,
    });
    const highlight = this.#findHighlight();
    const hasPoints = state.series.some(({ length }) => length > 0);
    const marks = groupMarks(hasPoints ? state.marks : [], view);
    const series = shown.sort((a, b) => Number(a.id === highlight) - Number(b.id === highlight));
    const [weight, unit, xName] = [chart.smoothing, chart.unit, chart.xKind === "time" ? "" : nameX(chart.xKind)];
    drawScene(context, { view, palette, series, highlight, weight, marks, xName, unit, width, height });
    this.marks.update(marks, view.box.bottom);
    this.legend.setHidden(state.hidden);
    this.#explainEmpty(view, hasPoints);
  }

  /** Return the id of the series that stands out, if it is shown. */
  #findHighlight() {
    const id = this.state.hovered ?? this.chart.highlight;
    return this.state.listShown().some((series) => series.id === id) ? id : null;
  }

  /**
   * @param {View} view
   * @param {boolean} hasPoints
   */
  #explainEmpty(view, hasPoints) {
    const isLoading = this.chart.loading && !hasPoints;
    const { series } = this.state;
    this.plot.classList.toggle("lc-loading", isLoading);
    let text = "";
    if (isLoading) text = "Loading values…";
    else if (!hasPoints) text = "No values yet.";
    else if (series.every(({ id }) => this.state.hidden.has(id))) text = "All series are hidden.";
    else if (!view.hasValues) text = this.state.zoom.current ? "No values in this range." : "No values to draw.";
    setText(this.empty, text);
    this.empty.hidden = text === "";
  }

  /**
   * @param {number} width
   * @param {number} height
   * @param {Palette} palette
   */
  #drawPointer(width, height, palette) {
    const { crosshair, selection, view } = this.state;
    if (!view) return;
    const context = prepareCanvas(this.overlay, width, height);
    const readings = this.readAll();
    const dots = readings.map(({ series, x, smoothed }) => ({
      px: view.x.px(x),
      py: smoothed > view.floor && smoothed < Infinity ? view.y.px(smoothed) : NaN,
      color: series.color,
    }));
    drawPointer(context, view, palette, { x: crosshair.x, isPinned: crosshair.isPinned, dots, selection });
    const values = new Map(readings.map(({ series, value }) => [series.id, value]));
    this.legend.setValues((id) =>
      crosshair.x === null ? this.#findSeries(id)?.findLastValue() ?? NaN : values.get(id) ?? NaN
    );
    this.#placeTooltip(view, readings);
  }

  /** @param {string} id */
  #findSeries(id) {
    return this.state.series.find((series) => series.id === id);
  }

  /** Return the values at the crosshair. */
  readAll() {
    const { crosshair: { x }, view } = this.state;
    if (!view || x === null || x < view.x.min || x > view.x.max) return [];
    const slack = Math.abs(view.x.value(view.x.px(x) + SLACK) - x);
    return readAt(this.state.listShown(), x, slack, this.chart.smoothing);
  }

  /** @param {readonly Reading[]} readings */
  #describe(readings) {
    const { chart, state } = this;
    const x = state.crosshair.x ?? 0;
    const view = state.view;
    const near = view ? state.marks.filter((mark) => Math.abs(view.x.px(mark.x) - view.x.px(x)) < SLACK / 4) : [];
    const note = near.slice(0, 3).map(({ label }) => label).join(", ");
    return describeReadings(readings, { x, xKind: chart.xKind, unit: chart.unit, weight: chart.smoothing, note });
  }

  /** Return the values at the crosshair as a sentence. */
  speak() {
    return this.state.crosshair.x === null ? "" : speakReadings(this.#describe(this.readAll()));
  }

  /**
   * @param {View} view
   * @param {readonly Reading[]} readings
   */
  #placeTooltip(view, readings) {
    const { crosshair, selection } = this.state;
    if (!crosshair.isRead || crosshair.x === null || selection || readings.length === 0) return this.tooltip.hide();
    const { left, top } = this.canvas.getBoundingClientRect();
    const anchor = { x: left + view.x.px(crosshair.x), y: top + crosshair.anchorY, top };
    this.tooltip.show(this.#describe(readings), anchor, crosshair.isPinned);
  }
}
