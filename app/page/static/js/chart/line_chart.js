/**
 * `<line-chart>`: draws series of numbers over steps, tokens or time, and lets the user read, zoom and compare them.
 *
 *     import "./chart/line_chart.js";          // defines the element; link css/chart.css too
 *     const chart = document.createElement("line-chart");
 *     chart.label = "Training loss";
 *     chart.data = { series: [{ id: "loss", label: "loss", color: 0, dash: 0, x, y }], marks: [] };
 *     chart.appendPoint("loss", 120, 1.25);    // live: one redraw a frame, no copy
 *
 * Attributes, each also a property (camel case):
 *
 * | attribute | value |
 * | --- | --- |
 * | `label` | the accessible name |
 * | `unit` | of the values, such as "tokens/s" |
 * | `x-kind` | `step` (default), `tokens`, or `time` (seconds) |
 * | `x-scale`, `y-scale` | `linear` (default) or `log` |
 * | `smoothing` | 0 to 0.999; the raw line stays behind, faint |
 * | `outliers` | `show` (default), or `hide`: y from the 1st to the 99th percentile |
 * | `highlight` | the id of the series that stands out |
 * | `hidden-series` | ids, separated by spaces; the property `hiddenSeries` is an array |
 * | `loading` | shows a skeleton until there are values |
 *
 * Properties: `data` ({@link ChartData}), `zoom` ({ from, to } or null), `crosshair` (x or null), `hoveredSeries`
 * (an id or null, stronger than `highlight`). Setting them sends no event.
 *
 * Methods: `appendPoint(id, x, y, low?, high?)`, `startAttempt(id)` (the next point begins a new line),
 * `invalidate()` (after changing the arrays in place), `resetZoom()`, `zoomOut()`, `formatCsv()`.
 *
 * Events, sent only for what the user does; they bubble and are composed:
 *
 * | event | detail |
 * | --- | --- |
 * | `zoom` | { from, to }, both null after a reset; once, when the gesture ends |
 * | `zoom-move` | the same, at each move of a pan or pinch |
 * | `crosshair` | { x }, null when it leaves |
 * | `mark` | { id, ids }: the mark clicked, and all that share its place |
 * | `series-toggle` | { id, hidden, hiddenSeries } |
 * | `series-highlight` | { id }, null when it ends |
 *
 * Height: the CSS variable `--chart-height`, by default 220px. Several charts: see {@link ChartGroup} in group.js.
 *
 * @module
 */

/** @import { Mark } from "./parts/marks.js" */
/** @import { SeriesData } from "./series.js" */
/** @import { Zoom } from "./view.js" */

import { ChartAttributes } from "./attributes.js";
import { Controls } from "./parts/controls.js";
import { watchTheme } from "./parts/draw.js";
import { Gestures } from "./parts/gestures.js";
import { DataTable, Legend } from "./parts/panels.js";
import { Renderer } from "./parts/renderer.js";
import { makeElement, setText } from "./parts/tooltip.js";
import { collectColumns, formatCsv } from "./rows.js";
import { Series } from "./series.js";
import { ChartState } from "./state.js";
import { formatX, nameX } from "./ticks.js";

/**
 * @typedef {object} ChartData
 * @property {SeriesData[]} series
 * @property {Mark[]} [marks]
 * @property {Zoom} [range] the whole x range, if the series hold only a part of it
 */

/** Milliseconds between two updates of an open data table. */
const TABLE_PAUSE = 1000;

const HELP = "Left and right arrows move the crosshair, plus and minus zoom, 0 resets the zoom.";

