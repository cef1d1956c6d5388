/** Reads a job with its history, and follows it. */

import { ApiError, get } from "../../api.js";
import { Curves } from "../../curves.js";
import { connection, followJobs } from "../../live.js";
import { isFinal } from "../../pure/job_actions.js";
import { isFinalEvent } from "../../pure/job_events.js";
import { effect, onEnd, scope, signal } from "../../signals.js";

/** @typedef {import("../../../../api.d.ts").JobOut} JobOut */
/** @typedef {import("../../../../api.d.ts").EventOut} EventOut */
/** @typedef {import("../../../../api.d.ts").CheckpointOut} CheckpointOut */
/**
 * @template T
 * @typedef {import("../../signals.js").Signal<T>} Signal
 */

/** After these events, what only `GET /jobs/{id}` tells may have changed. */
const TELLING = new Set(["training_started", "job_resumed", "out_of_memory_fallback", "job_succeeded", "job_failed"]);

/** A job as its page shows it. All signals change in one step a frame, however fast events arrive. */
export class JobModel {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.path = `/jobs/${encodeURIComponent(id)}`;
    /** @type {Signal<JobOut | null>} */
    this.job = signal(/** @type {JobOut | null} */ (null));
    /** Why the job cannot be shown. @type {Signal<unknown>} */
    this.error = signal(/** @type {unknown} */ (null));
    /** Why its curves and events cannot be shown. @type {Signal<unknown>} */
    this.historyError = signal(/** @type {unknown} */ (null));
    this.isDeleted = signal(false);
    /** @type {Signal<readonly EventOut[]>} */
    this.events = signal(/** @type {readonly EventOut[]} */ ([]));
    this.hasHistory = signal(false);
    this.curves = new Curves();
    /** Changes when `curves` has. */
    this.curvesVersion = signal(0);
    /** @type {Signal<readonly CheckpointOut[] | null>} */
    this.checkpoints = signal(/** @type {readonly CheckpointOut[] | null} */ (null));
    /** The names of datasets by id, as far as they were found. @type {Signal<Map<string, string>>} */
    this.datasets = signal(/** @type {Map<string, string>} */ (new Map()));
    this.abort = new AbortController();
    /** @type {EventOut[]} */
    this.newEvents = [];
    this.haveCurvesChanged = false;
    this.frame = 0;
    this.rereadTimer = 0;
    /** @type {() => void} */
    this.endLive = () => {};
    onEnd(() => this.end());
    this.load();
  }

  end() {
    this.abort.abort();
    this.endLive();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.rereadTimer);
  }

  /** Read the job, its events and its curves, then follow what comes after them. */
  async load() {
    this.error.value = null;
    const history = this.#loadHistory();
    await this.readJob();
    if (!this.job.peek()) return;
    await history;
    this.#readDatasets();
    if (this.abort.signal.aborted || !this.hasHistory.peek()) return;
    const last = this.events.peek().at(-1);
    if (last && isFinalEvent(last) && !this.#isFinal()) await this.readJob();
    if (this.#isFinal() && last && isFinalEvent(last)) return;
    this.#follow();
  }

  /** Read the job itself again. */
  async readJob() {
    try {
      this.job.value = await get(this.path, { signal: this.abort.signal });
      this.error.value = null;
    } catch (error) {
      if (this.abort.signal.aborted) return;
      if (error instanceof ApiError && error.status === 404 && this.job.peek()) this.#noteDeletion();
      else if (!this.job.peek()) this.error.value = error;
    }
  }

  async readCheckpoints() {
    try {
      this.checkpoints.value = (await get(`${this.path}/checkpoints`, { signal: this.abort.signal })).items;
    } catch {
      // Shown where they are listed; the retry from a checkpoint is refused by the server if there is none.
    }
  }

  /** Read the names of the newest datasets. One that was deleted is not among them, and is no error. */
  async #readDatasets() {
    try {
      const { items } = await get("/datasets", { query: { limit: 100 }, signal: this.abort.signal });
      this.datasets.value = new Map(items.map((/** @type {any} */ each) => [each.id, each.filename]));
    } catch {
      // The header shows the ids instead.
    }
  }

  async #loadHistory() {
    this.historyError.value = null;
    try {
      const { signal } = this.abort;
      const [metrics, [events, cursor]] = await Promise.all([
        get(`${this.path}/metrics`, { query: { max_points: 2000 }, signal }),
        this.#readEvents(),
        this.readCheckpoints(),
      ]);
      this.events.value = events;
      this.curves.setOverview(metrics);
      for (const { type, data } of events) if (type === "job_resumed") this.curves.resume(data.attempt, data.step);
      this.cursor = `${this.id}:${cursor}.${metrics.stream_cursor ?? "0.0"}`;
      this.curvesVersion.value++;
      this.hasHistory.value = true;
    } catch (error) {
      if (!this.abort.signal.aborted) this.historyError.value = error;
    }
  }

  /** @returns {Promise<[EventOut[], string]>} all events, and the stream's cursor after them */
  async #readEvents() {
    /** @type {EventOut[]} */
    const events = [];
    for (let after = 0;;) {
      const query = { after, limit: 1000 };
      const page = await get(`${this.path}/events`, { query, signal: this.abort.signal });
      events.push(...page.items);
      if (page.next_after === null) return [events, page.stream_cursor ?? String(events.at(-1)?.number ?? 0)];
      after = page.next_after;
    }
  }

  #isFinal() {
    const job = this.job.peek();
    return job !== null && isFinal(job.state);
  }

  #follow() {
    const onEvent = (/** @type {string} */ name, /** @type {any} */ data) => this.#receive(name, data);
    this.endLive = scope(() => {
      followJobs([this.id], this.cursor ?? null, { onEvent });
      // A script is not told why a stream cannot be opened: the job may have been deleted.
      effect(() => {
        if (connection.value === "reconnecting") this.#checkEnd();
      });
    }).end;
  }

  /** Read the job while its stream is away: if it has ended and all was received, nothing more comes. */
  async #checkEnd() {
    await this.readJob();
    const last = this.newEvents.at(-1) ?? this.events.peek().at(-1);
    if (this.#isFinal() && last && isFinalEvent(last)) this.endLive();
  }

  #noteDeletion() {
    this.isDeleted.value = true;
    this.endLive();
  }

  /**
   * @param {string} name
   * @param {any} data
   */
  #receive(name, data) {
    if (name === "metrics") {
      if (this.curves.append(data)) this.haveCurvesChanged = true;
    } else if (name === "job_event") this.#receiveEvent(data);
    else if (name === "job") this.#receiveJob(data);
    else if (name === "deleted") this.#noteDeletion();
    else if (name === "end") this.readJob();
    this.#schedule();
  }

  /** @param {JobOut & {job_id?: string}} data */
  #receiveJob({ job_id: _, ...data }) {
    const known = this.job.peek();
    // The stream may send only what changes.
    if (known) this.job.value = { ...known, ...data };
  }

  /** @param {EventOut} event */
  #receiveEvent(event) {
    const last = this.newEvents.at(-1) ?? this.events.peek().at(-1);
    if (last && event.number <= last.number) return;
    this.newEvents.push(event);
    if (event.type === "job_resumed") {
      this.curves.resume(event.data.attempt, event.data.step);
      this.haveCurvesChanged = true;
    }
    if (event.type === "checkpoint_saved") this.readCheckpoints();
    if (!TELLING.has(event.type)) return;
    clearTimeout(this.rereadTimer);
    this.rereadTimer = setTimeout(() => this.readJob(), 300);
  }

  #schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.newEvents.length) this.events.value = [...this.events.peek(), ...this.newEvents.splice(0)];
      if (!this.haveCurvesChanged) return;
      this.haveCurvesChanged = false;
      this.curvesVersion.value++;
    });
  }
}
