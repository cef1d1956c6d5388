/**
 * Scales, ticks, ranges and searches. Pure: no DOM.
 *
 * @module
 */

/** @typedef {"linear" | "log"} ScaleKind */
/** @typedef {{ min: number, max: number }} Range */
/** @typedef {{ major: number[], minor: number[] }} Ticks */

/** Maps values to pixels and back, linearly or by the logarithm. */
export class Scale {
  /**
   * @param {ScaleKind} kind
   * @param {Range} range the values at the two ends; above zero if `kind` is "log"
   * @param {number} from the pixel of `range.min`
   * @param {number} to the pixel of `range.max`
   */
  constructor(kind, range, from, to) {
    this.kind = kind;
    this.min = range.min;
    this.max = range.max;
    this.from = from;
    this.to = to;
    this.isLog = kind === "log";
    this.start = this.isLog ? Math.log(range.min) : range.min;
    const span = (this.isLog ? Math.log(range.max) : range.max) - this.start;
    this.factor = span === 0 ? 0 : (to - from) / span;
  }

  /**
   * Return the pixel of a value.
   * @param {number} value
   */
  px(value) {
    return this.from + ((this.isLog ? Math.log(value) : value) - this.start) * this.factor;
  }

  /**
   * Return the value at a pixel.
   * @param {number} pixel
   */
  value(pixel) {
    if (this.factor === 0) return this.min;
    const position = this.start + (pixel - this.from) / this.factor;
    return this.isLog ? Math.exp(position) : position;
  }
}

/**
 * Return the step of 1, 2 or 5 times a power of ten that cuts `span` into at most about `count` parts.
 * @param {number} span
 * @param {number} count
 * @param {number} [least] the smallest step allowed, 1 for integers
 */
export function findNiceStep(span, count, least = 0) {
  const raw = span / Math.max(1, count);
  const power = Math.floor(Math.log10(raw));
  const base = raw / 10 ** power;
  const digit = base <= 1.0001 ? 1 : base <= 2.0001 ? 2 : base <= 5.0001 ? 5 : 10;
  const step = power >= 0 ? digit * 10 ** power : digit / 10 ** -power;
  return Math.max(step, least);
}

/**
 * Return the multiples of `step` in a range, without the noise of floating-point sums.
 * @param {Range} range
 * @param {number} step
 */
export function listMultiples({ min, max }, step) {
  const digits = Math.min(100, Math.max(0, 2 - Math.floor(Math.log10(step))));
  const values = [];
  const last = Math.floor(max / step + 1e-9);
  for (let i = Math.ceil(min / step - 1e-9); i <= last; i++) values.push(Number((i * step).toFixed(digits)) + 0);
  return values;
}

/**
 * Return about `count` round values in a range.
 * @param {Range} range
 * @param {number} count
 * @param {number} [least] the smallest distance of two ticks, 1 for integers
 * @returns {Ticks}
 */
export function findLinearTicks(range, count, least = 0) {
  if (!(range.max > range.min)) return { major: [range.min], minor: [] };
  return { major: listMultiples(range, findNiceStep(range.max - range.min, count, least)), minor: [] };
}

const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/**
 * Return about `count` values at whole seconds, minutes, hours or days in a range of seconds.
 * @param {Range} range
 * @param {number} count
 * @returns {Ticks}
 */
export function findTimeTicks(range, count) {
  const raw = (range.max - range.min) / Math.max(1, count);
  if (!(raw > 0) || raw < 1) return findLinearTicks(range, count);
  const known = TIME_STEPS.find((step) => step >= raw * 0.9999);
  const step = known ?? 86400 * findNiceStep(raw / 86400, 1, 1);
  return { major: listMultiples(range, step), minor: [] };
}

/**
 * Return labelled and unlabelled ticks of a logarithmic axis: the powers of ten, then 1-2-5, then each digit, as the
 * range becomes narrower; inside one digit, linear ticks.
 * @param {Range} range both ends above zero
 * @param {number} count
 * @returns {Ticks}
 */
export function findLogTicks(range, count) {
  const decades = Math.log10(range.max / range.min);
  if (!(decades > 0)) return { major: [range.min], minor: [] };
  if (decades < 0.7) return findLinearTicks(range, count);
  const all = listDigits(range, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const choices = [[1, 2, 5], [1, 3], [1]].map((digits) => listDigits(range, digits));
  const major = choices.find((values) => values.length <= count + 1) ?? thinDecades(choices[2], count);
  if (major.length < 2) return { major: choices[0], minor: all };
  return { major, minor: decades > 8 ? [] : all.filter((value) => !major.includes(value)) };
}

/**
 * @param {Range} range
 * @param {number[]} digits
 */
function listDigits({ min, max }, digits) {
  const values = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power++) {
    for (const digit of digits) {
      const value = power >= 0 ? digit * 10 ** power : digit / 10 ** -power;
      if (value >= min * (1 - 1e-9) && value <= max * (1 + 1e-9)) values.push(value);
    }
  }
  return values;
}

/**
 * @param {number[]} decades
 * @param {number} count
 */
function thinDecades(decades, count) {
  const every = Math.ceil(decades.length / Math.max(1, count));
  return decades.filter((value) => Math.round(Math.log10(value)) % every === 0);
}

/**
 * Return the range between two quantiles of finite values, by default the 1st and the 99th percentile.
 * @param {Float64Array} values sorted in place
 * @param {number} [low]
 * @param {number} [high]
 * @returns {Range | null} null without values
 */
export function findRobustRange(values, low = 0.01, high = 0.99) {
  if (values.length === 0) return null;
  values.sort();
  return { min: readQuantile(values, low), max: readQuantile(values, high) };
}

/**
 * @param {Float64Array} sorted
 * @param {number} fraction
 */
function readQuantile(sorted, fraction) {
  const position = fraction * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(sorted.length - 1, below + 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

/**
 * Return a range with a margin, never of zero width. A linear range of values that are not negative stays so.
 * @param {Range} range
 * @param {ScaleKind} kind
 * @param {number} [share] the margin at each end as a share of the range
 * @returns {Range}
 */
export function padRange({ min, max }, kind, share = 0.06) {
  if (kind === "log") {
    if (min === max) return { min: min / 2, max: max * 2 };
    const factor = (max / min) ** share;
    return { min: min / factor, max: max * factor };
  }
  const margin = min === max ? Math.abs(min) * 0.1 || 1 : (max - min) * share;
  return { min: min >= 0 ? Math.max(0, min - margin) : min - margin, max: max + margin };
}

/**
 * Return the first index in [start, end) whose value is at least `target`, or `end`.
 * @param {Float64Array} values ascending between `start` and `end`
 * @param {number} target
 * @param {number} start
 * @param {number} end
 */
export function findLowerBound(values, target, start = 0, end = values.length) {
  let low = start;
  let high = end;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < target) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Return the index of the value nearest to `target` in [start, end), the earlier one of two equally near; -1 if empty.
 * @param {Float64Array} values ascending between `start` and `end`
 * @param {number} target
 * @param {number} start
 * @param {number} end
 */
export function findNearest(values, target, start = 0, end = values.length) {
  if (start >= end) return -1;
  const after = findLowerBound(values, target, start, end);
  if (after === start) return start;
  if (after === end) return end - 1;
  return target - values[after - 1] <= values[after] - target ? after - 1 : after;
}
