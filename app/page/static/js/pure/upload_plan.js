/** Plans the parts of an upload, and what is left of them to send after an interruption. */

/**
 * @typedef {{number: number, start: number, end: number}} Part  bytes from `start` to before `end`
 * @typedef {{id: string, bytes: number, sha256: string}} StoredPart
 */

const MIB = 2 ** 20;
/** A part that is small enough to lose little when a connection breaks. The server accepts up to 64 MiB. */
export const PART_BYTES = 4 * MIB;
/** Files below this size are sent in one request. */
export const WHOLE_BYTES = 8_000_000;
export const MAX_PART_BYTES = 64 * MIB;
export const MAX_PARTS = 10_000;

/**
 * Return the size of the parts. An upload that has parts already continues with their size, so that they match.
 * @param {number} size  bytes of the file
 * @param {readonly StoredPart[]} [stored]
 */
export function choosePartBytes(size, stored = []) {
  const least = Math.ceil(size / MAX_PARTS / MIB) * MIB;
  const present = stored.reduce((most, part) => Math.max(most, part.bytes), 0);
  if (present && present <= MAX_PART_BYTES && Math.ceil(size / present) <= MAX_PARTS) return present;
  return Math.min(MAX_PART_BYTES, Math.max(PART_BYTES, least));
}

/**
 * @param {number} size
 * @param {number} partBytes
 * @returns {Part[]}
 */
export function planParts(size, partBytes) {
  return Array.from({ length: Math.ceil(size / partBytes) }, (_, number) => ({
    number,
    start: number * partBytes,
    end: Math.min(size, (number + 1) * partBytes),
  }));
}

/**
 * Finds stored parts by the SHA-256 of their bytes. Equal parts of a file may use one stored part.
 */
export class StoredParts {
  /** @param {readonly StoredPart[]} parts */
  constructor(parts) {
    /** @type {Map<string, StoredPart>} */
    this.byHash = new Map(parts.map((part) => [part.sha256, part]));
    /** @type {Set<number>} */
    this.sizes = new Set(parts.map((part) => part.bytes));
  }

  /** @param {StoredPart} part */
  add(part) {
    this.byHash.set(part.sha256, part);
    this.sizes.add(part.bytes);
  }

  /**
   * Return the id of the stored part with these bytes, or null.
   * @param {string} sha256
   * @param {number} bytes
   */
  find(sha256, bytes) {
    const found = this.byHash.get(sha256);
    return found && found.bytes === bytes ? found.id : null;
  }
}

/**
 * Return the bytes of the file that stored parts cover. Parts from elsewhere, or twice, count at most the file's size.
 * @param {readonly {bytes: number}[]} parts
 * @param {number} size
 */
export function countStoredBytes(parts, size) {
  return Math.min(size, parts.reduce((sum, part) => sum + part.bytes, 0));
}

/**
 * Return the newest pending upload of a file with this name and size, or null.
 * @template {{state: string, filename: string, bytes: number}} U
 * @param {readonly U[]} uploads  newest first
 * @param {{name: string, size: number}} file
 * @returns {U | null}
 */
export function findPending(uploads, file) {
  const fits = (/** @type {U} */ each) => each.state === "pending" && isSameFile(each, file);
  return uploads.find(fits) ?? null;
}

/**
 * Return whether an upload may be of this file. The bytes are compared part by part later.
 * @param {{filename: string, bytes: number}} upload
 * @param {{name: string, size: number}} file
 */
export function isSameFile(upload, file) {
  return upload.bytes === file.size && (upload.filename === file.name || upload.filename === printable(file.name));
}

/** @param {string} name */
function printable(name) {
  return name.replace(/[\p{C}]/gu, "");
}
