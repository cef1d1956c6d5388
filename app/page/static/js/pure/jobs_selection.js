/** Which jobs are selected. The order of the selection decides their colours and dash patterns. */

/** A chart compares at most this many jobs. */
export const MOST_COMPARED = 8;

/**
 * Return the selection with one job switched on or off.
 * @param {readonly string[]} selected
 * @param {string} id
 * @returns {string[]}
 */
export function toggle(selected, id) {
  return selected.includes(id) ? selected.filter((each) => each !== id) : [...selected, id];
}

/**
 * Return the selection with all jobs from one to another switched on, or off if `isOn` is false.
 * @param {readonly string[]} selected
 * @param {readonly string[]} order  as the list shows them
 * @param {string | null} from
 * @param {string} to
 * @param {boolean} [isOn]
 * @returns {string[]}
 */
export function selectRange(selected, order, from, to, isOn = true) {
  const [start, end] = [from === null ? -1 : order.indexOf(from), order.indexOf(to)];
  if (start < 0 || end < 0) return toggle(selected, to);
  const range = order.slice(Math.min(start, end), Math.max(start, end) + 1);
  if (!isOn) return selected.filter((id) => !range.includes(id));
  return [...selected, ...range.filter((id) => !selected.includes(id))];
}

/**
 * Return the colour of a job that is not selected: the same one at every time.
 * @param {string} id
 */
export function colorOf(id) {
  let sum = 7;
  for (let index = 0; index < id.length; index++) sum = (sum * 31 + id.charCodeAt(index)) >>> 0;
  return (sum ^ (sum >>> 13)) & 7;
}
