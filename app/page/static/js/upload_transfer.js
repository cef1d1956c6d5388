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

/** One run of an upload, from its start or continuation to a pause or its end. */
export class Transfer {
  /** @param {Upload} upload */
  constructor(upload) {
    this.upload = upload;
    /** A continued upload has another signal: what a paused run leaves behind changes nothing. */
    this.stop = upload.abort.signal;
    /** Bytes that were sent of each part. @type {Map<number, number>} */
    this.progress = new Map();
  }

  /**
   * Send a small file in one request.
   * @returns {Promise<string>} the dataset's id
   */
  async sendWhole() {
    const { upload, stop } = this;
    const { bytes, digest } = await this.#read(0, upload.size);
    const before = await this.#retry(() => findDatasets(toHex(digest), stop));
    upload.sameAs.value = before[0] ?? null;
    const { format, columns, expiresAfterSeconds } = upload.options;
    const query = { filename: upload.name, format, expires_after_seconds: expiresAfterSeconds };
    const url = `/datasets${searchOf({ ...query, columns: columns && JSON.stringify(columns) })}`;
    const part = { number: 0, start: 0, end: upload.size };
    const sent = await this.#sendOnce("PUT", url, part, bytes, digest, async () => {
      const created = (await findDatasets(toHex(digest), stop)).find((id) => !before.includes(id));
      return created ? { id: created } : null;
    });
    return sent.id;
  }

  /**
   * Send a file in parts, except those that are stored already.
   * @returns {Promise<string>} the dataset's id
   */
  async sendInParts() {
    const { upload, stop } = this;
    const stored = await this.#open();
    const known = new StoredParts(stored);
    const parts = planParts(upload.size, choosePartBytes(upload.size, stored));
    /** @type {(string | null)[]} */
    const ids = parts.map(() => null);
    const waiting = [...parts];
    const work = async () => {
      for (let part = waiting.shift(); part; part = waiting.shift()) {
        ids[part.number] = await this.#place(part, known);
        upload.storedBytes = parts.reduce((sum, { number, start, end }) => sum + (ids[number] ? end - start : 0), 0);
      }
    };
    await Promise.all(Array.from({ length: PARTS_AT_ONCE }, work));
    upload.state.value = "completing";
    const options = { idempotencyKey: createIdempotencyKey(), signal: stop };
    const complete = () => post(`/uploads/${upload.uploadId}/complete`, { part_ids: ids }, options);
    return (await this.#retry(complete)).dataset_id;
  }

  /** Create the upload, or read the parts of one that was begun before. */
  async #open() {
    const { upload, stop } = this;
    if (upload.uploadId) {
      const present = await this.#retry(() => get(`/uploads/${upload.uploadId}`, { signal: stop }));
      upload.storedBytes = countStoredBytes(present.parts, upload.size);
      upload.sent.value = upload.storedBytes;
      if (present.state === "pending") return present.parts;
      upload.uploadId = null;
      upload.storedBytes = upload.sent.value = 0;
    }
    const { format, columns, expiresAfterSeconds } = upload.options;
    const fields = { format, columns, expires_after_seconds: expiresAfterSeconds };
    const options = { idempotencyKey: upload.key, signal: stop };
    const create = () => post("/uploads", { bytes: upload.size, filename: upload.name, ...fields }, options);
    const created = await this.#retry(create);
    upload.key = createIdempotencyKey();
    upload.uploadId = created.id;
    return created.parts;
  }

  /**
   * Return the id of a stored part with the file's bytes; send them if there is none.
   * @param {Part} part
   * @param {StoredParts} known
   * @returns {Promise<string>}
   */
  async #place(part, known) {
    const { bytes, digest } = await this.#read(part.start, part.end);
    const [sha256, size] = [toHex(digest), part.end - part.start];
    const present = known.find(sha256, size);
    if (present) {
      this.#report(part, size);
      return present;
    }
    const url = `/uploads/${this.upload.uploadId}`;
    const sent = await this.#sendOnce("POST", `${url}/parts`, part, bytes, digest, async () => {
      const { parts } = await get(url, { signal: this.stop });
      const id = new StoredParts(parts).find(sha256, size);
      return id ? { id } : null;
    });
    known.add({ id: sent.id, bytes: size, sha256 });
    return sent.id;
  }

  /**
   * Send bytes until they have arrived. Before they are sent again, `find` looks whether they arrived and only the
   * answer was lost.
   * @param {"PUT" | "POST"} method
   * @param {string} url
   * @param {Part} part
   * @param {ArrayBuffer} bytes
   * @param {Uint8Array} digest
   * @param {() => Promise<{id: string} | null>} find
   * @returns {Promise<{id: string}>}
   */
  #sendOnce(method, url, part, bytes, digest, find) {
    let isFirst = true;
    return this.#retry(async () => {
      const present = isFirst ? null : await find();
      isFirst = false;
      if (!present) this.#startSending();
      const onProgress = (/** @type {number} */ count) => this.#report(part, count);
      const options = { sha256: toBase64(digest), signal: this.stop, onProgress };
      const sent = present ?? await sendBytes(method, url, bytes, options).catch((error) => {
        this.#report(part, 0);
        throw error;
      });
      this.#report(part, part.end - part.start);
      return sent;
    });
  }

  #startSending() {
    this.stop.throwIfAborted();
    const { state, meter } = this.upload;
    if (state.peek() !== "sending") meter.restart();
    state.value = "sending";
  }

  /**
   * @param {Part} part
   * @param {number} count
   */
  #report(part, count) {
    if (this.stop.aborted) return;
    this.progress.set(part.number, Math.min(count, part.end - part.start));
    const sum = [...this.progress.values()].reduce((total, each) => total + each, 0);
    const { state, meter, sent } = this.upload;
    const isSending = state.peek() === "sending";
    if (isSending) meter.add(sum, performance.now());
    // While stored parts are compared, what the server has stored stays shown.
    sent.value = isSending ? sum : Math.max(sum, sent.peek());
  }

  /**
   * Run a request again while it fails for a reason that may pass.
   * @template T
   * @param {() => Promise<T>} send
   * @returns {Promise<T>}
   */
  async #retry(send) {
    for (let tries = 1;; tries++) {
      try {
        const result = await send();
        this.stop.throwIfAborted();
        return result;
      } catch (error) {
        this.stop.throwIfAborted();
        if (!(error instanceof ApiError) || !(isTransient(error.status) || error.code === "request_in_progress")) {
          throw error;
        }
        await this.#wait(retryDelay(tries, error instanceof TransferError ? error.retryAfter : null), error);
      }
    }
  }

  /**
   * Wait until it is time, the user says so, or the upload is stopped.
   * @param {number} seconds
   * @param {ApiError} error
   */
  async #wait(seconds, error) {
    const { upload, stop } = this;
    upload.note.value = error.status ? error.message : "The connection was lost.";
    upload.retryAt.value = Date.now() + seconds * 1000;
    upload.state.value = "retrying";
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      stop.addEventListener("abort", () => (clearTimeout(timer), resolve(null)), { once: true });
      upload.tryNow = () => (clearTimeout(timer), resolve(null));
    });
    stop.throwIfAborted();
    upload.note.value = "";
  }

  /**
   * Read bytes of the file and hash them, so that the server can check them and stored parts are recognized.
   * @param {number} start
   * @param {number} end
   */
  async #read(start, end) {
    let bytes;
    try {
      bytes = await this.upload.file.slice(start, end).arrayBuffer();
    } catch {
      throw new Error("The file cannot be read any more: it was moved, deleted or changed. Choose it again.");
    }
    this.stop.throwIfAborted();
    return { bytes, digest: await hash(bytes, this.stop) };
  }
}

/**
 * @param {string} sha256
 * @param {AbortSignal} signal
 * @returns {Promise<string[]>} ids of the datasets with these bytes, newest first
 */
async function findDatasets(sha256, signal) {
  const { items } = await get("/datasets", { query: { sha256, limit: 20 }, signal });
  return items.map((/** @type {{id: string}} */ each) => each.id);
}

/**
 * @param {ArrayBuffer} bytes
 * @param {AbortSignal} stop
 */
async function hash(bytes, stop) {
  if (globalThis.crypto?.subtle) return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const [whole, state] = [new Uint8Array(bytes), new Sha256()];
  for (let at = 0; at < whole.length; at += SLICE) {
    state.update(whole.subarray(at, at + SLICE));
    await new Promise((resolve) => setTimeout(resolve));
    stop.throwIfAborted();
  }
  return state.digest();
}
