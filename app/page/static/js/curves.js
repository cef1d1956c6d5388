/**
 * Joins what was read of a job's metrics with what is measured now: an overview, finer points of a part, and a live
 * tail. Each curve has at each step what the latest attempt measured there, as the server's answers do. Pure: no DOM.
 */

/** @typedef {import("../../api.d.ts").MetricPoint} MetricPoint */
/** @typedef {"step" | "tokens" | "time"} XKind */
/** @typedef {{steps: number[], values: number[], times: number[], attempts: number[]}} Columns  ascending by step */
/** @typedef {{x: Float64Array, y: Float64Array, breaks: number[]}} Drawn */

/** A curve with more points than this is thinned to half of them. */
const MOST_POINTS = 4000;
const TOKENS = "num_tokens";

/** @returns {Columns} */
function emptyColumns() {
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
function slice({ steps, values, times, attempts }, from, to) {
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
function toNumber(value) {
  return typeof value === "number" ? value : value === null ? NaN : Number(value);
}

/** The curves of one job. */
export class Curves {
  constructor() {
    /** @type {Map<string, Curve>} */
    this.curves = new Map();
    /** Changes when an attempt continued from an earlier step: answers from before it are out of date. */
    this.rewinds = 0;
    this.last = { attempt: 0, number: 0 };
    /** @type {Map<number, number>} the step from which each later attempt continued */
    this.resumes = new Map();
  }

  /** Return the names of the curves, in the order in which they were first seen. */
  names() {
    return [...this.curves.keys()];
  }

  /** @param {string} name */
  curve(name) {
    return this.curves.get(name);
  }

  get lastStep() {
    return Math.max(-1, ...[...this.curves.values()].map((curve) => curve.lastStep));
  }

  get firstStep() {
    return Math.min(Infinity, ...[...this.curves.values()].map((curve) => curve.base.steps[0] ?? Infinity));
  }

  /**
   * Begin with an answer of `/jobs/{id}/metrics`.
   * @param {{items: readonly MetricPoint[], downsampled: boolean, stream_cursor?: string | null}} answer
   */
  setOverview({ items, downsampled, stream_cursor }) {
    for (const [name, columns] of splitPoints(items)) {
      const curve = this.#curveOf(name);
      curve.replace(0, Infinity, columns);
      curve.isPartial = downsampled;
    }
    const [attempt, number] = (stream_cursor ?? "0.0").split(".").map(Number);
    this.last = { attempt: attempt ?? 0, number: number ?? 0 };
  }

  /**
   * Add a point of the stream. Return whether it was new.
   * @param {MetricPoint} point
   */
  append(point) {
    const { attempt, number, step } = point;
    const { last } = this;
    const isRepeat = attempt === last.attempt && number <= last.number;
    if (isRepeat || this.#isRewound(attempt, step)) return false;
    if (attempt >= last.attempt) this.last = { attempt, number };
    const time = Date.parse(point.measured_at);
    let isNew = false;
    for (const [name, value] of Object.entries(point.values)) {
      isNew = this.#curveOf(name).add(attempt, step, time, toNumber(value)) || isNew;
    }
    return isNew;
  }

  /**
   * Go back to the step from which an attempt continues: later values of earlier attempts are measured again.
   * @param {number} attempt
   * @param {number} step
   */
  resume(attempt, step) {
    this.resumes.set(attempt, step);
    for (const curve of this.curves.values()) {
      const { steps, attempts } = curve.base;
      const at = findStep(steps, step + 1);
      if (at < steps.length && attempts[at] < attempt) {
        curve.cutFrom(step + 1);
        this.rewinds++;
      }
    }
  }

  /**
   * Replace what is known of some curves up to a step by a finer answer. It is refused if an attempt has continued from
   * an earlier step since the request: then the answer's later points no longer count.
   * @param {readonly string[]} names
   * @param {{items: readonly MetricPoint[], downsampled: boolean}} answer
   * @param {number} toStep
   * @param {number} rewinds  as it was at the request
   */
  refine(names, { items, downsampled }, toStep, rewinds) {
    if (rewinds !== this.rewinds) return false;
    const found = splitPoints(items);
    for (const name of names) {
      const curve = this.#curveOf(name);
      curve.replace(0, toStep, found.get(name) ?? emptyColumns());
      curve.isPartial = downsampled;
    }
    return true;
  }

  /**
   * Show finer points in a range of steps until `clearDetail`.
   * @param {readonly string[]} names
   * @param {{from: number, to: number}} range
   * @param {readonly MetricPoint[]} items
   * @param {number} rewinds
   */
  setDetail(names, { from, to }, items, rewinds) {
    if (rewinds !== this.rewinds) return false;
    const found = splitPoints(items);
    for (const name of names) {
      const curve = this.#curveOf(name);
      curve.detail = { from, to: Math.min(to, curve.lastStep), columns: found.get(name) ?? emptyColumns() };
      curve.revision++;
    }
    return true;
  }

  clearDetail() {
    for (const curve of this.curves.values()) {
      if (!curve.detail) continue;
      curve.detail = null;
      curve.revision++;
    }
  }

  /**
   * Return a curve as arrays to draw.
   * @param {string} name
   * @param {XKind} kind
   * @param {number} [from]  only the points from this index of the curve's base on, to add to what is drawn
   * @returns {Drawn}
   */
  draw(name, kind, from = 0) {
    const curve = this.curves.get(name);
    const columns = !curve ? emptyColumns() : from ? slice(curve.base, from) : curve.read();
    const { attempts, values } = columns;
    const breaks = [];
    for (let i = 1; i < attempts.length; i++) if (attempts[i] !== attempts[i - 1]) breaks.push(i);
    return { x: this.#positions(columns, kind), y: Float64Array.from(values), breaks };
  }

  /**
   * Return where a step is on the axis, or NaN.
   * @param {number} step
   * @param {XKind} kind
   */
  positionOf(step, kind) {
    if (kind === "step") return step;
    const scale = this.#scale(kind);
    return interpolate(scale.steps, scale.positions, step);
  }

  /**
   * Return the step at a position of the axis.
   * @param {number} x
   * @param {XKind} kind
   */
  stepAt(x, kind) {
    if (kind === "step") return x;
    const scale = this.#scale(kind);
    return interpolate(scale.positions, scale.steps, x);
  }

  /**
   * Return the step with the lowest value, or null.
   * @param {string} name
   */
  findLowest(name) {
    const { steps, values } = this.curves.get(name)?.base ?? emptyColumns();
    let best = -1;
    for (let i = 0; i < values.length; i++) {
      if (Number.isFinite(values[i]) && (best < 0 || values[i] < values[best])) best = i;
    }
    return best < 0 ? null : { step: steps[best], value: values[best] };
  }

  /**
   * @param {Columns} columns
   * @param {XKind} kind
   */
  #positions({ steps }, kind) {
    if (kind === "step") return Float64Array.from(steps);
    const scale = this.#scale(kind);
    return Float64Array.from(steps, (step) => interpolate(scale.steps, scale.positions, step));
  }

  /** @param {"tokens" | "time"} kind */
  #scale(kind) {
    if (kind === "tokens") {
      const { steps, values } = this.curves.get(TOKENS)?.base ?? emptyColumns();
      return { steps, positions: values };
    }
    const longest = [...this.curves.values()].reduce(
      (best, each) => (each.length > best.length ? each : best),
      new Curve(),
    );
    return { steps: longest.base.steps, positions: measureRunningTime(longest.base) };
  }

  /**
   * @param {number} attempt
   * @param {number} step
   */
  #isRewound(attempt, step) {
    return [...this.resumes].some(([later, from]) => later > attempt && step > from);
  }

  /** @param {string} name */
  #curveOf(name) {
    let curve = this.curves.get(name);
    if (!curve) this.curves.set(name, curve = new Curve());
    return curve;
  }
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
