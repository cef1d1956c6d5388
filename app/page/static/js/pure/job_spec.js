/** Sets a job's spec beside what was decided. Pure: no DOM. */

import { writeCommand } from "./call_cli.js";
import { writeClient, writeCurl } from "./call_curl.js";
import { writeJson } from "./call_text.js";

/** @typedef {import("../../../api.d.ts").JobSpec} JobSpec */
/** @typedef {import("../../../api.d.ts").Resolved} Resolved */
/** @typedef {{field: string, asked: unknown, decided: unknown, isDecided: boolean, differs: boolean}} SpecRow */
/** @typedef {{title: string, rows: SpecRow[]}} SpecGroup */

/** @type {readonly [string, string][]} the parts of a spec that `resolved` has too, and their titles */
const PARTS = [
  ["training", "Training"],
  ["adapter", "Adapter"],
  ["quantization", "Quantization"],
  ["resources", "Resources"],
];

/**
 * Return the fields of a spec, each with what was asked and what the latest attempt decided.
 * @param {JobSpec} spec
 * @param {Resolved | null} resolved
 * @returns {SpecGroup[]}
 */
export function compareSpec(spec, resolved) {
  const asked = /** @type {Record<string, any>} */ (spec);
  const decided = /** @type {Record<string, any>} */ (resolved ?? {});
  const isPart = (/** @type {string} */ name) => PARTS.some(([part]) => part === name);
  const general = Object.entries(asked).filter(([name]) => !isPart(name));
  const groups = [
    { title: "Job", rows: listRows("", Object.fromEntries(general), {}) },
    ...PARTS.map(([part, title]) => ({ title, rows: listRows(`${part}.`, asked[part], decided[part]) })),
    { title: "Engine", rows: listRows("engine.", {}, decided.engine) },
  ];
  return groups.filter(({ rows }) => rows.length > 0);
}

/**
 * @param {string} prefix
 * @param {Record<string, any> | null | undefined} asked
 * @param {Record<string, any> | null | undefined} decided
 * @returns {SpecRow[]}
 */
function listRows(prefix, asked, decided) {
  const names = new Set([...Object.keys(asked ?? {}), ...Object.keys(decided ?? {})]);
  return [...names].map((name) => {
    const wanted = asked?.[name];
    const isDecided = decided?.[name] !== undefined;
    const taken = isDecided ? decided?.[name] : wanted;
    const differs = isDecided && wanted !== undefined && formatField(wanted) !== formatField(taken);
    return { field: prefix + name, asked: wanted, decided: taken, isDecided, differs };
  });
}

/**
 * Leave out the fields that have no value.
 * @param {readonly SpecGroup[]} groups
 * @returns {{groups: SpecGroup[], numHidden: number}}
 */
export function hideEmptyFields(groups) {
  const hasValue = (/** @type {SpecRow} */ row) => row.isDecided || !isEmpty(row.asked);
  const kept = groups.map(({ title, rows }) => ({ title, rows: rows.filter(hasValue) }));
  const count = (/** @type {readonly SpecGroup[]} */ list) => list.reduce((sum, { rows }) => sum + rows.length, 0);
  return { groups: kept.filter(({ rows }) => rows.length > 0), numHidden: count(groups) - count(kept) };
}

/**
 * Return a field's value as a short text.
 * @param {unknown} value
 * @returns {string}
 */
export function formatField(value) {
  if (value === undefined) return "";
  if (value === null) return "null";
  if (typeof value === "string") return value;
  if (typeof value === "number") return formatPlain(value);
  if (Array.isArray(value) && value.every((each) => typeof each !== "object")) return value.join(", ") || "[]";
  return JSON.stringify(value);
}

/** @param {number} value */
function formatPlain(value) {
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential().replace("e-", "e−") : String(value);
}

/**
 * Return the parts of a spec that say something: without null, empty objects and empty lists.
 * @param {JobSpec} spec
 * @returns {Record<string, any>}
 */
export function shortenSpec(spec) {
  return /** @type {Record<string, any>} */ (prune(spec));
}

/**
 * @param {any} value
 * @returns {any}
 */
function prune(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  const kept = Object.entries(value).map(([name, each]) => [name, prune(each)]).filter(([, each]) => !isEmpty(each));
  return Object.fromEntries(kept);
}

/** @param {any} value */
function isEmpty(value) {
  return value === null || (typeof value === "object" && Object.keys(value).length === 0);
}

/**
 * Write the call that creates the same job.
 * @param {"json" | "curl" | "python" | "cli"} language
 * @param {JobSpec} spec
 * @param {string} server  its URL
 */
export function writeCall(language, spec, server) {
  const short = shortenSpec(spec);
  if (language === "json") return writeJson(short);
  if (language === "curl") return writeCurl(server, short);
  return language === "cli" ? writeCommand(server, short) : writeClient(server, short);
}
