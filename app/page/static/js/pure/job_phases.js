/** Makes the timeline of a job from its events: what each attempt did, and for how long. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").EventOut} EventOut */
/** @typedef {"queued" | "preparing" | "training" | "evaluating" | "publishing" | "stopping" | "paused"} Phase */
/** @typedef {{phase: Phase, attempt: number | null, from: number, to: number, isOpen: boolean}} Span  milliseconds */
/**
 * @typedef {{
 *   attempt: number, worker: string, resumedFrom: number | null, from: number, to: number, isOpen: boolean,
 *   outcome: string, seconds: Partial<Record<Phase, number>>, waitedSeconds: number,
 * }} AttemptTimes
 */

export const PHASES = /** @type {const} */ ([
  "queued",
  "preparing",
  "training",
  "evaluating",
  "publishing",
  "stopping",
  "paused",
]);

/** @type {Record<string, string>} */
const OUTCOMES = {
  attempt_lost: "lost",
  attempt_released: "released",
  attempt_failed: "failed",
  job_succeeded: "succeeded",
  job_failed: "failed",
  job_cancelled: "cancelled",
  job_paused: "paused",
};

/** Follows a job's events and notes when what it does changes. */
class Timeline {
  constructor() {
    /** @type {Span[]} */
    this.spans = [];
    /** @type {AttemptTimes[]} */
    this.attempts = [];
    /** @type {Span | null} */
    this.open = null;
    /** @type {Phase} */
    this.before = "preparing";
  }

  /**
   * @param {Phase} phase
   * @param {number} at
   * @param {number | null} attempt
   */
  begin(phase, at, attempt) {
    if (this.open?.phase === phase && this.open.attempt === attempt) return;
    this.end(at);
    this.open = { phase, attempt, from: at, to: at, isOpen: true };
    this.spans.push(this.open);
  }

  /** @param {number} at */
  end(at) {
    if (!this.open) return;
    Object.assign(this.open, { to: at, isOpen: false });
    this.open = null;
  }

  /**
   * @param {EventOut} event
   * @param {number} at
   */
  claim({ data: { attempt, worker } }, at) {
    const waitedSeconds = this.open?.phase === "queued" ? (at - this.open.from) / 1000 : 0;
    this.begin("preparing", at, attempt);
    const times = { from: at, to: at, isOpen: true, seconds: {}, waitedSeconds };
    this.attempts.push({ attempt, worker, resumedFrom: null, outcome: "running", ...times });
  }

  /**
   * @param {string} outcome
   * @param {number} at
   */
  endAttempt(outcome, at) {
    const last = this.attempts.at(-1);
    if (last?.isOpen) Object.assign(last, { to: at, isOpen: false, outcome });
    else if (last?.outcome === "released" && outcome === "paused") last.outcome = outcome;
  }

  /** @param {EventOut} event */
  read(event) {
    const at = Date.parse(event.created_at);
    const last = this.attempts.at(-1);
    const attempt = this.open?.attempt ?? last?.attempt ?? null;
    switch (event.type) {
      case "job_created":
      case "resume_requested":
        return this.begin("queued", at, null);
      case "job_claimed":
        return this.claim(event, at);
      case "phase_changed":
        return this.begin(event.data.phase, at, attempt);
      case "job_resumed":
        if (last) last.resumedFrom = event.data.step;
        return;
      case "pause_requested":
      case "cancel_requested":
        if (last?.isOpen) this.begin("stopping", at, attempt);
        return;
      case "attempt_recovered":
        if (last) Object.assign(last, { isOpen: true, outcome: "running" });
        return this.begin(this.before, at, attempt);
    }
    this.readEnd(event.type, at);
  }

  /**
   * @param {string} type
   * @param {number} at
   */
  readEnd(type, at) {
    const outcome = OUTCOMES[type];
    if (!outcome) return;
    if (this.open?.attempt) this.before = this.open.phase;
    this.endAttempt(outcome, at);
    if (type.startsWith("attempt_")) this.begin("queued", at, null);
    else if (type === "job_paused") this.begin("paused", at, null);
    else this.end(at);
  }
}

/**
 * Return what a job did, oldest first.
 * @param {readonly EventOut[]} events
 * @param {number} now  milliseconds; the end of what still goes on
 * @returns {{spans: Span[], attempts: AttemptTimes[]}}
 */
export function listPhases(events, now) {
  const timeline = new Timeline();
  for (const event of events) timeline.read(event);
  const { spans, attempts } = timeline;
  for (const each of [...spans, ...attempts]) if (each.isOpen) each.to = Math.max(each.from, now);
  const byNumber = new Map(attempts.map((each) => [each.attempt, each]));
  for (const { attempt, phase, from, to } of spans) {
    const its = attempt === null ? undefined : byNumber.get(attempt);
    if (its) its.seconds[phase] = (its.seconds[phase] ?? 0) + (to - from) / 1000;
  }
  return { spans, attempts };
}

/**
 * Join spans that are too short to be seen with the ones before them, so that a thousand evaluations stay one bar.
 * @param {readonly Span[]} spans
 * @param {number} share  of the whole
 * @returns {Span[]}
 */
export function joinShortSpans(spans, share) {
  if (spans.length === 0) return [];
  const least = (spans[spans.length - 1].to - spans[0].from) * share;
  /** @type {Span[]} */
  const joined = [];
  for (const span of spans) {
    const last = joined.at(-1);
    const isSame = last?.attempt === span.attempt && last.phase === span.phase;
    const isShort = span.to - span.from < least && last?.attempt === span.attempt;
    if (last && (isSame || isShort)) Object.assign(last, { to: span.to, isOpen: span.isOpen });
    else joined.push({ ...span });
  }
  return joined;
}
