/** What came of jobs, as a table sets it side by side. */

import { formatDuration, formatNumber, formatValue } from "../format.js";

/**
 * @typedef {{step: number, value: number}} Measured
 * @typedef {{best: Measured | null, loss: number | null, speed: number | null, seconds: number | null}} Results
 *   `best` is the lowest validation loss
 */

/**
 * Return the lowest of the values, and where it is. Values that are not finite do not count.
 * @param {ArrayLike<number>} steps
 * @param {ArrayLike<number>} values
 * @returns {Measured | null}
 */
export function findBest(steps, values) {
  let place = -1;
  for (let index = 0; index < values.length; index++) {
    const value = /** @type {number} */ (values[index]);
    if (Number.isFinite(value) && (place < 0 || value < /** @type {number} */ (values[place]))) place = index;
  }
  return place < 0
    ? null
    : { step: /** @type {number} */ (steps[place]), value: /** @type {number} */ (values[place]) };
}

/**
 * Return the middle of the values, or null without any.
 * @param {ArrayLike<number>} values
 */
export function findMedian(values) {
  const sorted = Array.from(values).filter(Number.isFinite).sort((a, b) => a - b);
  if (!sorted.length) return null;
  const middle = sorted.length >> 1;
  const upper = /** @type {number} */ (sorted[middle]);
  return sorted.length % 2 ? upper : (/** @type {number} */ (sorted[middle - 1]) + upper) / 2;
}

/**
 * Return how long a job has run, in seconds; null before it started.
 * @param {{started_at: string | null, finished_at: string | null}} job
 * @param {number} now  milliseconds
 */
export function measureDuration({ started_at: start, finished_at: end }, now) {
  return start ? Math.max(0, ((end ? Date.parse(end) : now) - Date.parse(start)) / 1000) : null;
}

/**
 * @typedef {{key: string, label: string, isLowerBetter: boolean | null, isPlace?: boolean,
 *   isLoss?: boolean, read: (results: Results) => number | null, format: (value: number) => string}} Column
 *   `isLowerBetter` null: neither is better; `isPlace`: a difference says nothing;
 *   `isLoss`: jobs with different objectives cannot be compared by it
 */

/** @type {readonly Column[]} */
export const COLUMNS = [
  {
    key: "best",
    label: "Best validation loss",
    isLoss: true,
    isLowerBetter: true,
    read: (r) => r.best?.value ?? null,
    format: formatValue,
  },
  {
    key: "step",
    label: "At step",
    isLowerBetter: null,
    isPlace: true,
    read: (r) => r.best?.step ?? null,
    format: (v) => formatNumber(v),
  },
  {
    key: "loss",
    label: "Latest training loss",
    isLoss: true,
    isLowerBetter: true,
    read: (r) => r.loss,
    format: formatValue,
  },
  {
    key: "speed",
    label: "Tokens/s",
    isLowerBetter: false,
    read: (r) => r.speed,
    format: (v) => formatNumber(Math.round(v)),
  },
  { key: "seconds", label: "Duration", isLowerBetter: null, read: (r) => r.seconds, format: formatDuration },
];

/**
 * Return the places of the best values of a column: none if fewer than two jobs have one.
 * @param {readonly (number | null)[]} values
 * @param {boolean | null} isLowerBetter
 * @returns {Set<number>}
 */
export function findBestPlaces(values, isLowerBetter) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (isLowerBetter === null || known.length < 2) return new Set();
  const best = isLowerBetter ? Math.min(...known.map(Number)) : Math.max(...known.map(Number));
  return new Set(values.flatMap((value, place) => value === best ? [place] : []));
}

/**
 * Return how far a value is from the baseline's: "−3.1%", "+12%", "×2.4"; "" where it says nothing.
 * @param {number | null} value
 * @param {number | null} baseline
 */
export function describeDifference(value, baseline) {
  if (value === null || baseline === null || !Number.isFinite(value) || !(baseline > 0)) return "";
  const share = value / baseline - 1;
  if (value >= 10 * baseline) return `×${formatNumber(value / baseline, 0)}`;
  const digits = Math.abs(share) < 0.0995 ? 1 : 0;
  const text = `${Math.abs(share * 100).toFixed(digits)}%`;
  if (Number(text.slice(0, -1)) === 0) return "±0%";
  return `${share < 0 ? "−" : "+"}${text}`;
}
