/** Sends bytes and reads back how many were sent, which `fetch` does not tell. */

import { ApiError } from "./api.js";
import { parseRetryAfter } from "./pure/upload_speed.js";

/** A transfer that failed. `retryAfter`: the seconds that the server asked to wait. */
export class TransferError extends ApiError {
  /**
   * @param {number} status
   * @param {{code?: string, detail?: string}} problem
   * @param {number | null} retryAfter
   */
  constructor(status, problem, retryAfter) {
    super(status, problem);
    this.retryAfter = retryAfter;
  }
}

/**
 * @param {"PUT" | "POST"} method
 * @param {string} url
 * @param {ArrayBuffer} bytes
 * @param {{sha256: string, onProgress: (sent: number) => void, signal: AbortSignal}} options  `sha256` in base64
 * @returns {Promise<any>} the JSON of the answer
 * @throws {TransferError}
 */
export function sendBytes(method, url, bytes, { sha256, onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.setRequestHeader("accept", "application/json");
    request.setRequestHeader("content-type", "application/octet-stream");
    request.setRequestHeader("content-digest", `sha-256=:${sha256}:`);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    const abort = () => request.abort();
    request.onloadend = () => signal.removeEventListener("abort", abort);
    request.onload = () => {
      const answer = readJson(request.responseText);
      if (request.status >= 200 && request.status < 300) resolve(answer);
      else reject(new TransferError(request.status, answer ?? {}, readRetryAfter(request)));
    };
    request.onerror = () =>
      reject(new TransferError(0, { code: "unreachable", detail: "The connection was lost." }, null));
    request.onabort = () => reject(new DOMException("The transfer was stopped.", "AbortError"));
    if (signal.aborted) {
      request.onabort(new ProgressEvent("abort"));
      return;
    }
    signal.addEventListener("abort", abort);
    request.send(bytes);
  });
}

/** @param {XMLHttpRequest} request */
function readRetryAfter(request) {
  return parseRetryAfter(request.getResponseHeader("retry-after"), Date.now());
}

/** @param {string} text */
function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
