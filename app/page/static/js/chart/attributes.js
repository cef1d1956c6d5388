/**
 * The attributes of `<line-chart>` as properties.
 *
 * @module
 */

/** @import { ScaleKind } from "./scale.js" */
/** @import { XKind } from "./ticks.js" */

import { clampWeight } from "./smoothing.js";

/** An element whose attributes can be read and set as properties. */
export class ChartAttributes extends HTMLElement {
  static observedAttributes = [
    "label",
    "unit",
    "y-scale",
    "x-scale",
    "x-kind",
    "smoothing",
    "outliers",
    "highlight",
    "hidden-series",
    "loading",
  ];

  get label() {
    return this.getAttribute("label") ?? "Chart";
  }

  set label(value) {
    this.setAttribute("label", value);
  }

  get unit() {
    return this.getAttribute("unit") ?? "";
  }

  set unit(value) {
    this.setAttribute("unit", value);
  }

  /** @returns {ScaleKind} */
  get yScale() {
    return this.getAttribute("y-scale") === "log" ? "log" : "linear";
  }

  set yScale(value) {
    this.setAttribute("y-scale", value);
  }

  /** @returns {ScaleKind} */
  get xScale() {
    return this.getAttribute("x-scale") === "log" ? "log" : "linear";
  }

  set xScale(value) {
    this.setAttribute("x-scale", value);
  }

  /** @returns {XKind} */
  get xKind() {
    const kind = this.getAttribute("x-kind");
    return kind === "tokens" || kind === "time" ? kind : "step";
  }

  set xKind(value) {
    this.setAttribute("x-kind", value);
  }

  /** The weight of the smoothing, 0 to 0.999. */
  get smoothing() {
    return clampWeight(Number(this.getAttribute("smoothing")));
  }

  set smoothing(value) {
    this.setAttribute("smoothing", String(value));
  }

  /** @returns {"show" | "hide"} */
  get outliers() {
    return this.getAttribute("outliers") === "hide" ? "hide" : "show";
  }

  set outliers(value) {
    this.setAttribute("outliers", value);
  }

  /** The id of the series that stands out, or null. @returns {string | null} */
  get highlight() {
    return this.getAttribute("highlight");
  }

  set highlight(value) {
    if (value === null) this.removeAttribute("highlight");
    else this.setAttribute("highlight", value);
  }

  /** The ids of the hidden series. @returns {string[]} */
  get hiddenSeries() {
    return (this.getAttribute("hidden-series") ?? "").split(/\s+/).filter((id) => id !== "");
  }

  set hiddenSeries(ids) {
    const text = [...ids].join(" ");
    if (text === (this.getAttribute("hidden-series") ?? "")) return;
    if (text) this.setAttribute("hidden-series", text);
    else this.removeAttribute("hidden-series");
  }

  get loading() {
    return this.hasAttribute("loading");
  }

  set loading(value) {
    this.toggleAttribute("loading", value);
  }
}
