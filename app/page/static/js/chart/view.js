/**
 * Decides what a chart shows: ranges, scales, ticks, and zooming. Pure: no DOM.
 *
 * @module
 */

/** @import { Range, ScaleKind, Ticks } from "./scale.js" */
/** @import { Series } from "./series.js" */
/** @import { XKind } from "./ticks.js" */

import {
  findLinearTicks,
  findLogTicks,
  findLowerBound,
  findRobustRange,
  findTimeTicks,
  padRange,
  Scale,
} from "./scale.js";
import { labelValues, labelXTicks } from "./ticks.js";

/** @typedef {{ from: number, to: number }} Zoom */
/** @typedef {{ left: number, top: number, right: number, bottom: number }} Box */
/** @typedef {{ px: number, label: string }} Label */

/**
 * @typedef {object} ViewOptions
 * @property {readonly Series[]} series those that are shown
 * @property {readonly Series[]} all
 * @property {Zoom | null} zoom
 * @property {Zoom | null} full the whole x range, if the data hold only a part of it
 * @property {ScaleKind} xScale
 * @property {ScaleKind} yScale
 * @property {XKind} xKind
 * @property {boolean} hidesOutliers
 * @property {string} unit
 * @property {number} width
 * @property {number} height
 * @property {(text: string) => number} measure returns the width of a label
 */

/**
 * @typedef {object} View
 * @property {Box} box the plot's area
 * @property {Range} full
 * @property {Scale} x
 * @property {Scale} y
 * @property {number} floor values at or below it cannot be drawn
 * @property {Label[]} xLabels
 * @property {Label[]} yLabels
 * @property {number[]} yMinor pixels of unlabelled grid lines
 * @property {boolean} hasValues whether anything can be drawn in this range
 */

const RIGHT = 14;
const BOTTOM = 26;

/**
 * Return the x range of all points, or null without points.
 * @param {readonly Series[]} series
 * @param {ScaleKind} kind
 * @returns {Range | null}
 */
export function findXRange(series, kind) {
  let [min, max] = [Infinity, -Infinity];
  for (const each of series) {
    for (const { start, end } of each.listSegments()) {
      const first = kind === "log" ? Math.min(end - 1, findLowerBound(each.x, Number.MIN_VALUE, start, end)) : start;
      if (kind === "log" && !(each.x[first] > 0)) continue;
      min = Math.min(min, each.x[first]);
      max = Math.max(max, each.x[end - 1]);
    }
  }
  return min <= max ? { min, max } : null;
}

/**
 * Return the range of the values in a window of x, or null if there are none.
 * @param {readonly Series[]} series
 * @param {Range} window
 * @param {number} floor values at or below it are left out
 * @param {boolean} hidesOutliers from the 1st to the 99th percentile instead of all
 * @returns {Range | null}
 */
export function findYRange(series, window, floor, hidesOutliers) {
  let [min, max] = [Infinity, -Infinity];
  /** @type {number[]} */
  const values = [];
  for (const each of series) {
    const { x, y, low, high } = each;
    for (const { start, end } of each.listSegments()) {
      for (let i = findLowerBound(x, window.min, start, end); i < end && x[i] <= window.max; i++) {
        if (!(y[i] > floor && y[i] < Infinity)) continue;
        if (hidesOutliers) values.push(y[i]);
        min = Math.min(min, y[i], low && low[i] > floor ? low[i] : y[i]);
        max = Math.max(max, y[i], high && high[i] < Infinity ? high[i] : y[i]);
      }
    }
  }
  if (min > max) return null;
  return (hidesOutliers && values.length > 20 && findRobustRange(Float64Array.from(values))) || { min, max };
}

/**
 * Return what a chart of this size shows.
 * @param {ViewOptions} options
 * @returns {View}
 */
export function computeView(options) {
  const { series, all, xScale, yScale, width, height } = options;
  const found = findXRange(series.length > 0 ? series : all, xScale);
  const full = widen(joinFull(found, options.full), xScale);
  const window = options.zoom ? { min: options.zoom.from, max: options.zoom.to } : full;
  const floor = yScale === "log" ? 0 : -Infinity;
  const values = found && findYRange(series, window, floor, options.hidesOutliers);
  const yRange = padRange(values ?? (yScale === "log" ? { min: 0.1, max: 10 } : { min: 0, max: 1 }), yScale);
  const box = { left: 0, top: options.unit ? 22 : 10, right: width - RIGHT, bottom: height - BOTTOM };
  const y = new Scale(yScale, yRange, box.bottom, box.top);
  const yTicks = findYTicks(y, box);
  const yTexts = labelValues(yTicks.major, y.isLog && yRange.max / yRange.min >= 5);
  const widest = Math.max(0, ...yTexts.map(options.measure));
  box.left = Math.max(42, Math.ceil((widest + 14) / 6) * 6);
  const x = new Scale(xScale, window, box.left, Math.max(box.left + 1, box.right));
  return {
    box,
    full,
    x,
    y,
    floor,
    xLabels: findXLabels(x, box, options),
    yLabels: yTicks.major.map((value, i) => ({ px: y.px(value), label: yTexts[i] })),
    yMinor: yTicks.minor.map((value) => y.px(value)),
    hasValues: values !== null,
  };
}

