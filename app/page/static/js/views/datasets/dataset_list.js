/** Reads the project's datasets page by page, and again while some of them change. */

import { ApiError, get } from "../../api.js";
import { effect, onEnd, signal, untracked } from "../../signals.js";
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

/**
 * Follow the datasets in some states until the present scope ends.
 * @param {() => readonly string[]} states  reads signals; another value reads the list again
 * @param {() => unknown} changes  reads signals after whose change the list is read again
 */
export function followDatasets(states, changes) {
  /** Null while they are being read. @type {import("../../signals.js").Signal<readonly DatasetOut[] | null>} */
  const items = signal(/** @type {readonly DatasetOut[] | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  const cursor = signal(/** @type {string | null} */ (null));
  const abort = new AbortController();
  onEnd(() => abort.abort());
  let readAt = 0, generation = 0;

  const readPage = (/** @type {string | null} */ after) =>
    get("/datasets", { query: { state: untracked(states), limit: PAGE, cursor: after }, signal: abort.signal });

  const refresh = async () => {
    const own = generation;
    const changing = (items.peek() ?? []).filter((each) => CHANGING.includes(each.state)).slice(0, MOST_FOLLOWED);
    try {
      if (!readAt || !changing.length || performance.now() - readAt > SECONDS_QUIET * 1000) {
        const page = await readPage(null);
        if (own !== generation) return 0;
        const rest = page.next_cursor ? olderThan(items.peek() ?? [], page.items) : [];
        if (!rest.length) cursor.value = page.next_cursor;
        items.value = [...page.items, ...rest];
        readAt = performance.now();
      } else {
        const fresh = await Promise.all(changing.map((each) => readOne(each.id, abort.signal)));
        if (own !== generation) return 0;
        const byId = new Map(fresh.flatMap((each) => (each ? [[each.id, each]] : [])));
        items.value = (items.peek() ?? []).map((each) => byId.get(each.id) ?? each);
        if (fresh.includes(null)) readAt = 0;
      }
      error.value = null;
    } catch (problem) {
      if (!abort.signal.aborted) error.value = problem;
    }
    return (items.peek() ?? []).some((each) => CHANGING.includes(each.state)) ? SECONDS_CHANGING : SECONDS_QUIET;
  };

  const again = repeat(refresh);
  let isFirst = true;
  effect(() => {
    states().join();
    if (!isFirst) {
      generation++;
      items.value = null;
      cursor.value = null;
      readAt = 0;
      again();
    }
  });
  effect(() => {
    changes();
    if (!isFirst) {
      readAt = 0;
      again();
    }
    isFirst = false;
  });

  const loadMore = async () => {
    const own = generation;
    try {
      const page = await readPage(cursor.peek());
      if (own !== generation) return;
      const present = new Set((items.peek() ?? []).map((each) => each.id));
      const added = page.items.filter((/** @type {DatasetOut} */ each) => !present.has(each.id));
      items.value = [...(items.peek() ?? []), ...added];
      cursor.value = page.next_cursor;
    } catch (problem) {
      if (!abort.signal.aborted) error.value = problem;
    }
  };
  /** Read the older datasets as well, so that a search by name finds them. */
  const loadAll = async () => {
    while (cursor.peek() && !error.peek() && (items.peek() ?? []).length < MOST_SEARCHED) await loadMore();
  };
  return { items, error, cursor, again, loadMore, loadAll };
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
