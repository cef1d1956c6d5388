/**
 * Joins what was read of a job's metrics with what is measured now: an overview, finer points of a part, and a live
 * tail. Each curve has at each step what the latest attempt measured there, as the server's answers do. Pure: no DOM.
 */

import {
  Curve,
  emptyColumns,
  findStep,
  interpolate,
  measureRunningTime,
  slice,
  splitPoints,
  toNumber,
} from "./pure/job_curve.js";

/** @typedef {import("../../api.d.ts").MetricPoint} MetricPoint */
/** @typedef {"step" | "tokens" | "time"} XKind */
/** @typedef {import("./pure/job_curve.js").Columns} Columns */
/** @typedef {{x: Float64Array, y: Float64Array, breaks: number[]}} Drawn */

const TOKENS = "num_tokens";

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
