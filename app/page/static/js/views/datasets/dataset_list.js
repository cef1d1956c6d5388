/** Reads the project's datasets page by page, and again while some of them change. */

import { ApiError, get } from "../../api.js";
import { effect, onEnd, signal } from "../../signals.js";
import { repeat } from "./repeat.js";

/**
 * @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut
 */

const PAGE = 50;
const MOST_SEARCHED = 1000;
const CHANGING = ["uploading", "inspecting"];
const MOST_FOLLOWED = 5;
const SECONDS_CHANGING = 1;
const SECONDS_QUIET = 15;

/** The datasets in some states, newest first, until the present scope ends. */
export class DatasetList {
  /**
   * @param {() => readonly string[]} states  reads signals; another value reads the list from its start
   * @param {() => unknown} changes  reads signals after whose change the newest datasets are read again
   */
  constructor(states, changes) {
    /** Null while they are read first. @type {import("../../signals.js").Signal<readonly DatasetOut[] | null>} */
    this.items = signal(/** @type {readonly DatasetOut[] | null} */ (null));
    /** @type {import("../../signals.js").Signal<unknown>} */
    this.error = signal(/** @type {unknown} */ (null));
    /** Where older datasets continue. @type {import("../../signals.js").Signal<string | null>} */
    this.cursor = signal(/** @type {string | null} */ (null));
    /** @type {readonly string[]} */
    this.states = [];
    this.readAt = 0;
    this.generation = 0;
    this.abort = new AbortController();
    onEnd(() => this.abort.abort());
    effect(() => {
      this.states = states();
      this.#startOver();
    });
    this.again = repeat(() => this.#refresh());
    effect(() => {
      states();
      changes();
      this.readAt = 0;
      this.again();
    });
  }

  #startOver() {
    this.generation++;
    this.items.value = null;
    this.cursor.value = null;
    this.readAt = 0;
  }

  /** @param {string | null} cursor */
  #readPage(cursor) {
    return get("/datasets", { query: { state: this.states, limit: PAGE, cursor }, signal: this.abort.signal });
  }

  /** Read what may have changed; return the seconds until the next time. */
  async #refresh() {
    const own = this.generation;
    try {
      const isDue = !this.readAt || performance.now() - this.readAt > SECONDS_QUIET * 1000;
      if (isDue || !this.#changing().length) await this.#readNewest(own);
      else await this.#readChanging(own);
      this.error.value = null;
    } catch (error) {
      if (!this.abort.signal.aborted) this.error.value = error;
    }
    if (own !== this.generation) return 0;
    return this.#changing().length ? SECONDS_CHANGING : SECONDS_QUIET;
  }

  #changing() {
    return (this.items.peek() ?? []).filter((each) => CHANGING.includes(each.state));
  }

  /** @param {number} own */
  async #readNewest(own) {
    const page = await this.#readPage(null);
    if (own !== this.generation) return;
    const rest = page.next_cursor ? olderThan(this.items.peek() ?? [], page.items) : [];
    if (!rest.length) this.cursor.value = page.next_cursor;
    this.items.value = [...page.items, ...rest];
    this.readAt = performance.now();
  }

  /** @param {number} own */
  async #readChanging(own) {
    const changing = this.#changing().slice(0, MOST_FOLLOWED);
    const fresh = await Promise.all(changing.map((each) => readOne(each.id, this.abort.signal)));
    if (own !== this.generation) return;
    const byId = new Map(fresh.flatMap((each) => (each ? [[each.id, each]] : [])));
    this.items.value = (this.items.peek() ?? []).map((each) => byId.get(each.id) ?? each);
    if (fresh.includes(null)) this.readAt = 0;
  }

  async loadMore() {
    const own = this.generation;
    try {
      const page = await this.#readPage(this.cursor.peek());
      if (own !== this.generation) return;
      const present = new Set((this.items.peek() ?? []).map((each) => each.id));
      const added = page.items.filter((/** @type {DatasetOut} */ each) => !present.has(each.id));
      this.items.value = [...(this.items.peek() ?? []), ...added];
      this.cursor.value = page.next_cursor;
    } catch (error) {
      if (!this.abort.signal.aborted) this.error.value = error;
    }
  }

  /** Read the older datasets as well, so that a search by name finds them. */
  async loadAll() {
    const own = this.generation;
    while (this.cursor.peek() && !this.error.peek() && own === this.generation && !this.abort.signal.aborted) {
      if ((this.items.peek() ?? []).length >= MOST_SEARCHED) return;
      await this.loadMore();
    }
  }
}

/**
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<DatasetOut | null>} null if it was deleted
 */
async function readOne(id, signal) {
  try {
    return await get(`/datasets/${id}`, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/**
 * @param {readonly DatasetOut[]} items
 * @param {readonly DatasetOut[]} page  the newest ones
 */
function olderThan(items, page) {
  const last = page.at(-1);
  return last ? items.filter((each) => each.created_at < last.created_at) : [];
}
