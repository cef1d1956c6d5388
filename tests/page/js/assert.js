/** The comparisons of the scripts' unit tests. */

/**
 * Fail unless two values are equal in all their parts.
 * @param {unknown} actual
 * @param {unknown} expected
 * @param {string} [about]
 */
export function assertEquals(actual, expected, about = "") {
  if (!isEqual(actual, expected)) throw new Error(`${about} ${Deno.inspect(actual)} is not ${Deno.inspect(expected)}`);
}

/**
 * Fail unless two numbers differ by at most `tolerance`.
 * @param {number} actual
 * @param {number} expected
 * @param {number} [tolerance]
 */
export function assertClose(actual, expected, tolerance = 1e-9) {
  if (!(Math.abs(actual - expected) <= tolerance)) {
    throw new Error(`${actual} is not within ${tolerance} of ${expected}`);
  }
}

/**
 * Fail unless a condition holds.
 * @param {unknown} condition
 * @param {string} [about]
 */
export function assert(condition, about = "The condition does not hold.") {
  if (!condition) throw new Error(about);
}

/**
 * @param {any} a
 * @param {any} b
 * @returns {boolean}
 */
function isEqual(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  if (a instanceof Map || a instanceof Set) return isEqual([...a], [...b]);
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => key in b && isEqual(a[key], b[key]));
}
