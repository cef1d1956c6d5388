/**
 * What the user does with a chart: zooms, moves the crosshair, hides and highlights series.
 *
 * @module
 */

/** @import { ChartState } from "../state.js" */
/** @import { Zoom } from "../view.js" */

import { snapToPoint, stepFrom } from "../crosshair.js";
import { clampZoom, panBy, zoomAround } from "../view.js";

/**
 * @typedef {object} ControlsHost
 * @property {Element} element
 * @property {() => void} redraw draws all at the next frame
 * @property {() => void} schedule draws the crosshair at the next frame
 * @property {() => boolean} isWhole whether positions are whole numbers
 * @property {() => void} speakZoom tells the range in view
 * @property {(ids: string[]) => void} hide hides exactly these series
 * @property {() => void} speak tells the values at the crosshair
 * @property {(type: string, detail: object) => void} emit
 */

/** Obeys gestures, keys and the legend of one chart. */
export class Controls {
  /**
   * @param {ChartState} state
   * @param {ControlsHost} host
   */
  constructor(state, host) {
    this.state = state;
    this.host = host;
    this.speakTimer = 0;
  }

  /** Show the whole range. */
  reset() {
    if (this.state.zoom.reset()) this.#emitZoom("zoom");
  }

  /** Go back to the range before the last zoom. */
  zoomOut() {
    if (this.state.zoom.goBack()) this.#emitZoom("zoom");
  }

  begin() {
    this.state.zoom.begin();
  }

  settle() {
    if (this.state.zoom.settle()) this.#emitZoom("zoom");
  }

  /** @param {number} dx */
  pan(dx) {
    if (this.state.view && this.state.zoom.current) this.#moveZoom(panBy(this.state.view, dx));
  }

  /**
   * @param {number} factor
   * @param {number} px
   * @param {number} dx
   */
  pinch(factor, px, dx) {
    if (this.state.view) this.#moveZoom(zoomAround(this.state.view, factor, px, dx));
  }

  leave() {
    if (!this.state.crosshair.isPinned) this.#moveCrosshair(null, "pointer");
  }

  blur() {
    if (this.state.crosshair.by === "keys") this.#moveCrosshair(null, "keys");
  }

