/** Reads finer points of curves than the overview has: of all steps at first, then of the range in view. */

import { get } from "../../../api.js";
import { onEnd } from "../../../signals.js";

/** @typedef {import("../model.js").JobModel} JobModel */
/** @typedef {import("./options.js").StepRange} StepRange */

const MOST_POINTS = 2000;
/** Changes of the range that follow each other faster than this, in milliseconds, are read once, after the last one. */
const DELAY = 60;
/** A part of the range that is read on either side too, so that panning shows no gap. */
const MARGIN = 0.1;
const AT_ONCE = 3;

export class FinerCurves {
  /**
   * @param {JobModel} model
   * @param {() => readonly (readonly string[])[]} listGroups  the names of each chart in view, the most wanted first
   * @param {() => void} onChange  called after curves have changed
   */
  constructor(model, listGroups, onChange) {
    this.model = model;
    this.listGroups = listGroups;
    this.onChange = onChange;
    this.timer = 0;
    this.shownAt = -Infinity;
    this.abort = new AbortController();
    /** @type {Set<string>} names that were read in full resolution, or are */
    this.refined = new Set();
    onEnd(() => this.cancel());
  }

  cancel() {
    clearTimeout(this.timer);
    this.abort.abort();
  }

  /**
   * Read what a range needs: at once, or after the last of several changes.
   * @param {StepRange | null} range  null: all steps
   */
  show(range) {
    this.cancel();
    this.abort = new AbortController();
    const isAlone = performance.now() - this.shownAt > DELAY;
    this.shownAt = performance.now();
    if (!range && [...this.model.curves.curves.values()].some(({ detail }) => detail)) {
      this.#change(() => this.model.curves.clearDetail());
    }
    const read = () => range ? this.#readRange(range) : this.#readAll();
    if (isAlone) read();
    else this.timer = setTimeout(read, DELAY);
  }

  async #readAll() {
    const { curves } = this.model;
    const isWanted = (/** @type {string} */ name) => curves.curve(name)?.isPartial && !this.refined.has(name);
    const groups = this.listGroups().filter((names) => names.some(isWanted));
    const [toStep, rewinds, { signal }] = [curves.lastStep, curves.rewinds, this.abort];
    await this.#readEach(groups, async (names) => {
      const answer = await this.#read(names, { to_step: toStep });
      if (signal.aborted) return;
      for (const name of names) this.refined.add(name);
      this.#change(() => curves.refine(names, answer, toStep, rewinds));
    });
  }

  /** @param {StepRange} range */
  async #readRange({ from, to }) {
    const { curves } = this.model;
    const margin = (to - from) * MARGIN;
    const wide = { from: Math.max(0, Math.floor(from - margin)), to: Math.ceil(to + margin) };
    const groups = this.listGroups().filter((names) => names.some((name) => curves.curve(name)?.isPartial));
    const [rewinds, { signal }] = [curves.rewinds, this.abort];
    await this.#readEach(groups, async (names) => {
      const answer = await this.#read(names, { from_step: wide.from, to_step: wide.to });
      if (signal.aborted) return;
      this.#change(() => curves.setDetail(names, wide, answer.items, rewinds));
    });
  }

  /**
   * Read the first group alone, since the server answers several requests at the speed of the slowest, then the others.
   * @param {readonly (readonly string[])[]} groups
   * @param {(names: readonly string[]) => Promise<void>} read
   */
  async #readEach(groups, read) {
    const [first, ...waiting] = groups;
    if (first) await Promise.allSettled([read(first)]);
    const work = async () => {
      for (let names = waiting.shift(); names; names = waiting.shift()) await read(names);
    };
    // Without them the coarser curves stay; the next change of the range reads again.
    await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
  }

  /**
   * @param {readonly string[]} names
   * @param {Record<string, number>} range
   */
  #read(names, range) {
    const query = { names, max_points: MOST_POINTS, ...range };
    return get(`${this.model.path}/metrics`, { query, signal: this.abort.signal });
  }

  /** @param {() => void} change */
  #change(change) {
    change();
    this.model.curvesVersion.value++;
    this.onChange();
  }
}
