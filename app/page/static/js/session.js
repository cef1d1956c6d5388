/** The browser's session: who is signed in, and what the key may do. */

import { ApiError, get, post, request, whenSignedOut } from "./api.js";
import { signal } from "./signals.js";

/**
 * @typedef {{project_id: string, project: string, key_id: string, key_name: string, scopes: string[],
 *   expires_at: string | null}} Session
 */

/** The present session; null: signed out; undefined: not known yet. @type {import("./signals.js").Signal<Session | null | undefined>} */
export const session = signal(/** @type {Session | null | undefined} */ (undefined));

/** Why the session is not known: the server cannot be reached. @type {import("./signals.js").Signal<string | null>} */
export const sessionError = signal(/** @type {string | null} */ (null));

whenSignedOut(() => {
  session.value = null;
});

/** Ask the server who is signed in. */
export async function loadSession() {
  try {
    keep(await get("/session"));
    sessionError.value = null;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) session.value = null;
    else sessionError.value = error instanceof Error ? error.message : String(error);
  }
}

/**
 * An equal session is the same: the page is not made again.
 * @param {Session} found
 */
function keep(found) {
  if (JSON.stringify(found) !== JSON.stringify(session.peek())) session.value = found;
}

/**
 * Change an API key into a session cookie.
 * @param {string} key
 * @throws {ApiError}
 */
export async function signIn(key) {
  session.value = await post("/session", { key });
  sessionError.value = null;
}

/** Delete the session and its cookie. */
export async function signOut() {
  await request("DELETE", "/session");
  session.value = null;
}

/**
 * Return whether the session's key has a scope: read, write, webhooks or admin.
 * @param {string} scope
 */
export function may(scope) {
  return session.value?.scopes.includes(scope) ?? false;
}
