/**
 * Joins charts: one crosshair, one zoom, one set of hidden and highlighted series.
 *
 * @module
 */

/** @import { LineChart } from "./line_chart.js" */
/** @import { Zoom } from "./view.js" */

/**
 * A group of charts. What the user does in one is shown in all; programmatic changes send no events, so there is no
 * loop. Dispatches "zoom" ({ from, to }, both null after a reset) and "crosshair" ({ x }) once for the group, each with
 * the `chart` that was used.
 */
export class ChartGroup extends EventTarget {
  constructor() {
    super();
    /** @type {Map<LineChart, AbortController>} */
    this.charts = new Map();
  }

  /**
   * Add a chart; it takes on the group's zoom.
   * @param {LineChart} chart
   */
  add(chart) {
    if (this.charts.has(chart)) return;
    const [first] = this.charts.keys();
    if (first) chart.adoptZoom(first);
    const stop = new AbortController();
    this.charts.set(chart, stop);
    /**
     * @param {string} type
     * @param {(other: LineChart, detail: any) => void} apply
     * @param {boolean} [isForwarded]
     */
    const join = (type, apply, isForwarded = false) =>
      chart.addEventListener(type, (event) => {
        const { detail } = /** @type {CustomEvent} */ (event);
        for (const other of this.charts.keys()) if (other !== chart) apply(other, detail);
        if (isForwarded) this.dispatchEvent(new CustomEvent(type, { detail: { ...detail, chart } }));
      }, { signal: stop.signal });
    join("zoom-move", (other) => other.adoptZoom(chart));
    join("zoom", (other) => other.adoptZoom(chart), true);
    join("crosshair", (other, { x }) => other.crosshair = x, true);
    join("series-highlight", (other, { id }) => other.hoveredSeries = id);
    join("series-toggle", (other, { hiddenSeries }) => other.hiddenSeries = hiddenSeries);
  }

  /**
   * Take a chart out of the group.
   * @param {LineChart} chart
   */
  remove(chart) {
    this.charts.get(chart)?.abort();
    this.charts.delete(chart);
  }

  /** The zoom of all charts, or null. Setting it sends no event. @returns {Zoom | null} */
  get zoom() {
    const [first] = this.charts.keys();
    return first?.zoom ?? null;
  }

  set zoom(zoom) {
    for (const chart of this.charts.keys()) chart.zoom = zoom;
  }
}
