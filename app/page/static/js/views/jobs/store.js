/** The jobs that the list shows: read page by page, then kept up to date by the project's stream. */

import { get } from "../../api.js";
import { followProject } from "../../live.js";
import { JobCollection } from "../../pure/jobs_collection.js";
import { isFinal } from "../../pure/jobs_actions.js";
import { queryOf } from "../../pure/jobs_filter.js";
import { session } from "../../session.js";
import { onEnd, signal } from "../../signals.js";

/**
 * @typedef {import("../../pure/jobs_filter.js").Job} Job
 * @typedef {import("../../pure/jobs_filter.js").JobFilter} JobFilter
 * @typedef {import("../../signals.js").Signal<Job>} JobSignal
 */

const PAGE_SIZE = 50;
const LARGEST_PAGE = 100;
const FLUSH_MS = 200;

/** The list as it was left, so that the way back shows it at once. @type {{key: string, collection: JobCollection} | null} */
let left = null;

/** Reads and holds the jobs of one filter at a time. */
export class JobStore {
  /** @param {{isHeld: (id: string) => boolean, mayInsert: () => boolean, onDeleted: (id: string) => void}} rules */
  constructor({ isHeld, mayInsert, onDeleted }) {
    this.order = signal(/** @type {readonly string[]} */ ([]));
    this.state = signal(/** @type {"loading" | "ready" | "failed"} */ ("loading"));
    this.isBusy = signal(true);
    this.error = signal(/** @type {unknown} */ (null));
    this.hasMore = signal(false);
    this.isLoadingMore = signal(false);
    this.numWaiting = signal(0);
    /** Is raised whenever the pages were read again: what else was read may be out of date. */
    this.generation = signal(0);
    /** @type {Map<string, JobSignal>} */
    this.signals = new Map();
    this.collection = new JobCollection();
    this.isHeld = isHeld;
    this.mayInsert = mayInsert;
    this.onDeleted = onDeleted;
    this.abort = new AbortController();
    /** @type {Map<string, Job | null>} */
    this.queue = new Map();
    /** @type {Set<string>} */
    this.sent = new Set();
    /** @type {number | undefined} */
    this.timer = undefined;
    onEnd(() => {
      this.abort.abort();
      clearTimeout(this.timer);
      if (this.state.peek() === "ready") left = { key: keyOf(this.collection.filter), collection: this.collection };
    });
  }

  /**
   * Return the signal of a job that is shown.
   * @param {string} id
   * @returns {JobSignal}
   */
  jobOf(id) {
    let found = this.signals.get(id);
    if (!found) {
      found = signal(/** @type {Job} */ (this.collection.jobs.get(id)));
      this.signals.set(id, found);
    }
    return found;
  }

  /**
   * Show the jobs of a filter. The rows of the last one stay until those of the new one are there.
   * @param {JobFilter} filter
   */
  async show(filter) {
    const isBack = left?.key === keyOf(filter);
    this.collection = isBack && left ? left.collection : new JobCollection(filter);
    left = null;
    if (isBack) {
      this.state.value = "ready";
      this.#publish();
    }
    await this.reload();
  }

