/** Reads data again every few seconds while the page is visible. */

import { get } from "../../api.js";
import { h, icon } from "../../dom.js";
import { errorBox, skeleton } from "../../parts/basic.js";
import { shareEqual } from "../../pure/share.js";
import { onEnd, signal } from "../../signals.js";

const PAUSE = 5_000;
const PAGE = 100;

/**
 * @template T
 * @typedef {{data: {readonly value: T | null}, error: {readonly value: unknown}, refresh: () => Promise<void>}} Poll
 */

/**
 * Read data now, and again every five seconds until the present scope ends. It stops while the page is hidden.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} read
 * @returns {Poll<T>}
 */
export function poll(read) {
  const data = signal(/** @type {T | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  /** @type {number | undefined} */
  let timer;
  let controller = new AbortController();
  const refresh = async () => {
    clearTimeout(timer);
    controller.abort();
    const own = controller = new AbortController();
    try {
      const found = await read(own.signal);
      if (own.signal.aborted) return;
      data.value = shareEqual(data.peek(), found);
      error.value = null;
    } catch (problem) {
      if (own.signal.aborted) return;
      error.value = problem;
    }
    if (!document.hidden) timer = setTimeout(refresh, PAUSE);
  };
  const onVisible = () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  };
  document.addEventListener("visibilitychange", onVisible);
  onEnd(() => {
    clearTimeout(timer);
    controller.abort();
    document.removeEventListener("visibilitychange", onVisible);
  });
  refresh();
  return { data, error, refresh };
}

/**
 * Read the items of a list's first pages.
 * @param {string} path
 * @param {{query?: Record<string, any>, signal?: AbortSignal, pages?: number}} [options]
 * @returns {Promise<{items: any[], hasMore: boolean}>}
 */
export async function readPages(path, { query = {}, signal: ending, pages = 1 } = {}) {
  const items = [];
  let cursor = null;
  for (let page = 0; page < pages; page++) {
    const answer = await get(path, { query: { ...query, limit: PAGE, cursor }, signal: ending });
    items.push(...answer.items);
    cursor = answer.next_cursor;
    if (!cursor) break;
  }
  return { items, hasMore: cursor !== null };
}

/**
 * Show what was read: a skeleton before, an error instead if there is nothing to show, else a line above.
 * @template T
 * @param {Poll<T>} source
 * @param {() => Node} show  called once, when the first data is there
 */
export function polled({ data, error, refresh }, show) {
  const isThere = signal(data.value !== null);
  return h(
    "div.stack",
    () => {
      const problem = error.value;
      if (data.value !== null) isThere.value = true;
      return problem && (data.value === null ? errorBox(problem, refresh) : staleLine(problem));
    },
    () => isThere.value ? show() : error.value ? null : skeleton(6),
  );
}

/** @param {unknown} problem */
function staleLine(problem) {
  const text = problem instanceof Error ? problem.message : String(problem);
  return h(
    "p.notice.tone-warn",
    { role: "status" },
    icon("warning"),
    h("span", `Not up to date: ${text} It is tried again.`),
  );
}

/**
 * @param {() => boolean} hasMore
 * @param {() => void} more
 */
export function moreButton(hasMore, more) {
  return h("div.list-more", { hidden: () => !hasMore() }, h("button", { type: "button", onclick: more }, "Show more"));
}
