/**
 * Uploads files as datasets, one after another, while the tab is open: a small file in one request, a larger one in
 * parts that can be continued after a pause, a lost connection or a reload.
 */

import { ApiError, createIdempotencyKey, get, post, whenSignedOut } from "./api.js";
import { SpeedMeter } from "./pure/upload_speed.js";
import { countStoredBytes, isSameFile, WHOLE_BYTES } from "./pure/upload_plan.js";
import { signal } from "./signals.js";
import { Transfer } from "./upload_transfer.js";

/**
 * @typedef {import("../../api.d.ts").UploadOut} UploadOut
 * @typedef {{format: string | null, columns: Record<string, string> | null, expiresAfterSeconds: number | null}} UploadOptions
 * @typedef {"waiting" | "checking" | "sending" | "retrying" | "completing" | "paused" | "done" | "failed"} UploadState
 */

/** A file on its way to the server. */
export class Upload {
  /**
   * @param {File} file
   * @param {UploadOptions} options
   * @param {UploadOut | null} [pending]  an upload that was begun before
   */
  constructor(file, options, pending = null) {
    this.key = createIdempotencyKey();
    this.file = file;
    this.options = options;
    this.name = file.name;
    this.size = file.size;
    this.isInParts = Boolean(pending) || file.size >= WHOLE_BYTES;
    this.uploadId = pending?.id ?? null;
    this.meter = new SpeedMeter();
    this.abort = new AbortController();
    /** @type {import("./signals.js").Signal<UploadState>} */
    this.state = signal(/** @type {UploadState} */ ("waiting"));
    /** Bytes in parts that the server has stored. */
    this.storedBytes = pending ? countStoredBytes(pending.parts, file.size) : 0;
    this.sent = signal(this.storedBytes);
    /** Why it waits or has failed. */
    this.note = signal("");
    /** @type {import("./signals.js").Signal<number | null>} */
    this.retryAt = signal(/** @type {number | null} */ (null));
    /** Ends the wait before the next try. */
    this.tryNow = () => {};
    /** @type {import("./signals.js").Signal<string | null>} */
    this.datasetId = signal(/** @type {string | null} */ (null));
    /** An older dataset with the same bytes. @type {import("./signals.js").Signal<string | null>} */
    this.sameAs = signal(/** @type {string | null} */ (null));
  }
}

/** Files on their way, in the order of their choice. @type {import("./signals.js").Signal<readonly Upload[]>} */
export const uploads = signal(/** @type {readonly Upload[]} */ ([]));

/** Uploads that were begun and have no file in this tab. @type {import("./signals.js").Signal<readonly UploadOut[]>} */
export const unfinished = signal(/** @type {readonly UploadOut[]} */ ([]));

/** Counts the datasets that this tab has created: a list reads itself again. */
export const numCreated = signal(0);

const ACTIVE = ["checking", "sending", "retrying", "completing"];
const ENDED = ["done", "failed"];
const MOST_UNFINISHED = 10;

/** @type {Set<(upload: Upload) => void>} */
const onEnded = new Set();

/**
 * Call a function with each upload that has become a dataset or has failed.
 * @param {(upload: Upload) => void} listener
 */
export function whenUploadEnds(listener) {
  onEnded.add(listener);
}

/**
 * Upload files. A file of an unfinished upload continues it.
 * @param {Iterable<File>} files
 * @param {UploadOptions} options
 */
export function addFiles(files, options) {
  const added = [];
  for (const file of files) {
    const pending = unfinished.peek().find((each) => isSameFile(each, file)) ?? null;
    if (pending) unfinished.value = unfinished.peek().filter((each) => each !== pending);
    const upload = new Upload(file, options, pending);
    if (!file.size) fail(upload, new Error("The file is empty. Write its rows and choose it again."));
    added.push(upload);
  }
  uploads.value = [...uploads.peek(), ...added];
  startNext();
}

/** @param {Upload} upload */
export function pauseUpload(upload) {
  if (ENDED.includes(upload.state.peek())) return;
  upload.state.value = "paused";
  upload.note.value = "";
  upload.sent.value = upload.storedBytes;
  upload.abort.abort();
  startNext();
}

