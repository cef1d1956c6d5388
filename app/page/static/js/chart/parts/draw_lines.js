/**
 * Paints bands, lines, points and gaps of series, and reduces a line to what its pixels can show.
 *
 * @module
 */

/** @import { Scene } from "./draw.js" */
/** @import { Scale } from "../scale.js" */
/** @import { Segment, Series } from "../series.js" */
/** @import { View } from "../view.js" */

import { dashPattern } from "../colors.js";
import { findLowerBound } from "../scale.js";

const LINE_WIDTH = 1.75;

/**
 * Return the indexes of the points that a line needs: in each pixel column the first, the lowest, the highest and the
 * last one. A run of values that cannot be drawn leaves one index, so that the gap stays.
 * @param {Float64Array} x ascending between `start` and `end`
 * @param {Float64Array} y
 * @param {number} start
 * @param {number} end
 * @param {Scale} scale maps x to pixels
 * @param {number} [floor] values at or below it cannot be drawn; 0 on a logarithmic axis
 */
export function decimate(x, y, start, end, scale, floor = -Infinity) {
  /** @type {number[]} */
  const kept = [];
  let column = NaN;
  let first = -1, lowest = -1, highest = -1, last = -1;
  const flush = () => {
    if (first < 0) return;
    const [one, two] = lowest < highest ? [lowest, highest] : [highest, lowest];
    kept.push(first);
    if (one !== first) kept.push(one);
    if (two !== one && two !== first) kept.push(two);
    if (last !== first && last !== one && last !== two) kept.push(last);
    first = -1;
  };
  let isGap = false;
  for (let i = start; i < end; i++) {
    const value = y[i];
    if (!(value > floor && value < Infinity)) {
      flush();
      if (!isGap) kept.push(i);
      isGap = true;
      continue;
    }
    isGap = false;
    const pixel = Math.floor(scale.px(x[i]));
    if (first < 0 || pixel !== column) {
      flush();
      column = pixel;
      first =
        lowest =
        highest =
        last =
          i;
      continue;
    }
    if (value < y[lowest]) lowest = i;
    if (value > y[highest]) highest = i;
    last = i;
  }
  flush();
  return kept;
}

/**
 * Return how strongly a series is drawn.
 * @param {Scene} scene
 * @param {Series} series
 */
function findAlpha({ highlight }, series) {
  return highlight === null || highlight === series.id ? 1 : 0.16;
}

/**
 * Return the indexes of a segment that a window shows, one more at each end.
 * @param {View} view
 * @param {Series} series
 * @param {Segment} segment
 */
function clipSegment({ x }, series, { start, end }) {
  const from = Math.max(start, findLowerBound(series.x, x.min, start, end) - 1);
  let to = findLowerBound(series.x, x.max, from, end);
  while (to < end && series.x[to] <= x.max) to++;
  return { from, to: Math.min(end, to + 1) };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Series} series
 */
export function drawSeries(context, scene, series) {
  const { palette, weight } = scene;
  const alpha = findAlpha(scene, series);
  const isStrong = scene.highlight === series.id;
  context.strokeStyle = context.fillStyle = palette.series[series.color];
  context.lineJoin = "round";
  context.lineCap = series.dash === 0 ? "round" : "butt";
  const isSmooth = weight > 0 && series.kind === "line";
  if (isSmooth) {
    context.globalAlpha = alpha * 0.26;
    context.lineWidth = 1.25;
    context.setLineDash([]);
    strokeValues(context, scene, series, series.y);
  }
  context.globalAlpha = series.kind === "points" ? alpha * 0.55 : alpha;
  context.lineWidth = series.width ?? (series.kind === "points" ? 1 : isStrong ? 2.5 : LINE_WIDTH);
  context.setLineDash(dashPattern(series.dash));
  strokeValues(context, scene, series, isSmooth ? series.smooth(weight) : series.y);
  context.setLineDash([]);
  context.globalAlpha = alpha;
  if (series.kind === "points") drawPoints(context, scene, series);
  context.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Series} series
 * @param {Float64Array} values
 */
function strokeValues(context, { view }, series, values) {
  /** @type {number[]} pairs of pixels of values with a gap on both sides */
  const lone = [];
  context.beginPath();
  for (const segment of series.listSegments()) {
    const { from, to } = clipSegment(view, series, segment);
    const isDense = to - from > 2 * (view.box.right - view.box.left);
    const kept = isDense ? decimate(series.x, values, from, to, view.x, view.floor) : null;
    traceRun(context, view, series.x, values, from, to, kept, lone);
  }
  context.stroke();
  context.beginPath();
  for (let i = 0; i < lone.length; i += 2) {
    context.moveTo(lone[i] + 2, lone[i + 1]);
    context.arc(lone[i], lone[i + 1], 2, 0, 7);
  }
  context.fill();
}