/**
 * @param {Range | null} found
 * @param {Zoom | null} given
 */
function joinFull(found, given) {
  if (!found) return given ? { min: given.from, max: given.to } : { min: 0, max: 1 };
  if (!given) return found;
  return { min: Math.min(found.min, given.from), max: Math.max(found.max, given.to) };
}

/**
 * @param {Range} range
 * @param {ScaleKind} kind
 */
function widen(range, kind) {
  if (kind === "log" && !(range.min > 0)) range = { min: Math.min(1, range.max / 10) || 1, max: range.max || 10 };
  if (range.max > range.min) return range;
  return kind === "log" ? { min: range.min / 2, max: range.min * 2 } : { min: range.min - 1, max: range.min + 1 };
}

/**
 * @param {Scale} y
 * @param {Box} box
 * @returns {Ticks}
 */
function findYTicks(y, box) {
  const count = Math.max(2, Math.floor((box.bottom - box.top) / 32));
  return y.isLog ? findLogTicks(y, count) : findLinearTicks(y, count);
}

/**
 * @param {Scale} x
 * @param {Box} box
 * @param {ViewOptions} options
 * @returns {Label[]}
 */
function findXLabels(x, box, { xKind, measure }) {
  const room = xKind === "time" ? 84 : 62;
  let count = Math.max(2, Math.floor((box.right - box.left) / room));
  for (;; count--) {
    const ticks = x.isLog ? findLogTicks(x, count) : findXTicks(x, count, xKind);
    const texts = labelXTicks(ticks.major, xKind);
    const labels = ticks.major.map((value, i) => ({ px: x.px(value), label: texts[i] }));
    if (count <= 1 || !isCrowded(labels, measure)) return labels;
  }
}

/**
 * @param {Scale} x
 * @param {number} count
 * @param {XKind} kind
 */
function findXTicks(x, count, kind) {
  return kind === "time" ? findTimeTicks(x, count) : findLinearTicks(x, count, 1);
}

/**
 * @param {Label[]} labels
 * @param {(text: string) => number} measure
 */
function isCrowded(labels, measure) {
  let end = -Infinity;
  for (const { px, label } of labels) {
    const half = measure(label) / 2;
    if (px - half < end + 10) return true;
    end = px + half;
  }
  return false;
}

/**
 * Return a zoom within the full range, or null if it covers all of it.
 * @param {Zoom} zoom
 * @param {Range} full
 * @returns {Zoom | null}
 */
export function clampZoom(zoom, full) {
  const span = Math.min(zoom.to - zoom.from, full.max - full.min);
  const [from, to] = [Math.max(full.min, zoom.from), Math.min(full.max, zoom.to)];
  const slack = (full.max - full.min) * 1e-6;
  if (!(to > from) || !(span > slack)) return null;
  return from <= full.min + slack && to >= full.max - slack ? null : { from, to };
}

/**
 * Return the zoom that makes the range `factor` times as wide and keeps the value at a pixel in place.
 * @param {View} view
 * @param {number} factor
 * @param {number} px
 * @param {number} [shift] pixels by which the point at `px` has moved
 * @returns {Zoom | null}
 */
export function zoomAround({ x, full }, factor, px, shift = 0) {
  const from = x.value(px - shift - (px - x.from) * factor);
  const to = x.value(px - shift + (x.to - px) * factor);
  const least = (full.max - full.min) * 1e-5;
  if (factor < 1 && to - from < least) return { from: x.min, to: x.max };
  return clampZoom({ from, to }, full);
}

/**
 * Return the zoom moved by pixels, held at the ends of the full range.
 * @param {View} view
 * @param {number} dx
 * @returns {Zoom | null}
 */
export function panBy({ x, full }, dx) {
  const [atMin, atMax] = [x.px(full.min), x.px(full.max)];
  const shift = Math.min(Math.max(-dx, Math.min(0, atMin - x.from)), Math.max(0, atMax - x.to));
  return clampZoom({ from: x.value(x.from + shift), to: x.value(x.to + shift) }, full);
}
