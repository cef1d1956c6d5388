/** Holds the jobs of a list: pages that were read, and changes that arrive while the list is shown. */

import { matchesFilter, NO_FILTER } from "./jobs_filter.js";

/**
 * @typedef {import("./jobs_filter.js").Job} Job
 * @typedef {import("./jobs_filter.js").JobFilter} JobFilter
 * @typedef {"changed" | "inserted" | "waiting" | "removed" | "ignored"} Outcome
 * @typedef {{canInsert?: boolean, isHeld?: (id: string) => boolean}} Rules
 *   `canInsert`: a job that is not shown yet is inserted, and does not wait; `isHeld`: a job that stays although the
 *   filter no longer fits it
 */

/**
 * Order jobs as the server does: newest first.
 * @param {Job} a
 * @param {Job} b
 */
export function compareAge(a, b) {
  const difference = Date.parse(b.created_at) - Date.parse(a.created_at);
  if (difference) return difference;
  return a.id < b.id ? 1 : a.id > b.id ? -1 : 0;
}

/** The jobs of one filter. `order` is what is shown; jobs in `waiting` are new and not shown yet. */
export class JobCollection {
  /** @param {JobFilter} filter */
  constructor(filter = NO_FILTER) {
    this.filter = filter;
    /** @type {Map<string, Job>} */
    this.jobs = new Map();
    /** @type {string[]} */
    this.order = [];
    /** @type {Map<string, Job>} */
    this.waiting = new Map();
    /** @type {string | null} */
    this.nextCursor = null;
    this.isLoaded = false;
    /** @type {Map<string, Job | null>} What arrived since the present read began; null: deleted. */
    this.arrived = new Map();
  }

  /** Note that pages are being read now: what arrives from here on is newer than they are. */
  beginRead() {
    this.arrived.clear();
  }

  /**
   * Add the next page.
   * @param {readonly Job[]} items
   * @param {string | null} nextCursor
   * @param {Rules} [rules]
   */
  addPage(items, nextCursor, rules) {
    for (const job of items) {
      if (!this.jobs.has(job.id)) this.order.push(job.id);
      this.jobs.set(job.id, job);
      this.waiting.delete(job.id);
    }
    this.nextCursor = nextCursor;
    this.isLoaded = true;
    this.#sort();
    this.#applyArrived(rules);
  }

  /**
   * Replace everything by what was read again.
   * @param {readonly Job[]} items
   * @param {string | null} nextCursor
   * @param {Rules} [rules]
   */
  replace(items, nextCursor, rules = {}) {
    const held = this.order.filter((id) => rules.isHeld?.(id) && !items.some((job) => job.id === id));
    const kept = held.map((id) => /** @type {Job} */ (this.jobs.get(id)));
    const wasShown = new Set(this.order);
    const isFirst = !this.isLoaded;
    this.jobs = new Map([...kept, ...items].map((job) => [job.id, job]));
    this.waiting.clear();
    this.nextCursor = nextCursor;
    this.isLoaded = true;
    this.order = [...this.jobs.keys()];
    if (!isFirst && rules.canInsert === false) this.#holdNew(wasShown);
    this.#sort();
    this.#applyArrived(rules);
  }

  /**
   * Take a job's present values.
   * @param {Job} job
   * @param {Rules} [rules]
   * @returns {Outcome}
   */
  apply(job, rules = {}) {
    this.arrived.set(job.id, job);
    if (!this.isLoaded) return "ignored";
    const fits = matchesFilter(job, this.filter);
    if (this.jobs.has(job.id)) {
      if (!fits && !rules.isHeld?.(job.id)) return this.#remove(job.id);
      this.jobs.set(job.id, job);
      return "changed";
    }
    if (!fits || this.#isBeyondEnd(job)) return this.waiting.delete(job.id) ? "waiting" : "ignored";
    if (rules.canInsert === false) {
      this.waiting.set(job.id, job);
      return "waiting";
    }
    this.#insert(job);
    return "inserted";
  }

  /**
   * Forget a job that was deleted.
   * @param {string} id
   * @returns {Outcome}
   */
  delete(id) {
    this.arrived.set(id, null);
    if (this.waiting.delete(id)) return "waiting";
    return this.jobs.has(id) ? this.#remove(id) : "ignored";
  }

  /** Show the jobs that wait. */
  showWaiting() {
    for (const job of this.waiting.values()) this.#insert(job);
    this.waiting.clear();
  }

  /**
   * Remove jobs that no longer fit the filter and are not held any more.
   * @param {(id: string) => boolean} isHeld
   */
  drop(isHeld) {
    for (const [id, job] of this.jobs) {
      if (!isHeld(id) && !matchesFilter(job, this.filter)) this.#remove(id);
    }
  }

  /** @param {ReadonlySet<string>} wasShown */
  #holdNew(wasShown) {
    const oldest = Math.max(...[...wasShown].map((id) => this.order.indexOf(id)));
    for (const [place, id] of [...this.order].entries()) {
      if (wasShown.has(id) || place > oldest) continue;
      this.waiting.set(id, /** @type {Job} */ (this.jobs.get(id)));
      this.jobs.delete(id);
    }
    this.order = [...this.jobs.keys()];
  }

  /** @param {Rules} [rules] */
  #applyArrived(rules) {
    for (const [id, job] of [...this.arrived]) {
      if (job) this.apply(job, rules);
      else this.delete(id);
    }
  }

  /** @param {Job} job */
  #isBeyondEnd(job) {
    const last = this.jobs.get(this.order.at(-1) ?? "");
    return this.nextCursor !== null && last !== undefined && compareAge(job, last) > 0;
  }

  /** @param {Job} job */
  #insert(job) {
    this.jobs.set(job.id, job);
    const place = this.order.findIndex((id) => compareAge(/** @type {Job} */ (this.jobs.get(id)), job) > 0);
    this.order.splice(place < 0 ? this.order.length : place, 0, job.id);
  }

  /**
   * @param {string} id
   * @returns {"removed"}
   */
  #remove(id) {
    this.jobs.delete(id);
    this.order = this.order.filter((each) => each !== id);
    return "removed";
  }

  #sort() {
    const jobs = this.jobs;
    this.order.sort((a, b) => compareAge(/** @type {Job} */ (jobs.get(a)), /** @type {Job} */ (jobs.get(b))));
  }
}
