/** Keeps the lines of a job's log, of which the server sends the end. Pure: no DOM. */

const LINES_TO_MATCH = 40;

/**
 * Split a log into its lines, without terminal colours and what a progress bar has overwritten.
 * @param {string} text
 * @returns {string[]}
 */
export function splitLog(text) {
  // deno-lint-ignore no-control-regex
  const plain = text.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, "").replace(/\r\n/g, "\n");
  const lines = plain.split("\n").map((line) => line.slice(line.lastIndexOf("\r", line.length - 2) + 1));
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/**
 * Join the known lines with a newer end of the same log. Without a common part (a new attempt, or a gap) only the new
 * lines are kept.
 * @param {readonly string[]} known
 * @param {readonly string[]} tail
 * @returns {{lines: readonly string[], kept: number}} `kept` is how many of the known lines stay as they are
 */
export function mergeTail(known, tail) {
  if (known.length === 0 || tail.length === 0) return { lines: tail, kept: 0 };
  if (startsAlike(known, tail, 0)) return { lines: tail, kept: countEqual(known, tail, 0) };
  // The first line of a tail may be cut.
  const rest = tail.slice(1);
  for (let at = 1; rest.length > 0 && at < known.length; at++) {
    if (!startsAlike(known, rest, at)) continue;
    return { lines: [...known.slice(0, at), ...rest], kept: at + countEqual(known, rest, at) };
  }
  return { lines: tail, kept: 0 };
}

/**
 * Return whether the known lines from `at` on begin as the other ones do. The last known line may have grown.
 * @param {readonly string[]} known
 * @param {readonly string[]} lines
 * @param {number} at
 */
function startsAlike(known, lines, at) {
  const count = Math.min(known.length - at, lines.length, LINES_TO_MATCH);
  for (let i = 0; i < count; i++) {
    const isLast = at + i === known.length - 1;
    if (isLast ? !lines[i].startsWith(known[at + i]) : lines[i] !== known[at + i]) return false;
  }
  return count > 0;
}

/**
 * @param {readonly string[]} known
 * @param {readonly string[]} lines
 * @param {number} at
 */
function countEqual(known, lines, at) {
  let count = 0;
  while (at + count < known.length && count < lines.length && known[at + count] === lines[count]) count++;
  return count;
}

/**
 * Read the lines that an address names: `#L12` or `#L12-L20`.
 * @param {string} hash
 * @returns {{from: number, to: number} | null}
 */
export function parseLines(hash) {
  const match = /^#L(\d+)(?:-L(\d+))?$/.exec(hash);
  if (!match) return null;
  const [first, second] = [Number(match[1]), Number(match[2] ?? match[1])];
  return { from: Math.min(first, second), to: Math.max(first, second) };
}

/** @param {{from: number, to: number}} range */
export function formatLines({ from, to }) {
  return from === to ? `#L${from}` : `#L${from}-L${to}`;
}

/**
 * Return where a text occurs, in any case, as indexes of lines and of characters.
 * @param {readonly string[]} lines
 * @param {string} text
 * @returns {{line: number, at: number}[]}
 */
export function findInLog(lines, text) {
  /** @type {{line: number, at: number}[]} */
  const found = [];
  const wanted = text.toLowerCase();
  if (!wanted) return found;
  for (const [line, content] of lines.entries()) {
    const lower = content.toLowerCase();
    for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, at + wanted.length)) {
      found.push({ line, at });
    }
  }
  return found;
}
