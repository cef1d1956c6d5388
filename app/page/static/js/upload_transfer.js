/** Carries one upload to the server: hashes, sends, tries again, and looks up what an answer that was lost would say. */

import { ApiError, createIdempotencyKey, get, post, searchOf } from "./api.js";
import { choosePartBytes, countStoredBytes, planParts, StoredParts } from "./pure/upload_plan.js";
import { isTransient, retryDelay } from "./pure/upload_speed.js";
import { Sha256, toBase64, toHex } from "./pure/upload_sha256.js";
import { sendBytes, TransferError } from "./upload_request.js";

/**
 * @typedef {import("./upload.js").Upload} Upload
 * @typedef {import("./pure/upload_plan.js").Part} Part
 */

const PARTS_AT_ONCE = 2;
const SLICE = 2 ** 20;

/**
 * Send a file in one request.
 * @param {Upload} upload
 * @returns {Promise<string>} the dataset's id
 */
export async function sendWhole(upload) {
  const { bytes, digest } = await readPart(upload, 0, upload.size);
  const sha256 = toHex(digest);
  const query = {
    filename: upload.name,
    format: upload.options.format,
    columns: upload.options.columns && JSON.stringify(upload.options.columns),
    expires_after_seconds: upload.options.expiresAfterSeconds,
  };
  const before = await retry(upload, () => findDatasets(upload, sha256));
  upload.sameAs.value = before[0] ?? null;
  let isFirst = true;
  return retry(upload, async () => {
    if (!isFirst) {
      const created = (await findDatasets(upload, sha256)).find((id) => !before.includes(id));
      if (created) return created;
    }
    isFirst = false;
    startSending(upload);
    const sent = await sendBytes("PUT", `/datasets${searchOf(query)}`, bytes, {
      sha256: toBase64(digest),
      signal: upload.abort.signal,
      onProgress: (count) => showProgress(upload, count),
    });
    return sent.id;
  });
}

/**
 * Send a file in parts, except those that are stored already.
 * @param {Upload} upload
 * @returns {Promise<string>} the dataset's id
 */
export async function sendInParts(upload) {
  const stored = await openUpload(upload);
  const known = new StoredParts(stored);
  const parts = planParts(upload.size, choosePartBytes(upload.size, stored));
  /** @type {(string | null)[]} */
  const ids = parts.map(() => null);
  /** @type {Map<number, number>} */
  const progress = new Map();
  const report = (/** @type {Part} */ part, /** @type {number} */ count) => {
    progress.set(part.number, Math.min(count, part.end - part.start));
    showProgress(upload, [...progress.values()].reduce((sum, each) => sum + each, 0));
  };
  const waiting = [...parts];
  const work = async () => {
    for (let part = waiting.shift(); part; part = waiting.shift()) {
      ids[part.number] = await placePart(upload, part, known, report);
      upload.storedBytes = parts.reduce((sum, { number, start, end }) => sum + (ids[number] ? end - start : 0), 0);
    }
  };
  await Promise.all(Array.from({ length: PARTS_AT_ONCE }, work));
  upload.state.value = "completing";
  const key = createIdempotencyKey();
  const options = { idempotencyKey: key, signal: upload.abort.signal };
  const completed = await retry(upload, () => post(`/uploads/${upload.uploadId}/complete`, { part_ids: ids }, options));
  return completed.dataset_id;
}

/**
 * Create the upload, or read the parts of one that was begun before.
 * @param {Upload} upload
 */
async function openUpload(upload) {
  const { signal } = upload.abort;
  if (upload.uploadId) {
    const present = await retry(upload, () => get(`/uploads/${upload.uploadId}`, { signal }));
    upload.sent.value = countStoredBytes(present.parts, upload.size);
    if (present.state === "pending") return present.parts;
    upload.uploadId = null;
    upload.sent.value = 0;
  }
  const { format, columns, expiresAfterSeconds } = upload.options;
  const body = {
    bytes: upload.size,
    filename: upload.name,
    format,
    columns,
    expires_after_seconds: expiresAfterSeconds,
  };
  const options = { idempotencyKey: upload.key, signal };
  const created = await retry(upload, () => post("/uploads", body, options));
  upload.key = createIdempotencyKey();
  upload.uploadId = created.id;
  return created.parts;
}

