/** Small parts that most views use. */

import { h, icon } from "../dom.js";
import { formatRelative, formatTime } from "../format.js";
import { onEnd, signal } from "../signals.js";

/** The present instant in milliseconds, once every ten seconds: relative times follow it. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 10_000);

/** @type {Record<string, [string, string]>} Icon and tone of each state, so that no state differs by colour alone. */
const STATES = {
  queued: ["clock", "quiet"],
  running: ["play", "active"],
  pausing: ["pause", "warn"],
  paused: ["pause", "warn"],
  cancelling: ["stop", "quiet"],
  cancelled: ["dash", "quiet"],
  succeeded: ["check", "good"],
  failed: ["cross", "bad"],
  ready: ["check", "good"],
  finished: ["check", "good"],
  delivered: ["check", "good"],
  active: ["check", "good"],
  online: ["check", "good"],
  invalid: ["cross", "bad"],
  expired: ["dash", "quiet"],
  revoked: ["dash", "quiet"],
  removed: ["dash", "quiet"],
  offline: ["dash", "quiet"],
  idle: ["check", "good"],
  "disk full": ["warning", "bad"],
  enabled: ["check", "good"],
  disabled: ["dash", "quiet"],
  pending: ["clock", "quiet"],
  inspecting: ["clock", "active"],
  uploading: ["upload", "active"],
  fetching: ["download", "active"],
  draining: ["pause", "warn"],
  busy: ["play", "active"],
};

/**
 * Show a state as a badge with an icon.
 * @param {string | (() => string)} state
 * @returns {HTMLElement}
 */
export function stateBadge(state) {
  const read = () => typeof state === "function" ? state() : state;
  return h(
    "span.badge",
    { class: () => `tone-${(STATES[read()] ?? ["info", "quiet"])[1]}` },
    () => icon((STATES[read()] ?? ["info"])[0]),
    h("span", () => read()),
  );
}

/**
 * Show an instant as "5 min ago", with the exact time as its title.
 * @param {string | null | undefined} instant
 * @returns {HTMLElement}
 */
export function relativeTime(instant) {
  if (!instant) return h("span.faint", "–");
  return h("time", { datetime: instant, title: formatTime(instant) }, () => formatRelative(instant, now.value));
}

/**
 * Show how much is done.
 * @param {() => number} share  0 to 1
 * @param {string} label  accessible name
 * @returns {HTMLElement}
 */
export function progressBar(share, label) {
  const percent = () => Math.round(Math.min(1, Math.max(0, share())) * 100);
  return h(
    "div.progress",
    { role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent },
    h("div.progress-done", { style: () => ({ width: `${Math.min(1, Math.max(0, share())) * 100}%` }) }),
  );
}

/**
 * Say what a list would show, and what to do first.
 * @param {{icon: string, title: string, text: import("../dom.js").Child, action?: Node | null}} content
 * @returns {HTMLElement}
 */
export function emptyState({ icon: name, title, text, action }) {
  return h("div.empty", icon(name, "icon-lg"), h("h2", title), h("p", text), action ?? null);
}

/**
 * Reserve the room of content that is being loaded.
 * @param {number} lines
 * @param {string} [label]
 * @returns {HTMLElement}
 */
export function skeleton(lines, label = "Loading") {
  const bars = Array.from(
    { length: lines },
    (_, index) => h("div.bar", { style: { width: `${92 - (index * 37) % 45}%` } }),
  );
  return h("div.skeleton", { role: "status", "aria-label": label }, bars);
}

/**
 * Show an error with what to do.
 * @param {unknown} error
 * @param {(() => void) | null} [retry]
 * @returns {HTMLElement}
 */
export function errorBox(error, retry = null) {
  const text = error instanceof Error ? error.message : String(error);
  return h(
    "div.notice.tone-bad",
    { role: "alert" },
    icon("error"),
    h("div.notice-text", h("p", text)),
    retry && h("button", { type: "button", onclick: retry }, icon("retry"), "Try again"),
  );
}

/**
 * A button that copies a text. On plain HTTP, where the clipboard's API is missing, it copies by selection.
 * @param {() => string} text
 * @param {string} label
 * @returns {HTMLElement}
 */
export function copyButton(text, label = "Copy") {
  const done = signal(false);
  /** @type {number | undefined} */
  let timer;
  onEnd(() => clearTimeout(timer));
  const copy = async () => {
    await copyText(text());
    done.value = true;
    clearTimeout(timer);
    timer = setTimeout(() => (done.value = false), 1500);
  };
  return h(
    "button.ghost.icon-only",
    { type: "button", title: label, "aria-label": () => (done.value ? "Copied" : label), onclick: copy },
    () => icon(done.value ? "check" : "copy"),
  );
}

/** @param {string} text */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = h("textarea", { readonly: true, "aria-hidden": "true", style: { position: "fixed", opacity: 0 } });
    field.value = text;
    const back = document.activeElement;
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    if (back instanceof HTMLElement) back.focus();
  }
}

/**
 * Show an identifier in the monospaced font with a button that copies it.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function identifier(id) {
  return h("span.id", h("code", id), copyButton(() => id, `Copy ${id}`));
}
