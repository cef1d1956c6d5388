/** Reads the previews or overlap checks of a dataset, and follows the one that is shown. */

import { ApiError, get } from "../../api.js";
import { computed, effect, onEnd, signal, untracked } from "../../signals.js";
import { query, setQuery } from "../../url.js";
import { repeat } from "./repeat.js";

/**
 * @template S  a summary, as lists have it
 * @template O  the whole check
 * @typedef {{
 *   list: import("../../signals.js").Signal<readonly S[] | null>,
 *   present: import("../../signals.js").Signal<O | null>,
 *   error: import("../../signals.js").Signal<unknown>,
 *   show: (check: O) => void, again: () => void,
 * }} Checks
 */

/**
 * @template {{id: string, state: string}} S
 * @template {S} O
 * @param {string} datasetId
 * @param {"previews" | "overlaps"} kind
 * @param {string} name  of the value in the address that names the shown one; the newest is shown without it
 * @returns {Checks<S, O>}
 */
export function followChecks(datasetId, kind, name) {
  const list = signal(/** @type {readonly S[] | null} */ (null));
  const present = signal(/** @type {O | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  const wanted = computed(() => query.value.get(name) ?? list.value?.[0]?.id ?? null);
  const abort = new AbortController();
  onEnd(() => abort.abort());
  const options = { signal: abort.signal };

  const step = async () => {
    try {
      if (!list.peek()) list.value = (await get(`/datasets/${datasetId}/${kind}`, options)).items;
      const id = query.peek().get(name) ?? list.peek()?.[0]?.id;
      if (id && (present.peek()?.id !== id || present.peek()?.state === "pending")) {
        const fresh = await get(`/datasets/${datasetId}/${kind}/${id}`, options);
        if (wanted.peek() !== id && query.peek().get(name)) return 0;
        present.value = fresh;
        list.value = (list.peek() ?? []).map((each) => each.id === fresh.id ? { ...each, ...fresh } : each);
      }
      error.value = null;
    } catch (problem) {
      if (abort.signal.aborted) return null;
      if (problem instanceof ApiError && problem.status === 404 && query.peek().get(name)) {
        present.value = null;
        error.value = new Error("This check no longer exists: the newest twenty are kept.");
        return null;
      }
      error.value = problem;
      return 5;
    }
    return present.peek()?.state === "pending" ? 1 : null;
  };
  const again = repeat(step);
  effect(() => {
    if (wanted.value) untracked(again);
  });
  return {
    list,
    present,
    error,
    again,
    show: (check) => {
      list.value = [check, ...(list.peek() ?? [])].slice(0, 20);
      present.value = check;
      setQuery({ [name]: check.id, row: null }, { replace: false });
      again();
    },
  };
}
