/** Reads the previews or overlap checks of a dataset, and follows the one that is shown. */

import { ApiError, get } from "../../api.js";
import { computed, effect, onEnd, signal, untracked } from "../../signals.js";
import { query, setQuery } from "../../url.js";
import { repeat } from "./repeat.js";

const KEPT = 20;

/**
 * The checks of one kind until the present scope ends. The address names the shown one; without it, it is the newest.
 * @template {{id: string, state: string}} S  a check, as lists have it
 * @template {S} O  the whole check
 */
export class Checks {
  /**
   * @param {string} datasetId
   * @param {"previews" | "overlaps"} kind
   * @param {string} name  of the value in the address
   */
  constructor(datasetId, kind, name) {
    this.url = `/datasets/${datasetId}/${kind}`;
    this.name = name;
    /** Newest first; null while they are read. @type {import("../../signals.js").Signal<readonly S[] | null>} */
    this.list = signal(/** @type {readonly S[] | null} */ (null));
    /** The shown one. @type {import("../../signals.js").Signal<O | null>} */
    this.present = signal(/** @type {O | null} */ (null));
    /** @type {import("../../signals.js").Signal<unknown>} */
    this.error = signal(/** @type {unknown} */ (null));
    this.wanted = computed(() => query.value.get(name) ?? this.list.value?.[0]?.id ?? null);
    this.abort = new AbortController();
    onEnd(() => this.abort.abort());
    this.again = repeat(() => this.#follow());
    effect(() => {
      if (this.wanted.value) untracked(this.again);
    });
  }

  /** Read what is missing or pending; return the seconds until the next time. */
  async #follow() {
    const { signal } = this.abort;
    try {
      if (!this.list.peek()) this.list.value = (await get(this.url, { signal })).items;
      const id = query.peek().get(this.name) ?? this.list.peek()?.[0]?.id;
      const { id: shown, state } = this.present.peek() ?? {};
      if (id && (shown !== id || state === "pending")) {
        const fresh = await get(`${this.url}/${id}`, { signal });
        if ((query.peek().get(this.name) ?? id) !== id) return 0;
        this.present.value = fresh;
        this.list.value = (this.list.peek() ?? []).map((each) => (each.id === id ? { ...each, ...fresh } : each));
      }
      this.error.value = null;
    } catch (error) {
      return this.#explain(error);
    }
    return this.present.peek()?.state === "pending" ? 1 : null;
  }

  /** @param {unknown} error */
  #explain(error) {
    if (this.abort.signal.aborted) return null;
    const isMissing = error instanceof ApiError && error.status === 404 && query.peek().get(this.name);
    if (isMissing) this.present.value = null;
    this.error.value = isMissing ? new Error("This check no longer exists: the newest twenty are kept.") : error;
    return isMissing ? null : 5;
  }

  /**
   * Show a check that was just created.
   * @param {O} check
   */
  show(check) {
    this.list.value = [check, ...(this.list.peek() ?? [])].slice(0, KEPT);
    this.present.value = check;
    setQuery({ [this.name]: check.id, row: null }, { replace: false });
    this.again();
  }
}
