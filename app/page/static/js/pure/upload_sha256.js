/** Computes SHA-256 without `crypto.subtle`, which browsers offer only over HTTPS and on localhost. */

const BLOCK = 64;
const CONSTANTS = firstBitsOfRoots(64, 1 / 3);
const INITIAL = firstBitsOfRoots(8, 1 / 2);

export class Sha256 {
  constructor() {
    this.state = Int32Array.from(INITIAL);
    this.words = new Int32Array(64);
    this.rest = new Uint8Array(BLOCK);
    this.numRest = 0;
    this.numBytes = 0;
  }

  /**
   * @param {Uint8Array} bytes
   * @returns {this}
   */
  update(bytes) {
    this.numBytes += bytes.length;
    let at = 0;
    if (this.numRest) {
      at = Math.min(BLOCK - this.numRest, bytes.length);
      this.rest.set(bytes.subarray(0, at), this.numRest);
      this.numRest += at;
      if (this.numRest < BLOCK) return this;
      this.#addBlocks(this.rest, 0, BLOCK);
    }
    const end = at + Math.floor((bytes.length - at) / BLOCK) * BLOCK;
    this.#addBlocks(bytes, at, end);
    this.numRest = bytes.length - end;
    this.rest.set(bytes.subarray(end), 0);
    return this;
  }

  /** Return the digest. Nothing can be added afterwards. */
  digest() {
    const tail = new Uint8Array(this.numRest < BLOCK - 8 ? BLOCK : 2 * BLOCK);
    tail.set(this.rest.subarray(0, this.numRest));
    tail[this.numRest] = 0x80;
    const view = new DataView(tail.buffer);
    view.setUint32(tail.length - 8, Math.floor(this.numBytes / 2 ** 29));
    view.setUint32(tail.length - 4, this.numBytes * 8 >>> 0);
    this.#addBlocks(tail, 0, tail.length);
    const result = new DataView(new ArrayBuffer(32));
    this.state.forEach((word, index) => result.setInt32(index * 4, word));
    return new Uint8Array(result.buffer);
  }

  /**
   * @param {Uint8Array} bytes
   * @param {number} start
   * @param {number} end
   */
  #addBlocks(bytes, start, end) {
    const { state, words } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = start; at < end; at += BLOCK) {
      for (let index = 0; index < 16; index++) words[index] = view.getInt32(at + index * 4);
      addBlock(state, words);
    }
  }
}

/**
 * @param {Int32Array} state
 * @param {Int32Array} words  the block's sixteen words, and room for the others
 */
function addBlock(state, words) {
  for (let index = 16; index < 64; index++) {
    const [early, late] = [words[index - 15] | 0, words[index - 2] | 0];
    const first = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
    const second = rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10);
    words[index] = (words[index - 16] + first + words[index - 7] + second) | 0;
  }
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], i = state[7];
  for (let index = 0; index < 64; index++) {
    const sum = (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g));
    const first = (i + sum + CONSTANTS[index] + words[index]) | 0;
    const second = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    i = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + second) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += i;
}

/**
 * @param {number} word
 * @param {number} bits
 */
function rotate(word, bits) {
  return (word >>> bits) | (word << (32 - bits));
}

/**
 * Return the first 32 bits of the fractions of the first primes' roots, which SHA-256 uses as its constants.
 * @param {number} count
 * @param {number} power
 */
function firstBitsOfRoots(count, power) {
  /** @type {number[]} */
  const primes = [];
  for (let each = 2; primes.length < count; each++) {
    if (primes.every((prime) => each % prime)) primes.push(each);
  }
  return Int32Array.from(primes, (prime) => {
    const root = prime ** power;
    return (root - Math.floor(root)) * 2 ** 32 | 0;
  });
}

/** @param {Uint8Array} bytes */
export function toHex(bytes) {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}
