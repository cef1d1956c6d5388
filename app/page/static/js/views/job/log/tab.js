/** The output of a job's training process, as lines that have addresses. */

import { h, icon, when } from "../../../dom.js";
import { formatPlural } from "../../../format.js";
import { errorBox, skeleton } from "../../../parts/basic.js";
import { isFinal } from "../../../pure/job_actions.js";
import { findInLog, mergeTail, splitLog } from "../../../pure/job_log.js";
import { addShortcut } from "../../../shortcuts.js";
import { computed, effect, onEnd, signal } from "../../../signals.js";
import { followEnd } from "../follow_end.js";
import { LogLines } from "./lines.js";
import { readLog } from "../notices.js";

/** @typedef {import("../model.js").JobModel} JobModel */

/** The worker sends its output every few seconds. */
const PACE = 3000;

/** @param {JobModel} model */
export function logTab(model) {
  const lines = signal(/** @type {readonly string[] | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  const list = new LogLines();
  const read = pollLog(model, lines, error, list);
  const text = signal("");
  const box = h("div.log", { tabindex: 0, role: "region", "aria-label": "Log" }, list.element);
  followEnd(box, () => lines.value, !location.hash.startsWith("#L"));
  return h(
    "div.stack",
    () => error.value && errorBox(error.value, read),
    when(() => lines.value === null && !error.value, () => skeleton(12, "Loading the log")),
    when(() => lines.value?.length === 0, () => h("p.event-none", () => explainNoLog(model.job.value?.state))),
    when(
      () => lines.value && lines.value.length > 0,
      () => [logTools(model, list, () => lines.value ?? [], text), box],
    ),
  );
}

/** @param {string | undefined} state */
function explainNoLog(state) {
  return state === "queued" || state === "running"
    ? "There is no output yet. It appears a few seconds after a worker has started the training process."
    : "The job has no output: no training process has written anything.";
}

/**
 * Read the log, and again while the job goes on.
 * @param {JobModel} model
 * @param {import("../../../signals.js").Signal<readonly string[] | null>} lines
 * @param {import("../../../signals.js").Signal<unknown>} error
 * @param {LogLines} list
 * @returns {() => void} reads now
 */
function pollLog(model, lines, error, list) {
  let timer = 0;
  const abort = new AbortController();
  const read = async () => {
    clearTimeout(timer);
    try {
      const tail = splitLog(await readLog(model, abort.signal));
      const merged = mergeTail(lines.peek() ?? [], tail);
      list.update(merged.lines, merged.kept);
      if (merged.kept !== lines.peek()?.length || merged.kept !== merged.lines.length) lines.value = merged.lines;
      error.value = null;
    } catch (problem) {
      if (abort.signal.aborted) return;
      error.value = problem;
    }
    schedule();
  };
  const schedule = () => {
    const job = model.job.peek();
    if (!abort.signal.aborted && job && !isFinal(job.state)) {
      timer = setTimeout(() => (document.hidden ? schedule() : read()), PACE);
    }
  };
  const state = computed(() => model.job.value?.state);
  effect(() => {
    state.value;
    read();
  });
  onEnd(() => {
    abort.abort();
    clearTimeout(timer);
  });
  return read;
}

/**
 * @param {JobModel} model
 * @param {LogLines} list
 * @param {() => readonly string[]} lines
 * @param {import("../../../signals.js").Signal<string>} text
 */
function logTools(model, list, lines, text) {
  const found = computed(() => findInLog(lines(), text.value));
  const current = signal(0);
  effect(() => list.mark(found.value, text.value.length, current.value));
  const go = (/** @type {number} */ by) => {
    const count = found.peek().length;
    if (count) current.value = (current.peek() + by + count) % count;
    list.showMatch();
  };
  const search = (/** @type {string} */ wanted) => {
    text.value = wanted;
    current.value = 0;
    list.showMatch();
  };
  const input = searchField(search, go);
  const hasMatches = () => found.value.length > 0;
  addShortcut({ keys: "/", description: "Search the log", group: "Log", run: () => input.focus() });
  const say = () =>
    !text.value ? "" : found.value.length ? `${current.value + 1} of ${found.value.length}` : "not found";
  return h(
    "div.row.between",
    h(
      "p.faint",
      () => `${formatPlural(lines().length, "line")} of the latest attempt's output; the server keeps its last 64 KiB.`,
    ),
    h(
      "div.row",
      h("output.faint.tabular", say),
      h("div.search", icon("search"), input),
      stepButton("Previous match", "Shift Enter", "up", hasMatches, () => go(-1)),
      stepButton("Next match", "Enter", "down", hasMatches, () => go(1)),
      h("a.button", { href: `${model.path}/logs`, download: `${model.id}.log` }, icon("download"), "Download"),
    ),
  );
}

/**
 * @param {(text: string) => void} search
 * @param {(by: number) => void} go
 */
function searchField(search, go) {
  const input = h("input", {
    type: "search",
    placeholder: "Search the log (/)",
    "aria-label": "Search the log",
    oninput: () => search(input.value),
    onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && go(event.shiftKey ? -1 : 1),
  });
  return input;
}

/**
 * @param {string} label
 * @param {string} keys
 * @param {string} iconName
 * @param {() => boolean} isOn
 * @param {() => void} run
 */
function stepButton(label, keys, iconName, isOn, run) {
  const title = `${label} (${keys})`;
  return h(
    "button.icon-only",
    { type: "button", "aria-label": label, title, disabled: () => !isOn(), onclick: run },
    icon(iconName),
  );
}
