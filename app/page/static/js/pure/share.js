/** Keeps what has not changed between two readings of the same data. Pure: no DOM. */

/**
 * Return the next value with every part that equals the present one replaced by it, so that `Object.is` tells what has
 * changed. Items of lists are matched by their `id` or `name`.
 * @template T
 * @param {unknown} present
 * @param {T} next
 * @returns {T}
 */
export function shareEqual(present, next) {
  if (Object.is(present, next)) return next;
  if (Array.isArray(next)) return /** @type {any} */ (shareList(present, next));
  if (!isObject(next) || !isObject(present)) return next;
  const names = Object.keys(next);
  const shared = Object.fromEntries(names.map((name) => [name, shareEqual(present[name], next[name])]));
  const isSame = names.length === Object.keys(present).length &&
    names.every((name) => Object.is(shared[name], present[name]));
  return /** @type {T} */ (isSame ? present : shared);
}

/**
 * @param {unknown} present
 * @param {readonly any[]} next
 */
function shareList(present, next) {
  if (!Array.isArray(present)) return next;
  const byKey = new Map(present.map((item, at) => [keyOf(item, at), item]));
  const shared = next.map((item, at) => shareEqual(byKey.get(keyOf(item, at)), item));
  return shared.length === present.length && shared.every((item, at) => Object.is(item, present[at]))
    ? present
    : shared;
}

/**
 * @param {any} item
 * @param {number} at
 */
function keyOf(item, at) {
  return isObject(item) ? item.id ?? item.name ?? at : at;
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
