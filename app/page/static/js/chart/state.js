/**
 * The state of one chart. Pure: no DOM.
 *
 * @module
 */

/** @import { Series } from "./series.js" */
/** @import { View } from "./view.js" */

import { Crosshair } from "./crosshair.js";
import { ZoomState } from "./zoom.js";

/** What a chart holds, shared by its parts. */
export class ChartState {
  constructor() {
    /** @type {Series[]} */
    this.series = [];
    /** @type {readonly import("./parts/marks.js").Mark[]} */
    this.marks = [];
    /** @type {ReadonlySet<string>} */
    this.hidden = new Set();
    this.zoom = new ZoomState();
    this.crosshair = new Crosshair();
    /** @type {[number, number] | null} pixels */
    this.selection = null;
    /** @type {string | null} */
    this.hovered = null;
    /** @type {View | null} as drawn last */
    this.view = null;
  }

  /** Return the series that are not hidden. */
  listShown() {
    return this.series.filter(({ id }) => !this.hidden.has(id));
  }
}
