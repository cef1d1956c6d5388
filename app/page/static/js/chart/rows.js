/**
 * Makes the rows of the data table and the CSV of what a chart shows. Pure: no DOM.
 *
 * @module
 */

/** @import { Range } from "./scale.js" */
/** @import { Series } from "./series.js" */
/** @import { XKind } from "./ticks.js" */
/** @import { TooltipContent } from "./parts/tooltip.js" */

import { findLowerBound } from "./scale.js";
import { describeX, formatValue, formatX, nameX } from "./ticks.js";

/** @typedef {{ label: string, values: Map<number, number> }} ValueColumn values by x */

/**
 * Return the columns of the series in a range; where two attempts have the same x, the later one's value.
 * @param {readonly Series[]} series
 * @param {Range} range
 * @param {number} weight of the smoothing; a second column holds smoothed values if it is above zero
 * @param {boolean} [withBands] also the lowest and highest values
 * @returns {ValueColumn[]}
 */
export function collectColumns(series, range, weight, withBands = false) {
  const columns = [];
  for (const each of series) {
    columns.push(collectColumn(each, range, each.label, each.y));
    if (weight > 0 && each.kind === "line") {
      columns.push(collectColumn(each, range, `${each.label} (smoothed)`, each.smooth(weight)));
    }
    if (withBands && each.low && each.high) {
      columns.push(collectColumn(each, range, `${each.label} (min)`, each.low));
      columns.push(collectColumn(each, range, `${each.label} (max)`, each.high));
    }
  }
  return columns;
}

/**
 * @param {Series} series
 * @param {Range} range
 * @param {string} label
 * @param {Float64Array} source
 * @returns {ValueColumn}
 */
function collectColumn(series, range, label, source) {
  /** @type {Map<number, number>} */
  const values = new Map();
  for (const { start, end } of series.listSegments()) {
    for (let i = findLowerBound(series.x, range.min, start, end); i < end && series.x[i] <= range.max; i++) {
      values.set(series.x[i], source[i]);
    }
  }
  return { label, values };
}

/**
 * Return the positions at which any column has a value, ascending.
 * @param {readonly ValueColumn[]} columns
 */
export function listPositions(columns) {
  /** @type {Set<number>} */
  const positions = new Set();
  for (const { values } of columns) for (const x of values.keys()) positions.add(x);
  return Float64Array.from(positions).sort();
}

/**
 * Return at most `limit` positions at even distances in their order, the first and the last among them.
 * @param {Float64Array} positions
 * @param {number} limit
 */
export function thinPositions(positions, limit) {
  if (positions.length <= limit) return positions;
  const step = (positions.length - 1) / (limit - 1);
  return Float64Array.from({ length: limit }, (_, i) => positions[Math.round(i * step)]);
}

/**
 * Return the CSV text (RFC 4180) of all rows. A label that a spreadsheet would take for a formula gets an apostrophe.
 * @param {string} xLabel
 * @param {readonly ValueColumn[]} columns
 */
export function formatCsv(xLabel, columns) {
  const lines = [[xLabel, ...columns.map(({ label }) => label)].map(quoteLabel).join(",")];
  for (const x of listPositions(columns)) {
    lines.push([x, ...columns.map(({ values }) => values.get(x) ?? "")].join(","));
  }
  return lines.join("\r\n") + "\r\n";
}

/** @param {string} label */
function quoteLabel(label) {
  const safe = /^[=+\-@\t\r]/.test(label) ? "'" + label : label;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @typedef {{ series: Series, index: number, x: number, value: number, smoothed: number }} Reading */

/**
 * Return each series' point nearest to `x`, the highest value first, values that are not numbers last.
 * @param {readonly Series[]} series
 * @param {number} x
 * @param {number} slack how far outside of a series `x` may lie
 * @param {number} weight of the smoothing
 * @returns {Reading[]}
 */
export function readAt(series, x, slack, weight) {
  /** @type {Reading[]} */
  const readings = [];
  for (const each of series) {
    const index = each.findNearest(x, slack);
    if (index < 0) continue;
    const value = each.y[index];
    const smoothed = weight > 0 && each.kind === "line" ? each.smooth(weight)[index] : value;
    readings.push({ series: each, index, x: each.x[index], value, smoothed });
  }
  /** @param {Reading} reading */
  const rank = ({ value, smoothed }) => Number.isFinite(smoothed) ? smoothed : Number.isNaN(value) ? -Infinity : value;
  return readings.sort((a, b) => rank(b) === rank(a) ? 0 : rank(b) - rank(a));
}

/**
 * @typedef {object} ReadingOptions
 * @property {number} x
 * @property {XKind} xKind
 * @property {string} unit
 * @property {number} weight
 * @property {string} note labels of the marks at `x`
 */

/** The most rows of the tooltip. */
const MAX_READINGS = 12;

/**
 * Return the texts of the tooltip.
 * @param {readonly Reading[]} readings
 * @param {ReadingOptions} options
 * @returns {TooltipContent}
 */
export function describeReadings(readings, { x, xKind, unit, weight, note }) {
  const hasBand = readings.some(({ series }) => series.low !== null);
  const hasOtherX = readings.some((reading) => reading.x !== x);
  const heads = [weight > 0 ? "Smoothed" : "", "Value", hasBand ? "Range" : "", hasOtherX ? nameX(xKind) : ""];
  const rows = readings.slice(0, MAX_READINGS).map(({ series, index, x: at, value, smoothed }) => {
    const { low, high } = series;
    const band = low && high && low[index] !== high[index]
      ? `${formatValue(low[index])} – ${formatValue(high[index])}`
      : "";
    const cells = [series.kind === "line" ? formatValue(smoothed) : "", formatValue(value), band, formatX(at, xKind)];
    return {
      color: series.color,
      dash: series.dash,
      isPoint: series.kind === "points",
      label: series.label,
      cells: cells.filter((_, i) => heads[i] !== ""),
    };
  });
  const shown = heads.filter((head) => head !== "");
  const rest = readings.length - rows.length;
  return {
    title: describeX(x, xKind) + (unit ? ` · ${unit}` : ""),
    note,
    heads: shown.length > 1 ? shown : [],
    rows,
    more: rest > 0 ? `and ${rest} more` : "",
  };
}

/**
 * Return the tooltip's content as a sentence.
 * @param {TooltipContent} content
 */
export function speakReadings({ title, note, heads, rows }) {
  const parts = rows.map(({ label, cells }) =>
    `${label} ${
      heads.length > 0 ? cells.map((cell, i) => cell && `${heads[i]} ${cell}`).filter(Boolean).join(", ") : cells[0]
    }`
  );
  return [title, note, ...parts].filter((part) => part !== "").join("; ") + ".";
}
