/**
 * Lets the tabs of a browser take turns with their event streams. HTTP/1.1 allows six connections to a host over all
 * tabs; hidden tabs have no stream, but seven windows can be visible. Pure: no DOM.
 */

export const MOST_STREAMS = 4;
export const BEAT_MS = 4_000;
const FORGET_MS = 10_000;

/**
 * @typedef {{tab: string, since: number | null}} Turn  since when a tab has a stream, in milliseconds; null: it has none
 */

/** Knows which tabs have a stream. The tab that has had its stream longest gives it up when there are too many. */
export class StreamTurns {
  /** @type {Map<string, {since: number, heardAt: number}>} */
  #others = new Map();
  /** @type {number | null} */
  #since = null;

  /**
   * @param {string} tab  a random id
   * @param {(turn: Turn) => void} tell  sends a turn to the other tabs
   * @param {() => void} giveUp  closes this tab's stream
   * @param {() => number} [now]
   */
  constructor(tab, tell, giveUp, now = Date.now) {
    this.tab = tab;
    this.tell = tell;
    this.giveUp = giveUp;
    this.now = now;
  }

  /** This tab opens a stream. */
  open() {
    this.#since = this.now();
    this.#announce();
  }

  /** This tab has no stream any more. */
  close() {
    if (this.#since === null) return;
    this.#since = null;
    this.#announce();
  }

  /** Tell the other tabs again, every `BEAT_MS`, and forget those that are silent. */
  beat() {
    for (const [tab, other] of this.#others) {
      if (this.now() - other.heardAt > FORGET_MS) this.#others.delete(tab);
    }
    if (this.#since !== null) this.#announce();
  }

  /** @param {Turn} turn  what another tab told */
  hear({ tab, since }) {
    if (since === null) {
      this.#others.delete(tab);
      return;
    }
    const isNew = !this.#others.has(tab);
    this.#others.set(tab, { since, heardAt: this.now() });
    if (this.#since === null) return;
    if (isNew) this.#announce();
    if (this.#others.size >= MOST_STREAMS && this.#isOldest()) {
      this.close();
      this.giveUp();
    }
  }

  #isOldest() {
    const own = /** @type {number} */ (this.#since);
    return [...this.#others].every(([tab, { since }]) => own < since || (own === since && this.tab < tab));
  }

  #announce() {
    this.tell({ tab: this.tab, since: this.#since });
  }
}
