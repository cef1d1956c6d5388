/** Runs an action of a view: it says what was done, or what went wrong. */

import { createIdempotencyKey } from "../../api.js";
import { showMessage } from "../../parts/overlay.js";

/**
 * @param {() => Promise<any>} action
 * @param {{done?: string, then?: () => any}} [options]
 */
export async function act(action, { done, then } = {}) {
  try {
    await action();
    if (done) showMessage(done, { tone: "good" });
    await then?.();
  } catch (error) {
    showMessage(error instanceof Error ? error.message : String(error), { tone: "bad" });
  }
}

/** Return a path's last parts for a resource whose name may contain slashes. @param {string} name */
export function encodePath(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}

/**
 * Return a function that returns the same idempotency key for the same body: sending it again creates nothing twice.
 * @returns {(body: unknown) => string}
 */
export function rememberKeys() {
  /** @type {Map<string, string>} */
  const keys = new Map();
  return (body) => {
    const text = JSON.stringify(body);
    const key = keys.get(text) ?? createIdempotencyKey();
    keys.set(text, key);
    return key;
  };
}
