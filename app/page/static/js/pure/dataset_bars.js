/** Prepares the bars of a dataset's report. */

import { formatCount, formatNumber, formatPercent } from "../format.js";

/**
 * @typedef {{min: number, max: number, num_rows: number}} Bin
 * @typedef {{label: string, count: number, share: number}} Bar  `share` is of the largest bar, 0 to 1
 */

const MOST_EMPTY = 12;

/**
 * Return the bars of bins in powers of two. Empty bins between others are bars as well, so that the axis is even.
 * @param {readonly Bin[]} bins
 * @returns {Bar[]}
 */
export function lengthBars(bins) {
  return scaled(fillGaps(bins, (bin) => ({ min: bin.max + 1, max: (bin.max + 1) * 2 - 1, num_rows: 0 })));
}

/**
 * Return the bars of numbers of turns: one each up to sixteen, then ranges.
 * @param {readonly Bin[]} bins
 * @returns {Bar[]}
 */
export function turnBars(bins) {
  const after = (/** @type {Bin} */ bin) => {
    const isSingle = bin.max < 16;
    return { min: bin.max + 1, max: isSingle ? bin.max + 1 : bin.max * 2, num_rows: 0 };
  };
  return scaled(fillGaps(bins, after));
}

/**
 * Return the bars of counts by name, largest first; what is over `most` is one bar.
 * @param {Record<string, number>} counts
 * @param {{most?: number, total?: number}} [options]  `total` is the count of a full bar
 * @returns {Bar[]}
 */
export function namedBars(counts, { most = 12, total } = {}) {
  const sorted = Object.entries(counts).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const shown = sorted.length > most + 1 ? sorted.slice(0, most) : sorted;
  const full = total || Math.max(1, ...shown.map(([, count]) => count));
  return shown.map(([label, count]) => ({ label, count, share: Math.min(1, count / full) }));
}

/**
 * Return a value below which about this share of the rows are: the upper end of its bin.
 * @param {readonly Bin[]} bins
 * @param {number} share
 * @returns {number | null}
 */
export function quantile(bins, share) {
  const total = bins.reduce((sum, bin) => sum + bin.num_rows, 0);
  let sum = 0;
  for (const bin of bins) {
    sum += bin.num_rows;
    if (total && sum >= share * total) return bin.max;
  }
  return null;
}

/**
 * Return a share as percent, with a decimal where a whole number would hide something: 0.4% and 99.6%, but 42%.
 * @param {number} share
 */
export function formatShare(share) {
  const isNearEnd = (share > 0 && share < 0.1) || (share > 0.9 && share < 1);
  return formatPercent(share, isNearEnd ? 1 : 0);
}

/**
 * @param {readonly Bin[]} bins
 * @param {(bin: Bin) => Bin} after  the bin after one
 */
function fillGaps(bins, after) {
  /** @type {Bin[]} */
  const filled = [];
  for (const bin of bins) {
    const last = filled.at(-1);
    if (last) {
      let next = after(last);
      const empty = [];
      while (next.max < bin.min && empty.length < MOST_EMPTY) {
        empty.push(next);
        next = after(next);
      }
      filled.push(...empty);
    }
    filled.push(bin);
  }
  return filled;
}

/**
 * @param {readonly Bin[]} bins
 * @returns {Bar[]}
 */
function scaled(bins) {
  const most = Math.max(1, ...bins.map((bin) => bin.num_rows));
  return bins.map((bin) => ({ label: rangeLabel(bin), count: bin.num_rows, share: bin.num_rows / most }));
}

/** @param {Bin} bin */
function rangeLabel({ min, max }) {
  if (min === max) return formatNumber(min);
  const short = (/** @type {number} */ value) => value < 10_000 ? formatNumber(value) : formatCount(value);
  return `${short(min)}–${short(max)}`;
}
