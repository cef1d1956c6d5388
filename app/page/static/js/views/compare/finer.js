/** Reads finer points of the range in view, once the overview has fewer than the server. */

import { get } from "../../api.js";

/** @typedef {import("./model.js").Entry} Entry */

const MOST_POINTS = 1000;
const DELAY = 80;
/** A part of the range that is read on either side too, so that panning shows no gap. */
const MARGIN = 0.1;

export class FinerCurves {
  constructor() {
    this.timer = 0;
    this.abort = new AbortController();
  }

  end() {
    clearTimeout(this.timer);
    this.abort.abort();
  }

  /**
   * Show a range finely after its last change; null: show all as it was read at first.
   * @param {readonly Entry[]} entries
   * @param {readonly string[]} names  the metrics of the charts
   * @param {{from: number, to: number} | null} zoom  in the units of the axis
   * @param {import("../../pure/compare_url.js").XKind} kind
   */
  show(entries, names, zoom, kind) {
    this.end();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.timer = setTimeout(() => {
      for (const entry of entries) {
        if (!zoom) clearDetail(entry);
        else for (const name of names) readRange(entry, name, stepsOf(entry, zoom, kind), signal);
      }
    }, DELAY);
  }
}

/** @param {Entry} entry */
function clearDetail(entry) {
  if (![...entry.curves.curves.values()].some(({ detail }) => detail)) return;
  entry.curves.clearDetail();
  entry.version.value++;
}

/**
 * @param {Entry} entry
 * @param {{from: number, to: number}} zoom
 * @param {import("../../pure/compare_url.js").XKind} kind
 */
function stepsOf({ curves }, zoom, kind) {
  const [from, to] = [curves.stepAt(zoom.from, kind), curves.stepAt(zoom.to, kind)];
  const margin = (to - from) * MARGIN;
  return { from: Math.max(0, Math.floor(from - margin)), to: Math.ceil(to + margin) };
}

/**
 * @param {Entry} entry
 * @param {string} name
 * @param {{from: number, to: number}} range
 * @param {AbortSignal} signal
 */
async function readRange(entry, name, range, signal) {
  const { curves } = entry;
  if (!curves.curve(name)?.isPartial || !(range.to > range.from)) return;
  const { rewinds } = curves;
  try {
    const query = { names: name, from_step: range.from, to_step: range.to, max_points: MOST_POINTS };
    const answer = await get(`/jobs/${encodeURIComponent(entry.id)}/metrics`, { query, signal });
    if (curves.setDetail([name], range, answer.items, rewinds)) entry.version.value++;
  } catch {
    // The coarser curve stays; the next change of the range reads again.
  }
}
