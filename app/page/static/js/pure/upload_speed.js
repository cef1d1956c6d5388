/** Estimates the speed of an upload and when to try again. */

const WINDOW_SECONDS = 10;
const LEAST_SECONDS = 0.5;
const FIRST_DELAY_SECONDS = 1;
const LONGEST_DELAY_SECONDS = 30;

/** Measures bytes per second over the last ten seconds, so that a pause or a change of the network soon shows. */
export class SpeedMeter {
  constructor() {
    /** @type {{at: number, bytes: number}[]} */
    this.samples = [];
  }

  /**
   * @param {number} bytes  all bytes that are sent so far
   * @param {number} now  milliseconds
   */
  add(bytes, now) {
    const last = this.samples.at(-1);
    // A part that failed is sent again: what it had counted is taken back.
    if (last && bytes < last.bytes) this.samples = [];
    this.samples.push({ at: now, bytes });
    while (this.samples.length > 2 && now - (this.samples[1]?.at ?? now) > WINDOW_SECONDS * 1000) this.samples.shift();
  }

  restart() {
    this.samples = [];
  }

  /** Return bytes per second, or null while it is not known. */
  speed() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || !last) return null;
    const seconds = (last.at - first.at) / 1000;
    return seconds < LEAST_SECONDS ? null : (last.bytes - first.bytes) / seconds;
  }

  /**
   * Return the seconds left for some bytes, or null while they are not known.
   * @param {number} bytes
   */
  secondsLeft(bytes) {
    const speed = this.speed();
    return speed ? bytes / speed : null;
  }
}

/**
 * Return the seconds to wait before the next try: what the server asked for, or twice as long as the last time.
 * @param {number} tries  failed tries so far, from 1
 * @param {number | null} retryAfter  seconds that the server asked for
 * @param {number} [random]  0 to 1
 */
export function retryDelay(tries, retryAfter, random = Math.random()) {
  if (retryAfter !== null) return Math.max(retryAfter, 0.2);
  const seconds = Math.min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (tries - 1));
  return seconds * (0.75 + random / 2);
}

/**
 * Return the seconds of a header Retry-After, which is a number or a date, or null.
 * @param {string | null} value
 * @param {number} now  milliseconds
 */
export function parseRetryAfter(value, now) {
  if (!value) return null;
  if (/^\s*\d+\s*$/.test(value)) return Number(value);
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000);
}

/**
 * Return whether a request that failed with this status may succeed later. Status 0: the connection failed.
 * @param {number} status
 */
export function isTransient(status) {
  return [0, 408, 425, 429, 500, 502, 503, 504].includes(status);
}
