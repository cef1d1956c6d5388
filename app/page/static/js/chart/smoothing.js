/**
 * Smooths values as TensorBoard does: an exponential moving average without the bias of its first values. Pure: no DOM.
 *
 * @module
 */

/** The largest weight: the average of about the last thousand values. */
export const MAX_WEIGHT = 0.999;

/**
 * Return a weight between 0 and 0.999.
 * @param {number} weight
 */
export function clampWeight(weight) {
  return weight > 0 ? Math.min(MAX_WEIGHT, weight) : 0;
}

/** Averages one attempt's values as they arrive. */
export class Smoother {
  /** @param {number} weight 0 to 0.999; 0 changes nothing */
  constructor(weight) {
    this.weight = clampWeight(weight);
    this.sum = 0;
    this.rest = 1;
  }

  /** Forget all values, as at the start of a new attempt. */
  reset() {
    this.sum = 0;
    this.rest = 1;
  }

  /**
   * Add a value and return the average. A value that is not finite is skipped and returned as NaN.
   * @param {number} value
   */
  push(value) {
    if (!Number.isFinite(value)) return NaN;
    this.sum = this.sum * this.weight + (1 - this.weight) * value;
    this.rest *= this.weight;
    return this.sum / (1 - this.rest);
  }
}

/**
 * Return the smoothed values; the average begins again at each break.
 * @param {ArrayLike<number>} values
 * @param {number} weight
 * @param {readonly number[]} [breaks] indexes at which a new attempt begins
 */
export function smoothValues(values, weight, breaks = []) {
  const smoothed = new Float64Array(values.length);
  const starts = new Set(breaks);
  const smoother = new Smoother(weight);
  for (let i = 0; i < values.length; i++) {
    if (starts.has(i)) smoother.reset();
    smoothed[i] = smoother.push(values[i]);
  }
  return smoothed;
}