  /** @param {"zoom" | "zoom-move"} type */
  #emitZoom(type) {
    if (type === "zoom") this.state.zoom.round(this.host.isWhole());
    const zoom = this.state.zoom.current;
    this.host.redraw();
    this.host.emit(type, { from: zoom?.from ?? null, to: zoom?.to ?? null });
  }

  /** @param {Zoom | null} zoom */
  #moveZoom(zoom) {
    this.state.zoom.current = zoom;
    this.#emitZoom("zoom-move");
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  zoomTo(from, to) {
    if (!this.state.view || to - from < 6) return;
    const { x, full } = this.state.view;
    const zoom = clampZoom({ from: x.value(Math.max(from, x.from)), to: x.value(Math.min(to, x.to)) }, full);
    if (zoom && this.state.zoom.goTo(zoom)) this.#emitZoom("zoom");
  }

  /** @param {string} key */
  #pressZoomKey(key) {
    if (key === "+" || key === "=") this.#zoomByKey(0.5);
    else if (key === "-" || key === "_") this.#zoomByKey(2);
    else if (key === "Backspace") this.zoomOut();
    else this.reset();
    this.host.speakZoom();
  }

  /** @param {number} factor */
  #zoomByKey(factor) {
    if (!this.state.view) return;
    const { x } = this.state.view;
    const px = this.state.crosshair.x === null ? (x.from + x.to) / 2 : x.px(this.state.crosshair.x);
    if (this.state.zoom.goTo(zoomAround(this.state.view, factor, px))) this.#emitZoom("zoom");
  }

  /** @param {[number, number] | null} range */
  select(range) {
    const box = this.state.view?.box;
    /** @param {number} px */
    const clamp = (px) => box ? Math.max(box.left, Math.min(box.right, px)) : px;
    this.state.selection = range && [clamp(range[0]), clamp(range[1])];
    this.host.schedule();
  }

  /**
   * @param {number} px
   * @param {number} py
   */
  hover(px, py) {
    if (!this.state.view || this.state.crosshair.isPinned) return;
    this.state.crosshair.anchorY = py;
    this.#moveCrosshair(snapToPoint(this.state.view, this.state.listShown(), px), "pointer");
  }

  /**
   * @param {number | null} x
   * @param {"pointer" | "keys"} by
   */
  #moveCrosshair(x, by) {
    const hasChanged = this.state.crosshair.moveTo(x, by);
    this.host.schedule();
    if (hasChanged) this.host.emit("crosshair", { x });
  }

  /**
   * @param {number} px
   * @param {number} py
   */
  tap(px, py) {
    const wasPinned = this.state.crosshair.isPinned;
    this.state.crosshair.isPinned = false;
    this.hover(px, py);
    this.state.crosshair.isPinned = !wasPinned && this.state.crosshair.x !== null;
  }

  /** @param {Event} event */
  pressOutside(event) {
    if (this.state.crosshair.isRead && !event.composedPath().includes(this.host.element)) {
      this.#moveCrosshair(null, "pointer");
    }
  }

  /**
   * Obey a key; return whether it has a meaning here.
   * @param {KeyboardEvent} event
   */
  key({ key, shiftKey }) {
    const size = shiftKey ? 10 : 1;
    if (key === "ArrowLeft") this.#stepCrosshair(-size);
    else if (key === "ArrowRight") this.#stepCrosshair(size);
    else if (key === "Home") this.#stepCrosshair(-Infinity);
    else if (key === "End") this.#stepCrosshair(Infinity);
    else if ("+=-_0".includes(key) || key === "Backspace" || (key === "Escape" && this.state.zoom.current)) {
      this.#pressZoomKey(key);
    } else if (key === "Escape" && this.state.crosshair.x !== null) this.#moveCrosshair(null, "keys");
    else return false;
    return true;
  }

  /** @param {number} count points, below zero to the left; infinite for the first or last one */
  #stepCrosshair(count) {
    if (!this.state.view) return;
    const { x, box } = this.state.view;
    const shown = this.state.listShown();
    const at = this.state.crosshair.x;
    const isAtEnd = at === null || at < x.min || at > x.max || !Number.isFinite(count);
    const next = isAtEnd
      ? snapToPoint(this.state.view, shown, count < 0 && at !== null ? x.from : x.to)
      : stepFrom(this.state.view, shown, at, count);
    this.state.crosshair.anchorY = (box.top + box.bottom) / 2;
    this.#moveCrosshair(next, "keys");
    clearTimeout(this.speakTimer);
    this.speakTimer = setTimeout(() => this.host.speak(), 150);
  }

  /** @param {string} id */
  toggle(id) {
    const hidden = new Set(this.state.hidden);
    if (!hidden.delete(id)) hidden.add(id);
    this.#hideSeries(id, [...hidden]);
  }

  /**
   * Show only this series, or all if it was the only one.
   * @param {string} id
   * @param {ReadonlySet<string>} before
   */
  isolate(id, before) {
    const others = this.state.series.map((series) => series.id).filter((other) => other !== id);
    const wasAlone = !before.has(id) && others.every((other) => before.has(other));
    this.#hideSeries(id, wasAlone ? [] : others);
  }

  /**
   * @param {string} id
   * @param {string[]} hiddenSeries
   */
  #hideSeries(id, hiddenSeries) {
    this.host.hide(hiddenSeries);
    this.host.emit("series-toggle", { id, hidden: hiddenSeries.includes(id), hiddenSeries });
  }

  /** @param {string | null} id */
  highlight(id) {
    if (id === this.state.hovered) return;
    this.state.hovered = id;
    this.host.redraw();
    this.host.emit("series-highlight", { id });
  }
}