/** The chart. */
export class LineChart extends ChartAttributes {
  /** @type {ChartData} */
  #data = { series: [] };
  #state = new ChartState();
  #controls = new Controls(this.#state, {
    element: this,
    redraw: () => this.#redraw(),
    schedule: () => this.#renderer.schedule(),
    isWhole: () => this.xKind !== "time",
    speakZoom: () => setText(this.#live, this.#describeZoom()),
    speak: () => setText(this.#live, this.#renderer.speak()),
    emit: (type, detail) => this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true })),
    hide: (ids) => this.hiddenSeries = ids,
  });
  #legend = new Legend(this.#controls);
  #renderer = new Renderer(this, this.#state, this.#legend);
  #table = new DataTable(() => this.#readTable());
  #tools = makeElement("div", "lc-tools");
  #zoomOut = this.#makeTool("Zoom out", () => this.zoomOut());
  #live = makeElement("output", "lc-hidden");
  #tableTimer = 0;
  /** @type {AbortController | null} */
  #stop = null;

  connectedCallback() {
    if (!this.firstChild) this.#build();
    const renderer = this.#renderer;
    const stop = this.#stop = new AbortController();
    const resize = new ResizeObserver(() => this.#redraw());
    const appear = new IntersectionObserver(
      (entries) => renderer.appear(entries[entries.length - 1].isIntersecting),
      { rootMargin: "80px" },
    );
    resize.observe(renderer.plot);
    appear.observe(renderer.plot);
    const stopTheme = watchTheme(() => renderer.changeTheme());
    const options = { capture: true, passive: true, signal: stop.signal };
    addEventListener("scroll", () => renderer.tooltip.isShown && renderer.schedule(), options);
    addEventListener("resize", () => this.#redraw(), options);
    document.addEventListener("pointerdown", (event) => this.#controls.pressOutside(event), options);
    stop.signal.addEventListener("abort", () => {
      resize.disconnect();
      appear.disconnect();
      stopTheme();
    });
  }

  disconnectedCallback() {
    this.#stop?.abort();
    this.#renderer.stop();
    clearTimeout(this.#tableTimer);
    this.#tableTimer = 0;
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} after
   */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "label") this.#nameParts();
    if (name === "hidden-series") this.#state.hidden = new Set(this.hiddenSeries);
    this.#redraw();
  }

  #build() {
    const { plot, canvas, tooltip } = this.#renderer;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "line chart");
    canvas.addEventListener("blur", () => this.#controls.blur());
    this.#live.setAttribute("aria-live", "polite");
    this.#tools.hidden = true;
    this.#tools.append(this.#zoomOut, this.#makeTool("Reset zoom", () => this.resetZoom()));
    plot.append(this.#tools);
    this.append(this.#legend.element, plot, this.#table.element, this.#live, tooltip.element);
    this.#nameParts();
    new Gestures(canvas, this.#controls);
  }

  /**
   * @param {string} text
   * @param {() => void} onClick
   */
  #makeTool(text, onClick) {
    const button = makeElement("button", "lc-button", text);
    button.type = "button";
    button.addEventListener("click", () => {
      onClick();
      if (!this.zoom) this.#renderer.canvas.focus({ preventScroll: true });
    });
    return button;
  }

  #nameParts() {
    this.#renderer.canvas.setAttribute("aria-label", `${this.label}. ${HELP} The data table below has the values.`);
  }

  #redraw() {
    this.#tools.hidden = this.zoom === null;
    this.#zoomOut.hidden = this.#state.zoom.steps.length < 2;
    this.#renderer.redraw();
    if (!this.#table.element.open || this.#tableTimer !== 0) return;
    this.#tableTimer = setTimeout(() => {
      this.#tableTimer = 0;
      this.#table.update();
    }, TABLE_PAUSE);
  }

  /** The series and marks. Setting it replaces all; zoom, crosshair and hidden series stay. */
  get data() {
    return this.#data;
  }

  set data(data) {
    this.#data = data;
    this.#state.series = data.series.map((each) => new Series(each));
    this.#state.marks = data.marks ?? [];
    this.#legend.setSeries(this.#state.series);
    this.#redraw();
  }

  /**
   * Add a point to a series.
   * @param {string} id
   * @param {number} x
   * @param {number} y
   * @param {number} [low]
   * @param {number} [high]
   */
  appendPoint(id, x, y, low, high) {
    this.#state.series.find((series) => series.id === id)?.append(x, y, low, high);
    this.#redraw();
  }

  /**
   * Begin a new attempt: no line joins the next point of a series with the last one.
   * @param {string} id
   */
  startAttempt(id) {
    const series = this.#state.series.find((each) => each.id === id);
    if (series) series.isBreakNext = true;
  }

  /** Draw again after arrays or marks of `data` changed in place. Points from `appendPoint` are dropped. */
  invalidate() {
    for (const series of this.#state.series) series.refresh();
    this.#state.marks = this.#data.marks ?? [];
    this.#redraw();
  }

  /** The x range in view, or null for all. @returns {Zoom | null} */
  get zoom() {
    return this.#state.zoom.current;
  }

  set zoom(zoom) {
    this.#state.zoom.set(zoom);
    this.#redraw();
  }

  /**
   * Take on the zoom of another chart and its steps back.
   * @param {LineChart} other
   */
  adoptZoom(other) {
    this.#state.zoom.adopt(other.#state.zoom);
    this.#redraw();
  }

  /** The position of the crosshair, or null. @returns {number | null} */
  get crosshair() {
    return this.#state.crosshair.x;
  }

  set crosshair(x) {
    this.#state.crosshair.moveTo(x, "outside");
    this.#renderer.schedule();
  }

  /** The id of a series that stands out for the moment, or null. */
  get hoveredSeries() {
    return this.#state.hovered;
  }

  set hoveredSeries(id) {
    if (id === this.#state.hovered) return;
    this.#state.hovered = id;
    this.#redraw();
  }

  /** Show the whole range. */
  resetZoom() {
    this.#controls.reset();
  }

  /** Go back to the range before the last zoom. */
  zoomOut() {
    this.#controls.zoomOut();
  }

  /** Return the CSV of the values in view: all rows, raw and smoothed, with the ranges of buckets. */
  formatCsv() {
    return formatCsv(nameX(this.xKind), this.#collectColumns(true));
  }

  #describeZoom() {
    const { zoom } = this;
    return zoom ? `${nameX(this.xKind)} ${formatX(zoom.from, this.xKind)} to ${formatX(zoom.to, this.xKind)}.` : "All.";
  }

  /** @param {boolean} withBands */
  #collectColumns(withBands) {
    const window = this.zoom ? { min: this.zoom.from, max: this.zoom.to } : { min: -Infinity, max: Infinity };
    return collectColumns(this.#state.listShown(), window, this.smoothing, withBands);
  }

  #readTable() {
    return {
      name: this.label,
      xLabel: nameX(this.xKind),
      formatX: (/** @type {number} */ x) => formatX(x, this.xKind),
      columns: this.#collectColumns(false),
      allColumns: () => this.#collectColumns(true),
    };
  }
}

if (!customElements.get("line-chart")) customElements.define("line-chart", LineChart);
