/** The compared jobs with their curves: read once, then followed by the tab's stream. */

import { ApiError, get } from "../../api.js";
import { Curves } from "../../curves.js";
import { connection, followJobs } from "../../live.js";
import { LOSSES, SPEED, TOKENS } from "../../pure/compare_metrics.js";
import { isFinal } from "../../pure/jobs_actions.js";
import { onEnd, scope, signal } from "../../signals.js";

/** @typedef {import("../../pure/jobs_filter.js").Job} Job */

const FIRST = [...LOSSES, SPEED, TOKENS];
const MOST_POINTS = 2000;
const CHECK_MS = 10_000;
/** The shortest time between two drawings of new points, in milliseconds: eight curves are drawn each time. */
const PACE_MS = 100;

/** One of the compared jobs. */
export class Entry {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.job = signal(/** @type {Job | null} */ (null));
    this.state = signal(/** @type {"loading" | "ready" | "missing" | "failed"} */ ("loading"));
    this.error = signal(/** @type {unknown} */ (null));
    /** The job was deleted while it was shown; its curves stay. */
    this.isDeleted = signal(false);
    this.curves = new Curves();
    /** Changes when `curves` has. */
    this.version = signal(0);
    /** @type {Set<string>} */
    this.read = new Set();
    this.lastEvent = 0;
    this.abort = new AbortController();
  }

  get isFollowed() {
    const job = this.job.peek();
    return this.state.peek() === "ready" && !this.isDeleted.peek() && job !== null && !isFinal(job.state);
  }

  /** Return the job's name, or its id. */
  get name() {
    return this.job.value?.name || this.id;
  }

  /** Read the job and its losses. */
  async load() {
    this.state.value = "loading";
    try {
      const [job, metrics] = await Promise.all([this.#get(), this.#getMetrics(FIRST)]);
      this.job.value = job;
      this.curves.setOverview(metrics);
      for (const name of FIRST) this.read.add(name);
      this.version.value++;
      this.state.value = "ready";
    } catch (error) {
      if (this.abort.signal.aborted) return;
      this.error.value = error;
      this.state.value = isMissing(error) ? "missing" : "failed";
    }
  }

  /** Read the job again: it has ended, or may have been deleted. */
  async reload() {
    try {
      this.job.value = await this.#get();
    } catch (error) {
      if (isMissing(error)) this.isDeleted.value = true;
    }
  }

  /**
   * Read curves that are not there yet.
   * @param {readonly string[]} names
   */
  async readMetrics(names) {
    const lacking = names.filter((name) => !this.read.has(name));
    if (!lacking.length || this.state.peek() !== "ready") return;
    for (const name of lacking) this.read.add(name);
    const { rewinds } = this.curves;
    try {
      const answer = await this.#getMetrics(lacking);
      const toStep = Math.max(-1, ...answer.items.map((/** @type {{step: number}} */ item) => item.step));
      if (!this.curves.refine(lacking, answer, toStep, rewinds)) throw new Error("An attempt began again meanwhile.");
      this.version.value++;
    } catch {
      // Asked again with the next change of the charts.
      for (const name of lacking) this.read.delete(name);
    }
  }

  #get() {
    return get(`/jobs/${encodeURIComponent(this.id)}`, { signal: this.abort.signal });
  }

  /** @param {readonly string[]} names */
  #getMetrics(names) {
    const query = { names: [...names], max_points: MOST_POINTS };
    return get(`/jobs/${encodeURIComponent(this.id)}/metrics`, { query, signal: this.abort.signal });
  }
}

/** All compared jobs, in the order of the address. */
export class CompareModel {
  constructor() {
    this.entries = signal(/** @type {readonly Entry[]} */ ([]));
    /** @type {Set<Entry>} */
    this.changed = new Set();
    this.timer = 0;
    this.followed = "";
    this.endLive = () => {};
    const timer = setInterval(() => this.#checkFollowed(), CHECK_MS);
    onEnd(() => {
      clearInterval(timer);
      clearTimeout(this.timer);
      this.endLive();
      for (const entry of this.entries.peek()) entry.abort.abort();
    });
  }

  /**
   * Compare these jobs. What is known of them stays.
   * @param {readonly string[]} ids
   */
  setIds(ids) {
    const known = new Map(this.entries.peek().map((entry) => [entry.id, entry]));
    const entries = ids.map((id) => known.get(id) ?? new Entry(id));
    for (const [id, entry] of known) if (!ids.includes(id)) entry.abort.abort();
    this.entries.value = entries;
    for (const entry of entries) if (!known.has(entry.id)) this.load(entry);
    this.#follow();
  }

  /** @param {Entry} entry */
  async load(entry) {
    await entry.load();
    this.#follow();
  }

  /** Follow the jobs that go on, from where their curves end, when all are read. */
  #follow() {
    const entries = this.entries.peek();
    if (entries.some((entry) => entry.state.peek() === "loading")) return;
    const followed = entries.filter((entry) => entry.isFollowed);
    const text = followed.map((entry) => entry.id).join();
    if (text === this.followed) return;
    this.followed = text;
    this.endLive();
    if (!followed.length) {
      this.endLive = () => {};
      return;
    }
    const onEvent = (/** @type {string} */ name, /** @type {any} */ data) => this.#receive(name, data);
    const ids = followed.map((entry) => entry.id);
    this.endLive = scope(() => followJobs(ids, followed.map(cursorOf).join(), { onEvent })).end;
  }

  /**
   * @param {string} name
   * @param {any} data
   */
  #receive(name, data) {
    const entry = this.entries.peek().find((each) => each.id === data.job_id);
    if (!entry) return;
    if (name === "metrics" && entry.curves.append(data)) this.#note(entry);
    if (name === "job_event") this.#receiveEvent(entry, data);
    if (name === "job") this.#receiveJob(entry, data);
    if (name === "end") entry.reload();
    if (name === "deleted") {
      entry.isDeleted.value = true;
      this.#follow();
    }
  }

  /**
   * @param {Entry} entry
   * @param {import("../../../../api.d.ts").EventOut} event
   */
  #receiveEvent(entry, event) {
    entry.lastEvent = Math.max(entry.lastEvent, event.number);
    if (event.type !== "job_resumed") return;
    entry.curves.resume(event.data.attempt, event.data.step);
    this.#note(entry);
  }

  /**
   * @param {Entry} entry
   * @param {any} data
   */
  #receiveJob(entry, { job_id: _, ...data }) {
    const known = entry.job.peek();
    if (known) entry.job.value = { ...known, ...data };
  }

  /** @param {Entry} entry */
  #note(entry) {
    this.changed.add(entry);
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      for (const each of this.changed) each.version.value++;
      this.changed.clear();
    }, PACE_MS);
  }

  /** A stream that is refused does not say why: one of its jobs may have been deleted while it was interrupted. */
  async #checkFollowed() {
    if (connection.peek() !== "reconnecting" || document.hidden) return;
    await Promise.all(this.entries.peek().filter((entry) => entry.isFollowed).map((entry) => entry.reload()));
    this.#follow();
  }
}

/** @param {Entry} entry */
function cursorOf({ id, lastEvent, curves: { last } }) {
  return `${id}:${lastEvent}.${last.attempt}.${last.number}`;
}

/** @param {unknown} error */
function isMissing(error) {
  return error instanceof ApiError && error.status === 404;
}
