/** Keyboard shortcuts: each view registers its own, and `?` shows all of them. */

import { onEnd, signal } from "./signals.js";

/**
 * @typedef {{keys: string, description: string, group: string, run: (event: KeyboardEvent) => void}} Shortcut
 *   `keys` is one key ("n", "/", "?") or two in a row ("g j")
 */

/** @type {import("./signals.js").Signal<readonly Shortcut[]>} */
export const shortcuts = signal(/** @type {readonly Shortcut[]} */ ([]));

const SECONDS_BETWEEN = 1.2;
let first = "";
let pressedAt = 0;

/**
 * Add a shortcut until the present scope ends.
 * @param {Shortcut} shortcut
 */
export function addShortcut(shortcut) {
  shortcuts.value = [...shortcuts.peek(), shortcut];
  onEnd(() => {
    shortcuts.value = shortcuts.peek().filter((each) => each !== shortcut);
  });
}

/** Listen to the keyboard. Keys in fields, with modifiers, or while a dialog is open are not shortcuts. */
export function startShortcuts() {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const now = performance.now();
    const both = now - pressedAt < SECONDS_BETWEEN * 1000 ? `${first} ${event.key}` : "";
    const found = find(both) ?? find(event.key);
    [first, pressedAt] = found ? ["", 0] : [event.key, now];
    if (!found) return;
    event.preventDefault();
    found.run(event);
  });
}

/** @param {string} keys */
function find(keys) {
  // A view's shortcut comes before one of the whole page.
  return shortcuts.peek().findLast((each) => each.keys === keys);
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) {
    return true;
  }
  return target instanceof HTMLInputElement && !["checkbox", "radio", "button", "range"].includes(target.type);
}