/**
 * Add lines through the values to the path, and interrupt them at gaps.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Float64Array} xs
 * @param {Float64Array} ys
 * @param {number} from
 * @param {number} to
 * @param {number[] | null} kept the indexes to use, or null for all
 * @param {number[]} lone
 */
function traceRun(context, { x, y, floor }, xs, ys, from, to, kept, lone) {
  let length = 0;
  let [px, py] = [0, 0];
  const count = kept ? kept.length : to - from;
  for (let k = 0; k <= count; k++) {
    const i = kept ? kept[k] : from + k;
    const value = k < count ? ys[i] : NaN;
    if (!(value > floor && value < Infinity)) {
      if (length === 1) lone.push(px, py);
      length = 0;
      continue;
    }
    [px, py] = [x.px(xs[i]), y.px(value)];
    if (length++ === 0) context.moveTo(px, py);
    else context.lineTo(px, py);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Series} series
 */
function drawPoints(context, { view, palette }, series) {
  context.strokeStyle = palette.surface;
  context.lineWidth = 1.5;
  for (const segment of series.listSegments()) {
    const { from, to } = clipSegment(view, series, segment);
    const isDense = to - from > (view.box.right - view.box.left) / 5;
    for (let i = from; i < to; i++) {
      if (!(series.y[i] > view.floor && series.y[i] < Infinity)) continue;
      context.beginPath();
      context.arc(view.x.px(series.x[i]), view.y.px(series.y[i]), isDense ? 1.75 : 3.5, 0, 7);
      if (!isDense) context.stroke();
      context.fill();
    }
  }
}

/**
 * Fill the area between the lowest and the highest values.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Series} series
 */
export function drawBand(context, scene, series) {
  if (!series.low || !series.high) return;
  context.fillStyle = scene.palette.series[series.color];
  context.globalAlpha = findAlpha(scene, series) * (scene.weight > 0 ? 0.08 : 0.14);
  for (const segment of series.listSegments()) {
    const { from, to } = clipSegment(scene.view, series, segment);
    fillBand(context, scene.view, series, from, to);
  }
  context.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Series} series
 * @param {number} from
 * @param {number} to
 */
function fillBand(context, { x, y, box }, series, from, to) {
  const low = /** @type {Float64Array} */ (series.low);
  const high = /** @type {Float64Array} */ (series.high);
  /** @type {number[][]} */
  let columns = [];
  const flush = () => {
    if (columns.length > 1) {
      context.beginPath();
      for (const [px, , top] of columns) context.lineTo(px, top);
      for (const [px, bottom] of columns.reverse()) context.lineTo(px, bottom);
      context.fill();
    }
    columns = [];
  };
  for (let i = from; i < to; i++) {
    if (!Number.isFinite(high[i] - low[i])) {
      flush();
      continue;
    }
    const px = x.px(series.x[i]);
    const bottom = y.isLog && low[i] <= 0 ? box.bottom + 4 : y.px(low[i]);
    const top = y.isLog && high[i] <= 0 ? box.bottom + 4 : y.px(high[i]);
    const last = columns[columns.length - 1];
    if (last && px - last[0] < 0.5) [last[1], last[2]] = [Math.max(last[1], bottom), Math.min(last[2], top)];
    else columns.push([px, bottom, top]);
  }
  flush();
}

/**
 * Mark values that a line cannot show: NaN by a cross, others by a triangle at the edge that they lie beyond.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Series} series
 */
export function drawGaps(context, scene, series) {
  const { view, palette } = scene;
  const { box, x, floor } = view;
  context.strokeStyle = context.fillStyle = palette.series[series.color];
  context.globalAlpha = findAlpha(scene, series);
  context.lineWidth = 1.5;
  let last = -Infinity;
  for (const segment of series.listSegments()) {
    const { from, to } = clipSegment(view, series, segment);
    for (let i = from; i < to; i++) {
      const value = series.y[i];
      if (value > floor && value < Infinity) continue;
      const px = x.px(series.x[i]);
      if (Math.abs(px - last) < 8) continue;
      last = px;
      drawGap(context, value, px, value > floor ? box.top + 4 : box.bottom - 8);
    }
  }
  context.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} value
 * @param {number} px
 * @param {number} py
 */
function drawGap(context, value, px, py) {
  context.beginPath();
  if (Number.isNaN(value)) {
    for (const [dx, dy] of [[-3, -3], [3, 3], [-3, 3], [3, -3]]) {
      if (dx < 0) context.moveTo(px + dx, py + dy);
      else context.lineTo(px + dx, py + dy);
    }
    context.stroke();
    return;
  }
  const tip = value > 0 ? -4 : 4;
  context.moveTo(px, py + tip);
  context.lineTo(px - 4, py - tip / 2);
  context.lineTo(px + 4, py - tip / 2);
  context.fill();
}
