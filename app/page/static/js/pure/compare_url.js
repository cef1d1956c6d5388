/** The comparison as the address holds it: which jobs in which order, and how their curves are shown. */

import { MOST_COMPARED } from "./jobs_selection.js";

/**
 * @typedef {"step" | "tokens" | "time"} XKind
 * @typedef {{
 *   ids: readonly string[], baseline: string, metrics: readonly string[], xKind: XKind, isLog: boolean,
 *   hidesOutliers: boolean, smoothing: number, zoom: {from: number, to: number} | null, showsAll: boolean,
 * }} Comparison  `metrics` are the charts beside those of the losses; `baseline` is one of `ids`, or ""
 */

export const USUAL_SMOOTHING = 0.6;
const MOST_SMOOTHING = 0.99;

/**
 * Read a comparison. What is not valid falls back to the usual; jobs beyond the eighth are left out.
 * @param {URLSearchParams} search
 * @returns {Comparison}
 */
export function readComparison(search) {
  const ids = [...new Set(search.getAll("job").filter(Boolean))].slice(0, MOST_COMPARED);
  const baseline = search.get("baseline") ?? "";
  const kind = search.get("x");
  return {
    ids,
    baseline: ids.includes(baseline) ? baseline : "",
    metrics: [...new Set(search.getAll("metric").filter(Boolean))],
    xKind: kind === "tokens" || kind === "time" ? kind : "step",
    isLog: search.get("y") === "log",
    hidesOutliers: search.get("outliers") === "hide",
    smoothing: readShare(search.get("smoothing")),
    zoom: readRange(search.get("range")),
    showsAll: search.get("fields") === "all",
  };
}

/**
 * Return the values of the query that hold a comparison; the usual ones are left out.
 * @param {Comparison} comparison
 */
export function writeComparison({ ids, baseline, metrics, xKind, isLog, hidesOutliers, smoothing, zoom, showsAll }) {
  return {
    job: [...ids],
    baseline: ids.includes(baseline) ? baseline : null,
    metric: [...metrics],
    x: xKind === "step" ? null : xKind,
    y: isLog ? "log" : null,
    outliers: hidesOutliers ? "hide" : null,
    smoothing: smoothing === USUAL_SMOOTHING ? null : String(smoothing),
    range: zoom && `${round(zoom.from)}-${round(zoom.to)}`,
    fields: showsAll ? "all" : null,
  };
}

/**
 * Return the jobs with one added at the end; at most eight, each once.
 * @param {readonly string[]} ids
 * @param {string} id
 * @returns {string[]}
 */
export function addJob(ids, id) {
  return ids.includes(id) || ids.length >= MOST_COMPARED ? [...ids] : [...ids, id];
}

/** @param {string | null} text */
function readShare(text) {
  const value = Number(text);
  return text === null || text === "" || !(value >= 0) ? USUAL_SMOOTHING : Math.min(MOST_SMOOTHING, value);
}

/** @param {string | null} text */
function readRange(text) {
  const match = /^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/.exec(text ?? "");
  const [from, to] = [Number(match?.[1]), Number(match?.[2])];
  return match && to > from ? { from, to } : null;
}

/** @param {number} value */
function round(value) {
  return Math.max(0, Number(value.toPrecision(6)));
}