  /** Read all pages that are shown again. */
  async reload() {
    this.abort.abort();
    this.abort = new AbortController();
    const { signal: aborted } = this.abort;
    const collection = this.collection;
    this.isBusy.value = true;
    this.isLoadingMore.value = false;
    collection.beginRead();
    try {
      const { items, nextCursor } = await readPages(collection, aborted);
      collection.replace(items, nextCursor, this.#rules());
      this.error.value = null;
      this.state.value = "ready";
      this.generation.value++;
      this.#publish();
    } catch (error) {
      if (aborted.aborted) return;
      this.error.value = error;
      if (!collection.isLoaded) this.#fail();
    }
    this.isBusy.value = false;
  }

  async loadMore() {
    const collection = this.collection;
    const cursor = collection.nextCursor;
    if (!cursor || this.isLoadingMore.peek() || this.isBusy.peek()) return;
    this.isLoadingMore.value = true;
    const { signal: aborted } = this.abort;
    try {
      const page = await readPage(collection, cursor, PAGE_SIZE, aborted);
      if (aborted.aborted) return;
      collection.addPage(page.items, page.next_cursor, this.#rules());
      this.error.value = null;
      this.#publish();
    } catch (error) {
      if (aborted.aborted) return;
      this.error.value = error;
    }
    this.isLoadingMore.value = false;
  }

  /** Follow the project until the present scope ends. */
  follow() {
    followProject({
      onConnect: () => {
        this.sent.clear();
        this.reload();
      },
      onEvent: (name, data) => {
        if (name === "job") {
          this.sent.add(data.id);
          this.#enqueue(data.id, data);
        } else if (name === "deleted") this.#enqueue(data.job_id, null);
        else if (name === "listed") this.#checkUnsent();
      },
    });
  }

  /**
   * Take a job's present values, such as the answer of an action.
   * @param {Job} job
   */
  apply(job) {
    this.#take(job.id, job);
    this.#publish();
  }

  /** @param {string} id */
  remove(id) {
    this.#take(id, null);
    this.#publish();
  }

  showWaiting() {
    this.collection.showWaiting();
    this.#publish();
  }

  /** Remove rows that stayed only because they were selected. */
  dropUnheld() {
    this.collection.drop(this.isHeld);
    this.#publish();
  }

  /**
   * Changes of many jobs are shown together, a few times a second.
   * @param {string} id
   * @param {Job | null} job
   */
  #enqueue(id, job) {
    this.queue.set(id, job);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      for (const [each, present] of this.queue) this.#take(each, present);
      this.queue.clear();
      this.#publish();
    }, FLUSH_MS);
  }

  /**
   * @param {string} id
   * @param {Job | null} job
   */
  #take(id, job) {
    if (job) this.collection.apply(job, this.#rules());
    else {
      this.collection.delete(id);
      this.onDeleted(id);
    }
  }

  /** A job that is shown as unfinished, and that the stream does not send at a connect, has ended since it was read. */
  #checkUnsent() {
    const isStale = [...this.collection.jobs.values()].some((job) => !isFinal(job.state) && !this.sent.has(job.id));
    if (isStale) this.reload();
  }

  #rules() {
    return { isHeld: this.isHeld, canInsert: this.mayInsert() };
  }

  #fail() {
    this.state.value = "failed";
    this.collection.jobs.clear();
    this.collection.order = [];
    this.#publish();
  }

  #publish() {
    if (!this.collection.isLoaded && this.state.peek() !== "failed") return;
    const { jobs, order, waiting, nextCursor } = this.collection;
    for (const [id, found] of this.signals) {
      const job = jobs.get(id);
      if (job) found.value = job;
      else this.signals.delete(id);
    }
    const shown = this.order.peek();
    if (shown.length !== order.length || shown.some((id, index) => id !== order[index])) this.order.value = [...order];
    this.numWaiting.value = waiting.size;
    this.hasMore.value = nextCursor !== null;
  }
}

/**
 * Read as many jobs as are shown.
 * @param {JobCollection} collection
 * @param {AbortSignal} aborted
 * @returns {Promise<{items: Job[], nextCursor: string | null}>}
 */
async function readPages(collection, aborted) {
  const wanted = Math.max(PAGE_SIZE, collection.order.length);
  /** @type {Job[]} */
  const items = [];
  /** @type {string | null} */
  let cursor = null;
  do {
    const limit = Math.min(LARGEST_PAGE, wanted - items.length);
    const page = await readPage(collection, cursor, limit, aborted);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < wanted);
  return { items, nextCursor: cursor };
}

/**
 * @param {JobCollection} collection
 * @param {string | null} cursor
 * @param {number} limit
 * @param {AbortSignal} aborted
 * @returns {Promise<{items: Job[], next_cursor: string | null}>}
 */
function readPage(collection, cursor, limit, aborted) {
  return get("/jobs", { query: { ...queryOf(collection.filter), limit, cursor }, signal: aborted });
}

/** @param {JobFilter} filter */
function keyOf(filter) {
  return JSON.stringify([session.peek()?.project_id, session.peek()?.key_id, filter]);
}
