/**
 * Holds the points of one series, grows as points arrive, and keeps its smoothed values. Pure: no DOM.
 *
 * @module
 */

import { findLowerBound, findNearest } from "./scale.js";
import { Smoother } from "./smoothing.js";

/**
 * @typedef {object} SeriesData
 * @property {string} id
 * @property {string} label
 * @property {number} color 0 to 7
 * @property {number} dash 0 to 7
 * @property {"line" | "points"} [kind] "points" marks each value, for sparse values such as evaluations
 * @property {Float64Array} x ascending within an attempt
 * @property {Float64Array} y NaN and infinite values leave a gap
 * @property {Float64Array} [low] the lowest value of each bucket
 * @property {Float64Array} [high] the highest value of each bucket
 * @property {readonly number[]} [breaks] indexes at which a new attempt begins
 * @property {number} [width] of the line in pixels, if it is to stand out
 */

/** @typedef {{ start: number, end: number }} Segment the points of one attempt, `end` exclusive */

/** A column of numbers that grows without a copy for each value. */
class Column {
  /** @param {Float64Array} values used as they are until they have to grow */
  constructor(values) {
    this.buffer = values;
    this.length = values.length;
    this.values = values;
  }

  /** @param {number} value */
  push(value) {
    if (this.length === this.buffer.length) {
      const grown = new Float64Array(Math.max(64, this.buffer.length * 2));
      grown.set(this.buffer);
      this.buffer = grown;
    }
    this.buffer[this.length++] = value;
    this.values = this.buffer.subarray(0, this.length);
  }
}

/** The points of one series. */
export class Series {
  /** @param {SeriesData} data */
  constructor(data) {
    this.id = data.id;
    this.label = data.label;
    this.color = data.color & 7;
    this.dash = data.dash & 7;
    this.kind = data.kind ?? "line";
    this.width = data.width ?? null;
    this.source = data;
    this.columns = this.#makeColumns(data);
    /** @type {number[]} */
    this.breaks = [...(data.breaks ?? [])].filter((index) => index > 0).sort((a, b) => a - b);
    this.smoothed = new Column(new Float64Array(0));
    this.smoother = new Smoother(0);
    this.isBreakNext = false;
  }

  /** @param {SeriesData} data */
  #makeColumns({ x, y, low, high }) {
    return {
      x: new Column(x),
      y: new Column(y),
      low: low && high ? new Column(low) : null,
      high: low && high ? new Column(high) : null,
    };
  }

  get length() {
    return Math.min(this.columns.x.length, this.columns.y.length);
  }

  get x() {
    return this.columns.x.values;
  }

  get y() {
    return this.columns.y.values;
  }

  get low() {
    return this.columns.low?.values ?? null;
  }

  get high() {
    return this.columns.high?.values ?? null;
  }

  /**
   * Add a point at the end.
   * @param {number} x
   * @param {number} y
   * @param {number} [low]
   * @param {number} [high]
   */
  append(x, y, low = y, high = y) {
    const isBefore = this.length > 0 && x < this.x[this.length - 1];
    if ((this.isBreakNext || isBefore) && this.length > 0) this.breaks.push(this.length);
    this.isBreakNext = false;
    this.columns.x.push(x);
    this.columns.y.push(y);
    this.columns.low?.push(low);
    this.columns.high?.push(high);
  }

  /** Read changed arrays again and smooth all values anew at the next draw. */
  refresh() {
    this.columns = this.#makeColumns(this.source);
    this.breaks = [...(this.source.breaks ?? [])].filter((index) => index > 0).sort((a, b) => a - b);
    this.smoothed = new Column(new Float64Array(0));
    this.smoother.reset();
  }

  /**
   * Return the attempts, first to last.
   * @returns {Segment[]}
   */
  listSegments() {
    const edges = [0, ...this.breaks.filter((index) => index < this.length), this.length];
    return edges.slice(1).map((end, i) => ({ start: edges[i], end })).filter(({ start, end }) => end > start);
  }

  /**
   * Return the smoothed values; only those that arrived since the last call are computed.
   * @param {number} weight
   */
  smooth(weight) {
    if (weight <= 0) return this.y;
    if (this.smoother.weight !== weight) {
      this.smoother = new Smoother(weight);
      this.smoothed = new Column(new Float64Array(this.length));
      this.smoothed.length = 0;
    }
    const starts = new Set(this.breaks);
    for (let i = this.smoothed.length; i < this.length; i++) {
      if (starts.has(i)) this.smoother.reset();
      this.smoothed.push(this.smoother.push(this.y[i]));
    }
    return this.smoothed.values;
  }

  /**
   * Return the index of the point nearest to `x` over all attempts, the latest attempt of equally near ones; -1 if
   * there is none, or if `x` is more than `slack` outside of the series.
   * @param {number} x
   * @param {number} [slack]
   */
  findNearest(x, slack = Infinity) {
    let best = -1;
    let bestDistance = Infinity;
    let [from, to] = [Infinity, -Infinity];
    for (const { start, end } of this.listSegments()) {
      from = Math.min(from, this.x[start]);
      to = Math.max(to, this.x[end - 1]);
      const index = findNearest(this.x, x, start, end);
      const distance = Math.abs(this.x[index] - x);
      if (distance <= bestDistance) [best, bestDistance] = [index, distance];
    }
    return x < from - slack || x > to + slack ? -1 : best;
  }

  /**
   * Return the nearest position before (-1) or after (1) `x`, or NaN.
   * @param {number} x
   * @param {-1 | 1} direction
   */
  findNext(x, direction) {
    let best = NaN;
    for (const { start, end } of this.listSegments()) {
      let index = findLowerBound(this.x, x, start, end);
      if (direction < 0) index -= 1;
      else while (index < end && this.x[index] <= x) index++;
      if (index < start || index >= end) continue;
      const distance = Math.abs(this.x[index] - x);
      if (Number.isNaN(best) || distance < Math.abs(best - x)) best = this.x[index];
    }
    return best;
  }

  /** Return the last value that is finite, or NaN. */
  findLastValue() {
    for (let i = this.length - 1; i >= 0; i--) if (Number.isFinite(this.y[i])) return this.y[i];
    return NaN;
  }
}