/**
 * Continue a paused or failed upload.
 * @param {Upload} upload
 */
export function continueUpload(upload) {
  upload.abort = new AbortController();
  upload.meter.restart();
  upload.note.value = "";
  upload.state.value = "waiting";
  startNext();
}

/**
 * Stop an upload and delete its stored parts.
 * @param {Upload} upload
 */
export async function cancelUpload(upload) {
  const { uploadId } = upload;
  upload.state.value = "failed";
  upload.abort.abort();
  dismissUpload(upload);
  startNext();
  if (uploadId && !upload.datasetId.peek()) await cancelOnServer(uploadId);
}

/**
 * Delete the stored parts of an upload without a file in this tab.
 * @param {UploadOut} upload
 */
export async function cancelUnfinished(upload) {
  await cancelOnServer(upload.id);
  unfinished.value = unfinished.peek().filter((each) => each.id !== upload.id);
}

/**
 * Take an ended upload off the list.
 * @param {Upload} upload
 */
export function dismissUpload(upload) {
  uploads.value = uploads.peek().filter((each) => each !== upload);
}

/**
 * Read the uploads that were begun and not completed, by a tab that was closed or by another program.
 * @param {AbortSignal} [abort]
 */
export async function loadUnfinished(abort) {
  const options = abort ? { signal: abort } : {};
  const { items } = await get("/uploads", { ...options, query: { limit: 100 } });
  const own = new Set(uploads.peek().map((each) => each.uploadId));
  const pending = items.filter((/** @type {UploadOut} */ each) => each.state === "pending" && !own.has(each.id));
  const read = (/** @type {UploadOut} */ each) => get(`/uploads/${each.id}`, options);
  const found = await Promise.all(pending.slice(0, MOST_UNFINISHED).map(read));
  const present = new Set(uploads.peek().map((each) => each.uploadId));
  unfinished.value = found.filter((each) => each.state === "pending" && !present.has(each.id));
}

/** @param {string} id */
async function cancelOnServer(id) {
  try {
    await post(`/uploads/${id}/cancel`);
  } catch (error) {
    // It ended already: there is nothing left to cancel.
    if (!(error instanceof ApiError && [404, 409].includes(error.status))) throw error;
  }
}

function startNext() {
  if (uploads.peek().some((each) => ACTIVE.includes(each.state.peek()))) return;
  const next = uploads.peek().find((each) => each.state.peek() === "waiting");
  if (next) run(next);
}

/** @param {Upload} upload */
async function run(upload) {
  const { signal: stopped } = upload.abort;
  upload.state.value = "checking";
  try {
    const transfer = new Transfer(upload);
    const id = await (upload.isInParts ? transfer.sendInParts() : transfer.sendWhole());
    upload.sent.value = upload.size;
    upload.datasetId.value = id;
    upload.state.value = "done";
    numCreated.value = numCreated.peek() + 1;
  } catch (error) {
    if (stopped.aborted) return;
    upload.abort.abort();
    fail(upload, error);
  }
  for (const listener of onEnded) listener(upload);
  startNext();
}

/**
 * @param {Upload} upload
 * @param {unknown} error
 */
function fail(upload, error) {
  if (error instanceof ApiError && error.code === "upload_not_found") upload.uploadId = null;
  if (error instanceof ApiError && error.code === "upload_not_pending") upload.uploadId = null;
  upload.note.value = error instanceof Error ? error.message : String(error);
  upload.state.value = error instanceof ApiError && error.status === 401 ? "paused" : "failed";
}

whenSignedOut(() => {
  for (const upload of uploads.peek()) {
    if (![...ENDED, "paused"].includes(upload.state.peek())) pauseUpload(upload);
  }
  unfinished.value = [];
});

addEventListener("beforeunload", (event) => {
  if (uploads.peek().some((each) => [...ACTIVE, "waiting"].includes(each.state.peek()))) event.preventDefault();
});

addEventListener("online", () => {
  for (const upload of uploads.peek()) if (upload.state.peek() === "retrying") upload.tryNow();
});
