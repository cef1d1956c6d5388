/**
 * The tab's only event stream. HTTP/1.1 allows six connections to a host over all tabs, so a tab has one, and none
 * while it is hidden. Many visible tabs take turns. A stream continues where it stopped: the cursor of the last event
 * is sent again.
 */

import { searchOf } from "./api.js";
import { loadSession, session } from "./session.js";
import { effect, onEnd, signal } from "./signals.js";
import { BEAT_MS, StreamTurns } from "./stream_turns.js";

/**
 * @typedef {"idle" | "connecting" | "live" | "reconnecting" | "paused" | "ended"} Connection
 * @typedef {{
 *   onEvent: (name: string, data: any) => void,
 *   onConnect?: () => void,
 * }} Listener  `onConnect` is called at every connect after the first: what the stream does not repeat can be read again
 * @typedef {{query: {job: string[]}, cursor: string | null, listener: Listener}} Subscription
 */

const NAMES = ["job", "job_event", "metrics", "end", "listed", "deleted"];
const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;

/** @type {import("./signals.js").Signal<Connection>} */
export const connection = signal(/** @type {Connection} */ ("idle"));

/** @type {Subscription | null} */
let present = null;
/** @type {EventSource | null} */
let source = null;
/** @type {number | undefined} */
let timer;
let delay = FIRST_DELAY;
let connects = 0;

const REST_MS = 2_500;
const channel = new BroadcastChannel("tunewright.streams");
const turns = new StreamTurns(
  crypto.getRandomValues(new Uint32Array(2)).join("-"),
  (turn) => channel.postMessage(turn),
  () => {
    drop();
    timer = setTimeout(connect, REST_MS * (0.75 + Math.random() / 2));
  },
);

/**
 * Follow the project's jobs until the present scope ends: `job` (a whole job) for each one that is not final, `listed`
 * after the last of these, then `job` at each change and `deleted`.
 * @param {Listener} listener
 */
export function followProject(listener) {
  start({ query: { job: ["*"] }, cursor: null, listener });
}

/**
 * Follow up to eight jobs until the present scope ends: `job`, `job_event`, `metrics` and `end`, each with `job_id`.
 * @param {readonly string[]} ids
 * @param {string | null} cursor  joined from the `stream_cursor` of what was read before: `id:events.metrics,…`
 * @param {Listener} listener
 */
export function followJobs(ids, cursor, listener) {
  start({ query: { job: [...ids] }, cursor, listener });
}

/**
 * @param {Subscription} subscription
 */
function start(subscription) {
  close();
  present = subscription;
  delay = FIRST_DELAY;
  connects = 0;
  connect();
  onEnd(() => {
    if (present !== subscription) return;
    close();
    present = null;
    connection.value = "idle";
  });
}

function connect() {
  close();
  const subscription = present;
  if (!subscription || !session.peek()) return;
  if (document.hidden) {
    connection.value = "paused";
    return;
  }
  if (!connects) connection.value = "connecting";
  turns.open();
  const opened = new EventSource(`/stream${searchOf({ ...subscription.query, after: subscription.cursor })}`);
  source = opened;
  const running = new Set(subscription.query.job);
  opened.onopen = () => {
    connection.value = "live";
    delay = FIRST_DELAY;
    if (connects++) subscription.listener.onConnect?.();
  };
  for (const name of NAMES) {
    opened.addEventListener(name, (/** @type {MessageEvent} */ event) => {
      if (source !== opened) return;
      if (event.lastEventId) subscription.cursor = event.lastEventId;
      const data = JSON.parse(event.data);
      subscription.listener.onEvent(name, data);
      if (name !== "end") return;
      running.delete(data.job_id);
      if (!running.size) finish();
    });
  }
  opened.onerror = () => {
    if (source !== opened) return;
    close();
    connection.value = "reconnecting";
    // The answer's status is not shown to scripts: the session tells whether it was 401.
    timer = setTimeout(async () => {
      await loadSession();
      connect();
    }, delay * (0.75 + Math.random() / 2));
    delay = Math.min(delay * 2, LONGEST_DELAY);
  };
}

function finish() {
  close();
  connection.value = "ended";
}

function close() {
  turns.close();
  drop();
}

function drop() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

/** Close the stream while the tab is hidden, and connect again when it is shown or the network is back. */
export function startLive() {
  channel.onmessage = (event) => turns.hear(event.data);
  setInterval(() => turns.beat(), BEAT_MS);
  addEventListener("pagehide", close);
  document.addEventListener("visibilitychange", () => {
    if (connection.peek() === "ended" || !present) return;
    if (document.hidden) {
      close();
      connection.value = "paused";
    } else connect();
  });
  addEventListener("online", () => {
    if (connection.peek() === "reconnecting") connect();
  });
  effect(() => {
    if (session.value && present && !source && connection.peek() !== "ended") connect();
  });
}
