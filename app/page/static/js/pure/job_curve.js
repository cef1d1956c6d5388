/** One metric of a job as columns of numbers, at most some thousand points. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").MetricPoint} MetricPoint */
/** @typedef {{steps: number[], values: number[], times: number[], attempts: number[]}} Columns  ascending by step */

/** A curve with more points than this is thinned to half of them. */
const MOST_POINTS = 4000;

/** @returns {Columns} */
export function emptyColumns() {
  return { steps: [], values: [], times: [], attempts: [] };
}

/**
 * Return the first index whose step is at least `step`.
 * @param {readonly number[]} steps
 * @param {number} step
 */
export function findStep(steps, step) {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * @param {Columns} columns
 * @param {number} from
 * @param {number} [to]
 * @returns {Columns}
 */
export function slice({ steps, values, times, attempts }, from, to) {
  return {
    steps: steps.slice(from, to),
    values: values.slice(from, to),
    times: times.slice(from, to),
    attempts: attempts.slice(from, to),
  };
}

/** @param {...Columns} parts */
function join(...parts) {
  return parts.reduce((sum, part) => ({
    steps: sum.steps.concat(part.steps),
    values: sum.values.concat(part.values),
    times: sum.times.concat(part.times),
    attempts: sum.attempts.concat(part.attempts),
  }));
}

/** One metric of a job. */
export class Curve {
  constructor() {
    this.base = emptyColumns();
    /** @type {{from: number, to: number, columns: Columns} | null} */
    this.detail = null;
    /** Changes unless points were only added at the end. */
    this.revision = 0;
    /** Whether the server has more points than are here. */
    this.isPartial = false;
  }

  get length() {
    return this.base.steps.length;
  }

  get lastStep() {
    return this.base.steps.at(-1) ?? -1;
  }

  /**
   * Add a value, and drop what earlier attempts measured at this step or later. Return whether the curve changed.
   * @param {number} attempt
   * @param {number} step
   * @param {number} time
   * @param {number} value
   */
  add(attempt, step, time, value) {
    if (step <= this.lastStep) {
      const { base } = this;
      const at = findStep(base.steps, step);
      if (base.attempts[at - 1] > attempt || (base.steps[at] === step && base.attempts[at] > attempt)) return false;
      if (attempt > base.attempts[base.attempts.length - 1]) this.cutFrom(step);
      else return this.#insert(at, attempt, step, time, value);
    }
    const { steps, values, times, attempts } = this.base;
    if (attempt < attempts[attempts.length - 1]) return false;
    steps.push(step);
    values.push(value);
    times.push(time);
    attempts.push(attempt);
    if (steps.length > MOST_POINTS) this.#thin();
    return true;
  }

  /**
   * Put a late value in its place. It replaces one of the same step, and those that earlier attempts measured after it.
   * @param {number} at
   * @param {number} attempt
   * @param {number} step
   * @param {number} time
   * @param {number} value
   */
  #insert(at, attempt, step, time, value) {
    const { steps, values, times, attempts } = this.base;
    let replaced = steps[at] === step ? 1 : 0;
    while (attempts[at + replaced] < attempt) replaced++;
    steps.splice(at, replaced, step);
    values.splice(at, replaced, value);
    times.splice(at, replaced, time);
    attempts.splice(at, replaced, attempt);
    this.revision++;
    return true;
  }

  /**
   * Drop everything from a step on.
   * @param {number} step
   */
  cutFrom(step) {
    const at = findStep(this.base.steps, step);
    if (at < this.base.steps.length) {
      this.base = slice(this.base, 0, at);
      this.revision++;
    }
    const { detail } = this;
    if (!detail || detail.to < step) return;
    const columns = slice(detail.columns, 0, findStep(detail.columns.steps, step));
    this.detail = detail.from < step ? { from: detail.from, to: step - 1, columns } : null;
    this.revision++;
  }

  /**
   * Put other points into a range of steps.
   * @param {number} from
   * @param {number} to
   * @param {Columns} columns
   */
  replace(from, to, columns) {
    const { base } = this;
    this.base = join(slice(base, 0, findStep(base.steps, from)), columns, slice(base, findStep(base.steps, to + 1)));
    this.revision++;
  }

  /** Return the points to draw: the overview, with the finer points of a part in their place. */
  read() {
    const { base, detail } = this;
    if (!detail) return base;
    const after = findStep(base.steps, detail.to + 1);
    return join(slice(base, 0, findStep(base.steps, detail.from)), detail.columns, slice(base, after));
  }

  #thin() {
    this.base = thinColumns(this.base, MOST_POINTS / 2);
    this.isPartial = true;
    this.revision++;
  }
}

