/**
 * Where the crosshair is, and how it moves from point to point. Pure: no DOM.
 *
 * @module
 */

/** @import { Series } from "./series.js" */
/** @import { View } from "./view.js" */

/** The crosshair of one chart. */
export class Crosshair {
  constructor() {
    /** @type {number | null} */
    this.x = null;
    /** @type {"none" | "outside" | "pointer" | "keys"} who moved it; "outside" shows no tooltip */
    this.by = "none";
    this.isPinned = false;
    /** The pixel beside which the tooltip stands. */
    this.anchorY = 0;
  }

  /** Whether the tooltip is wanted. */
  get isRead() {
    return this.x !== null && (this.by === "pointer" || this.by === "keys");
  }

  /**
   * Move the crosshair; return whether its position has changed.
   * @param {number | null} x
   * @param {"outside" | "pointer" | "keys"} by
   */
  moveTo(x, by) {
    const hasChanged = x !== this.x;
    this.x = x;
    this.by = x === null ? "none" : by;
    if (x === null || by === "outside") this.isPinned = false;
    return hasChanged;
  }
}

/**
 * Return the position of the point in view that is nearest to a pixel, or null without points.
 * @param {View} view
 * @param {readonly Series[]} series
 * @param {number} px
 */
export function snapToPoint({ x: scale }, series, px) {
  const target = Math.max(scale.min, Math.min(scale.max, scale.value(px)));
  /** @type {number | null} */
  let best = null;
  for (const each of series) {
    const index = each.findNearest(target);
    if (index < 0) continue;
    let x = each.x[index];
    if (x < scale.min) x = each.findNext(x, 1);
    if (x > scale.max) x = each.findNext(x, -1);
    if (!(x >= scale.min && x <= scale.max)) continue;
    if (best === null || Math.abs(x - target) < Math.abs(best - target)) best = x;
  }
  return best;
}

/**
 * Return the position some points before (below zero) or after `x`, held at the ends of the view.
 * @param {View} view
 * @param {readonly Series[]} series
 * @param {number} x
 * @param {number} count
 */
export function stepFrom({ x: scale }, series, x, count) {
  const direction = count < 0 ? -1 : 1;
  for (let i = 0; i < Math.abs(count); i++) {
    const next = series.map((each) => each.findNext(x, direction)).filter((value) => !Number.isNaN(value));
    if (next.length === 0) break;
    const nearest = direction < 0 ? Math.max(...next) : Math.min(...next);
    if (nearest < scale.min || nearest > scale.max) break;
    x = nearest;
  }
  return x;
}
