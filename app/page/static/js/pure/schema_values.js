/** Reads, changes and checks the values of a form. A value that equals its default is not stored. Pure: no DOM. */

/**
 * @typedef {import("./schema_fields.js").Field} Field
 * @typedef {Record<string, any>} Values  nested as the schema's objects
 */

/** The message for a value that is not there. */
export const MISSING = "A value is required.";

/**
 * @param {Values} values
 * @param {readonly (string | number)[]} path
 * @returns {any} undefined if nothing is stored there
 */
export function getAt(values, path) {
  /** @type {any} */
  let place = values;
  for (const part of path) place = place?.[part];
  return place;
}

/**
 * Return the values with another one at a path; undefined removes it, and objects that are then empty.
 * @param {Values} values
 * @param {readonly (string | number)[]} path
 * @param {any} value
 * @returns {Values}
 */
export function setAt(values, path, value) {
  const [first, ...rest] = path;
  if (first === undefined) return value;
  const inner = rest.length ? setAt(values[first] ?? {}, rest, value) : value;
  const { [first]: _, ...others } = values;
  const isEmpty = inner === undefined || (rest.length && isObject(inner) && !Object.keys(inner).length);
  if (isEmpty) return others;
  return first in values ? { ...values, [first]: inner } : { ...others, [first]: inner };
}

/**
 * Return what applies for a field: the stored value, or the default.
 * @param {Values} values
 * @param {Field} field
 * @returns {any}
 */
export function readValue(values, field) {
  const stored = getAt(values, field.path);
  return stored === undefined ? field.standard : stored;
}

/**
 * Store a field's value, unless it is the default.
 * @param {Values} values
 * @param {Field} field
 * @param {any} value
 */
export function writeValue(values, field, value) {
  return setAt(values, field.path, isEqual(value, field.standard) ? undefined : value);
}

/**
 * Return a whole spec without the values that are defaults.
 * @param {Values} spec
 * @param {readonly Field[]} fields
 * @returns {Values}
 */
export function withoutDefaults(spec, fields) {
  let found = /** @type {Values} */ ({});
  for (const field of fields) {
    const value = getAt(spec, field.path);
    if (value !== undefined && value !== null) found = writeValue(found, field, trimmed(value, field));
  }
  return found;
}

/**
 * Return a list of variants or an optional object without its nulls and empty lists, which are defaults.
 * @param {any} value
 * @param {Field} field
 */
function trimmed(value, field) {
  return field.kind === "variants" || field.kind === "optional" ? withoutEmpty(value) : value;
}

/**
 * @param {any} value
 * @returns {any}
 */
function withoutEmpty(value) {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (!isObject(value)) return value;
  const kept = Object.entries(value).filter(([, each]) => each !== null && !(Array.isArray(each) && !each.length));
  return Object.fromEntries(kept.map(([name, each]) => [name, withoutEmpty(each)]));
}

/**
 * Say what is wrong with a value, or return null. The server checks more: this is for what it cannot be asked about.
 * @param {Field} field
 * @param {any} value
 * @returns {string | null}
 */
export function checkValue(field, value) {
  if (value === undefined || value === null || value === "") {
    return field.required || value === "" ? MISSING : null;
  }
  if (field.kind === "number") return checkNumber(field, value);
  if (field.kind === "choice" && field.other) return value === field.word ? null : checkValue(field.other, value);
  if (field.kind === "text") return checkText(field, String(value));
  if (field.kind === "list" && field.required && !value.length) return "At least one value is required.";
  return null;
}

/**
 * Return a number for a text that is one, else the text.
 * @param {string} text
 * @returns {number | string}
 */
export function parseNumber(text) {
  const plain = text.trim().replaceAll("−", "-").replace(
    /^(-?\d+),(\d+)$/,
    (whole, first, last) => last.length === 3 ? whole : `${first}.${last}`,
  );
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain) ? Number(plain) : text.trim();
}

/**
 * Return whether two JSON values are equal; the order of an object's keys does not matter.
 * @param {any} one
 * @param {any} two
 * @returns {boolean}
 */
export function isEqual(one, two) {
  if (Object.is(one, two)) return true;
  if (Array.isArray(one)) {
    return Array.isArray(two) && one.length === two.length && one.every((each, at) => isEqual(each, two[at]));
  }
  if (!isObject(one) || !isObject(two)) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(two).length &&
    names.every((name) => name in two && isEqual(one[name], two[name]));
}

/**
 * Return a number as a person writes it: 0.0002 → "2e-4".
 * @param {number} value
 */
export function writeNumber(value) {
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-3 && size < 1e15)) return String(value);
  return value.toExponential().replace("e+", "e");
}

/**
 * Return a value as a short text for people.
 * @param {any} value
 * @returns {string}
 */
export function writeValueText(value) {
  if (value === null || value === undefined) return "not set";
  if (typeof value === "number") return writeNumber(value);
  if (value === true) return "on";
  if (value === false) return "off";
  if (Array.isArray(value)) return value.length ? value.map(writeItem).join(", ") : "none";
  if (isObject(value)) {
    const pairs = Object.entries(value).map(([name, each]) => `${name} ${writeValueText(each)}`);
    return pairs.length ? pairs.join(", ") : "none";
  }
  return String(value);
}

/** @param {any} value */
function writeItem(value) {
  return isObject(value) ? String(value.type ?? "…") : String(value);
}

/**
 * @param {Field} field
 * @param {any} value
 */
function checkNumber(field, value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return `Enter a ${field.integer ? "whole " : ""}number.`;
  if (field.integer && !Number.isInteger(value)) return "Enter a whole number.";
  if (field.minimum !== null && value < field.minimum) return `Enter ${writeNumber(field.minimum)} or more.`;
  if (field.exclusiveMinimum !== null && value <= field.exclusiveMinimum) {
    return `Enter more than ${writeNumber(field.exclusiveMinimum)}.`;
  }
  if (field.maximum !== null && value > field.maximum) return `Enter ${writeNumber(field.maximum)} or less.`;
  if (field.exclusiveMaximum !== null && value >= field.exclusiveMaximum) {
    return `Enter less than ${writeNumber(field.exclusiveMaximum)}.`;
  }
  return null;
}

/**
 * @param {Field} field
 * @param {string} value
 */
function checkText(field, value) {
  const length = [...value].length;
  if (length < field.minLength) return `Enter at least ${field.minLength} characters.`;
  if (field.maxLength !== null && length > field.maxLength) return `Enter at most ${field.maxLength} characters.`;
  if (field.pattern && !new RegExp(field.pattern, "u").test(value)) return explainPattern(field.pattern);
  return null;
}

/** @param {string} pattern */
function explainPattern(pattern) {
  if (pattern.startsWith("^file-")) return "Enter the id of a dataset, file-….";
  if (pattern.startsWith("^(?:adp-")) return "Enter an adapter's or checkpoint's id (adp-…, ftckpt_…) or name (ft:…).";
  if (pattern.startsWith("^[A-Za-z0-9_.-]")) return "Use only letters, digits, `_`, `.` and `-`.";
  return "The value has the wrong form.";
}

/**
 * @param {any} value
 * @returns {value is Record<string, any>}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
