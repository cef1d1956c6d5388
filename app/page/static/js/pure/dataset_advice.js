/**
 * Says what to do about each problem of a dataset. A test compares the codes and severities with the server's.
 */

import { FILE_ADVICE } from "./dataset_advice_files.js";
import { ROW_ADVICE } from "./dataset_advice_rows.js";

/**
 * @typedef {{severity: "error" | "warning", title: string, instead: string, wrong?: string, right?: string}} Advice
 *   `wrong` and `right` are an example before and after
 */

/** @type {Readonly<Record<string, Advice>>} */
export const ADVICE = { ...FILE_ADVICE, ...ROW_ADVICE };

/**
 * Return the severity of a code. A code of a newer server counts as an error.
 * @param {string} code
 */
export function severityOf(code) {
  return ADVICE[code]?.severity ?? "error";
}

/**
 * Return how many errors and warnings a dataset has.
 * @param {Record<string, number>} counts  problems by code
 */
export function countSeverities(counts) {
  const sums = { error: 0, warning: 0 };
  for (const [code, count] of Object.entries(counts)) sums[severityOf(code)] += count;
  return sums;
}

/**
 * Return the codes with their counts: errors first, then the most frequent.
 * @param {Record<string, number>} counts
 * @returns {{code: string, count: number, severity: "error" | "warning"}[]}
 */
export function sortCodes(counts) {
  return Object.entries(counts)
    .map(([code, count]) => ({ code, count, severity: severityOf(code) }))
    .sort((a, b) => (a.severity < b.severity ? -1 : a.severity > b.severity ? 1 : b.count - a.count));
}
