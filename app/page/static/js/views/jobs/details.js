/** What only single jobs tell: loss curves, and why a queued job waits. Read for visible rows, a few at a time. */

import { get } from "../../api.js";
import { appendPoint, pointsOf } from "../../pure/jobs_sparkline.js";
import { onEnd, signal } from "../../signals.js";

/**
 * @typedef {import("../../pure/jobs_filter.js").Job} Job
 * @typedef {import("../../pure/jobs_sparkline.js").Point} Point
 * @typedef {import("../../signals.js").Signal<readonly Point[] | null>} Curve  null: not read yet
 */

const LOSS = "loss";
const MOST_AT_ONCE = 3;
const MOST_KEPT = 600;
const WAITS_MS = 20_000;

/** Curves outlive the view: the way back shows them at once. @type {Map<string, {points: readonly Point[], isFinal: boolean}>} */
const kept = new Map();

/** Reads the details of the rows that are on the screen. */
export class RowDetails {
  constructor() {
    /** @type {Map<string, Curve>} */
    this.curves = new Map();
    /** @type {Map<string, import("../../signals.js").Signal<string>>} */
    this.waits = new Map();
    /** @type {Map<Element, {job: () => Job}>} */
    this.rows = new Map();
    /** @type {Set<Element>} */
    this.visible = new Set();
    /** @type {Set<string>} */
    this.isFresh = new Set();
    /** @type {(() => Promise<void>)[]} */
    this.tasks = [];
    /** @type {Set<string>} */
    this.planned = new Set();
    this.numRunning = 0;
    this.abort = new AbortController();
    this.observer = new IntersectionObserver((entries) => this.#see(entries), { rootMargin: "120px" });
    const timer = setInterval(() => this.#readWaits(), WAITS_MS);
    onEnd(() => {
      this.observer.disconnect();
      this.abort.abort();
      clearInterval(timer);
    });
  }

  /**
   * Read details of a row while it is visible, until the present scope ends.
   * @param {Element} element
   * @param {() => Job} job
   */
  watch(element, job) {
    this.rows.set(element, { job });
    this.observer.observe(element);
    onEnd(() => {
      this.observer.unobserve(element);
      this.rows.delete(element);
      this.visible.delete(element);
    });
  }

  /**
   * @param {string} id
   * @returns {Curve}
   */
  curveOf(id) {
    let curve = this.curves.get(id);
    if (!curve) {
      curve = signal(/** @type {readonly Point[] | null} */ (kept.get(id)?.points ?? null));
      this.curves.set(id, curve);
    }
    return curve;
  }

  /**
   * @param {string} id
   * @returns {import("../../signals.js").Signal<string>}
   */
  waitOf(id) {
    let wait = this.waits.get(id);
    if (!wait) {
      wait = signal("");
      this.waits.set(id, wait);
    }
    return wait;
  }

  /**
   * Continue the curve with a job's latest loss, and read what is missing of a visible row.
   * @param {Job} job
   * @param {Element} element
   */
  update(job, element) {
    const value = job.last_metrics[LOSS];
    const curve = this.curves.get(job.id);
    const points = curve?.peek();
    if (curve && points && Number.isFinite(value) && job.step > 0) {
      curve.value = appendPoint(points, { step: job.step, value: /** @type {number} */ (value) });
      keep(job, curve.value);
    }
    if (this.visible.has(element)) this.#plan(job);
  }

  /** Read the curves of visible rows again: the stream may have missed some of their points. */
  refresh() {
    this.isFresh.clear();
    for (const element of this.visible) this.#planOf(element);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #see(entries) {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) this.visible.delete(target);
      else {
        this.visible.add(target);
        this.#planOf(target);
      }
    }
  }

  /** @param {Element} element */
  #planOf(element) {
    const row = this.rows.get(element);
    if (row) this.#plan(row.job());
  }

  /** @param {Job} job */
  #plan(job) {
    if (job.state === "queued" && !this.waitOf(job.id).peek()) {
      this.#add(`wait ${job.id}`, () => this.#readWait(job.id));
    }
    const old = kept.get(job.id);
    if (this.isFresh.has(job.id) || old?.isFinal || job.step < 1) return;
    this.#add(`curve ${job.id}`, () => this.#readCurve(job));
  }

  /**
   * @param {string} name
   * @param {() => Promise<void>} task
   */
  #add(name, task) {
    if (this.planned.has(name)) return;
    this.planned.add(name);
    this.tasks.push(async () => {
      try {
        await task();
      } catch {
        // The list itself says that the server cannot be reached; the row asks again when it is next seen.
      } finally {
        this.planned.delete(name);
      }
    });
    this.#run();
  }

  async #run() {
    if (this.numRunning >= MOST_AT_ONCE) return;
    this.numRunning++;
    for (let task = this.tasks.shift(); task && !this.abort.signal.aborted; task = this.tasks.shift()) await task();
    this.numRunning--;
  }

  /** @param {Job} job */
  async #readCurve(job) {
    if (!this.#isVisible(job.id)) return;
    const query = { names: LOSS, max_points: 60 };
    const answer = await get(`/jobs/${job.id}/metrics`, { query, signal: this.abort.signal });
    const points = pointsOf(answer.items, LOSS);
    this.isFresh.add(job.id);
    this.curveOf(job.id).value = points;
    keep(job, points);
  }

  /** @param {string} id */
  async #readWait(id) {
    if (!this.#isVisible(id)) return;
    const job = await get(`/jobs/${id}`, { signal: this.abort.signal });
    this.waitOf(id).value = job.waiting_for ?? "";
  }

  #readWaits() {
    if (document.hidden) return;
    for (const job of this.#listVisible()) {
      if (job.state === "queued") this.#add(`wait ${job.id}`, () => this.#readWait(job.id));
    }
  }

  /** @param {string} id */
  #isVisible(id) {
    return this.#listVisible().some((job) => job.id === id);
  }

  #listVisible() {
    return [...this.visible].flatMap((element) => this.rows.get(element)?.job() ?? []);
  }
}

/**
 * @param {Job} job
 * @param {readonly Point[]} points
 */
function keep(job, points) {
  kept.delete(job.id);
  kept.set(job.id, { points, isFinal: job.finished_at !== null });
  const [oldest] = kept.keys();
  if (kept.size > MOST_KEPT && oldest) kept.delete(oldest);
}