/**
 * Keep the lowest and the highest value of equal groups of steps, as the server does.
 * @param {Columns} columns
 * @param {number} count  at most this many are kept
 * @returns {Columns}
 */
export function thinColumns(columns, count) {
  const { steps, values } = columns;
  if (steps.length <= count) return columns;
  const first = steps[0];
  const width = (steps[steps.length - 1] - first + 1) / Math.max(1, count >> 1);
  /** @type {number[]} */
  const kept = [];
  for (let start = 0; start < steps.length;) {
    const group = Math.floor((steps[start] - first) / width);
    let [end, lowest, highest] = [start, start, start];
    while (end < steps.length && Math.floor((steps[end] - first) / width) === group) {
      const value = values[end];
      if (!(value >= values[lowest])) lowest = end;
      if (!(value <= values[highest])) highest = end;
      end++;
    }
    kept.push(...new Set([Math.min(lowest, highest), Math.max(lowest, highest)]));
    start = end;
  }
  /** @param {number[]} column */
  const pick = (column) => kept.map((index) => column[index]);
  return {
    steps: pick(steps),
    values: pick(values),
    times: pick(columns.times),
    attempts: pick(columns.attempts),
  };
}

/**
 * Sort an answer's points into a curve for each name.
 * @param {readonly MetricPoint[]} items
 * @returns {Map<string, Columns>}
 */
export function splitPoints(items) {
  /** @type {Map<string, Curve>} */
  const curves = new Map();
  for (const point of items) {
    const time = Date.parse(point.measured_at);
    for (const [name, value] of Object.entries(point.values)) {
      let curve = curves.get(name);
      if (!curve) curves.set(name, curve = new Curve());
      curve.add(point.attempt, point.step, time, toNumber(value));
    }
  }
  return new Map([...curves].map(([name, curve]) => [name, curve.base]));
}

/** @param {unknown} value  the server writes values that are not finite as texts or null */
export function toNumber(value) {
  return typeof value === "number" ? value : value === null ? NaN : Number(value);
}

/**
 * Return the seconds of training at each point: the time between two attempts does not count.
 * @param {Columns} columns
 * @returns {number[]}
 */
export function measureRunningTime({ steps, times, attempts }) {
  const seconds = [];
  let [sum, pace] = [0, 0];
  for (let i = 0; i < times.length; i++) {
    if (i > 0) {
      const numSteps = steps[i] - steps[i - 1];
      if (attempts[i] === attempts[i - 1]) {
        const passed = Math.max(0, (times[i] - times[i - 1]) / 1000);
        sum += passed;
        if (numSteps > 0) pace = passed / numSteps;
      } else sum += pace * numSteps;
    }
    seconds.push(sum);
  }
  return seconds;
}

/**
 * Return the value at `x` between known points, the nearest one's outside of them, NaN without points.
 * @param {readonly number[]} xs  ascending
 * @param {readonly number[]} ys
 * @param {number} x
 */
export function interpolate(xs, ys, x) {
  const at = findStep(xs, x);
  if (xs.length === 0) return NaN;
  if (at === 0) return ys[0];
  if (at === xs.length) return ys[ys.length - 1];
  const [left, right] = [xs[at - 1], xs[at]];
  const share = right > left ? (x - left) / (right - left) : 1;
  return ys[at - 1] * (1 - share) + ys[at] * share;
}
