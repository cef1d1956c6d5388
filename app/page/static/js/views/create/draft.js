/** Keeps the form's unsaved input in this tab, so that it survives a reload. */

/**
 * @typedef {{body: string, key: string}} Sent  a body that was sent, and its idempotency key
 * @typedef {{values: Record<string, any>, sent: Sent | null}} Draft
 */

const PREFIX = "tunewright.new-job:";

/**
 * @param {string} key
 * @returns {Draft | null}
 */
export function readDraft(key) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + key) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {Draft | null} draft
 */
export function writeDraft(key, draft) {
  try {
    if (draft) sessionStorage.setItem(PREFIX + key, JSON.stringify(draft));
    else sessionStorage.removeItem(PREFIX + key);
  } catch {
    // Storage can be switched off or full; the input then lasts until the page is loaded again.
  }
}

/** @param {string} key */
export function clearDraft(key) {
  writeDraft(key, null);
}
