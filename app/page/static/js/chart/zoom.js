/**
 * The x range in view and the steps back from it. Pure: no DOM.
 *
 * @module
 */

/** @import { Zoom } from "./view.js" */

/** The zoom of one chart. */
export class ZoomState {
  constructor() {
    /** @type {Zoom | null} null shows all */
    this.current = null;
    /** @type {(Zoom | null)[]} */
    this.steps = [];
    /** @type {Zoom | null} */
    this.before = null;
  }

  /**
   * Set the range without a step back, as a program does.
   * @param {Zoom | null} zoom
   */
  set(zoom) {
    this.current = zoom && zoom.to > zoom.from ? { from: zoom.from, to: zoom.to } : null;
    this.steps = [];
  }

  /**
   * Take on the range and the steps of another chart.
   * @param {ZoomState} other
   */
  adopt(other) {
    this.current = other.current;
    this.steps = [...other.steps];
  }

  /** Remember the range before a pan or pinch. */
  begin() {
    this.before = this.current;
  }

  /** Keep the range from before as one step; return whether the range has changed since then. */
  settle() {
    if (isSame(this.before, this.current)) return false;
    this.steps.push(this.before);
    return true;
  }

  /**
   * Go to a range in one step; return whether it is another one.
   * @param {Zoom | null} zoom
   */
  goTo(zoom) {
    this.begin();
    this.current = zoom;
    return this.settle();
  }

  /**
   * Move both ends to whole numbers, if that changes the range by little.
   * @param {boolean} isWhole whether positions are whole numbers
   */
  round(isWhole) {
    if (!isWhole || !this.current || this.current.to - this.current.from < 20) return;
    this.current = { from: Math.round(this.current.from), to: Math.round(this.current.to) };
  }

  /** Go one step back; return whether there was one. */
  goBack() {
    if (!this.current) return false;
    this.current = this.steps.pop() ?? null;
    return true;
  }

  /** Show all and forget the steps; return whether the range has changed. */
  reset() {
    const hasChanged = this.current !== null;
    this.set(null);
    return hasChanged;
  }
}

/**
 * @param {Zoom | null} a
 * @param {Zoom | null} b
 */
function isSame(a, b) {
  return a === b || (a !== null && b !== null && a.from === b.from && a.to === b.to);
}
