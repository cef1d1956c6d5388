/** Calls the server's HTTP API. The session cookie authenticates; a script never sees a key. */

/**
 * @typedef {{pointer: string, code: string, message: string}} FieldProblem
 * @typedef {{
 *   query?: Record<string, string | number | boolean | null | undefined | readonly (string | number)[]>,
 *   body?: unknown, headers?: Record<string, string>, signal?: AbortSignal, idempotencyKey?: string,
 * }} RequestOptions
 */

/** An error answer of the server (problem+json), or a failed connection (status 0, code `unreachable`). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, detail?: string, title?: string, errors?: FieldProblem[]}} problem
   */
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.name = "ApiError";
    this.status = status;
    this.code = problem.code ?? "unknown";
    this.errors = problem.errors ?? [];
  }

  /**
   * Return the message for a field, or null.
   * @param {string} pointer  such as `/training/epochs`
   */
  messageAt(pointer) {
    return this.errors.find((each) => each.pointer === pointer)?.message ?? null;
  }
}

/** @type {Set<() => void>} */
const onSignedOut = new Set();

/**
 * Call a function when an answer says that the session is no longer valid.
 * @param {() => void} listener
 */
export function whenSignedOut(listener) {
  onSignedOut.add(listener);
}

/**
 * Send a request and return its JSON answer (null if it has none).
 * @param {string} method
 * @param {string} path  such as `/jobs`
 * @param {RequestOptions} [options]
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function request(method, path, { query, body, headers = {}, signal, idempotencyKey } = {}) {
  /** @type {Record<string, string>} */
  const sent = { accept: "application/json", ...headers };
  if (body !== undefined) sent["content-type"] = "application/json";
  if (idempotencyKey) sent["idempotency-key"] = idempotencyKey;
  const response = await send(`${path}${searchOf(query)}`, {
    method,
    headers: sent,
    signal: signal ?? null,
    body: body === undefined ? null : JSON.stringify(body),
  });
  return readAnswer(response);
}

/**
 * @param {string} path
 * @param {RequestOptions} [options]
 */
export function get(path, options) {
  return request("GET", path, options);
}

/**
 * @param {string} path
 * @param {unknown} [body]
 * @param {RequestOptions} [options]
 */
export function post(path, body, options = {}) {
  return request("POST", path, { ...options, body });
}

/**
 * Return the JSON of an answer.
 * @param {Response} response
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function readAnswer(response) {
  if (response.ok) return response.status === 204 ? null : await response.json();
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    problem = { detail: `The server answered ${response.status} ${response.statusText}.` };
  }
  if (response.status === 401) { for (const listener of onSignedOut) listener(); }
  throw new ApiError(response.status, problem);
}

/**
 * Return a random value for the header Idempotency-Key: a request that is sent again creates nothing twice.
 * `crypto.randomUUID` is missing on plain HTTP.
 */
export function createIdempotencyKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Return a query string with its question mark, or "".
 * @param {RequestOptions["query"]} query
 */
export function searchOf(query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === null || value === undefined || value === "") continue;
    for (const each of Array.isArray(value) ? value : [value]) search.append(name, String(each));
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

/**
 * @param {string} url
 * @param {RequestInit} init
 */
async function send(url, init) {
  try {
    return await fetch(url, { ...init, credentials: "same-origin", cache: "no-cache", redirect: "error" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, {
      code: "unreachable",
      detail: "The server cannot be reached. Check that it runs and that this device is connected to it.",
    });
  }
}