/**
 * Return the id of a stored part with the file's bytes; send them if there is none.
 * @param {Upload} upload
 * @param {Part} part
 * @param {StoredParts} known
 * @param {(part: Part, count: number) => void} report
 * @returns {Promise<string>}
 */
async function placePart(upload, part, known, report) {
  const { bytes, digest } = await readPart(upload, part.start, part.end);
  const [sha256, size] = [toHex(digest), part.end - part.start];
  const present = known.find(sha256, size);
  if (present) {
    report(part, size);
    return present;
  }
  let isFirst = true;
  const sent = await retry(upload, async () => {
    if (!isFirst) {
      const { parts } = await get(`/uploads/${upload.uploadId}`, { signal: upload.abort.signal });
      const arrived = new StoredParts(parts).find(sha256, size);
      if (arrived) return { id: arrived, bytes: size, sha256 };
    }
    isFirst = false;
    startSending(upload);
    return sendBytes("POST", `/uploads/${upload.uploadId}/parts`, bytes, {
      sha256: toBase64(digest),
      signal: upload.abort.signal,
      onProgress: (count) => report(part, count),
    }).catch((error) => {
      report(part, 0);
      throw error;
    });
  });
  known.add(sent);
  report(part, size);
  return sent.id;
}

/**
 * @param {Upload} upload
 * @param {number} count
 */
function showProgress(upload, count) {
  const isSending = upload.state.peek() === "sending";
  if (isSending) upload.meter.add(count, performance.now());
  // While stored parts are compared, what the server has stored stays shown.
  upload.sent.value = isSending ? count : Math.max(count, upload.sent.peek());
}

/** @param {Upload} upload */
function startSending(upload) {
  if (upload.state.peek() !== "sending") upload.meter.restart();
  upload.state.value = "sending";
}

/**
 * Run a request again while it fails for a reason that may pass.
 * @template T
 * @param {Upload} upload
 * @param {() => Promise<T>} send
 * @returns {Promise<T>}
 */
async function retry(upload, send) {
  for (let tries = 1;; tries++) {
    try {
      const result = await send();
      upload.retryAt.value = null;
      return result;
    } catch (error) {
      upload.abort.signal.throwIfAborted();
      if (!(error instanceof ApiError) || !(isTransient(error.status) || error.code === "request_in_progress")) {
        throw error;
      }
      const seconds = retryDelay(tries, error instanceof TransferError ? error.retryAfter : null);
      upload.state.value = "retrying";
      upload.note.value = error.status ? error.message : "The connection was lost.";
      upload.meter.restart();
      upload.retryAt.value = Date.now() + seconds * 1000;
      await wait(upload, seconds);
      upload.note.value = "";
    }
  }
}

/**
 * Wait until it is time, the user says so, or the upload is stopped.
 * @param {Upload} upload
 * @param {number} seconds
 */
async function wait(upload, seconds) {
  const { signal } = upload.abort;
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve(null)), { once: true });
    upload.tryNow = () => (clearTimeout(timer), resolve(null));
  });
  signal.throwIfAborted();
}

/**
 * @param {Upload} upload
 * @param {string} sha256
 * @returns {Promise<string[]>} ids of the datasets with these bytes, newest first
 */
async function findDatasets(upload, sha256) {
  const { items } = await get("/datasets", { query: { sha256, limit: 20 }, signal: upload.abort.signal });
  return items.map((/** @type {{id: string}} */ each) => each.id);
}

/**
 * Read bytes of the file and hash them, so that the server can check them and stored parts are recognized.
 * @param {Upload} upload
 * @param {number} start
 * @param {number} end
 */
async function readPart(upload, start, end) {
  let bytes;
  try {
    bytes = await upload.file.slice(start, end).arrayBuffer();
  } catch {
    throw new Error("The file cannot be read any more: it was moved, deleted or changed. Choose it again.");
  }
  upload.abort.signal.throwIfAborted();
  return { bytes, digest: await hash(bytes) };
}

/** @param {ArrayBuffer} bytes */
async function hash(bytes) {
  if (globalThis.crypto?.subtle) return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const [whole, state] = [new Uint8Array(bytes), new Sha256()];
  for (let at = 0; at < whole.length; at += SLICE) {
    state.update(whole.subarray(at, at + SLICE));
    await new Promise((resolve) => setTimeout(resolve));
  }
  return state.digest();
}
